"""Calibration of probabilities: temperature scaling on validation data, and its measurement.

Logits are divided by the temperature before the softmax. This changes neither the ranking of the
images nor a decision threshold of 0.5, and therefore no heatmap and no ROC curve.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bc_model.errors import RunError
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.intervals import wilson
from bc_model.evaluation.metrics import Floats
from bc_model.evaluation.predictions import (
    case_weights,
    check_predictions,
    join_predictions,
    predictions_to_csv,
    read_predictions,
)
from bc_model.evaluation.selective import summarize_selective
from bc_model.inference.batching import ModelOutputs, predict_pixels
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine
from bc_model.inference.model_card import DecisionThreshold, Temperature, write_model_card
from bc_model.utils.formatting import format_count
from bc_model.utils.io import write_files_atomic
from bc_model.utils.measurement import Metric

VALIDATION_PREDICTIONS_FILE = "validation_predictions.csv"
VALIDATION_FEATURES_FILE = "validation_features.npz"
VALIDATION_IMAGES = "validation images"

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Bounds of the search. A temperature at a bound is not accepted as fitted."""
MIN_CASES = 3
"""Minimum number of cases of each class for a fit."""
N_BINS = 10

_N_SIMULATIONS = 200
_BIN_METHOD = "95 % Wilson at the effective number of cases: images of a case share their class"


@dataclass(frozen=True)
class Bin:
    """Images with similar probabilities."""

    prob_low: float
    prob_high: float
    mean_prob: float
    observed: Metric


@dataclass(frozen=True)
class CalibrationResult:
    """Difference between estimated probabilities and observed proportions.

    Attributes
    ----------
    bins : tuple of Bin
        Bins of equal width, without the empty ones.
    ece, ece_equal_count : float
        Expected calibration error with bins of equal width and of equal count: the mean absolute
        difference of estimated probability and observed proportion over the images.
    ece_if_calibrated, ece_equal_count_if_calibrated : float
        Mean error of a perfectly calibrated model on as many independent images. It is above 0,
        and dependence of the images of a case increases it.
    """

    bins: tuple[Bin, ...]
    ece: float
    ece_if_calibrated: float
    ece_equal_count: float
    ece_equal_count_if_calibrated: float
    n_images: int
    n_cases: int


def measure_calibration(
    malignant: NDArray[np.bool_],
    prob_malignant: Floats,
    case: NDArray[np.str_],
    *,
    n_bins: int = N_BINS,
    seed: int = 0,
) -> CalibrationResult:
    """Return the calibration of probabilities; an unknown case is empty text.

    `seed` is the random seed of the simulation of a perfectly calibrated model.

    References
    ----------
    Guo and others, "On Calibration of Modern Neural Networks", 2017. Bias of the error: Kumar,
    Liang and Ma, "Verified Uncertainty Calibration", 2019.
    """
    prob = np.asarray(prob_malignant, dtype=np.float64)
    by_width = np.minimum((prob * n_bins).astype(int), n_bins - 1)
    # Equal probabilities stay in one bin, because a bin is a range of probabilities.
    quantiles = np.quantile(prob, np.linspace(0, 1, n_bins + 1)[1:-1])
    by_count = np.searchsorted(quantiles, prob, side="right")
    simulated = np.random.default_rng(seed).random((_N_SIMULATIONS, prob.size)) < prob
    return CalibrationResult(
        bins=tuple(
            _summarize_bin(k / n_bins, (k + 1) / n_bins, by_width == k, malignant, prob, case)
            for k in np.unique(by_width).tolist()
        ),
        ece=float(_calibration_errors(malignant[None], prob, by_width)[0]),
        ece_if_calibrated=float(_calibration_errors(simulated, prob, by_width).mean()),
        ece_equal_count=float(_calibration_errors(malignant[None], prob, by_count)[0]),
        ece_equal_count_if_calibrated=float(_calibration_errors(simulated, prob, by_count).mean()),
        n_images=prob.size,
        n_cases=np.unique(case[case != ""]).size,
    )


def fit_temperature(
    margin: Floats, malignant: NDArray[np.bool_], case: NDArray[np.str_]
) -> Temperature:
    """Fit a temperature on validation images by the lowest log loss.

    Every case has the same weight, so that cases with many images do not dominate. Classes are
    not weighted, because a probability depends on the class proportions of the data. The images
    must be neither training nor test images. They selected the epoch, which makes the temperature
    slightly too low. `margin` is the logit of malignant minus that of benign.

    The temperature is 1, with the reason, if a class has fewer than `MIN_CASES` cases, if every
    image is on the correct side of 0.5, or if the fit ends at a bound.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017.
    """
    from scipy.optimize import minimize_scalar  # Reading a report does not need SciPy.

    n_images, n_cases = margin.size, np.unique(case[case != ""]).size

    def unfitted(reason: str) -> Temperature:
        return Temperature(
            1.0, f"not fitted, {reason}: the probabilities are not scaled", n_images, n_cases
        )

    if malignant.all() or not malignant.any():
        return unfitted("the validation subset contains only one class")
    few = min(_count_cases(case[malignant == truth]) for truth in (False, True))
    if few < MIN_CASES:
        return unfitted(
            f"the validation subset contains {format_count(few, 'case')} of a class, "
            f"fewer than {MIN_CASES}"
        )
    weights = case_weights(case)
    signed = np.where(malignant, margin, -margin)

    def loss(log_temperature: float) -> float:
        return float(weights @ np.logaddexp(0.0, -signed / np.exp(log_temperature)))

    bounds = np.log([MIN_TEMPERATURE, MAX_TEMPERATURE])
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    value = float(np.exp(found.x))
    if value < MIN_TEMPERATURE * 1.01:
        if (signed > 0).all():
            return unfitted("every validation image is on the correct side of 0.5")
        return unfitted(f"the fit ended at its lower bound of {MIN_TEMPERATURE}")
    if value > MAX_TEMPERATURE * 0.99:
        return unfitted("the logits are not informative on the validation subset")
    cases = f"{n_cases} cases, each case counted once" if n_cases else "unknown cases"
    return Temperature(
        value=value,
        method=f"fitted by lowest log loss on {n_images} validation images of {cases}",
        n_images=n_images,
        n_cases=n_cases,
        log_loss_before=loss(0.0),
        log_loss_after=loss(found.x),
    )


