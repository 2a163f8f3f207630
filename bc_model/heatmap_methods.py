r"""Further heatmap methods from activations and gradients: Grad-CAM++ and LayerCAM."""

from __future__ import annotations

import numpy as np


def grad_cam_plus_plus(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    r"""Compute a Grad-CAM++ heatmap.

    Parameters
    ----------
    activations, gradients : ndarray of shape (map_height, map_width, channels), float32
        Output of a convolutional block, and the gradient of the logit of a class.

    Returns
    -------
    ndarray of shape (map_height, map_width), float32
        Non-negative values.

    Notes
    -----
    The weight of channel :math:`k` is :math:`\sum_{ij} \alpha_{ij}^k \mathrm{ReLU}(g_{ij}^k)` with

    .. math:: \alpha_{ij}^k = \frac{(g_{ij}^k)^2}
       {2 (g_{ij}^k)^2 + (g_{ij}^k)^3 \sum_{ab} A_{ab}^k}

    for the gradient :math:`g` of the exponential of the logit, apart from a common factor [1]_.

    References
    ----------
    .. [1] Chattopadhay, A., Sarkar, A., Howlader, P. and Balasubramanian, V. N. "Grad-CAM++:
       Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks." WACV 2018.
       https://arxiv.org/abs/1710.11063

    Examples
    --------
    >>> activations = np.array([[[1.0], [3.0]]], np.float32)
    >>> grad_cam_plus_plus(activations, np.ones_like(activations)).astype(float).round(2).tolist()
    [[0.33, 1.0]]
    """
    squares = np.square(gradients)
    denominators = 2.0 * squares + squares * gradients * activations.sum(axis=(0, 1))
    alpha = np.divide(
        squares, denominators, out=np.zeros_like(squares), where=np.abs(denominators) > 1e-20
    )
    weights = (alpha * np.maximum(gradients, 0.0)).sum(axis=(0, 1))
    return np.maximum(np.einsum("hwc,c->hw", activations, weights), 0.0).astype(np.float32)


def layer_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    r"""Compute a LayerCAM heatmap: activations weighted by their own positive gradients [1]_.

    Parameters
    ----------
    activations, gradients : ndarray of shape (map_height, map_width, channels), float32
        Output of a convolutional block, and the gradient of the logit of a class.

    Returns
    -------
    ndarray of shape (map_height, map_width), float32
        Non-negative values.

    References
    ----------
    .. [1] Jiang, P.-T., Zhang, C.-B., Hou, Q., Cheng, M.-M. and Wei, Y. "LayerCAM: Exploring
       Hierarchical Class Activation Maps for Localization." IEEE TIP 30, 2021.

    Examples
    --------
    >>> activations = np.array([[[2.0, 1.0], [3.0, 5.0]]], np.float32)
    >>> gradients = np.array([[[1.0, -9.0], [0.5, 1.0]]], np.float32)
    >>> layer_cam(activations, gradients).tolist()
    [[2.0, 6.5]]
    """
    products = np.einsum("hwc,hwc->hw", activations, np.maximum(gradients, 0.0))
    return np.maximum(products, 0.0).astype(np.float32)


def fuse_layers(maps: list[np.ndarray]) -> np.ndarray:
    """Return the elementwise maximum of heatmaps of one size, each divided by its own maximum.

    Examples
    --------
    >>> fuse_layers([np.array([[1.0, 2.0]]), np.array([[4.0, 0.0]])]).tolist()
    [[1.0, 1.0]]
    """
    scaled = [values / max(float(values.max()), 1e-20) for values in maps]
    return np.maximum.reduce(scaled).astype(np.float32)
