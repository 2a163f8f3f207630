"""Estimate the scale of an image from its texture, and compare it with the declared scale.

The features of a classifier do not show the scale, because training with resized views makes them
independent of it. The texture does: nuclei and fibers have the size that they have. A kernel ridge
regression predicts the µm per pixel from the features of structures in
`bc_model.inference.texture.texture_features`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import cv2
import numpy as np

from bc_model.checks import Check, Severity, make_check
from bc_model.data.breakhis import MPP_RANGE
from bc_model.data.declared_scale import scale_of_frame
from bc_model.data.images import FRAME_PX
from bc_model.errors import BundleError, DataError
from bc_model.inference.bundle import Bundle, file_sha256
from bc_model.inference.model_card import write_model_card
from bc_model.inference.texture import N_STRUCTURE, texture_features
from bc_model.utils.arrays import read_npz
from bc_model.utils.io import write_bytes_atomic

if TYPE_CHECKING:
    import pandas as pd

SCALE_FILE = "scale.npz"

WARNING_OCTAVES, BLOCKING_OCTAVES = 0.5, 0.75
"""Accepted differences of the estimated from the declared scale. Of the frames of left-out cases,
98 % are within 0.75 octaves."""

_GAMMA, _PENALTY = 0.002, 0.1
_VIEWS_PER_IMAGE = 10
_MAX_PER_CASE = 12
"""Images of one case and magnification."""
_OCTAVES_FINER, _OCTAVES_COARSER = 1.75, 2.0
_MAX_SUPPORT = 4000
_MAX_BYTES = 2**24
_ARRAYS = ("mean", "sd", "support", "weights", "offset")


@dataclass(frozen=True)
class ScaleEstimator:
    """A kernel ridge regression from the texture of a network input to its µm per pixel.

    Attributes
    ----------
    mean, sd : ndarray of shape (n_features,), float32
        Of the features of the training views.
    support : ndarray of shape (n_views, n_features), float16
        Standardized features of the training views.
    weights : ndarray of shape (n_views,), float32
    offset : float
        Mean of the training values, in octaves.
    """

    mean: np.ndarray
    sd: np.ndarray
    support: np.ndarray
    weights: np.ndarray
    offset: float

    def estimate(self, texture: np.ndarray) -> float:
        """Return the estimated µm per pixel of a network input, from its `texture_features`."""
        return float(2.0 ** self._predict(texture[None])[0])

    def check(self, input_mpp: float, estimated_mpp: float) -> Check | None:
        """Return a check if the estimate contradicts the declared scale.

        Parameters
        ----------
        input_mpp : float
            µm per pixel of the network input, from the declared scale.
        estimated_mpp : float
            From `estimate`, or its median over several tiles.

        Returns
        -------
        Check or None
            BC162, blocking or a warning.
        """
        octaves = math.log2(estimated_mpp / input_mpp)
        if abs(octaves) <= WARNING_OCTAVES:
            return None
        is_blocking = abs(octaves) > BLOCKING_OCTAVES
        return make_check(
            "BC162",
            severity=Severity.BLOCKING if is_blocking else Severity.WARNING,
            factor=2.0 ** abs(octaves),
            direction="coarser" if octaves > 0 else "finer",
            limit=2.0 ** (BLOCKING_OCTAVES if is_blocking else WARNING_OCTAVES),
        )

    def _predict(self, features: np.ndarray) -> np.ndarray:
        x = (features[:, :N_STRUCTURE] - self.mean) / self.sd
        kernel = np.exp(-_GAMMA * _squared_distances(x, self.support.astype(np.float32)))
        return np.einsum("nm,m->n", kernel, self.weights) + self.offset

    def save(self, path: Path | BinaryIO) -> None:
        """Write the arrays as ``.npz``, without pickle."""
        offset = np.array(self.offset, np.float32)
        values = (self.mean, self.sd, self.support, self.weights, offset)
        arrays: dict[str, np.ndarray] = dict(zip(_ARRAYS, values, strict=True))
        np.savez(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> ScaleEstimator:
        """Read a file that `save` wrote; a `BundleError` if it is damaged."""
        try:
            arrays = read_npz(path, max_bytes=_MAX_BYTES)
            mean, sd, support, weights, offset = (arrays[name] for name in _ARRAYS)
        except (OSError, DataError, KeyError) as error:
            raise BundleError(
                f"{path} does not contain a scale estimator ({error}). Copy the model again."
            ) from error
        n_views, n_features = support.shape if support.ndim == 2 else (0, 0)
        shapes = (mean.shape, sd.shape, weights.shape, offset.shape)
        are_finite = all(np.isfinite(array).all() for array in arrays.values())
        expected = ((N_STRUCTURE,), (N_STRUCTURE,), (n_views,), ())
        if shapes != expected or n_features != N_STRUCTURE or not are_finite:
            raise BundleError(f"The arrays in {path} do not fit together. Copy the model again.")
        return cls(mean, sd, support, weights, float(offset))


def fit_scale_estimator(
    images: Iterable[np.ndarray], mpps: np.ndarray, input_size: tuple[int, int], *, seed: int = 0
) -> ScaleEstimator:
    """Fit an estimator on views of training images at random scales.

    Parameters
    ----------
    images : iterable of ndarray of shape (height, width, 3), uint8
        Training images at their original size.
    mpps : ndarray of shape (n,)
        Their µm per pixel.
    input_size : (int, int)
        Height and width of the network input, px.
    seed : int
        Of the random scales and positions.
    """
    rng = np.random.default_rng(seed)
    features, targets = [], []
    for image, mpp in zip(images, mpps, strict=True):
        for view, factor in _views(image, input_size, rng):
            features.append(texture_features(view)[:N_STRUCTURE])
            targets.append(math.log2(mpp * factor))
    stacked, octaves = np.stack(features), np.array(targets)
    mean, sd = stacked.mean(axis=0), stacked.std(axis=0) + 1e-6
    # The stored values have this precision.
    support = ((stacked - mean) / sd).astype(np.float16)
    x = support.astype(np.float64)
    offset = float(octaves.mean())
    kernel = np.exp(-_GAMMA * _squared_distances(x, x))
    weights = np.linalg.solve(kernel + _PENALTY * np.eye(len(x)), octaves - offset)
    return ScaleEstimator(
        mean.astype(np.float32), sd.astype(np.float32), support, weights.astype(np.float32), offset
    )


def choose_frames(images: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return the images that an estimator is fitted to, with their µm per pixel.

    Parameters
    ----------
    images : DataFrame
        Columns case, magnification and width_px. Resized frames are left out, because they have
        lost the texture that shows their scale, and so are images without a magnification.
    seed : int
        Of the choice among the frames of one case.

    Returns
    -------
    DataFrame
        Some of the rows in their order, with the additional column ``mpp``.
    """
    is_frame = (images["width_px"] == FRAME_PX[0]) & images["magnification"].isin(MPP_RANGE)
    frames = images[is_frame].assign(position=np.arange(int(is_frame.sum())))
    shuffled = frames.sample(frac=1.0, random_state=seed)
    chosen = shuffled.groupby(["case", "magnification"]).head(_MAX_PER_CASE)
    chosen = chosen.head(_MAX_SUPPORT // _VIEWS_PER_IMAGE)
    chosen = chosen.sort_values("position").drop(columns="position")
    mpps = [scale_of_frame(int(value), FRAME_PX[0]).mpp for value in chosen["magnification"]]
    return chosen.assign(mpp=np.array(mpps, np.float64))


def add_scale_estimator(bundle: Bundle, estimator: ScaleEstimator) -> Bundle:
    """Write an estimator into a bundle, and return the bundle that lists it in its model card."""
    path = bundle.folder / SCALE_FILE
    buffer = io.BytesIO()
    estimator.save(buffer)
    write_bytes_atomic(path, buffer.getvalue())
    card = replace(bundle.card, files=bundle.card.files | {SCALE_FILE: file_sha256(path)})
    write_model_card(bundle.folder, card)
    return Bundle(bundle.folder, card)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    products = np.einsum("nf,mf->nm", a, b) if len(a) == 1 else a @ b.T
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None]
    return np.asarray(squares - 2.0 * products)


