import dataclasses

import numpy as np
import pytest

from bc_model.distillation.config import PROXY
from bc_model.distillation.student import build_network, learn
from bc_model.model import SCRATCH_BN_MOMENTUM, reference_logits
from tests.bc_model.distillation.conftest import QUICK

SMALL = dataclasses.replace(QUICK, backbone=PROXY)


@pytest.mark.parametrize(("image_size", "shape"), [(None, (None, None)), ((64, 96), (64, 96))])
def test_the_recipe_s_proxy_has_the_layers_that_learning_and_serving_ask_for(image_size, shape):
    small = build_network(SMALL, image_size)

    assert small.input_shape == (None, *shape, 3)
    assert small.inputs[0].name == "image"
    # By hand: eight times the width of 16, four times that behind the last bottleneck.
    for name, units in (("pool", 512), ("dense_1", 16), ("logits", 2), ("probabilities", 2)):
        assert small.get_layer(name).output.shape == (None, units)


def test_it_halves_a_image_five_times_as_resnet50_does():
    small = build_network(SMALL, (64, 96))

    assert small.get_layer("pool").input.shape == (None, 2, 3, 512)
    # Nine blocks of three convolutions, four shortcuts and the stem.
    assert sum(layer.name.endswith("_conv") for layer in small.layers) == 9 * 3 + 4 + 1
    norms = [layer for layer in small.layers if layer.name.endswith("_bn")]
    assert {layer.momentum for layer in norms} == {SCRATCH_BN_MOMENTUM}


@pytest.mark.usefixtures("eagerly")
def test_it_goes_through_the_whole_learning(source):
    model = learn(source, SMALL, seed=0)

    assert np.isfinite(reference_logits(model, source.pixels)).all()
    first = model.get_layer("stem_bn")
    assert not np.allclose(first.moving_mean, 0.0)  # settled on whole pictures
