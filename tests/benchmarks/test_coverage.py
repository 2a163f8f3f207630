"""Coverage of the intervals of the library, and the formulas of the alternative intervals."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.alternative_intervals import (
    Resamples,
    bca,
    expanded_percentile,
    percentile,
    t_on_logits,
)
from benchmarks.coverage import (
    LIBRARY_METHOD,
    POPULATIONS,
    Population,
    count_false_evidence,
    measure,
)

FOUR = ("balanced_accuracy", "roc_auc", "sensitivity", "accuracy")


def test_measure_bootstrap_t_covers_more_than_percentile() -> None:
    # The limit is wide, because 60 datasets estimate a coverage to about 3 points only.
    population = POPULATIONS["20 benign, 20 malignant, strong cases"]
    found = measure(
        population,
        datasets=60,
        n_resamples=400,
        metrics=FOUR,
        alternatives={"percentile": percentile},
    )
    covered = {
        m: np.mean([found[f][m]["covered"] for f in FOUR]) for m in (LIBRARY_METHOD, "percentile")
    }
    assert covered[LIBRARY_METHOD] > 0.88
    assert covered[LIBRARY_METHOD] > covered["percentile"]


@pytest.mark.slow
@pytest.mark.parametrize("title", POPULATIONS)
def test_measure_bootstrap_t_covers_95_percent(title: str) -> None:
    found = measure(POPULATIONS[title], datasets=2000, seed=1, metrics=FOUR, alternatives={})
    for name in FOUR:
        assert 0.93 <= found[name][LIBRARY_METHOD]["covered"] <= 0.97, name
        assert found[name][LIBRARY_METHOD]["none"] < 0.01


@pytest.mark.slow
def test_count_false_evidence_is_about_five_percent() -> None:
    proportions = count_false_evidence(
        POPULATIONS["20 benign, 20 malignant, strong cases"], datasets=500
    )
    for name, proportion in proportions.items():
        assert 0.02 < proportion < 0.08, name


def test_true_values_match_the_normal_distribution() -> None:
    # The malignant logits are normal with mean 1.8 and variance 1.2**2 + 1.
    true_values = Population(20, 20, 1.2).true_values()
    assert true_values["sensitivity"] == pytest.approx(
        stats.norm.cdf(1.8 / np.sqrt(2.44)), abs=0.004
    )
    assert true_values["specificity"] == pytest.approx(
        stats.norm.cdf(1.4 / np.sqrt(2.44)), abs=0.004
    )
    assert true_values["roc_auc"] == pytest.approx(stats.norm.cdf(3.2 / np.sqrt(4.88)), abs=0.004)
    few_benign = Population(10, 30, 1.2).true_values()
    assert few_benign["accuracy"] == pytest.approx(
        0.25 * few_benign["specificity"] + 0.75 * few_benign["sensitivity"], abs=1e-4
    )


def resample(values: np.ndarray, n_resamples: int = 20_000) -> Resamples:
    """Return bootstrap and jackknife results for the mean of one group of values."""
    rng = np.random.default_rng(0)
    samples = rng.choice(values, (n_resamples, values.size))
    without_one = (values.sum() - values) / (values.size - 1)
    return Resamples(values.mean(), samples.mean(axis=1), without_one, np.zeros(values.size, int))


def test_bca_and_percentile_match_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=30)
    for method, function in (("bca", bca), ("percentile", percentile)):
        expected = stats.bootstrap(
            (values,), np.mean, method=method, n_resamples=20_000, rng=np.random.default_rng(1)
        ).confidence_interval
        assert function(resample(values)) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_expanded_percentile_and_t_on_logits_match_student() -> None:
    values = np.random.default_rng(3).normal(0.5, 0.1, 12)
    error = values.std(ddof=1) / np.sqrt(12)
    reach = stats.t.ppf(0.975, 11) * error
    assert expanded_percentile(resample(values)) == pytest.approx(
        (values.mean() - reach, values.mean() + reach), abs=0.01
    )
    mean = values.mean()
    center, on_logits = np.log(mean / (1 - mean)), reach / (mean * (1 - mean))
    limits = [1 / (1 + np.exp(-(center + sign * on_logits))) for sign in (-1, 1)]
    assert t_on_logits(resample(values)) == pytest.approx(tuple(limits), abs=1e-9)
    assert t_on_logits(resample(np.ones(5))) == (0.0, 1.0)
