"""Contribution map: a signed map whose cells and baseline add up to the margin, and its overlay.

The margin is the logit of malignant minus the logit of benign. Global average pooling is linear
and the head is piecewise linear, so that the margin is a sum over the cells of the last block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bc_model.gradcam import CellGrid, blend_colors, min_full_scale, resize_cells

# Blue and vermilion from the palette of Okabe and Ito, distinguishable with color blindness.
_BENIGN_RGB, _MALIGNANT_RGB = (0, 114, 178), (213, 94, 0)
_ZERO_LEVEL = 128
_STRENGTHS = np.minimum(np.abs(np.arange(256) - _ZERO_LEVEL) / 127.0, 1.0)
"""Strength of each level of the signed scale: 0 at `_ZERO_LEVEL`, 1 at both ends."""
_COLORS = np.where(np.arange(256)[:, None] < _ZERO_LEVEL, _BENIGN_RGB, _MALIGNANT_RGB).astype(
    np.uint8
)


@dataclass(frozen=True)
class ContributionMap:
    """What each cell adds to the margin, the logit of malignant minus the logit of benign.

    The parts add up: ``margin == baseline + cell_sum + residual``.

    Attributes
    ----------
    cells : ndarray of shape (map_height, map_width), float32
        Contribution of each cell to the margin, in logits. Positive values support malignant, and
        negative values support benign.
    baseline : float
        Margin without the cells: what the biases of the head add.
    residual : float
        The rest. At the standard resolution, it is rounding error. At a finer resolution, it is the
        difference between the mean over the finer cells and the mean that the head receives.
    margin : float
        Logit of malignant minus logit of benign, before temperature scaling.
    grid : CellGrid, optional
        Where the cells are centered. Without a grid, they divide the input evenly.
    n_tiles : int
        Number of tiles whose mean the values are.
    """

    cells: np.ndarray
    baseline: float
    residual: float
    margin: float
    grid: CellGrid | None = None
    n_tiles: int = 1

    @property
    def cell_sum(self) -> float:
        """The sum of `cells`, in logits.

        Examples
        --------
        >>> ContributionMap(np.array([[0.5, -2.0]], np.float32), 0.25, 0.0, -1.25).cell_sum
        -1.5
        """
        return float(self.cells.sum(dtype=np.float64))

    @property
    def full_scale(self) -> float:
        """Value at both ends of the color scale: the largest magnitude of a cell.

        It is at least `bc_model.gradcam.min_full_scale`, so that a map that hardly changes the
        margin has faint colors.
        """
        lowest = min_full_scale(self.grid, self.n_tiles)
        return max(lowest, float(np.abs(self.cells).max()))

    @property
    def is_empty(self) -> bool:
        """True if no cell changes the margin."""
        return not self.cells.any()


def contribution_map_from_activations(
    activations: np.ndarray,
    effective_weights: np.ndarray,
    baseline: float,
    margin: float,
    grid: CellGrid | None = None,
) -> ContributionMap:
    r"""Compute a contribution map from activations and the weights of the features.

    Parameters
    ----------
    activations : ndarray of shape (map_height, map_width, channels), float32
        Output of the last convolutional block.
    effective_weights : ndarray of shape (channels,), float32
        Weight of each feature in the margin, see `bc_model.inference.Head.effective_weights`.
    baseline : float
        Margin without the features, see `bc_model.inference.Head.baseline`.
    margin : float
        Logit of malignant minus logit of benign.
    grid : CellGrid, optional
        Where the cells are centered.

    Returns
    -------
    ContributionMap
        Cells, baseline and residual, which add up to the margin.

    Notes
    -----
    With the activations :math:`A^k` of channel :math:`k`, the number of cells :math:`Z`, and a head
    that is the affine function :math:`b + \sum_k w_k f_k` near the features :math:`f_k`, the cell
    :math:`(i, j)` contributes

    .. math:: c_{ij} = \frac{1}{Z} \sum_k w_k A_{ij}^k.

    For a linear head, this is the difference of the class activation maps [1]_ of both classes.
    Unlike Grad-CAM, no value is set to zero.

    References
    ----------
    .. [1] Zhou, B., Khosla, A., Lapedriza, A., Oliva, A. and Torralba, A. "Learning Deep Features
       for Discriminative Localization." CVPR 2016. https://arxiv.org/abs/1512.04150

    Examples
    --------
    >>> activations = np.array([[[1.0, 4.0], [4.0, 1.0]]], np.float32)
    >>> weights = np.array([1.0, -0.5], np.float32)
    >>> found = contribution_map_from_activations(activations, weights, 0.25, 1.5)
    >>> found.cells.tolist(), found.cell_sum, found.residual
    ([[-0.5, 1.75]], 1.25, 0.0)
    """
    n_cells = activations.shape[0] * activations.shape[1]
    # `einsum` and not `@`: see the comment in `bc_model.inference.head._product`.
    cells = np.einsum("hwc,c->hw", activations, effective_weights) / np.float32(n_cells)
    residual = margin - baseline - cells.sum(dtype=np.float64)
    return ContributionMap(cells, float(baseline), float(residual), float(margin), grid)


def overlay_signed_map(
    image: np.ndarray,
    contribution: ContributionMap,
    *,
    opacity: float = 0.6,
    full_scale: float | None = None,
) -> np.ndarray:
    """Blend a contribution map over its image.

    Blue regions support benign, and orange regions support malignant. Regions without a
    contribution are transparent.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image at its original size.
    contribution : ContributionMap
        Contribution map of the image.
    opacity : float
        Opacity of the largest magnitude, in [0, 1].
    full_scale : float, optional
        Magnitude at both ends of the color scale. The default is `ContributionMap.full_scale`.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        Blended image. An unchanged copy of the image if the map is empty.

    Examples
    --------
    >>> image = np.full((1, 2, 3), 255, np.uint8)
    >>> contribution = ContributionMap(np.array([[-1.0, 1.0]], np.float32), 0.0, 0.0, 0.0)
    >>> overlay_signed_map(image, contribution, opacity=1.0).tolist()
    [[[0, 114, 178], [213, 94, 0]]]
    """
    if contribution.is_empty or opacity <= 0.0:
        return image.copy()
    scale = contribution.full_scale if full_scale is None else full_scale
    values = resize_cells(contribution.cells, contribution.grid, *image.shape[:2])
    relative = np.clip(values / scale, -1.0, 1.0)
    levels = np.round(relative * 127.0 + _ZERO_LEVEL).astype(np.uint8)
    return blend_colors(image, levels, _COLORS, _STRENGTHS, opacity)


def draw_signed_color_bar(width_px: int = 256, height_px: int = 12) -> np.ndarray:
    """Return the color scale of `overlay_signed_map`, shape (height, width, 4), uint8.

    The scale runs from benign to malignant. Its center is transparent, as in the overlay, so that
    it fits light and dark backgrounds.

    Examples
    --------
    >>> draw_signed_color_bar(3, 1).tolist()
    [[[0, 114, 178, 255], [213, 94, 0, 0], [213, 94, 0, 255]]]
    """
    levels = np.round(np.linspace(-1.0, 1.0, width_px) * 127.0 + _ZERO_LEVEL).astype(np.uint8)
    alpha = np.round(255.0 * np.sqrt(_STRENGTHS[levels])).astype(np.uint8)
    bar = np.concatenate([_COLORS[levels], alpha[:, None]], axis=1)
    return bar[None].repeat(height_px, axis=0)
