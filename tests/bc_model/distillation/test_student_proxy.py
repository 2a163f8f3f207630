import dataclasses

import numpy as np
import pytest

from bc_model.distillation.config import PROXY
from bc_model.distillation.student import build_network, train_student
from bc_model.model import SCRATCH_BN_MOMENTUM, reference_logits
from tests.bc_model.distillation.conftest import QUICK

PROXY_CONFIG = dataclasses.replace(QUICK, backbone=PROXY)


@pytest.mark.parametrize(("image_size", "shape"), [(None, (None, None)), ((64, 96), (64, 96))])
def test_build_network_proxy_has_the_layers_of_build_model(image_size, shape):
    proxy = build_network(PROXY_CONFIG, image_size)

    assert proxy.input_shape == (None, *shape, 3)
    assert proxy.inputs[0].name == "image"
    # The last stage has 8 times the width of 16, and the bottleneck returns 4 times that.
    for name, units in (("pool", 512), ("dense_1", 16), ("logits", 2), ("probabilities", 2)):
        assert proxy.get_layer(name).output.shape == (None, units)


def test_build_network_proxy_has_the_stride_of_resnet50():
    proxy = build_network(PROXY_CONFIG, (64, 96))

    assert proxy.get_layer("pool").input.shape == (None, 2, 3, 512)
    # Nine blocks of three convolutions, four shortcuts and the stem.
    assert sum(layer.name.endswith("_conv") for layer in proxy.layers) == 9 * 3 + 4 + 1
    norms = [layer for layer in proxy.layers if layer.name.endswith("_bn")]
    assert {layer.momentum for layer in norms} == {SCRATCH_BN_MOMENTUM}


@pytest.mark.usefixtures("eagerly")
def test_train_student_with_proxy_is_finite_and_recalibrated(source):
    model = train_student(source, PROXY_CONFIG, seed=0)

    assert np.isfinite(reference_logits(model, source.pixels)).all()
    assert not np.allclose(model.get_layer("stem_bn").moving_mean, 0.0)
