"""The intervals hold the truth as often as they say, and so do those they are measured against."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import OURS, WORLDS, World, false_evidence, measure
from benchmarks.intervals_tried import Seen, bca, expanded_percentile, percentile, t_on_logits

FOUR = ("balanced_accuracy", "roc_auc", "sensitivity", "accuracy")


def test_forty_cases_in_short() -> None:
    # 60 data sets tell 95 % from the 85 % of percentiles no better than this.
    world = WORLDS["20 benign, 20 malignant, strong cases"]
    found = measure(
        world, datasets=60, n_resamples=400, metrics=FOUR, others={"percentile": percentile}
    )
    covered = {m: np.mean([found[f][m]["covered"] for f in FOUR]) for m in (OURS, "percentile")}
    assert covered[OURS] > 0.88
    assert covered[OURS] > covered["percentile"]


@pytest.mark.slow
@pytest.mark.parametrize("title", WORLDS)
def test_forty_cases(title: str) -> None:
    found = measure(WORLDS[title], datasets=2000, seed=1, metrics=FOUR, others={})
    for name in FOUR:
        assert 0.93 <= found[name][OURS]["covered"] <= 0.97, name
        assert found[name][OURS]["none"] < 0.01


@pytest.mark.slow
def test_two_equal_models_differ_by_chance_only() -> None:
    proportions = false_evidence(WORLDS["20 benign, 20 malignant, strong cases"], datasets=500)
    for name, proportion in proportions.items():
        assert 0.02 < proportion < 0.08, name


def test_the_truth_is_that_of_a_normal_world() -> None:
    # A malignant logit is normal about 1.8 with variance 1.2**2 + 1.
    truths = World(20, 20, 1.2).truths()
    assert truths["sensitivity"] == pytest.approx(stats.norm.cdf(1.8 / np.sqrt(2.44)), abs=0.004)
    assert truths["specificity"] == pytest.approx(stats.norm.cdf(1.4 / np.sqrt(2.44)), abs=0.004)
    assert truths["roc_auc"] == pytest.approx(stats.norm.cdf(3.2 / np.sqrt(4.88)), abs=0.004)
    few_benign = World(10, 30, 1.2).truths()
    assert few_benign["accuracy"] == pytest.approx(
        0.25 * few_benign["specificity"] + 0.75 * few_benign["sensitivity"], abs=1e-4
    )


def seen(values: np.ndarray, n_resamples: int = 20_000) -> Seen:
    """Return what bootstrap and jackknife find for the mean of one group of values."""
    rng = np.random.default_rng(0)
    synthetic = rng.choice(values, (n_resamples, values.size))
    left_out = (values.sum() - values) / (values.size - 1)
    return Seen(values.mean(), synthetic.mean(axis=1), left_out, np.zeros(values.size, int))


def test_bca_and_percentile_equal_to_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=30)
    for method, ours in (("bca", bca), ("percentile", percentile)):
        theirs = stats.bootstrap(
            (values,), np.mean, method=method, n_resamples=20_000, rng=np.random.default_rng(1)
        ).confidence_interval
        assert ours(seen(values)) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_the_wider_ones_are_students() -> None:
    values = np.random.default_rng(3).normal(0.5, 0.1, 12)
    error = values.std(ddof=1) / np.sqrt(12)
    reach = stats.t.ppf(0.975, 11) * error
    assert expanded_percentile(seen(values)) == pytest.approx(
        (values.mean() - reach, values.mean() + reach), abs=0.01
    )
    mean = values.mean()
    center, on_logits = np.log(mean / (1 - mean)), reach / (mean * (1 - mean))
    ends = [1 / (1 + np.exp(-(center + side * on_logits))) for side in (-1, 1)]
    assert t_on_logits(seen(values)) == pytest.approx(tuple(ends), abs=1e-9)
    assert t_on_logits(seen(np.ones(5))) == (0.0, 1.0)
