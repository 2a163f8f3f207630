import dataclasses

from bc_model.distillation.config import DistillationConfig


def test_every_number_is_part_of_the_key():
    config = DistillationConfig()

    assert DistillationConfig().key == config.key
    assert dataclasses.replace(config, mixed=0.2).key != config.key