def _views(
    image: np.ndarray, input_size: tuple[int, int], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield network inputs and their µm per pixel relative to the image, the whole image first.

    A field that is larger than the image is the reduced image with mirrored borders.
    """
    height, width = input_size
    image_height, image_width = image.shape[:2]
    whole = image_width / width
    for number in range(_VIEWS_PER_IMAGE):
        octaves = rng.uniform(-_OCTAVES_FINER, _OCTAVES_COARSER) if number else 0.0
        side = 2.0**octaves
        crop_width, crop_height = round(image_width * side), round(image_height * side)
        if side <= 1.0:
            x0 = int(rng.integers(0, image_width - crop_width + 1))
            y0 = int(rng.integers(0, image_height - crop_height + 1))
            view = image[y0 : y0 + crop_height, x0 : x0 + crop_width]
        else:
            size = max(8, round(width / side)), max(8, round(height / side))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            right, below = width - size[0], height - size[1]
            x0, y0 = int(rng.integers(0, right + 1)), int(rng.integers(0, below + 1))
            view = cv2.copyMakeBorder(small, y0, below - y0, x0, right - x0, cv2.BORDER_REFLECT)
        shrinks = view.shape[0] >= height and view.shape[1] >= width
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        view = cv2.resize(np.ascontiguousarray(view), (width, height), interpolation=method)
        yield view, whole * side
