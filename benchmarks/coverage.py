"""How often a 95 % interval holds the truth: data sets of 40 clustered cases, drawn many times.

The pictures of a case share an effect, so they are right or wrong together; cases differ in their
number of pictures. The truth is that of 100,000 cases of each class. Beside the interval of the
library stand the usual ones (`intervals_tried`), from the same resamples. Last, two equally good
models are compared: how often is a difference found that is none.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import click
import numpy as np
import pandas as pd

from bc_model.evaluation import (
    CaseSample,
    ComparedModel,
    Floats,
    Functional,
    all_metrics,
    bootstrap_t,
    compare_predictions,
    metric_functional,
)
from benchmarks.intervals_tried import TRIED, Seen

REPORTED_METRICS = ("balanced_accuracy", "roc_auc", "sensitivity", "specificity", "accuracy")
OURS = "bootstrap-t"
_TRUTH_CASES = 100_000
_BLOCK = 20


@dataclass(frozen=True)
class World:
    """Where data sets are drawn from.

    Attributes
    ----------
    n_benign, n_malignant : int
        Cases in a data set.
    case_sd : float
        Spread of the logit between cases; between the pictures of a case it is 1. So
        ``case_sd ** 2 / (1 + case_sd ** 2)`` is the correlation within a case.
    centres : (float, float)
        Mean logit of benign and of malignant pictures.
    mean_images : int
        A case has 5 pictures and a geometric number more.
    """

    n_benign: int
    n_malignant: int
    case_sd: float
    centres: tuple[float, float] = (-1.4, 1.8)
    mean_images: int = 20

    def draw(
        self, rng: np.random.Generator, n_benign: int, n_malignant: int
    ) -> tuple[np.ndarray, np.ndarray, Floats]:
        """Return case (as a number), truth and probability of each picture."""
        truth = np.arange(n_benign + n_malignant) >= n_benign
        images = 4 + rng.geometric(1 / (self.mean_images - 4), truth.size)
        effect = np.where(truth, *reversed(self.centres))
        effect = effect + self.case_sd * rng.standard_normal(truth.size)
        case = np.repeat(np.arange(truth.size), images)
        logit = effect[case] + rng.standard_normal(case.size)
        return case, truth[case], 1 / (1 + np.exp(-logit))

    def truths(self) -> dict[str, float]:
        """Return the figures of an endless data set with this share of benign cases."""
        _, malignant, prob = self.draw(np.random.default_rng(1), _TRUTH_CASES, _TRUTH_CASES)
        found = {name: float(value) for name, value in all_metrics(malignant, prob).items()}
        # Of these metrics, only the accuracy depends on the proportion of malignant cases.
        proportion = self.n_malignant / (self.n_benign + self.n_malignant)
        found["accuracy"] = (
            proportion * found["sensitivity"] + (1 - proportion) * found["specificity"]
        )
        return {name: found[name] for name in REPORTED_METRICS}


WORLDS = {
    "20 benign, 20 malignant, strong cases": World(20, 20, 1.2),
    "20 benign, 20 malignant, weak cases": World(20, 20, 0.6),
    "12 benign, 28 malignant, strong cases": World(12, 28, 1.2),
    "9 benign, 31 malignant, strong cases": World(9, 31, 1.2),
}


def measure(
    world: World,
    *,
    datasets: int,
    n_resamples: int = 1000,
    seed: int = 0,
    metrics: tuple[str, ...] = REPORTED_METRICS,
    others: dict[str, Callable[[Seen], tuple[float, float]]] = TRIED,
) -> dict[str, dict[str, dict[str, float]]]:
    """Draw data sets and count how often each interval holds the truth.

    Returns
    -------
    dict
        Figure to method to ``covered``, ``too_high`` (the truth lies below), ``too_low``,
        ``none`` (shares of the data sets with an interval, and of all) and ``width``, the median.
    """
    truths = world.truths()
    rng = np.random.default_rng(seed)
    ends: dict[tuple[str, str], list[tuple[float, float]]] = {
        (name, method): [] for name in metrics for method in (OURS, *others)
    }
    for number in range(datasets):
        case, malignant, prob = world.draw(rng, world.n_benign, world.n_malignant)
        sample = CaseSample.of(case.astype(str), malignant)
        draws = sample.draw(n_resamples, seed=number)
        for name in metrics:
            functional = metric_functional(name, sample, malignant, prob, 0.5)
            value, interval = bootstrap_t(
                functional, sample, draws, bounds=(0.0, 1.0), is_proportion=name != "roc_auc"
            )
            if interval.low is None or interval.high is None:
                continue
            ends[name, OURS].append((interval.low, interval.high))
            seen = _seen(name, value, functional, sample, draws)
            for method, function in others.items():
                ends[name, method].append(function(seen))
    return {
        name: {
            method: _told(np.array(ends[name, method]), truths[name], datasets)
            for method in (OURS, *others)
        }
        for name in metrics
    }


def false_evidence(
    world: World, *, datasets: int, n_resamples: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Compare two equally good models, again and again, on pictures that both predicted.

    Their case effects are correlated by 0.7, as those of two networks trained alike.

    Returns
    -------
    dict of str to float
        Share of the data sets in which evidence of a difference was found; 0.05 is aimed at.
    """
    rng = np.random.default_rng(seed)
    found = dict.fromkeys(("balanced_accuracy", "roc_auc", "accuracy"), 0)
    for number in range(datasets):
        case, malignant, prob = world.draw(rng, world.n_benign, world.n_malignant)
        sides = [
            ComparedModel(name, _table(case, malignant, _shaken(world, rng, case, malignant, prob)))
            for name in ("first", "second")
        ]
        pair = compare_predictions(*sides, n_resamples=n_resamples, seed=number)
        for name in found:
            found[name] += pair.differences[name].has_evidence
    return {name: count / datasets for name, count in found.items()}


