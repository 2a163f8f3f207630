"""The parts of the bundled model that judge its input: the scale estimator and the reference."""

from __future__ import annotations

import numpy as np

from bc_model.data.images import is_enlarged
from bc_model.distillation.data import TrainingImages
from bc_model.inference.bundle import Bundle
from bc_model.inference.input_reference import add_input_reference
from bc_model.inference.scale_check import (
    ScaleEstimator,
    add_scale_estimator,
    choose_frames,
    fit_scale_estimator,
)


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
        bundle = add_scale_estimator(bundle, scale)
    magnifications = source.table["magnification"].to_numpy(int)
    is_served = np.isin(magnifications, bundle.card.scale.magnifications)
    fields = [source.frames[i] for i in np.flatnonzero(is_served)]
    enlarged = np.array(
        [is_enlarged(field.shape[1], field.shape[0], bundle.image_size) for field in fields]
    )
    return add_input_reference(bundle, source.pixels[is_served], source.case[is_served], enlarged)


def fit_scale(source: TrainingImages, bundle: Bundle, seed: int = 0) -> ScaleEstimator | None:
    """Fit the scale estimator to the full-size frames of all magnifications, if there are any."""
    widths_px = [frame.shape[1] for frame in source.frames]
    table = source.table.assign(number=np.arange(len(source.table)), width_px=widths_px)
    chosen = choose_frames(table, seed=seed)
    if chosen.empty:
        return None
    return fit_scale_estimator(
        (source.frames[number] for number in chosen["number"]),
        chosen["mpp"].to_numpy(),
        bundle.image_size,
        seed=seed,
    )
