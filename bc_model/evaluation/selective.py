"""Selective prediction: which probabilities are uncertain, and the errors of the others.

An image is answered if its probability is outside of a range around the decision threshold, which
is symmetric in logits. Coverage is the proportion of answered images, and risk the proportion of
errors among them. Every case has the same weight, so that cases with many images do not dominate.
"""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bc_model.checks import Check, make_check
from bc_model.errors import ConfigError, DataError
from bc_model.evaluation.bootstrap import CaseSample, mean_functional
from bc_model.evaluation.estimates import describe_resamples, estimate_metric
from bc_model.evaluation.intervals import korn_graubard
from bc_model.evaluation.metrics import Floats
from bc_model.evaluation.predictions import case_names, case_weights
from bc_model.inference.model_card import (
    ConformalThresholds,
    SelectivePoint,
    SelectiveSummary,
    UncertainBand,
)
from bc_model.utils.measurement import Metric

TARGET_RISK = 0.05
"""Largest error rate of the answered images.

For the bundled model, it is less than half of the error rate without an uncertain range (12 %).
With a target of 2 %, half of the images are uncertain and the cross-fitted error rate is not lower.
"""
ALPHA = 0.05
OUT_OF_FOLD_IMAGES = "images of left-out cases"
MIN_CASES_WITH_RANGE = 10
"""With fewer cases, a range depends on single images and is not fitted."""
MAX_POINTS = 50

_MAX_FOLDS = 50
"""Limits the number of fits with many cases; cases of one fold are left out together."""


