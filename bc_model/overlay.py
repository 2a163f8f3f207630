"""Drawing a heatmap over its picture. The evidence is computed elsewhere; here are only colours."""

import cv2
import numpy as np

from bc_model.data.names import CLASSES
from bc_model.gradcam import Heatmap, spread_over_picture

# Okabe and Ito's blue and vermilion, which all eyes tell apart.
_BENIGN_BGR, _MALIGNANT_BGR, _GREY_BGR = (178, 114, 0), (0, 94, 213), (145, 138, 123)

SMALLEST_SCALE = 0.01
"""Of a cell's share in the logit."""


def overlay_heatmap(
    rgb: np.ndarray, heatmap: Heatmap, *, opacity: float = 0.6, full_scale: float | None = None
) -> np.ndarray:
    """Lay a heatmap over its picture.

    The colours are cividis, made to read the same with and without colour vision; where there is
    little evidence the tissue shows through, so that no colour is ever laid on nothing.

    Parameters
    ----------
    rgb : ndarray of shape (height, width, 3), uint8
        The picture at its own size.
    heatmap : Heatmap
    opacity : float
        In [0, 1], of the strongest evidence.
    full_scale : float, optional
        The value drawn as strongest. Give the larger maximum of both classes to compare them;
        default is this map's own maximum.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        The picture itself, unchanged, when the map is empty.
    """
    if heatmap.is_empty or opacity <= 0.0:
        return rgb.copy()
    height, width = rgb.shape[:2]
    scale = heatmap.maximum if full_scale is None else full_scale
    share = np.clip(spread_over_picture(heatmap.raw, height, width) / scale, 0.0, 1.0)
    levels = cv2.merge([np.round(share * 255).astype(np.uint8)] * 3)
    # 256 levels of evidence, so both weights of the blend are tables: ten times less arithmetic.
    alpha = opacity * np.sqrt(np.arange(256) / 255.0)[None, :, None]
    through = np.repeat(np.round(255 * (1.0 - alpha)), 3, axis=2).astype(np.uint8)
    colours = np.round(colour_bar(256, 1) * alpha).astype(np.uint8)
    tissue = cv2.multiply(rgb, cv2.LUT(levels, through), scale=1 / 255)
    return cv2.add(tissue, cv2.LUT(levels, colours))


def shared_scale(heatmaps: dict[str, Heatmap]) -> float:
    """Return the value drawn as strongest in both maps, so that equal colours mean equal evidence.

    Returns
    -------
    float
        The larger maximum, but at least `SMALLEST_SCALE`: a map that hardly moves the score is
        drawn faint, not stretched until it glows.
    """
    return max(SMALLEST_SCALE, *(heatmaps[name].maximum for name in CLASSES))


def colour_bar(width_px: int = 256, height_px: int = 12) -> np.ndarray:
    """Draw the colour scale from no to strongest evidence, shape (height, width, 3), uint8."""
    ramp = np.linspace(0, 255, width_px).astype(np.uint8)[None].repeat(height_px, axis=0)
    return cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)


def probability_bar(prob_malignant: float, threshold: float) -> bytes:
    """Draw one probability on a line from 0 to 1 with the cut-off marked, as PNG.

    A picture and not a chart: it is on screen at once, on light and dark ground alike.

    Parameters
    ----------
    prob_malignant, threshold : float
        In [0, 1].

    Returns
    -------
    bytes
        1000 x 44 px with transparency; blue below the cut-off, vermilion from it on.
    """
    width, height, tick = 1000, 44, 6
    bar = np.zeros((height, width, 4), np.uint8)
    track = slice(height // 2 - 10, height // 2 + 10)
    bar[track] = (*_GREY_BGR, 70)
    called = _MALIGNANT_BGR if prob_malignant >= threshold else _BENIGN_BGR
    bar[track, : max(tick, round(width * prob_malignant))] = (*called, 255)
    left = min(width - tick, max(0, round(width * threshold) - tick // 2))
    bar[:, left : left + tick] = (*_GREY_BGR, 255)
    return cv2.imencode(".png", bar)[1].tobytes()


def at_most_wide(rgb: np.ndarray, max_width_px: int) -> np.ndarray:
    """Shrink a picture for a screen, when it is wider than asked."""
    height, width = rgb.shape[:2]
    if width <= max_width_px:
        return rgb
    size = (max_width_px, max(1, round(height * max_width_px / width)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def encode_jpeg(rgb: np.ndarray) -> bytes:
    """Encode an RGB picture as JPEG of high quality, for a screen."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
