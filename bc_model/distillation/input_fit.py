"""The parts of the bundled model that judge its input: the scale estimator and the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bc_model.data.declared_scale import scale_of_frame
from bc_model.data.images import FRAME_PX, is_enlarged
from bc_model.distillation.data import TrainingImages
from bc_model.inference.bundle import Bundle, file_sha256
from bc_model.inference.input_reference import add_input_reference
from bc_model.inference.scale_check import (
    SCALE_FILE,
    ScaleEstimator,
    fit_scale_estimator,
)

_MAX_PER_CASE = 12
"""Images of one case and magnification that the scale estimator is fitted to."""


def write_input_files(bundle: Bundle, source: TrainingImages) -> Bundle:
    """Fit both to training images, write them into a bundle, and list them in its model card.

    Parameters
    ----------
    bundle : Bundle
        The model.
    source : TrainingImages
        Its training images.
    """
    scale = fit_scale(source, bundle)
    if scale is not None:
        scale.save(bundle.folder / SCALE_FILE)
        sha256 = file_sha256(bundle.folder / SCALE_FILE)
        bundle = replace(
            bundle, card=replace(bundle.card, files=bundle.card.files | {SCALE_FILE: sha256})
        )
    magnifications = source.table["magnification"].to_numpy(int)
    is_served = np.isin(magnifications, bundle.card.scale.magnifications)
    fields = [source.frames[i] for i in np.flatnonzero(is_served)]
    enlarged = np.array(
        [is_enlarged(field.shape[1], field.shape[0], bundle.image_size) for field in fields]
    )
    return add_input_reference(bundle, source.pixels[is_served], source.case[is_served], enlarged)


def fit_scale(source: TrainingImages, bundle: Bundle, seed: int = 0) -> ScaleEstimator | None:
    """Fit the scale estimator to the full-size frames of all magnifications, if there are any."""
    table = source.table.assign(number=np.arange(len(source.table)))
    # Resized frames have lost the texture that shows their scale.
    table = table[[frame.shape[1] == FRAME_PX[0] for frame in source.frames]]
    if table.empty:
        return None
    table = table.sample(frac=1.0, random_state=seed)
    table = table.groupby(["case", "magnification"]).head(_MAX_PER_CASE).sort_values("number")
    magnifications = table["magnification"].to_numpy(int)
    mpps = [scale_of_frame(magnification, FRAME_PX[0]).mpp for magnification in magnifications]
    return fit_scale_estimator(
        [source.frames[number] for number in table["number"]],
        np.array(mpps, np.float64),
        bundle.image_size,
        seed=seed,
    )