def rescale_threshold(
    threshold: DecisionThreshold, before: float, after: float
) -> DecisionThreshold:
    """Return the decision threshold that predicts the same images at another temperature.

    A threshold that was selected by case is reset to the default, because means over cases do not
    follow this rule.

    Examples
    --------
    >>> rescale_threshold(DecisionThreshold(0.9, "set manually"), 1.0, 2.0).value
    0.75
    """
    from scipy.special import expit, logit

    old = threshold.value
    change = f"the temperature changed from {before:.3f} to {after:.3f}"
    if before == after:
        return threshold
    if threshold.unit == "case":
        return DecisionThreshold(
            0.5, f"default: {old:.3f} was selected by case before {change}; select it again"
        )
    value = float(expit(logit(old) * before / after))
    if value == old:
        return threshold
    method = f"{threshold.method}; rescaled from {old:.3f} because {change}"
    return replace(threshold, value=value, method=method)


def calibrate_bundle(
    bundle: Bundle, rows: pd.DataFrame, pixels: np.ndarray, directory: Path
) -> Bundle:
    """Calibrate a model on validation images, fit its uncertain range, and store the predictions.

    The features of the images are stored, too.
    """
    predicted = predict_pixels(Engine(bundle), pixels)
    calibrated, files = fit_bundle_temperature(bundle, rows, predicted, directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_files_atomic(files)
    write_model_card(bundle.folder, calibrated.card)
    return calibrated


def fit_bundle_temperature(
    bundle: Bundle, rows: pd.DataFrame, predicted: ModelOutputs, directory: Path
) -> tuple[Bundle, dict[Path, bytes]]:
    """Fit temperature and uncertain range without writing files; see `calibrate_bundle`."""
    malignant = (rows["class"] == "malignant").to_numpy(dtype=bool)
    fitted = fit_temperature(predicted.margin, malignant, rows["case"].to_numpy(dtype=str))
    table = check_predictions(join_predictions(rows, predicted, fitted.value))
    features = FeatureTable.of(rows, predicted)
    files = {
        directory / VALIDATION_FEATURES_FILE: features.to_bytes(bundle.graph_sha256),
        directory / VALIDATION_PREDICTIONS_FILE: predictions_to_csv(table).encode(),
    }
    threshold = rescale_threshold(bundle.card.threshold, bundle.temperature, fitted.value)
    selective = summarize_selective(table, images=VALIDATION_IMAGES, threshold=threshold.value)
    metrics = replace(bundle.card.metrics, selective=selective)
    card = replace(bundle.card, temperature=fitted, threshold=threshold, metrics=metrics)
    return Bundle(bundle.folder, card), files


def read_validation_predictions(directory: Path) -> pd.DataFrame:
    """Return the validation predictions in the evaluation directory of a run.

    Raises
    ------
    RunError
        The file is missing or damaged.
    """
    path = Path(directory) / VALIDATION_PREDICTIONS_FILE
    advice = "Calibrate the model again, or train it again"
    try:
        return read_predictions(path)
    except FileNotFoundError as error:
        raise RunError(
            f"Missing file '{path}'. Expected the validation predictions of the run. {advice}."
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(
            f"Cannot read '{path}'. Expected validation predictions, got: {error}. {advice}."
        ) from error


def _count_cases(case: NDArray[np.str_]) -> int:
    """Count cases; an image of an unknown case counts as one."""
    return int(np.unique(case[case != ""]).size + (case == "").sum())


def _summarize_bin(
    prob_low: float,
    prob_high: float,
    members: NDArray[np.bool_],
    malignant: NDArray[np.bool_],
    prob: Floats,
    case: NDArray[np.str_],
) -> Bin:
    names = case[members]
    _, sizes = np.unique(names[names != ""], return_counts=True)
    n_unknown = int((names == "").sum())
    # Kish's effective sample size: as many equal cases have the same variance.
    effective = names.size**2 / (float((sizes.astype(float) ** 2).sum()) + n_unknown)
    proportion = float(malignant[members].mean())
    interval = wilson(proportion * effective, effective)
    observed = Metric(proportion, interval.low, interval.high, names.size, sizes.size, _BIN_METHOD)
    return Bin(prob_low, prob_high, float(prob[members].mean()), observed)


def _calibration_errors(truths: NDArray[np.bool_], prob: Floats, bins: NDArray[np.intp]) -> Floats:
    """Return the expected calibration error of each row of true classes."""
    member = np.eye(int(bins.max()) + 1)[bins]
    return np.abs((truths - prob) @ member).sum(axis=1) / prob.size
