"""Grad-CAM++ and LayerCAM against independent computations."""

import numpy as np
import pytest

from bc_model.heatmap_methods import fuse_layers, grad_cam_plus_plus, layer_cam


def test_grad_cam_plus_plus_by_loops() -> None:
    rng = np.random.default_rng(0)
    activations = rng.random((3, 4, 5)).astype(np.float32)
    gradients = rng.standard_normal((3, 4, 5)).astype(np.float32)
    weights = np.zeros(5)
    for k in range(5):
        total = activations[..., k].sum()
        for i in range(3):
            for j in range(4):
                g = float(gradients[i, j, k])
                alpha = g**2 / (2 * g**2 + g**3 * total)
                weights[k] += alpha * max(g, 0.0)
    expected = np.maximum((activations * weights).sum(axis=2), 0.0)
    np.testing.assert_allclose(
        grad_cam_plus_plus(activations, gradients), expected, rtol=1e-3, atol=1e-4
    )


def test_grad_cam_plus_plus_without_gradients_is_empty() -> None:
    assert not grad_cam_plus_plus(np.ones((2, 2, 3)), np.zeros((2, 2, 3))).any()


def test_layer_cam_by_hand() -> None:
    activations = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    gradients = np.array([[[0.5, -1.0], [-1.0, 2.0]]])
    assert layer_cam(activations, gradients).tolist() == [[0.5, 8.0]]


def test_fuse_layers_scales_each_map_to_one() -> None:
    found = fuse_layers([np.array([[0.0, 2.0]]), np.array([[30.0, 0.0]]), np.zeros((1, 2))])
    assert found.tolist() == [[1.0, 1.0]]
    assert found.max() == pytest.approx(1.0)
