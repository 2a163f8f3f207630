import dataclasses

from bc_model.distillation.config import DistillationConfig


def test_key_depends_on_the_options_of_the_networks():
    config = DistillationConfig()

    assert DistillationConfig().key == config.key
    assert dataclasses.replace(config, blur_px=0.2).key != config.key
    # The last layer is fitted without training a network.
    assert dataclasses.replace(config, last_penalty=1.0).key == config.key
