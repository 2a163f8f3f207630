"""Augmentation of training views: scales, colors, and degradations such as blur and compression.

All changes are applied equally to both classes.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from bc_model.data.breakhis import MPP_RANGE
from bc_model.data.images import FIELD_PX
from bc_model.data.stain import augment_stain, background_mask
from bc_model.distillation.config import DistillationConfig

_P_COLOR = 0.7
_P_EMPTY = 0.02
_ASPECT_RANGE = (0.88, 1.14)
_SERVING_SCALE_RANGE = (0.8, 1.25)
_MAX_MAGNIFICATION = 2.5
"""A crop is enlarged at most by this factor, because it contains no finer detail."""
_VARIANT_CROP_RANGE = (0.5, 1.0)
_VARIANT_STAIN_JITTER = 0.2


class View(NamedTuple):
    """One training view before degradation, from which its training targets are measured.

    Attributes
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
    background : ndarray of shape (height, width), bool
        Background, where no evidence is expected.
    mpp : float
        Scale, µm per pixel; NaN if there is no tissue or more than one scale.
    frame_width_px : float
        Width of a complete frame at this scale, the unit of the blur.
    """

    pixels: np.ndarray
    background: np.ndarray
    mpp: float
    frame_width_px: float


def frame_mpp(magnification: int) -> float:
    """Return the scale of an official frame of 700 px width, µm per pixel, a rough estimate.

    Examples
    --------
    >>> frame_mpp(200)
    0.55
    """
    low, high = MPP_RANGE[magnification]
    return (low + high) / 2


def sample_view(
    frame: np.ndarray, magnification: int, config: DistillationConfig, rng: np.random.Generator
) -> View:
    """Return a random view of a frame, at a random scale.

    Parameters
    ----------
    frame : ndarray of shape (height, width, 3), uint8
        Complete field of view at any size; the scale is that of a width of 700 px.
    magnification : int
        Magnification, for example 200 for 200X.
    config : DistillationConfig
    rng : numpy.random.Generator
    """
    if rng.random() < _P_EMPTY:
        return _empty_view(config, rng)
    height, width = config.view_size
    frame_um = frame_mpp(magnification) * FIELD_PX[0]
    mpp = _sample_mpp(frame, frame_um, config, rng)
    aspect = np.sqrt(rng.uniform(*_ASPECT_RANGE))
    # Frames can be squashed, so both axes are relative to the official aspect ratio.
    crop_width = min(1.0, width * mpp * aspect / frame_um)
    crop_height = min(1.0, height * mpp / aspect / (frame_mpp(magnification) * FIELD_PX[1]))
    crop = _random_crop(frame, (crop_height, crop_width), rng)
    pixels = resize(_random_flip(crop, rng), config.view_size)
    background = background_mask(pixels)
    if rng.random() < _P_COLOR:
        pixels = jitter_colors(pixels, config.stain_jitter, rng)
    if rng.random() < config.channel_mixing:
        pixels = _mix_channels(pixels, rng)
    return View(pixels, background, mpp, frame_um / mpp)


def mix_views(first: View, second: View, rng: np.random.Generator) -> tuple[View, float]:
    """Mix two views by mixup [1]_ or CutMix [2]_; return the proportion of the first one as well.

    References
    ----------
    .. [1] Zhang et al., "mixup", ICLR 2018.
    .. [2] Yun et al., "CutMix", ICCV 2019.
    """
    proportion = rng.random()
    if rng.random() < 0.5:
        weight = np.float32(proportion)
        mixed = weight * first.pixels + (1 - weight) * second.pixels
        pixels = np.rint(mixed).astype(np.uint8)
        background = first.background & second.background
    else:
        column = round(proportion * first.pixels.shape[1])
        proportion = column / first.pixels.shape[1]
        pixels, background = (
            np.concatenate([one[:, :column], two[:, column:]], axis=1)
            for one, two in (
                (first.pixels, second.pixels), (first.background, second.background),
            )
        )  # fmt: skip
    mpp = first.mpp if first.mpp == second.mpp else float("nan")
    return View(pixels, background, mpp, first.frame_width_px), float(proportion)


class Variants(NamedTuple):
    """A complete image and its augmented variants at the input size of the network.

    Attributes
    ----------
    pixels : ndarray of shape (1 + n_variants, height, width, 3), uint8
        The complete image is first.
    crop_proportions : ndarray of shape (1 + n_variants,), float64
        Side length of the crop relative to the frame; 1 for the complete image and for variants
        with other colors.
    """

    pixels: np.ndarray
    crop_proportions: np.ndarray


def sample_variants(
    frame: np.ndarray, config: DistillationConfig, rng: np.random.Generator
) -> Variants:
    """Return the complete image and its augmented variants.

    Two variants of three are crops of 50 to 100 %, the others have slightly changed colors.
    """
    complete = resize(frame, config.image_size)
    variants, proportions = [complete], [1.0]
    for number in range(config.n_variants):
        if number % 3 < 2:
            proportion = rng.uniform(*_VARIANT_CROP_RANGE)
            crop = _random_crop(frame, (proportion, proportion), rng)
            variants.append(resize(crop, config.image_size))
        else:
            proportion = 1.0
            variants.append(jitter_colors(complete, _VARIANT_STAIN_JITTER, rng))
        proportions.append(proportion)
    return Variants(np.stack(variants), np.array(proportions))


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image of a height and width, by area averaging if both sides shrink."""
    image = np.ascontiguousarray(image)
    if image.shape[:2] == size:
        return image
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(
        image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def degrade(
    image: np.ndarray, frame_width_px: float, config: DistillationConfig, rng: np.random.Generator
) -> np.ndarray:
    """Change the brightness, blur, resample and compress an image, each with a probability.

    `frame_width_px` is the width of a complete frame at the scale of the image, which sets the unit
    of the blur.
    """
    if rng.random() < config.degradation:
        gain = np.float32(rng.uniform(1.0 - config.brightness, 1.0 + config.brightness))
        image = np.clip(np.rint(image * gain), 0, 255).astype(np.uint8)
    if rng.random() < config.degradation:
        sigma = rng.uniform(0.0, config.blur_px) * frame_width_px / FIELD_PX[0]
        if sigma > 0.05:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
    if rng.random() < 0.6 * config.degradation:
        image = resample(image, rng.uniform(1.0, 3.0))
    if rng.random() < config.degradation:
        image = compress_jpeg(image, int(rng.integers(*config.jpeg_quality, endpoint=True)))
    return image


def resample(image: np.ndarray, factor: float) -> np.ndarray:
    """Reduce an image by a factor and enlarge it to its size again."""
    height, width = image.shape[:2]
    small = (max(8, round(height / factor)), max(8, round(width / factor)))
    return resize(resize(image, small), (height, width))


def compress_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress an RGB image as JPEG and return the decoded image."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None, "it was just encoded"
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def jitter_colors(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Change the stains, sometimes also gamma, contrast and brightness."""
    changed = augment_stain(
        image, rng.uniform(1.0 - amount, 1.0 + amount, 3), rng.uniform(-amount / 8, amount / 8, 3)
    )
    if rng.random() < 0.5:
        gamma = np.exp(rng.normal(0.0, 0.35 * amount) + rng.normal(0.0, 0.15 * amount, 3))
        changed = 255.0 * (changed / 255.0) ** gamma
    if rng.random() < 0.3:
        mean = changed.mean(axis=(0, 1))
        changed = mean + (changed - mean) * np.exp(rng.normal(0.0, 0.5 * amount))
        changed += rng.normal(0.0, 25.0 * amount)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def _sample_mpp(
    frame: np.ndarray, frame_um: float, config: DistillationConfig, rng: np.random.Generator
) -> float:
    serving = frame_um / config.image_size[1]
    largest = min(config.mpp_range[1], frame_um / config.view_size[1])
    smallest = max(config.mpp_range[0], frame_um / frame.shape[1] / _MAX_MAGNIFICATION)
    if rng.random() < config.serving_scale_share and serving <= largest:
        low, high = (factor * serving for factor in _SERVING_SCALE_RANGE)
    else:
        low, high = smallest, largest
    return float(np.exp(rng.uniform(np.log(min(low, largest)), np.log(min(high, largest)))))


def _random_crop(
    frame: np.ndarray, proportions: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    height, width = (
        max(1, round(p * n)) for p, n in zip(proportions, frame.shape[:2], strict=True)
    )
    y0 = rng.integers(frame.shape[0] - height + 1)
    x0 = rng.integers(frame.shape[1] - width + 1)
    return frame[y0 : y0 + height, x0 : x0 + width]


def _random_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return image[::-1] if rng.random() < 0.5 else image


def _mix_channels(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace each channel by a weighted mean of all three, which gives unrealistic colors."""
    weights = rng.dirichlet((0.5, 0.5, 0.5), 3).astype(np.float32)
    return np.rint(view @ weights.T).astype(np.uint8)


def _empty_view(config: DistillationConfig, rng: np.random.Generator) -> View:
    """Return a view without tissue: one color, a gradient, or noise."""
    height, width = config.view_size
    first, second = rng.uniform(0, 255, (2, 3))
    if rng.random() < 0.4:  # the color of glass
        first, second = rng.uniform(215, 255, (2, 3))
    ramp = np.linspace(0.0, 1.0, width)[None, :, None] * (rng.random() < 0.5)
    noise = rng.normal(0.0, rng.choice([0.0, 3.0, 40.0]), (height, width, 3))
    image = np.clip(first + (second - first) * ramp + noise, 0, 255).astype(np.uint8)
    return View(image, np.ones((height, width), bool), float("nan"), float(config.image_size[1]))
