"""Robustness: how changes of the images affect the predictions of a model."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bc_model.data.dataset import Dataset
from bc_model.data.images import preprocess_image, read_image
from bc_model.errors import DataError
from bc_model.evaluation.estimates import estimate_mean, estimate_metrics
from bc_model.evaluation.evaluate import inner_engine
from bc_model.evaluation.metrics import Floats
from bc_model.evaluation.perturbations import PERTURBATIONS, Perturbation
from bc_model.evaluation.predictions import case_names
from bc_model.inference.batching import Progress
from bc_model.inference.classifier import Classifier
from bc_model.inference.engine import Engine, compute_prob_malignant
from bc_model.inference.model_card import RobustnessRow, RobustnessTable
from bc_model.utils.measurement import Metric

Predict = Callable[[np.ndarray], np.ndarray]
"""Returns logits (n, 2) for pixels (n, height, width, 3), uint8, such as `Engine.predict`."""


def predict_perturbed(
    predict: Predict,
    images: Iterable[np.ndarray],
    image_size: tuple[int, int],
    *,
    perturbations: Sequence[Perturbation] = PERTURBATIONS,
) -> Floats:
    """Return the logits of each image, unchanged and after each change.

    Parameters
    ----------
    predict : callable
        Returns the logits of a batch of preprocessed images.
    images : iterable of ndarray
        RGB images as they are read, uint8; one at a time is in memory.
    image_size : (int, int)
        Height and width of the input of the network, px.
    perturbations : sequence of Perturbation
        Changes of the images.

    Returns
    -------
    ndarray of float64, shape (n_images, 1 + n_perturbations, 2)
        The first row of each image is that of the unchanged image.
    """
    logits = [
        predict(
            np.stack(
                [preprocess_image(version, image_size) for version in _versions(rgb, perturbations)]
            )
        )
        for rgb in images
    ]
    return np.asarray(logits, np.float64).reshape(len(logits), 1 + len(perturbations), 2)


def robustness_table(
    prob_malignant: ArrayLike,
    malignant: ArrayLike,
    case: ArrayLike,
    *,
    threshold: float,
    images: str,
    perturbations: Sequence[Perturbation] = PERTURBATIONS,
    n_resamples: int = 2000,
    seed: int = 0,
) -> RobustnessTable:
    """Return the effect of each change on the predicted classes and on the ROC AUC.

    Parameters
    ----------
    prob_malignant : array_like of shape (n_images, 1 + n_perturbations)
        Probabilities of the unchanged images and after each change.
    malignant, case : array_like of shape (n_images,)
        Class and case of each image; an unknown case is empty.
    threshold : float
        Decision threshold in [0, 1].
    images : str
        Description of the images, such as 'images of left-out cases'.
    perturbations, n_resamples, seed
        Changes in the order of the columns; resamples of the intervals and random seed.

    Raises
    ------
    DataError
        There are no images, or the numbers of images, cases and changes differ.

    Examples
    --------
    >>> changes = PERTURBATIONS[:1]
    >>> prob = [[0.9, 0.4], [0.8, 0.7], [0.2, 0.1], [0.3, 0.6]]
    >>> table = robustness_table(prob, [1, 1, 0, 0], ["a", "b", "c", "d"], threshold=0.5,
    ...     images="four images", perturbations=changes)
    >>> table.rows[0].flips.value, table.rows[0].n_to_malignant, table.rows[0].n_to_benign
    (0.5, 1, 1)
    """
    prob = np.asarray(prob_malignant, np.float64)
    truth, names = np.asarray(malignant, bool), case_names(case)
    if prob.shape != (truth.size, 1 + len(perturbations)) or truth.shape != names.shape:
        raise DataError(
            f"Expected probabilities of {truth.size} images, unchanged and after "
            f"{len(perturbations)} changes, and one case per image, got the shape {prob.shape} and "
            f"{names.size} cases. Predict every image after every change."
        )
    if not truth.size:
        raise DataError("No images. Expected at least one. Choose another dataset.")

    def roc_auc(column: Floats) -> Metric:
        classes = np.where(truth, "malignant", "benign")
        frame = pd.DataFrame({"case": names, "class": classes, "prob_malignant": column})
        return estimate_metrics(
            frame, threshold=threshold, n_resamples=n_resamples, seed=seed, names=("roc_auc",)
        )["roc_auc"]

    predicted = prob >= threshold
    rows = []
    for column, change in enumerate(perturbations, start=1):
        flips = predicted[:, column] != predicted[:, 0]
        rows.append(
            RobustnessRow(
                change.name, change.label, change.kind, change.amount,
                flips=estimate_mean(
                    flips, names, truth, is_proportion=True, n_resamples=n_resamples, seed=seed
                ),
                n_to_malignant=int((flips & predicted[:, column]).sum()),
                n_to_benign=int((flips & predicted[:, 0]).sum()),
                roc_auc=roc_auc(prob[:, column]),
            )
        )  # fmt: skip
    n_cases = np.unique(names[names != ""]).size
    return RobustnessTable(images, threshold, truth.size, n_cases, roc_auc(prob[:, 0]), tuple(rows))


def evaluate_robustness(
    classifier: Classifier | Engine, dataset: Dataset, *, progress: Progress | None = None
) -> RobustnessTable:
    """Measure how changes of the images of a dataset affect the predictions of a model.

    Parameters
    ----------
    classifier : Classifier or Engine
        Result of `bc_model.load_classifier`.
    dataset : Dataset
        Images with classes.
    progress : callable, optional
        Called with the number of predicted images and of all images.

    Raises
    ------
    ImageError
        An image cannot be read.

    Examples
    --------
    >>> table = evaluate_robustness(load_classifier("bundled"), dataset)  # doctest: +SKIP
    """
    engine = inner_engine(classifier)
    bundle, rows = engine.bundle, dataset.images
    logits = []
    for n_done, path in enumerate(rows["path"], start=1):
        image = read_image(dataset.root / path)
        logits.append(predict_perturbed(engine.predict, [image], bundle.image_size)[0])
        if progress:
            progress(n_done, len(rows))
    prob = [compute_prob_malignant(versions, bundle.temperature) for versions in logits]
    return robustness_table(
        prob,
        rows["class"] == "malignant",
        rows["case"],
        threshold=bundle.threshold,
        images="images of the dataset",
    )


def _versions(rgb: np.ndarray, perturbations: Sequence[Perturbation]) -> Iterable[np.ndarray]:
    yield rgb
    for change in perturbations:
        yield change(rgb)
