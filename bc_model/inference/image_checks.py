"""The checks of one image, for a prediction and for the images of a dataset alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import is_synthetic, parse_name
from bc_model.data.declared_scale import DeclaredScale
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine
from bc_model.inference.image_prediction import INPUT_WARNINGS, NO_TISSUE
from bc_model.inference.input_checks import check_size, check_staining
from bc_model.inference.input_reference import Measured, check_measured
from bc_model.inference.suitability import measure_field
from bc_model.inference.texture import texture_features
from bc_model.inference.tiling import TilePlan


def check_name_and_size(
    name: str, width_px: int, height_px: int, scale: DeclaredScale, bundle: Bundle
) -> Iterator[Check]:
    """Yield the failed checks of a file name and of the size of an image.

    Parameters
    ----------
    name : str
        File name.
    width_px, height_px : int
        Size of the image.
    scale : DeclaredScale
        Scale of the image. The size states nothing new about an image with a known scale.
    bundle : Bundle
        The model.
    """
    parsed = parse_name(name)
    if parsed and is_synthetic(parsed.case) and not bundle.card.data.is_synthetic:
        yield make_check("BC102")
    is_frame = scale.magnification is not None
    if scale.mpp is None or is_frame or not bundle.card.scale.magnifications:
        size = check_size(width_px, height_px, is_frame, bundle)
        if size is not None:
            yield size


@dataclass(frozen=True)
class FieldChecks:
    """The checks of one field of view.

    Attributes
    ----------
    checks : tuple of Check
        Failed checks.
    measured : dict of str to Measured
        All measured values with their limits, see `InputReference.measure`. Empty if the model has
        no input reference.
    texture : ndarray of shape (n_features,), float32, or None
        See `bc_model.inference.texture.texture_features`. None if the model does not use it.
    """

    checks: tuple[Check, ...]
    measured: dict[str, Measured] = field(default_factory=dict)
    texture: np.ndarray | None = None


def check_field(engine: Engine, pixels: np.ndarray, *, is_enlarged: bool = False) -> FieldChecks:
    """Return the checks of one field of view.

    Parameters
    ----------
    engine : Engine
        The model with its input reference.
    pixels : ndarray of shape (height, width, 3), uint8
        Input of the network.
    is_enlarged : bool
        True if the image had fewer pixels in a direction.
    """
    reference = engine.input_reference
    needs_texture = reference is not None or engine.scale_estimator is not None
    texture = texture_features(pixels) if needs_texture else None
    staining = check_staining(pixels, engine.bundle.card)
    checks = [staining] if staining else []
    measured: dict[str, Measured] = {}
    if reference is not None and texture is not None:
        measured = reference.measure(measure_field(pixels), texture, is_enlarged=is_enlarged)
        checks += check_measured(measured)
    if any(check.code in NO_TISSUE for check in checks):
        # Glass is out of focus, unlike tissue and pale for this one reason.
        checks = [check for check in checks if check.code not in INPUT_WARNINGS]
    return FieldChecks(tuple(checks), measured, texture)


def check_texture_scale(
    engine: Engine, textures: Sequence[np.ndarray | None], plan: TilePlan
) -> tuple[float | None, Check | None]:
    """Return the scale that the texture of an image suggests, and a check if it contradicts.

    Parameters
    ----------
    engine : Engine
        The model with its scale estimator.
    textures : sequence of ndarray
        Textures of the fields of view of the image, from `check_field`.
    plan : TilePlan
        Division of the image.

    Returns
    -------
    float or None
        µm per pixel of the network input, the median over the fields. None without an estimator.
    Check or None
        BC162 if the declared scale is another one. None if it is unknown, too.
    """
    estimator = engine.scale_estimator
    found = [] if estimator is None else [estimator.estimate(x) for x in textures if x is not None]
    if estimator is None or not found:
        return None, None
    estimated_mpp = float(np.median(found))
    if plan.input_mpp is None or not plan.is_comparable(engine.bundle.card):
        return estimated_mpp, None
    return estimated_mpp, estimator.check(plan.input_mpp, estimated_mpp)
