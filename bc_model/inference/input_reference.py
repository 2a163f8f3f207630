"""The training images as a reference: how unusual an input of the network is.

Color and texture have a distance from the training images each: a Mahalanobis distance within their
principal components, with a covariance that is shrunk to a multiple of the identity [1]_, plus the
norm of the residual outside of these components [2]_. Limits are quantiles over images of left-out
cases.

.. [1] Ledoit, O. and Wolf, M. "A well-conditioned estimator for large-dimensional covariance
   matrices." Journal of Multivariate Analysis 88(2), 2004.
.. [2] Wang, H., Li, Z., Feng, L. and Zhang, W. "ViM: Out-Of-Distribution with Virtual-logit
   Matching." CVPR 2022. https://arxiv.org/abs/2203.10807
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bc_model.checks import Check, Severity, make_check
from bc_model.errors import BundleError, DataError
from bc_model.inference.bundle import Bundle, file_sha256
from bc_model.inference.model_card import write_model_card
from bc_model.inference.suitability import COLORS, MEASUREMENTS, measure_field
from bc_model.inference.texture import N_FEATURES, texture_features
from bc_model.utils.arrays import read_npz
from bc_model.utils.io import write_bytes_atomic

REFERENCE_FILE = "input_reference.npz"

MAX_DARK, MAX_BROWN, MAX_PEN, MIN_TISSUE = 0.15, 0.15, 0.02, 0.05
"""Proportions of pixels. Of 718 BreakHis images, the largest are 0.00, 0.06 and 0.00, and the
smallest proportion of tissue is 0.10."""
MIN_BRIGHTNESS = 60.0
_MOSTLY_DARK = 2 / 3

MIN_REFERENCE_CASES, MAX_REFERENCE_IMAGES = 10, 1000
"""With fewer cases, quantiles over left-out cases have no meaning. More images take minutes."""

_SHRINKAGE = 0.1
_N_COLOR, _N_TEXTURE = 8, 60
"""Principal components."""
_MIN_RESIDUAL = 1e-3
"""Smallest mean squared residual, relative to the variance of the features."""
_CLIP = 30.0
"""Standardized values are clipped, so that a feature without variance has no infinite distance."""
_WARNING_QUANTILE = 0.98
_COLOR_FACTOR, _TEXTURE_FACTOR = 2.0, 1.5
"""Distance from which an image is blocked, relative to that of a warning. Colors differ between
laboratories, so that their limit is wider."""
_FOCUS_MARGIN = 0.35
"""Below the 1st percentile of the focus, relative to its distance from the median."""
_MIN_FOCUS_IMAGES = 20
"""Percentiles of fewer images are too uncertain for limits of their own."""
_FOCUS, _FLAT = MEASUREMENTS.index("focus"), MEASUREMENTS.index("flat")
_FLAT_MARGIN = 0.15
"""Above the 99th percentile of the proportion of flat pixels. Screenshots have more than 0.8."""
_MAX_BYTES = 2**22
_PARTS = ("mean", "sd", "components", "variances")


@dataclass(frozen=True)
class Distance:
    """A Mahalanobis distance within principal components, plus the norm of the residual.

    Attributes
    ----------
    mean, sd : ndarray of shape (n_features,), float32
        Of the training images.
    components : ndarray of shape (n_components, n_features), float32
        Orthonormal directions of standardized features.
    variances : ndarray of shape (n_components + 1,), float32
        Shrunk variance along each direction, and the mean squared residual.
    """

    mean: np.ndarray
    sd: np.ndarray
    components: np.ndarray
    variances: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, n_components: int) -> Distance:
        """Fit to features of training images, shape (n, n_features)."""
        mean, sd = features.mean(axis=0), features.std(axis=0) + 1e-6
        x = (features - mean) / sd
        _, singular, directions = np.linalg.svd(x, full_matrices=False)
        components = directions[: min(n_components, len(directions))]
        variances = np.square(singular[: len(components)]) / len(x)
        shrunk = (1.0 - _SHRINKAGE) * variances + _SHRINKAGE * variances.mean()
        inside = np.square(x @ components.T).sum(axis=1)
        outside = np.square(x).sum(axis=1) - inside
        # Without directions outside of the components, the residual is only rounding error.
        residual = max(float(outside.mean()), _MIN_RESIDUAL * x.shape[1])
        arrays = (mean, sd, components, np.append(shrunk, residual))
        return cls(*(array.astype(np.float32) for array in arrays))

    def measure(self, features: np.ndarray) -> np.ndarray:
        """Return the distance of each image, shape (n,), for features of shape (n, n_features)."""
        x = np.clip((features - self.mean) / self.sd, -_CLIP, _CLIP)
        inside = np.einsum("nf,cf->nc", x, self.components)
        squares = np.square(inside)
        mahalanobis = (squares / self.variances[:-1]).mean(axis=1)
        residual = np.square(x).sum(axis=1) - squares.sum(axis=1)
        return np.sqrt(mahalanobis) + np.sqrt(np.maximum(residual, 0.0) / self.variances[-1])


@dataclass(frozen=True)
class Measured:
    """A measured value of a field of view, with its limits.

    Attributes
    ----------
    value : float
    warning_limit, blocking_limit : float or None
        Values from which the field has a warning, and is blocked. None if there is no such limit.
    is_minimum : bool
        True if smaller values fail, False if larger values fail.
    """

    value: float
    warning_limit: float | None
    blocking_limit: float | None
    is_minimum: bool = False

    @property
    def severity(self) -> Severity | None:
        """Severity of the failed check; None if the value is within the limits."""
        sign = -1.0 if self.is_minimum else 1.0
        for limit, severity in (
            (self.blocking_limit, Severity.BLOCKING),
            (self.warning_limit, Severity.WARNING),
        ):
            if limit is not None and sign * self.value > sign * limit:
                return severity
        return None


@dataclass(frozen=True)
class InputReference:
    """Distances and limits from the training images of a model.

    Attributes
    ----------
    color, texture : Distance
        Of the measurements of color, and of `bc_model.inference.texture.texture_features`.
    color_limits, texture_limits : tuple of float
        Distances from which an image has a warning, and is blocked.
    focus_limits, enlarged_focus_limits : tuple of float
        Values of the focus below which an image has a warning, and is blocked; the latter for
        images that have fewer pixels than the network input in a direction. Enlarging blurs them.
    max_flat : float
        Largest proportion of flat pixels.
    """

    color: Distance
    texture: Distance
    color_limits: tuple[float, float]
    texture_limits: tuple[float, float]
    focus_limits: tuple[float, float]
    enlarged_focus_limits: tuple[float, float]
    max_flat: float

    @classmethod
    def fit(
        cls,
        measurements: np.ndarray,
        textures: np.ndarray,
        cases: np.ndarray,
        is_enlarged: np.ndarray,
    ) -> InputReference:
        """Fit to training images.

        Parameters
        ----------
        measurements : ndarray of shape (n, len(MEASUREMENTS))
            From `bc_model.inference.suitability.measure_field`.
        textures : ndarray of shape (n, n_features)
            From `bc_model.inference.texture.texture_features`.
        cases : ndarray of shape (n,)
            At least two cases. All images of one case are left out together.
        is_enlarged : ndarray of shape (n,), bool
            Images with fewer pixels than the network input in a direction.

        Raises
        ------
        DataError
            There are fewer than two cases.
        """
        if len(np.unique(cases)) < 2:
            raise DataError(
                "The input checks need images of at least two cases, got one. Add a case."
            )
        colors = measurements[:, COLORS]
        sharp, enlarged = _fit_focus(measurements[:, _FOCUS], is_enlarged)
        return cls(
            Distance.fit(colors, _N_COLOR),
            Distance.fit(textures, _N_TEXTURE),
            _limits(_left_out_distances(colors, cases, _N_COLOR), _COLOR_FACTOR),
            _limits(_left_out_distances(textures, cases, _N_TEXTURE), _TEXTURE_FACTOR),
            sharp,
            enlarged,
            float(np.quantile(measurements[:, _FLAT], 0.99) + _FLAT_MARGIN),
        )

    def measure(
        self, measurements: np.ndarray, texture: np.ndarray, *, is_enlarged: bool = False
    ) -> dict[str, Measured]:
        """Return the measured values of one field of view with their limits.

        Parameters
        ----------
        measurements : ndarray of shape (len(MEASUREMENTS),)
            From `bc_model.inference.suitability.measure_field`.
        texture : ndarray of shape (n_features,)
            From `bc_model.inference.texture.texture_features`.
        is_enlarged : bool
            True if the field has fewer pixels than the network input in a direction.

        Returns
        -------
        dict of str to Measured
            'tissue', 'dark', 'brown', 'pen' and 'flat' (proportions of pixels), 'brightness' (mean,
            0 to 255), 'focus' (natural logarithm of the variance of the Laplacian), and 'texture'
            and 'color' (distances from the training images).
        """
        values = dict(zip(MEASUREMENTS, measurements.tolist(), strict=True))
        focus_limits = self.enlarged_focus_limits if is_enlarged else self.focus_limits
        texture_distance = float(self.texture.measure(texture[None])[0])
        color_distance = float(self.color.measure(measurements[None, COLORS])[0])
        return {
            "tissue": Measured(values["tissue"], None, MIN_TISSUE, is_minimum=True),
            "dark": Measured(values["dark"], None, MAX_DARK),
            "brightness": Measured(values["brightness"], None, MIN_BRIGHTNESS, is_minimum=True),
            "pen": Measured(values["pen"], MAX_PEN, None),
            "brown": Measured(values["brown"], None, MAX_BROWN),
            "focus": Measured(values["focus"], *focus_limits, is_minimum=True),
            "flat": Measured(values["flat"], None, self.max_flat),
            "texture": Measured(texture_distance, *self.texture_limits),
            "color": Measured(color_distance, *self.color_limits),
        }

    def save(self, path: Path | BinaryIO) -> None:
        """Write the arrays as ``.npz``, without pickle."""
        arrays = {
            f"{name}_{part}": getattr(getattr(self, name), part)
            for name in ("color", "texture")
            for part in _PARTS
        }
        limits = (
            *(*self.color_limits, *self.texture_limits),
            *(*self.focus_limits, *self.enlarged_focus_limits, self.max_flat),
        )
        arrays["limits"] = np.array(limits, np.float32)
        np.savez(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> InputReference:
        """Read a file that `save` wrote; a `BundleError` if it is damaged."""
        try:
            arrays = read_npz(path, max_bytes=_MAX_BYTES)
            color, texture = (
                Distance(*(arrays[f"{name}_{part}"] for part in _PARTS))
                for name in ("color", "texture")
            )
            limits = arrays["limits"]
        except (OSError, DataError, KeyError) as error:
            raise BundleError(
                f"{path} does not contain an input reference ({error}). Copy the model again."
            ) from error
        are_finite = all(np.isfinite(array).all() for array in arrays.values())
        if (
            limits.shape != (9,)
            or not are_finite
            or not _is_consistent(color, len(COLORS))
            or not _is_consistent(texture, N_FEATURES)
        ):
            raise BundleError(f"The arrays in {path} do not fit together. Copy the model again.")
        a, b, c, d, e, f, g, h, flat = (float(value) for value in limits)
        return cls(color, texture, (a, b), (c, d), (e, f), (g, h), flat)


def add_input_reference(
    bundle: Bundle, pixels: np.ndarray, cases: np.ndarray, is_enlarged: np.ndarray
) -> Bundle:
    """Fit a reference to training images, and return the bundle that contains it.

    Parameters
    ----------
    bundle : Bundle
        The model. Its directory and its card are changed.
    pixels : ndarray of shape (n, height, width, 3), uint8
        Network inputs of training images.
    cases : ndarray of shape (n,)
        Their cases, at least `MIN_REFERENCE_CASES`.
    is_enlarged : ndarray of shape (n,), bool
        Images with fewer pixels than the network input in a direction.
    """
    reference = InputReference.fit(
        np.stack([measure_field(image) for image in pixels]),
        np.stack([texture_features(image) for image in pixels]),
        cases,
        is_enlarged,
    )
    path = bundle.folder / REFERENCE_FILE
    buffer = io.BytesIO()
    reference.save(buffer)
    write_bytes_atomic(path, buffer.getvalue())
    card = replace(bundle.card, files=bundle.card.files | {REFERENCE_FILE: file_sha256(path)})
    write_model_card(bundle.folder, card)
    return Bundle(bundle.folder, card)


def check_measured(measured: dict[str, Measured]) -> Iterator[Check]:
    """Yield the failed checks of the measured values of one field of view.

    BC170 (out of focus), BC171 (too little tissue), BC172 (dark surround), BC173 (pen), BC174
    (brown stain), BC175 (dark image), BC176 (texture) and BC177 (color).

    Parameters
    ----------
    measured : dict of str to Measured
        Result of `InputReference.measure`.
    """
    failed = {name: entry.severity for name, entry in measured.items() if entry.severity}
    percent = {name: 100 * measured[name].value for name in ("tissue", "dark", "pen", "brown")}
    if "tissue" in failed:
        yield make_check("BC171", percent=percent["tissue"], limit=100 * MIN_TISSUE)
    if "brightness" in failed or measured["dark"].value > _MOSTLY_DARK:
        yield make_check("BC175", brightness=measured["brightness"].value)
    elif "dark" in failed:
        yield make_check("BC172", percent=percent["dark"])
    if "pen" in failed:
        yield make_check("BC173", percent=percent["pen"])
    if "brown" in failed:
        yield make_check("BC174", percent=percent["brown"])
    if severity := failed.get("focus"):
        limit = measured["focus"].warning_limit
        yield make_check("BC170", severity, focus=measured["focus"].value, limit=limit)
    if severity := failed.get("flat") or failed.get("texture"):
        flat_percent = 100 * measured["flat"].value
        distance = _relative(measured["texture"])
        yield make_check("BC176", severity, flat_percent=flat_percent, distance=distance)
    if severity := failed.get("color"):
        yield make_check("BC177", severity, distance=_relative(measured["color"]))


def _relative(distance: Measured) -> float:
    assert distance.warning_limit is not None
    return distance.value / distance.warning_limit


def _left_out_distances(features: np.ndarray, cases: np.ndarray, n_components: int) -> np.ndarray:
    """Return the distance of each image from the images of the other cases."""
    distances = np.empty(len(features))
    for case in np.unique(cases):
        is_out = cases == case
        fitted = Distance.fit(features[~is_out], n_components)
        distances[is_out] = fitted.measure(features[is_out])
    return distances


def _limits(distances: np.ndarray, factor: float) -> tuple[float, float]:
    warning = float(np.quantile(distances, _WARNING_QUANTILE))
    return warning, factor * warning


def _fit_focus(focus: np.ndarray, is_enlarged: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Return the limits for images that are not enlarged, and for enlarged ones.

    If there are too few of one kind, all images give its limits.
    """
    limits = []
    for mask in (~is_enlarged, is_enlarged):
        values = focus[mask] if mask.sum() >= _MIN_FOCUS_IMAGES else focus
        low, median = np.quantile(values, [0.01, 0.5])
        limits.append((float(low), float(low - _FOCUS_MARGIN * (median - low))))
    return tuple(limits)


def _is_consistent(distance: Distance, n_features: int) -> bool:
    n_components = len(distance.components)
    return (
        distance.mean.shape == distance.sd.shape == (n_features,)
        and distance.components.shape == (n_components, n_features)
        and distance.variances.shape == (n_components + 1,)
    )