def _shaken(
    world: World,
    rng: np.random.Generator,
    case: np.ndarray,
    malignant: np.ndarray,
    prob: Floats,
) -> Floats:
    """Return the probabilities of one model: a part of the case effect and noise of its own."""
    center = np.where(malignant, *reversed(world.centres))
    shared = np.log(prob / (1 - prob)) - center
    own = world.case_sd * rng.standard_normal(case.max() + 1)[case]
    own = own + rng.standard_normal(case.size)
    return 1 / (1 + np.exp(-(center + np.sqrt(0.7) * shared + np.sqrt(0.3) * own)))


def _table(case: np.ndarray, malignant: np.ndarray, prob: Floats) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(case.size)],
            "sha256": "",
            "case": case.astype(str),
            "class": np.where(malignant, "malignant", "benign"),
            "magnification": None,
            "prob_malignant": prob,
        }
    )


def _seen(
    name: str, value: float, functional: Functional, sample: CaseSample, draws: Floats
) -> Seen:
    alone = {"specificity": 0, "sensitivity": 1}
    kept = np.isin(sample.stratum, alone.get(name, [0, 1]))
    left_out, _ = functional(1.0 - np.eye(sample.size))
    return Seen(value, functional(draws)[0], left_out[kept], sample.stratum[kept])


def _told(ends: np.ndarray, truth: float, datasets: int) -> dict[str, float]:
    low, high = ends.T
    return {
        "covered": float(((low <= truth) & (truth <= high)).mean()),
        "too_high": float((truth < low).mean()),
        "too_low": float((truth > high).mean()),
        "none": 1 - len(ends) / datasets,
        "width": float(np.median(high - low)),
    }


@click.command()
@click.option("--data-sets", default=2000, show_default=True, help="Drawn from each world.")
@click.option("--resamples", default=1000, show_default=True, help="Of each data set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(datasets: int, resamples: int, as_json: bool) -> None:
    """Measure how often the intervals hold the truth, in every world."""
    found = {
        title: measure(world, datasets=datasets, n_resamples=resamples)
        for title, world in WORLDS.items()
    }
    evidence = {
        title: false_evidence(world, datasets=datasets // 4, n_resamples=resamples)
        for title, world in WORLDS.items()
    }
    if as_json:
        click.echo(json.dumps({"coverage": found, "false_evidence": evidence}, indent=2))
        return
    for title, metrics in found.items():
        click.echo(f"\n{title}: % of {datasets} intervals that hold the truth (median width)")
        click.echo(f"{'':20}" + "".join(f"{name.replace('_', ' '):>20}" for name in metrics))
        for method in (OURS, *TRIED):
            told = (metrics[name][method] for name in metrics)
            cells = (f"{100 * one['covered']:.1f} ({one['width']:.2f})" for one in told)
            click.echo(f"{method:20}" + "".join(f"{cell:>20}" for cell in cells))
    click.echo("\nEvidence of a difference between two equally good models, % of data sets")
    for title, proportions in evidence.items():
        told = ", ".join(
            f"{name.replace('_', ' ')} {100 * x:.1f}" for name, x in proportions.items()
        )
        click.echo(f"  {title}: {told}")
    click.echo(f"\nStandard error of a covered share: {100 * (0.95 * 0.05 / datasets) ** 0.5:.1f}")


if __name__ == "__main__":
    main()
