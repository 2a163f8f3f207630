"""Grad-CAM: heatmaps of the image regions that increase the score of a class, and overlays.

`GradCAM` differentiates a Keras model with TensorFlow and is the reference. The inference engine
computes the channel weights in closed form and calls `grad_cam_from_activations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.data.image_headers import MAX_SIDE_PX
from bc_model.data.images import field_of_view
from bc_model.errors import ImageError
from bc_model.model import BACKBONES, last_conv_output, logits_output

if TYPE_CHECKING:
    import keras

MIN_FULL_SCALE = 0.01
"""Smallest upper end of the color scale, in logits per cell of the last convolutional block."""

_NOISE_FLOOR = 1e-6
"""Proportion of the summed magnitudes below which a positive sum is float32 rounding error."""

# Blue and vermilion from the palette of Okabe and Ito, distinguishable with color blindness.
_BENIGN_BGR, _MALIGNANT_BGR, _GRAY_BGR = (178, 114, 0), (0, 94, 213), (145, 138, 123)


_CUBIC = -0.75
"""Parameter of the cubic interpolation, as in OpenCV."""


@dataclass(frozen=True)
class CellGrid:
    """Where the cells of a heatmap are centered in the input of the network.

    Cell i is centered at ``first + stride_px * i``, where the center of pixel 0 is 0.

    Attributes
    ----------
    first_row_px, first_column_px : float
        Center of the first cell, in input pixels.
    stride_px : float
        Distance between two centers, in input pixels.
    height_px, width_px : int
        Size of the input.
    refinement : int
        Cells per cell of the last convolutional block, in each direction.
    """

    first_row_px: float
    first_column_px: float
    stride_px: float
    height_px: int
    width_px: int
    refinement: int = 1


def find_cell_grid(
    backbone: str, input_size: tuple[int, int], refinement: int = 1
) -> CellGrid | None:
    """Return the grid of the last activations of a backbone; None if the backbone is unknown.

    Parameters
    ----------
    backbone : str
        Name of the backbone.
    input_size : (int, int)
        Height and width of the input, px.
    refinement : int
        Cells per cell of the last convolutional block, in each direction.

    Examples
    --------
    >>> grid = find_cell_grid("resnet50", (160, 240), refinement=2)
    >>> grid.first_row_px, grid.first_column_px, grid.stride_px
    (0.0, 0.0, 16.0)
    """
    if backbone not in BACKBONES:
        return None
    entry = BACKBONES[backbone]
    row, column = (entry.first_cell_px(side) for side in input_size)
    return CellGrid(row, column, entry.stride_px / refinement, *input_size, refinement)


@dataclass(frozen=True)
class Heatmap:
    """The Grad-CAM heatmap of one class.

    Attributes
    ----------
    class_name : {'benign', 'malignant'}
        Class that the heatmap explains.
    raw : ndarray of shape (map_height, map_width), float32
        Non-negative values in units of the logit. Their sum is the contribution of the positive
        regions to the logit, to first order.
    grid : CellGrid, optional
        Where the cells are centered. Without a grid, they divide the input evenly.
    n_tiles : int
        Number of tiles whose mean the values are.
    """

    class_name: str
    raw: np.ndarray
    grid: CellGrid | None = None
    n_tiles: int = 1

    @property
    def contribution(self) -> float:
        """The sum of `raw`: what the positive regions add to the logit, to first order.

        Examples
        --------
        >>> Heatmap("malignant", np.array([[0.5, 0.0], [0.25, 1.0]], np.float32)).contribution
        1.75
        """
        return float(self.raw.sum(dtype=np.float64))

    @property
    def maximum(self) -> float:
        """The largest value of `raw`."""
        return float(self.raw.max())

    @property
    def refinement(self) -> int:
        """Cells per cell of the last convolutional block, in each direction."""
        return self.grid.refinement if self.grid else 1

    @property
    def is_empty(self) -> bool:
        """True if no region increases the logit. Such a heatmap has no scale."""
        return self.maximum == 0.0


class GradCAM:
    """Grad-CAM by automatic differentiation of a Keras model.

    The heatmap explains the logit and not the probability, because the gradient vanishes where the
    softmax saturates.

    Parameters
    ----------
    model : keras.Model
        Model from `build_model`, with the layers 'pool' and 'logits'.

    See Also
    --------
    grad_cam_from_activations : The formula and its reference.

    Examples
    --------
    >>> from bc_model.model import build_model
    >>> explain = GradCAM(build_model("tiny", image_size=(32, 32)))
    >>> (heatmap,) = explain(np.zeros((1, 32, 32, 3), np.uint8), "malignant")
    >>> heatmap.raw.shape
    (4, 4)
    """

    def __init__(self, model: keras.Model) -> None:
        import keras
        import tensorflow as tf

        activations_of = keras.Model(model.inputs[0], last_conv_output(model))
        logits_of = keras.Model(last_conv_output(model), logits_output(model))

        @tf.function(reduce_retracing=True)
        def differentiate(pixels: tf.Tensor, class_index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            activations = activations_of(pixels, training=False)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(activations)
                logit = tf.gather(logits_of(activations, training=False), class_index, axis=1)
            return activations, tape.gradient(logit, activations)

        self._differentiate = differentiate
        self._backbone = model.name

    def __call__(self, pixels: np.ndarray, class_name: str) -> list[Heatmap]:
        """Return one heatmap per image, in the order of the images.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, 3), uint8 or float32
            RGB images in [0, 255] at the input size of the model.
        class_name : {'benign', 'malignant'}
            Class whose logit is explained.
        """
        import tensorflow as tf

        index = tf.constant(CLASSES.index(class_name))
        batch = tf.convert_to_tensor(pixels, tf.float32)
        activations, gradients = (tensor.numpy() for tensor in self._differentiate(batch, index))
        channel_weights = gradients.mean(axis=(1, 2))
        height, width = pixels.shape[1:3]
        grid = find_cell_grid(self._backbone, (height, width))
        return [
            Heatmap(class_name, grad_cam_from_activations(image_activations, weights), grid)
            for image_activations, weights in zip(activations, channel_weights, strict=True)
        ]


def grad_cam_from_activations(activations: np.ndarray, channel_weights: np.ndarray) -> np.ndarray:
    r"""Compute a Grad-CAM heatmap from activations and channel weights.

    Parameters
    ----------
    activations : ndarray of shape (map_height, map_width, channels), float32
        Output of the last convolutional block.
    channel_weights : ndarray of shape (channels,), float32
        Mean gradient of the logit with respect to each channel.

    Returns
    -------
    ndarray of shape (map_height, map_width), float32
        Values in units of the logit, exactly zero where the sum does not exceed rounding error.

    Notes
    -----
    The heatmap of class :math:`c` is

    .. math:: L^c = \mathrm{ReLU}\Big(\sum_k \alpha_k^c A^k\Big), \qquad
       \alpha_k^c = \frac{1}{Z} \sum_{i,j} \frac{\partial y^c}{\partial A_{ij}^k}

    with the logit :math:`y^c`, the activations :math:`A^k` of channel :math:`k`, and the number of
    cells :math:`Z` [1]_.

    References
    ----------
    .. [1] Selvaraju, R. R., Cogswell, M., Das, A., Vedantam, R., Parikh, D. and Batra, D.
       "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization."
       ICCV 2017. https://arxiv.org/abs/1610.02391

    Examples
    --------
    >>> activations = np.array([[[1.0, 4.0], [4.0, 1.0]]], np.float32)
    >>> grad_cam_from_activations(activations, np.array([1.0, -0.5], np.float32)).tolist()
    [[0.0, 3.5]]
    """
    # `einsum` and not `@`: see the comment in `bc_model.inference.head._product`.
    total = np.einsum("hwc,c->hw", activations, channel_weights)
    magnitudes = np.einsum("hwc,c->hw", np.abs(activations), np.abs(channel_weights))
    magnitude = float(np.max(magnitudes, initial=0.0))
    return np.where(total > _NOISE_FLOOR * magnitude, total, 0.0).astype(np.float32)


def resize_heatmap(heatmap: Heatmap, height_px: int, width_px: int) -> np.ndarray:
    """Upsample a heatmap to the size of the image, without rescaling its values.

    Each cell is placed at the center of its receptive field, see `CellGrid`. Beyond the outer
    centers, the values of the outer cells continue.

    Parameters
    ----------
    heatmap : Heatmap
        Heatmap of the image.
    height_px, width_px : int
        Size of the image, or of a copy of it at another resolution.

    Returns
    -------
    ndarray of shape (height_px, width_px), float32
        Values from zero to the maximum of the heatmap, and zero outside of the field of view.

    Examples
    --------
    >>> raw = np.zeros((5, 8), np.float32)
    >>> raw[2, 3] = 1.0
    >>> heatmap = Heatmap("malignant", raw, find_cell_grid("resnet50", (160, 240)))
    >>> resized = resize_heatmap(heatmap, 160, 240)
    >>> [int(index) for index in np.unravel_index(resized.argmax(), resized.shape)]
    [64, 96]
    """
    return resize_cells(heatmap.raw, heatmap.grid, height_px, width_px)


def resize_cells(
    cells: np.ndarray, grid: CellGrid | None, height_px: int, width_px: int
) -> np.ndarray:
    """Upsample the cells of a map, which may be negative, to the size of the image.

    As `resize_heatmap`, without rescaling. Positive and negative cells are upsampled separately,
    because cubic interpolation overshoots: a positive cell would otherwise have a negative border.

    Parameters
    ----------
    cells : ndarray of shape (map_height, map_width), float32
        Values of the cells.
    grid : CellGrid or None
        Where the cells are centered. Without a grid, they divide the input evenly.
    height_px, width_px : int
        Size of the image, or of a copy of it at another resolution.

    Returns
    -------
    ndarray of shape (height_px, width_px), float32
        Values within those of the cells and zero, and zero outside of the field of view.

    Examples
    --------
    >>> cells = np.array([[1.0, -2.0]], np.float32)
    >>> resize_cells(cells, None, 1, 4).astype(float).round(2).tolist()
    [[1.0, 0.32, -1.32, -2.0]]
    """
    top, left, height, width = field_of_view(height_px, width_px)
    rows, columns = cells.shape
    if grid:
        row_at = _cell_positions(height, grid.height_px, grid.first_row_px, grid.stride_px)
        column_at = _cell_positions(width, grid.width_px, grid.first_column_px, grid.stride_px)
    else:
        row_at = _cell_positions(height, rows, 0.0, 1.0)
        column_at = _cell_positions(width, columns, 0.0, 1.0)
    row_weights = _cubic_weights(row_at, rows)
    column_weights = np.ascontiguousarray(_cubic_weights(column_at, columns).T)
    resized = np.zeros((height_px, width_px), np.float32)
    field = resized[top : top + height, left : left + width]
    for sign in (np.float32(1.0), np.float32(-1.0)):
        part = np.maximum(sign * cells, np.float32(0.0))
        if (largest := part.max()) > 0.0:
            field += sign * np.clip(_interpolate(part, row_weights, column_weights), 0.0, largest)
    return resized


def _interpolate(
    cells: np.ndarray, row_weights: np.ndarray, column_weights: np.ndarray
) -> np.ndarray:
    # Not `cv2.remap`, which rounds positions to 1/32 of a cell, and not `@`: see the comment in
    # `bc_model.inference.head._product`.
    none = np.zeros((0, 0), np.float32)
    field = cv2.gemm(row_weights, cells, 1.0, none, 0.0)
    return cv2.gemm(field, column_weights, 1.0, none, 0.0)


def _cell_positions(side_px: int, input_px: int, first_px: float, stride_px: float) -> np.ndarray:
    """Return the position of each pixel of one side in cells; 0 is the center of the first."""
    input_positions = (np.arange(side_px) + 0.5) * (input_px / side_px) - 0.5
    return (input_positions - first_px) / stride_px


def _cubic_weights(positions: np.ndarray, n_cells: int) -> np.ndarray:
    """Return the weights of the cells at each position, shape (n_positions, n_cells), float32."""
    neighbors = np.floor(positions).astype(int)[:, None] + np.arange(-1, 3)
    d = np.abs(positions[:, None] - neighbors)
    near = ((_CUBIC + 2.0) * d - (_CUBIC + 3.0)) * d**2 + 1.0
    far = _CUBIC * (((d - 5.0) * d + 8.0) * d - 4.0)
    weights = np.zeros((len(positions), n_cells), np.float32)
    # Cells beyond the border have the value of the outer cell.
    cells = np.clip(neighbors, 0, n_cells - 1)
    np.add.at(weights, (np.arange(len(positions))[:, None], cells), np.where(d <= 1.0, near, far))
    return weights


def overlay_heatmap(
    image: np.ndarray, heatmap: Heatmap, *, opacity: float = 0.6, full_scale: float | None = None
) -> np.ndarray:
    """Blend a heatmap over its image.

    The color map is cividis, which looks the same with and without color blindness. Low values are
    transparent, so that the tissue stays visible and zero has no color.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image at its original size.
    heatmap : Heatmap
        Heatmap of the image.
    opacity : float
        Opacity of the largest value, in [0, 1].
    full_scale : float, optional
        Value at the upper end of the color scale. The default is the maximum of this heatmap. Use
        `compute_full_scale` to compare both classes.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        Blended image. An unchanged copy of the image if the heatmap is empty.

    Examples
    --------
    >>> image = np.zeros((46, 70, 3), np.uint8)
    >>> heatmap = Heatmap("malignant", np.ones((7, 7), np.float32))
    >>> overlay_heatmap(image, heatmap).shape
    (46, 70, 3)
    """
    if heatmap.is_empty or opacity <= 0.0:
        return image.copy()
    height, width = image.shape[:2]
    scale = heatmap.maximum if full_scale is None else full_scale
    relative = np.clip(resize_heatmap(heatmap, height, width) / scale, 0.0, 1.0)
    levels = np.round(relative * 255).astype(np.uint8)
    return blend_colors(image, levels, draw_color_bar(256, 1)[0], np.arange(256) / 255.0, opacity)


def blend_colors(
    image: np.ndarray,
    levels: np.ndarray,
    colors: np.ndarray,
    strengths: np.ndarray,
    opacity: float,
) -> np.ndarray:
    """Blend the colors of a map over an image.

    Opacity grows with the square root of the strength, so that low values remain visible.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image.
    levels : ndarray of shape (height, width), uint8
        Level of each pixel in the tables `colors` and `strengths`.
    colors : ndarray of shape (256, 3), uint8
        RGB color of each level.
    strengths : ndarray of shape (256,)
        Strength of each level, in [0, 1]. Zero is transparent.
    opacity : float
        Opacity of the strength 1, in [0, 1].

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        Blended image.

    Examples
    --------
    >>> image, levels = np.full((1, 1, 3), 100, np.uint8), np.array([[7]], np.uint8)
    >>> colors, strengths = np.zeros((256, 3), np.uint8), np.full(256, 0.25)
    >>> blend_colors(image, levels, colors, strengths, opacity=0.6).tolist()
    [[[70, 70, 70]]]
    """
    # With 256 levels, both weights of the blend are lookup tables, which is ten times faster.
    alpha = opacity * np.sqrt(strengths)[None, :, None]
    through = np.repeat(np.round(255 * (1.0 - alpha)), 3, axis=2).astype(np.uint8)
    weighted = np.round(colors[None] * alpha).astype(np.uint8)
    planes = cv2.merge([levels] * 3)
    tissue = cv2.multiply(image, cv2.LUT(planes, through), scale=1 / 255)
    return cv2.add(tissue, cv2.LUT(planes, weighted))


def compute_full_scale(heatmaps: dict[str, Heatmap]) -> float:
    """Return one upper end of the color scale for both classes, so that colors are comparable.

    The result is the larger maximum and at least `MIN_FULL_SCALE`, so that a heatmap that hardly
    changes the score has faint colors. A finer cell, and a cell of one of several tiles, has a
    proportion of this limit.
    """
    lowest = max(min_full_scale(heatmaps[name].grid, heatmaps[name].n_tiles) for name in CLASSES)
    return max(lowest, *(heatmaps[name].maximum for name in CLASSES))


def min_full_scale(grid: CellGrid | None, n_tiles: int) -> float:
    """Return the smallest upper end of the color scale of a map, in logits.

    Parameters
    ----------
    grid : CellGrid or None
        Where the cells are centered, with their refinement.
    n_tiles : int
        Number of tiles whose mean the cells are.

    Examples
    --------
    >>> min_full_scale(None, 1), min_full_scale(None, 20)
    (0.01, 0.0005)
    """
    return MIN_FULL_SCALE / (grid.refinement if grid else 1) ** 2 / n_tiles


def draw_color_bar(width_px: int = 256, height_px: int = 12) -> np.ndarray:
    """Return the color scale from zero to the maximum, shape (height, width, 3), uint8."""
    ramp = np.linspace(0, 255, width_px).astype(np.uint8)[None].repeat(height_px, axis=0)
    return cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)


def draw_probability_bar(
    prob_malignant: float, threshold: float, uncertain_band: tuple[float, float] | None = None
) -> bytes:
    """Draw a probability on a line from 0 to 1 with the decision threshold, as PNG.

    The image has 1000 x 44 px with transparency, blue below the threshold and vermilion from it on.
    The uncertain range is shaded over the full height, and an uncertain probability is gray. An
    image loads faster than a chart and works on light and dark backgrounds.
    """
    width, height, tick = 1000, 44, 6
    bar = np.zeros((height, width, 4), np.uint8)
    track = slice(height // 2 - 10, height // 2 + 10)
    bar[track] = (*_GRAY_BGR, 70)
    color = _MALIGNANT_BGR if prob_malignant >= threshold else _BENIGN_BGR
    if uncertain_band is not None:
        low, high = uncertain_band
        bar[:, round(width * low) : round(width * high)] = (*_GRAY_BGR, 110)
        if low < prob_malignant < high:
            color = _GRAY_BGR
    bar[track, : max(tick, round(width * prob_malignant))] = (*color, 255)
    left = min(width - tick, max(0, round(width * threshold) - tick // 2))
    bar[:, left : left + tick] = (*_GRAY_BGR, 255)
    return cv2.imencode(".png", bar)[1].tobytes()


def downsample_to_width(image: np.ndarray, max_width_px: int) -> np.ndarray:
    """Downsample an image for display if it is wider than `max_width_px`."""
    height, width = image.shape[:2]
    if width <= max_width_px:
        return image
    size = (max_width_px, max(1, round(height * max_width_px / width)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def encode_png(image: np.ndarray) -> bytes:
    """Encode an RGB image as PNG, without loss."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encode an RGB image as JPEG of high quality, for display.

    Raises
    ------
    ImageError
        A side exceeds the limit of JPEG, 65,500 px. `read_image` returns no such image.
    """
    if max(image.shape[:2]) > MAX_SIDE_PX:
        raise ImageError(
            f"The image is too large for JPEG. Expected at most {MAX_SIDE_PX:,} pixels per side, "
            f"got {image.shape[1]:,} x {image.shape[0]:,}. Use a smaller field of view.",
            "too large",
        )
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
