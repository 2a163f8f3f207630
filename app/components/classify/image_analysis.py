"""The analysis of one image: decoded, classified, and scaled for display.

A page with many images needs the predictions of all, but the previews of a few only.

All caches are keyed by the hash of the file: Streamlit hashes large arrays by a sample of their
pixels, so two similar images could share an entry.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import streamlit as st

from app.components.classify.session_images import HeldImage
from app.components.decoding import get_decode_pool
from app.components.model_picker import load_engine
from app.server.byte_cache import ByteCache
from bc_model.checks import Check
from bc_model.data import (
    DeclaredScale,
    check_declared_scale,
    check_file,
    detect_scale,
    read_reduction,
)
from bc_model.errors import ImageError
from bc_model.gradcam import downsample_to_width
from bc_model.inference import Bundle, Classifier, Prediction

Result = TypeVar("Result")

DISPLAY_PX = (900, 1200)
"""Largest width and height of a displayed image. A JPEG file can have 65,500 px per side."""
_MAX_PIXELS_MB, _PIXELS_IDLE_S = 256, 60.0
_MAX_PREVIEWS_MB, _MAX_PREDICTIONS_MB, _RESULTS_IDLE_S = 128, 64, 3600.0
_RECORD_BYTES = 4096
"""Approximate size of a prediction without its heatmaps, and of an error."""


@dataclass(frozen=True)
class Preview:
    """The image as the page shows it.

    Attributes
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        The image in at most `DISPLAY_PX`. Shared by all sessions; it must not be modified.
    """

    pixels: np.ndarray


@dataclass(frozen=True)
class _Caches:
    """Decoded pixels for a short time, and results for as long as a session."""

    pixels: ByteCache[np.ndarray]
    previews: ByteCache[Preview]
    predictions: ByteCache[Prediction]
    errors: ByteCache[ImageError]
    results: ByteCache[Any]


@st.cache_resource
def _get_caches() -> _Caches:
    return _Caches(
        ByteCache(_MAX_PIXELS_MB * 2**20, _PIXELS_IDLE_S),
        ByteCache(_MAX_PREVIEWS_MB * 2**20, _RESULTS_IDLE_S),
        ByteCache(_MAX_PREDICTIONS_MB * 2**20, _RESULTS_IDLE_S),
        ByteCache(2**20, _RESULTS_IDLE_S),
        ByteCache(16 * 2**20, _RESULTS_IDLE_S),
    )


def predict_image(
    image: HeldImage,
    bundle: Bundle,
    *,
    scale: DeclaredScale | None = None,
    show_anyway: bool = False,
    resolution: str = "standard",
    is_canceled: Callable[[], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Return the prediction for an image, from the cache if possible.

    Parameters
    ----------
    image : HeldImage
        The image file.
    bundle : Bundle
        The model.
    scale : DeclaredScale, optional
        Scale of the image. The default is the scale that the file states.
    show_anyway : bool
        Whether to return the result of a blocked image.
    resolution : str
        Resolution of the heatmaps, see `Classifier.predict`.
    is_canceled : callable, optional
        Called while the image is decoded. It may raise an exception, which ends decoding.
    progress : callable, optional
        Called with the number of completed tiles and of all tiles.

    Raises
    ------
    ImageError
        The image cannot be used.
    BusyError
        Too many images are waiting.
    BcModelError
        The model cannot be used.
    """
    caches = _get_caches()
    # The name can contain the case and the magnification, which the checks use.
    key = (image.sha256, image.name, bundle.key, scale, resolution)
    if (prediction := caches.predictions.get(key)) is None:
        pixels = decode_once(image, is_canceled=is_canceled)
        classifier = Classifier(load_engine(bundle))
        prediction = classifier.predict(
            pixels,
            name=image.name,
            scale=scale or find_file_scale(image),
            reduction=read_reduction(image.data),
            resolution=resolution,
            show_anyway=True,
            file_checks=find_file_checks(image, scale),
            progress=progress,
        )
        size = sum(heatmap.raw.nbytes for heatmap in prediction.heatmaps.values())
        size += prediction.contribution.cells.nbytes if prediction.contribution else 0
        caches.predictions.put(key, prediction, size + _RECORD_BYTES)
    return prediction if show_anyway else prediction.hide_if_blocked()


def find_file_checks(image: HeldImage, scale: DeclaredScale | None) -> tuple[Check, ...]:
    """Return the failed checks of an image file, and of a scale that contradicts it."""
    checks = check_file((image.original or image).data, image.name, image.page)
    return (*checks, *(check_declared_scale(scale, find_file_scale(image)) if scale else ()))


def find_file_scale(image: HeldImage) -> DeclaredScale:
    """Return the scale that an image file states."""
    return detect_scale(image.name, image.data)


def load_preview(image: HeldImage, *, is_canceled: Callable[[], bool] | None = None) -> Preview:
    """Return the preview of an image, from the cache if possible.

    Parameters and errors: see `predict_image`.
    """
    caches = _get_caches()
    if (preview := caches.previews.get(image.sha256)) is None:
        pixels = decode_once(image, is_canceled=is_canceled)
        preview = Preview(scale_for_display(pixels))
        caches.previews.put(image.sha256, preview, preview.pixels.nbytes + _RECORD_BYTES)
    return preview


def decode_once(image: HeldImage, *, is_canceled: Callable[[], bool] | None = None) -> np.ndarray:
    """Return the pixels of an image; recent ones are not decoded again."""
    caches = _get_caches()
    if (pixels := caches.pixels.get(image.sha256)) is not None:
        return pixels
    key = (image.sha256, image.name)
    if (known := caches.errors.get(key)) is not None:
        raise ImageError(str(known), known.reason)
    try:
        pixels = get_decode_pool().decode(image.data, image.name, is_canceled=is_canceled)
    except ImageError as error:
        caches.errors.put(key, ImageError(str(error), error.reason), _RECORD_BYTES)
        raise
    caches.pixels.put(image.sha256, pixels, pixels.nbytes)
    return pixels


def hold_result(
    key: Hashable, compute: Callable[[], Result], n_bytes: int, *, is_new: bool = False
) -> Result:
    """Return a result on demand, from the cache if possible.

    Parameters
    ----------
    key : hashable
        Kind of the result, hash of the image and key of the bundle.
    compute : callable
        Returns the result.
    n_bytes : int
        Approximate size of the result.
    is_new : bool
        Compute the result again.
    """
    caches = _get_caches()
    found: Result | None = None if is_new else caches.results.get(key)
    if found is None:
        found = compute()
        caches.results.put(key, found, n_bytes)
    return found


def scale_for_display(pixels: np.ndarray) -> np.ndarray:
    """Return an image in at most `DISPLAY_PX`, with its proportions.

    Examples
    --------
    >>> scale_for_display(np.zeros((65501, 32, 3), np.uint8)).shape
    (1200, 1, 3)
    """
    height, width = pixels.shape[:2]
    max_width, max_height = DISPLAY_PX
    scaled = downsample_to_width(pixels, max(1, min(max_width, width * max_height // height)))
    return np.ascontiguousarray(scaled[:max_height])
