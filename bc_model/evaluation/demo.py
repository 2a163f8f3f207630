"""Synthetic samples with known lesions, and the comparison of a model's maps with them.

The samples need no file and no network. They are drawings, not tissue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from bc_model.contribution_map import ContributionMap, overlay_signed_map
from bc_model.data.images import preprocess_image
from bc_model.data.synthetic import generate_image, generate_lesion
from bc_model.evaluation.estimates import estimate_mean
from bc_model.evaluation.explanation_checks import share_in_mask
from bc_model.gradcam import Heatmap
from bc_model.inference.classifier import Classifier
from bc_model.inference.image_prediction import Prediction
from bc_model.utils.measurement import Metric

DEMO_MODEL_NAME = "synthetic-demo"
"""Directory of the bundled model that is trained on synthetic images only."""

DEMO_NOTICE = "Synthetic images, synthetic demo model. Not tissue."

DemoRole = Literal["benign", "malignant", "uncertain", "blocked"]
"""What a sample shows: a correct prediction of a class, no clear class, or no prediction."""

_MAGNIFICATION = 200
_MIXED_WEIGHT = 0.58
"""Weight of the malignant region of the ambiguous sample, relative to benign tissue."""


@dataclass(frozen=True, eq=False)
class DemoSample:
    """One synthetic image with its malignant region.

    Attributes
    ----------
    name : str
        Display name.
    image : ndarray of shape (460, 700, 3), uint8
        RGB image.
    mask : ndarray of shape (460, 700), bool
        True in the malignant region; False everywhere in a benign image.
    label : {'benign', 'malignant'}
        Class of the image.
    role : {'benign', 'malignant', 'uncertain', 'blocked'}
        Outcome that the sample is made for.
    """

    name: str
    image: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    label: str
    role: DemoRole


@dataclass(frozen=True, eq=False)
class DemoResult:
    """The prediction for one sample, and its comparison with the malignant region.

    Attributes
    ----------
    prediction : Prediction
        Prediction of the model.
    pointing_hit : bool or None
        Whether the maximum of the contribution map is in the region. None without a region or
        without a prediction.
    mass_in_lesion : float or None
        Proportion of the positive contributions in the region, 0 to 1; None as above.
    """

    prediction: Prediction
    pointing_hit: bool | None
    mass_in_lesion: float | None

    @property
    def outcome(self) -> str:
        """'benign', 'malignant', 'uncertain' or 'blocked'."""
        return self.prediction.outcome or "blocked"


def make_demo_samples() -> tuple[DemoSample, ...]:
    """Return the six samples of the demonstration, always the same.

    Returns
    -------
    tuple of DemoSample
        Two benign images, two images with a malignant region, one with an ambiguous region, and a
        grayscale image, which a model for H&E refuses (check BC104).

    Examples
    --------
    >>> [sample.role for sample in make_demo_samples()]
    ['benign', 'benign', 'malignant', 'malignant', 'uncertain', 'blocked']
    """
    benign = [generate_image(malignant=False, seed=seed, case_seed=seed) for seed in (101, 102)]
    lesions = [generate_lesion(seed=seed, case_seed=seed) for seed in (103, 104, 105, 106)]
    empty = np.zeros(benign[0].shape[:2], bool)
    mixed, mixed_mask = lesions[2]
    # Both images have the same seeds, so that they differ only in the region.
    plain = generate_image(malignant=False, seed=105, case_seed=105)
    ambiguous = np.rint(_MIXED_WEIGHT * mixed + (1 - _MIXED_WEIGHT) * plain).astype(np.uint8)
    gray = np.repeat(np.rint(lesions[3][0].mean(axis=2, keepdims=True)), 3, axis=2)
    return (
        DemoSample("Glands 1", benign[0], empty, "benign", "benign"),
        DemoSample("Glands 2", benign[1], empty, "benign", "benign"),
        DemoSample("Lesion 1", *lesions[0], "malignant", "malignant"),
        DemoSample("Lesion 2", *lesions[1], "malignant", "malignant"),
        DemoSample("Faint lesion", ambiguous, mixed_mask, "malignant", "uncertain"),
        DemoSample("Grayscale", gray.astype(np.uint8), lesions[3][1], "malignant", "blocked"),
    )


def keep_malignant(contribution: ContributionMap) -> Heatmap:
    """Return the positive cells of a contribution map, which support malignant, as a heatmap.

    Examples
    --------
    >>> signed = ContributionMap(np.array([[0.5, -2.0]], np.float32), 0.25, 0.0, -1.25)
    >>> keep_malignant(signed).raw.tolist()
    [[0.5, 0.0]]
    """
    return Heatmap("malignant", np.maximum(contribution.cells, 0), contribution.grid)


def evaluate_demo_sample(classifier: Classifier, sample: DemoSample) -> DemoResult:
    """Classify a sample and compare its contribution map with the malignant region.

    Parameters
    ----------
    classifier : Classifier
    sample : DemoSample

    Returns
    -------
    DemoResult
    """
    prediction = classifier.predict(sample.image, magnification=_MAGNIFICATION)
    hit = mass = None
    if prediction.contribution is not None and sample.mask.any():
        # The mask is cropped and resized like the image.
        shown = np.repeat(sample.mask[..., None] * np.uint8(255), 3, axis=2)
        mask = preprocess_image(shown, classifier.bundle.image_size)[..., 0] > 127
        share, peak = share_in_mask(keep_malignant(prediction.contribution), mask)
        hit, mass = bool(peak > 0.5), float(np.nan_to_num(share))
    return DemoResult(prediction, hit, mass)


def score_pointing(results: Sequence[DemoResult]) -> Metric:
    """Return the proportion of samples whose contribution map points to the region.

    Samples without a region and blocked samples do not count. Each sample is a case of its own.
    """
    hits = np.array([r.pointing_hit for r in results if r.pointing_hit is not None], bool)
    names = np.array([str(i) for i in range(len(hits))])
    return estimate_mean(hits, names, np.ones(len(hits), bool), is_proportion=True)


def draw_demo_sample(sample: DemoSample, result: DemoResult) -> dict[str, np.ndarray]:
    """Return the images that show a sample, by label.

    Parameters
    ----------
    sample : DemoSample
    result : DemoResult

    Returns
    -------
    dict of str to ndarray of shape (460, 700, 3), uint8
        'Image'; 'True lesion' with the outline of the region, or 'No lesion'; and 'Contribution
        map', which is missing if the sample was blocked.
    """
    contours, _ = cv2.findContours(
        sample.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    outlined = np.where(sample.mask[..., None], sample.image, sample.image // 2 + 110)
    outlined = np.ascontiguousarray(outlined.astype(np.uint8))
    # The orange of malignant, which is distinct with color blindness.
    cv2.drawContours(outlined, contours, -1, (213, 94, 0), 5, cv2.LINE_AA)
    images = {"Image": sample.image}
    images["True lesion" if sample.mask.any() else "No lesion"] = (
        outlined if sample.mask.any() else sample.image
    )
    contribution = result.prediction.contribution
    if contribution is not None:
        images["Contribution map"] = overlay_signed_map(sample.image, contribution)
    return images
