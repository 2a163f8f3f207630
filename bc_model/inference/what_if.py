"""What if: the prediction for a changed image, compared with that for the image itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bc_model.checks import Check
from bc_model.data.image_changes import ImageChange, apply_change
from bc_model.inference.classifier import Classifier
from bc_model.inference.image_prediction import Prediction


@dataclass(frozen=True)
class WhatIf:
    """The prediction for a changed image.

    Attributes
    ----------
    change : ImageChange
        The change of the image.
    image : ndarray of shape (height, width, 3), uint8
        The changed image.
    prediction : Prediction
        Its prediction. It is stated even if the changed image alone would be blocked, because a
        replaced region often looks unlike tissue; `Prediction.is_forced` is then True.
    prob_difference : float
        Estimated probability of malignancy after the change minus that before.
    margin_difference : float
        The same for the margin, the logit of malignant minus the logit of benign.
    """

    change: ImageChange
    image: np.ndarray
    prediction: Prediction
    prob_difference: float
    margin_difference: float


def predict_change(
    classifier: Classifier,
    image: np.ndarray,
    prediction: Prediction,
    change: ImageChange,
    *,
    file_checks: Iterable[Check] = (),
) -> WhatIf:
    """Return the prediction for a changed image.

    Parameters
    ----------
    classifier : Classifier
        The model of `prediction`.
    image : ndarray of shape (height, width, 3), uint8
        RGB image.
    prediction : Prediction
        Its prediction with a result.
    change : ImageChange
        The change of the image.
    file_checks : iterable of Check
        Checks of the image file, as for `Classifier.predict`.

    Raises
    ------
    ValueError
        `prediction` is blocked and has no result.

    Examples
    --------
    >>> from bc_model.inference import load_classifier
    >>> classifier = load_classifier("synthetic-demo")
    >>> gray = np.full((460, 700, 3), 200, np.uint8)
    >>> before = classifier.predict(gray, magnification=200, show_anyway=True)
    >>> predict_change(classifier, gray, before, ImageChange()).prob_difference
    0.0
    """
    if prediction.prob_malignant is None or prediction.contribution is None:
        raise ValueError("prediction: expected one with a result, got a blocked one")
    changed = apply_change(image, change)
    result = classifier.predict(
        changed,
        name=prediction.name,
        scale=prediction.scale,
        reduction=prediction.reduction,
        show_anyway=True,
        file_checks=file_checks,
    )
    assert result.prob_malignant is not None
    assert result.contribution is not None
    return WhatIf(
        change,
        changed,
        result,
        result.prob_malignant - prediction.prob_malignant,
        result.contribution.margin - prediction.contribution.margin,
    )