def risk_coverage(
    malignant: ArrayLike,
    prob_malignant: ArrayLike,
    case: ArrayLike,
    *,
    threshold: float = 0.5,
    max_points: int = MAX_POINTS,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[SelectivePoint, ...]:
    """Return the curve of risk against coverage, with 95 % intervals over cases.

    Parameters
    ----------
    malignant : array-like of bool, shape (n_images,)
        True class.
    prob_malignant : array-like of float, shape (n_images,)
        Estimated probability of malignancy, in [0, 1].
    case : array-like of str, shape (n_images,)
        Case of each image; an image of an unknown case (``""``) counts as a case.
    threshold : float, default=0.5
        Lowest probability at which an image is predicted malignant.
    max_points : int, default=50
        Largest number of points, at even steps of the coverage. The last one answers every image.
    n_resamples, seed : int
        Number of resamples and random seed of the bootstrap.

    Returns
    -------
    tuple of SelectivePoint
        Points in ascending order of the coverage.

    Raises
    ------
    DataError
        There is no image, or the arrays have different lengths.

    References
    ----------
    El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", Journal of
    Machine Learning Research 11, 2010.

    Examples
    --------
    >>> curve = risk_coverage([1, 1, 0, 0], [0.9, 0.3, 0.4, 0.2], ["a", "b", "c", "d"])
    >>> [(round(point.coverage, 2), round(point.risk, 2)) for point in curve]
    [(0.25, 0.0), (0.5, 0.0), (0.75, 0.33), (1.0, 0.25)]
    """
    images = _Images.of(malignant, prob_malignant, case, threshold)
    widths, coverage, _ = images.candidates()
    steps = np.linspace(0.0, 1.0, max_points + 1)[1:]
    kept = np.unique(np.searchsorted(coverage, steps - 1e-9).clip(max=coverage.size - 1))
    points = []
    for k in kept:
        answered = images.distance >= widths[k]
        risk = images.estimate_risk(answered, n_resamples, seed)
        points.append(
            SelectivePoint(
                half_width=float(widths[k]),
                coverage=min(1.0, float(coverage[k])),
                risk=risk.value or 0.0,
                ci_low=risk.ci_low,
                ci_high=risk.ci_high,
                n_images=risk.n_images,
                n_cases=risk.n_cases,
            )
        )
    return tuple(points)


def fit_uncertain_band(
    malignant: ArrayLike,
    prob_malignant: ArrayLike,
    case: ArrayLike,
    *,
    threshold: float = 0.5,
    target_risk: float = TARGET_RISK,
    fold: ArrayLike | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> UncertainBand | None:
    """Return the smallest uncertain range whose answered images reach a target risk.

    The images must be neither training nor test images. The range is fitted to them, so its risk
    is optimistic. The cross-fitted risk is that of ranges which are each fitted without the
    measured fold.

    Parameters
    ----------
    malignant, prob_malignant, case, threshold, n_resamples, seed
        As for `risk_coverage`.
    target_risk : float, default=0.05
        Largest risk of the answered images, in (0, 1).
    fold : array-like of int, shape (n_images,), optional
        Fold of each image for the cross-fitted values. By default, each case is left out.

    Returns
    -------
    UncertainBand or None
        None if no range has the target risk.

    Raises
    ------
    ConfigError, DataError
        The target is invalid, there is no image, or the arrays have different lengths.

    Examples
    --------
    >>> prob = [0.95, 0.9, 0.45, 0.55, 0.1, 0.05]
    >>> band = fit_uncertain_band([1, 1, 1, 0, 0, 0], prob, list("abcdef"))
    >>> round(band.low, 3), round(band.high, 3), round(band.coverage.value, 3), band.risk.value
    (0.232, 0.768, 0.667, 0.0)
    """
    if not 0.0 < target_risk < 1.0:
        raise ConfigError(
            f"Invalid target risk. Expected 0 < target < 1, got {target_risk}. Choose another "
            "target, such as 0.05."
        )
    images = _Images.of(malignant, prob_malignant, case, threshold)
    half_width = images.fit(np.ones(images.distance.size, dtype=bool), target_risk)
    if math.isinf(half_width):
        return None
    folds = images.group % _MAX_FOLDS if fold is None else np.asarray(fold)
    answered = images.distance >= half_width
    cross_fitted = np.zeros_like(answered)
    for name in np.unique(folds):
        members = folds == name
        cross_fitted[members] = images.distance[members] >= images.fit(~members, target_risk)
    center = _logit(threshold)
    return UncertainBand(
        low=float(_expit(center - half_width)),
        high=float(_expit(center + half_width)),
        coverage=images.estimate_coverage(answered, n_resamples, seed),
        risk=images.estimate_risk(answered, n_resamples, seed),
        cross_fitted_coverage=images.estimate_coverage(cross_fitted, n_resamples, seed),
        cross_fitted_risk=images.estimate_risk(cross_fitted, n_resamples, seed),
    )


def measure_band(
    predictions: pd.DataFrame,
    band: tuple[float, float],
    *,
    threshold: float,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[Metric, Metric]:
    """Return coverage and risk of an uncertain range on other images than it was fitted on.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Result of `check_predictions`.
    band : (float, float)
        Ends of the uncertain probabilities.
    threshold, n_resamples, seed
        As for `risk_coverage`.
    """
    images = _Images.of(
        predictions["class"] == "malignant", predictions["prob_malignant"], predictions["case"],
        threshold,
    )  # fmt: skip
    low, high = band
    answered = (images.prob <= low) | (images.prob >= high)
    return (
        images.estimate_coverage(answered, n_resamples, seed),
        images.estimate_risk(answered, n_resamples, seed),
    )


def fit_conformal(
    malignant: ArrayLike, prob_malignant: ArrayLike, case: ArrayLike, *, alpha: float = ALPHA
) -> ConformalThresholds | Check:
    """Return class-wise conformal thresholds, or check BC190 with too few cases.

    Cases are exchangeable and their images are not, so each case has the weight of one observation
    [1]_. Each class has its own quantile [2]_. For an image of a new case, the prediction set then
    lacks the true class with a probability of at most `alpha`, whatever its class is. With fewer
    than ``1 / alpha - 1`` cases of a class (19 for 0.05), only the set of both classes has this
    guarantee.

    Parameters
    ----------
    malignant, prob_malignant, case
        As for `risk_coverage`; images that are neither training nor test images.
    alpha : float, default=0.05
        Largest error rate in each class, in (0, 1).

    Raises
    ------
    ConfigError, DataError
        `alpha` is invalid, there is no image, or the arrays have different lengths.

    References
    ----------
    .. [1] Lee, Barber and Willett, "Distribution-free inference with hierarchical data", 2023.
    .. [2] Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005, section 4.5.

    Examples
    --------
    >>> malignant = np.arange(40) >= 20
    >>> prob = np.where(malignant, 0.9, 0.1) + 0.001 * (np.arange(40) % 20)
    >>> found = fit_conformal(malignant, prob, [f"case {k}" for k in range(40)])
    >>> round(found.max_prob_benign, 3), round(found.min_prob_malignant, 3)
    (0.119, 0.9)
    >>> fit_conformal([True, False], [0.9, 0.1], ["a", "b"]).code
    'BC190'
    """
    if not 0.0 < alpha < 1.0:
        raise ConfigError(
            f"Invalid error rate alpha. Expected 0 < alpha < 1, got {alpha}. Choose another one, "
            "such as 0.05."
        )
    images = _Images.of(malignant, prob_malignant, case, 0.5)
    min_cases = math.ceil(1 / alpha - 1e-9) - 1
    limits: list[float] = []
    counts: list[int] = []
    for is_malignant in (False, True):
        members = images.malignant == is_malignant
        counts.append(int(np.unique(images.group[members]).size))
        if counts[-1] >= min_cases:
            prob = images.prob[members]
            scores = 1 - prob if is_malignant else prob
            limits.append(_case_quantile(scores, images.case[members], counts[-1], alpha))
    if len(limits) < 2:
        rare = int(np.argmin(counts))
        class_name = ("benign", "malignant")[rare]
        return make_check(
            "BC190", n_cases=counts[rare], class_name=class_name, alpha=alpha, min_cases=min_cases
        )
    return ConformalThresholds(alpha, limits[0], 1 - limits[1], counts[0], counts[1])


def summarize_selective(
    predictions: pd.DataFrame,
    *,
    images: str,
    threshold: float,
    target_risk: float = TARGET_RISK,
    n_resamples: int = 2000,
    seed: int = 0,
) -> SelectiveSummary | None:
    """Return curve, uncertain range and conformal thresholds, for a model card.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Result of `check_predictions`. With a column ``fold``, the cross-fitted values leave out
        folds, otherwise cases.
    images : str
        Description of the images, such as 'validation images'.
    threshold, target_risk, n_resamples, seed
        As for `fit_uncertain_band`.

    Returns
    -------
    SelectiveSummary or None
        None with one class only or with fewer than 10 known cases.
    """
    malignant = (predictions["class"] == "malignant").to_numpy(dtype=bool)
    prob = predictions["prob_malignant"].to_numpy(dtype=np.float64)
    case = predictions["case"].to_numpy(dtype=str)
    n_cases = np.unique(case[case != ""]).size
    if n_cases < MIN_CASES_WITH_RANGE or malignant.all() or not malignant.any():
        return None
    resampling = {"n_resamples": n_resamples, "seed": seed}
    band = fit_uncertain_band(
        malignant, prob, case, threshold=threshold, target_risk=target_risk,
        fold=predictions.get("fold"), **resampling,
    )  # fmt: skip
    conformal = fit_conformal(malignant, prob, case)
    checks = [] if band else [make_check("BC193", target_risk=target_risk)]
    if isinstance(conformal, Check):
        checks.append(conformal)
    return SelectiveSummary(
        images=images,
        threshold=float(threshold),
        target_risk=target_risk,
        n_images=len(predictions),
        n_cases=n_cases,
        band=band,
        curve=risk_coverage(malignant, prob, case, threshold=threshold, **resampling),
        conformal=None if isinstance(conformal, Check) else conformal,
        checks=tuple(checks),
    )


class _Images:
    """The images of a fit: errors, distances from the threshold in logits, and weights."""

    def __init__(
        self, malignant: NDArray[np.bool_], prob: Floats, case: NDArray[np.str_], threshold: float
    ) -> None:
        self.malignant, self.prob, self.case = malignant, prob, case
        self.is_error = (prob >= threshold) != malignant
        self.distance = np.abs(_logit(prob) - _logit(threshold))
        self.weight = case_weights(case)
        names = case.astype(object)
        unknown = np.flatnonzero(case == "")
        names[unknown] = [f"\0{k}" for k in unknown]  # No case has such a name.
        self.group = np.unique(names.astype(str), return_inverse=True)[1]

    @classmethod
    def of(
        cls, malignant: ArrayLike, prob_malignant: ArrayLike, case: ArrayLike, threshold: float
    ) -> "_Images":
        truth = np.asarray(malignant, dtype=bool)
        prob = np.asarray(prob_malignant, dtype=np.float64)
        names = case_names(case)
        if not truth.size or not truth.shape == prob.shape == names.shape:
            raise DataError(
                "Invalid predictions. Expected at least one image with a class, a probability and "
                f"a case, got {truth.size}, {prob.size} and {names.size} values. Check the columns."
            )
        return cls(truth, prob, names, threshold)

    def candidates(self, members: NDArray[np.bool_] | None = None) -> tuple[Floats, Floats, Floats]:
        """Return half width, coverage and risk of every range with another set of images.

        The half widths decrease, and each is halfway between two observed distances, so that no
        image is at the end of the range.
        """
        chosen = slice(None) if members is None else members
        distance, weight = self.distance[chosen], self.weight[chosen]
        order = np.argsort(-distance, kind="stable")
        ordered = distance[order]
        last_of_tie = np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1)
        covered = np.cumsum(weight[order])[last_of_tie]
        errors = np.cumsum((weight * self.is_error[chosen])[order])[last_of_tie]
        ends = ordered[last_of_tie]
        widths = np.append((ends[:-1] + ends[1:]) / 2, 0.0)
        return widths, covered / covered[-1], errors / covered

    def fit(self, members: NDArray[np.bool_], target_risk: float) -> float:
        """Return the smallest half width at which the risk reaches the target, or infinity."""
        if not members.any():
            return math.inf
        widths, _, risk = self.candidates(members)
        reached = np.flatnonzero(risk <= target_risk)
        return float(widths[reached[-1]]) if reached.size else math.inf

    def estimate_risk(self, answered: NDArray[np.bool_], n_resamples: int, seed: int) -> Metric:
        """Return the proportion of errors among answered images, by resampling their cases.

        With errors in very few cases, the bootstrap interval would be shorter than without any
        error. Its upper end is therefore at least that of no error in as many cases.
        """
        metric = self._estimate(answered, self.is_error[answered], n_resamples, seed)
        if metric.ci_high is None:
            return metric
        n_groups = np.unique(self.group[answered]).size
        lowest_end = korn_graubard(0.0, 0.0, 1.0, n_cases=n_groups)[1]
        if metric.ci_high >= lowest_end:
            return metric
        note = f"upper end: exact binomial interval of no error in {n_groups} cases"
        return replace(metric, ci_high=lowest_end, note=note)

    def estimate_coverage(self, answered: NDArray[np.bool_], n_resamples: int, seed: int) -> Metric:
        """Return the proportion of answered images."""
        return self._estimate(np.ones_like(answered), answered, n_resamples, seed)

    def _estimate(
        self, members: NDArray[np.bool_], values: NDArray[np.bool_], n_resamples: int, seed: int
    ) -> Metric:
        weight, case, malignant = self.weight[members], self.case[members], self.malignant[members]
        if not members.any():
            return Metric(None, None, None, 0, 0, "", "no image is answered")
        sample = CaseSample.of(case, malignant)
        # Relative to 1, because the bootstrap treats tiny values as rounding errors.
        columns = np.stack([weight * values, weight], axis=1) / self.weight.max()
        return estimate_metric(
            "accuracy", partial(mean_functional, sample.sums(columns)), sample,
            sample.draw(n_resamples, seed), case, malignant, undefined="",
            resampling=f"equal weight per case, {describe_resamples(n_resamples, seed)}",
        )  # fmt: skip


def _case_quantile(scores: Floats, case: NDArray[np.str_], n_cases: int, alpha: float) -> float:
    """Return the smallest score at or below which new cases are with probability 1 - alpha.

    Each case has the mass ``1 / (n_cases + 1)``, and the new case the rest.
    """
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(case_weights(case)[order]) * n_cases / (n_cases + 1)
    index = int(np.searchsorted(mass, 1 - alpha - 1e-12))
    return float(scores[order][min(index, scores.size - 1)])


def _logit(prob: ArrayLike) -> Floats:
    """Return the log odds, finite also for probabilities of 0 and 1."""
    values = np.clip(np.asarray(prob, np.float64), 1e-15, 1 - 1e-15)
    odds: Floats = np.log(values) - np.log1p(-values)
    return odds


def _expit(logit: ArrayLike) -> Floats:
    prob: Floats = np.exp(-np.logaddexp(0.0, -np.asarray(logit, np.float64)))
    return prob
