import dataclasses

from bc_model.distillation.config import DistillationConfig


def test_key_depends_on_every_option():
    config = DistillationConfig()

    assert DistillationConfig().key == config.key
    assert dataclasses.replace(config, blur_px=0.2).key != config.key
