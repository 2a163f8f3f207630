"""Coverage of 95 % intervals over many simulated datasets of 40 clustered cases.

The images of a case share an effect, and cases differ in their number of images. The true values
come from 100,000 cases of each class. The intervals of the library are compared with those of
`alternative_intervals` on the same resamples. A second simulation compares two equally good models
and counts false evidence of a difference.
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
from benchmarks.alternative_intervals import ALTERNATIVES, Resamples

REPORTED_METRICS = ("balanced_accuracy", "roc_auc", "sensitivity", "specificity", "accuracy")
LIBRARY_METHOD = "bootstrap-t"
_N_CASES = 100_000


@dataclass(frozen=True)
class Population:
    """A population from which datasets are sampled.

    Attributes
    ----------
    n_benign, n_malignant : int
        Numbers of cases in a dataset.
    case_sd : float
        Standard deviation of the logit between cases. Within a case it is 1, so
        ``case_sd ** 2 / (1 + case_sd ** 2)`` is the correlation within a case.
    mean_logits : (float, float)
        Mean logits of benign and of malignant images.
    mean_images : int
        Mean number of images of a case: 5 and a geometric number.
    """

    n_benign: int
    n_malignant: int
    case_sd: float
    mean_logits: tuple[float, float] = (-1.4, 1.8)
    mean_images: int = 20

    def sample(
        self, rng: np.random.Generator, n_benign: int, n_malignant: int
    ) -> tuple[np.ndarray, np.ndarray, Floats]:
        """Return case number, true class and probability of each image."""
        malignant = np.arange(n_benign + n_malignant) >= n_benign
        images = 4 + rng.geometric(1 / (self.mean_images - 4), malignant.size)
        effect = np.where(malignant, *reversed(self.mean_logits))
        effect = effect + self.case_sd * rng.standard_normal(malignant.size)
        case = np.repeat(np.arange(malignant.size), images)
        logit = effect[case] + rng.standard_normal(case.size)
        return case, malignant[case], 1 / (1 + np.exp(-logit))

    def true_values(self) -> dict[str, float]:
        """Return the metrics of a very large dataset with this proportion of benign cases."""
        _, malignant, prob = self.sample(np.random.default_rng(1), _N_CASES, _N_CASES)
        found = {name: float(value) for name, value in all_metrics(malignant, prob).items()}
        # Only the accuracy depends on the proportion of malignant cases.
        proportion = self.n_malignant / (self.n_benign + self.n_malignant)
        found["accuracy"] = (
            proportion * found["sensitivity"] + (1 - proportion) * found["specificity"]
        )
        return {name: found[name] for name in REPORTED_METRICS}


POPULATIONS = {
    "20 benign, 20 malignant, strong cases": Population(20, 20, 1.2),
    "20 benign, 20 malignant, weak cases": Population(20, 20, 0.6),
    "12 benign, 28 malignant, strong cases": Population(12, 28, 1.2),
    "9 benign, 31 malignant, strong cases": Population(9, 31, 1.2),
}


def measure(
    population: Population,
    *,
    datasets: int,
    n_resamples: int = 1000,
    seed: int = 0,
    metrics: tuple[str, ...] = REPORTED_METRICS,
    alternatives: dict[str, Callable[[Resamples], tuple[float, float]]] = ALTERNATIVES,
) -> dict[str, dict[str, dict[str, float]]]:
    """Sample datasets and count how often each interval contains the true value.

    Returns
    -------
    dict
        Metric to method to proportions: ``covered``, ``too_high`` (the true value is below) and
        ``too_low`` of the datasets with an interval, ``none`` of all, and ``width``, the median.
    """
    true_values = population.true_values()
    rng = np.random.default_rng(seed)
    limits: dict[tuple[str, str], list[tuple[float, float]]] = {
        (name, method): [] for name in metrics for method in (LIBRARY_METHOD, *alternatives)
    }
    for number in range(datasets):
        case, malignant, prob = population.sample(rng, population.n_benign, population.n_malignant)
        sample = CaseSample.of(case.astype(str), malignant)
        draws = sample.draw(n_resamples, seed=number)
        for name in metrics:
            functional = metric_functional(name, sample, malignant, prob, 0.5)
            value, interval = bootstrap_t(
                functional, sample, draws, bounds=(0.0, 1.0), is_proportion=name != "roc_auc"
            )
            if interval.low is None or interval.high is None:
                continue
            limits[name, LIBRARY_METHOD].append((interval.low, interval.high))
            resamples = _describe_resamples(name, value, functional, sample, draws)
            for method, function in alternatives.items():
                limits[name, method].append(function(resamples))
    return {
        name: {
            method: _count_coverage(np.array(limits[name, method]), true_values[name], datasets)
            for method in (LIBRARY_METHOD, *alternatives)
        }
        for name in metrics
    }


def count_false_evidence(
    population: Population, *, datasets: int, n_resamples: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Compare two equally good models repeatedly on the same images.

    The correlation of their case effects is 0.7, as for two networks with the same training.

    Returns
    -------
    dict of str to float
        Proportion of datasets with evidence of a difference; the target is 0.05.
    """
    rng = np.random.default_rng(seed)
    found = dict.fromkeys(("balanced_accuracy", "roc_auc", "accuracy"), 0)
    for number in range(datasets):
        case, malignant, prob = population.sample(rng, population.n_benign, population.n_malignant)
        sides = [
            ComparedModel(
                name, _table(case, malignant, _sample_model(population, rng, case, malignant, prob))
            )
            for name in ("first", "second")
        ]
        pair = compare_predictions(*sides, n_resamples=n_resamples, seed=number)
        for name in found:
            found[name] += pair.differences[name].has_evidence
    return {name: count / datasets for name, count in found.items()}


def _sample_model(
    population: Population,
    rng: np.random.Generator,
    case: np.ndarray,
    malignant: np.ndarray,
    prob: Floats,
) -> Floats:
    """Return the probabilities of a model: part of the case effect, and its own noise."""
    center = np.where(malignant, *reversed(population.mean_logits))
    shared = np.log(prob / (1 - prob)) - center
    own = population.case_sd * rng.standard_normal(case.max() + 1)[case]
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


def _describe_resamples(
    name: str, value: float, functional: Functional, sample: CaseSample, draws: Floats
) -> Resamples:
    strata = {"specificity": 0, "sensitivity": 1}
    kept = np.isin(sample.stratum, strata.get(name, [0, 1]))
    left_out, _ = functional(1.0 - np.eye(sample.size))
    return Resamples(value, functional(draws)[0], left_out[kept], sample.stratum[kept])


def _count_coverage(limits: np.ndarray, true_value: float, datasets: int) -> dict[str, float]:
    low, high = limits.T
    return {
        "covered": float(((low <= true_value) & (true_value <= high)).mean()),
        "too_high": float((true_value < low).mean()),
        "too_low": float((true_value > high).mean()),
        "none": 1 - len(limits) / datasets,
        "width": float(np.median(high - low)),
    }


@click.command()
@click.option("--datasets", default=2000, show_default=True, help="Datasets of each population.")
@click.option("--resamples", default=1000, show_default=True, help="Resamples of each dataset.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(datasets: int, resamples: int, as_json: bool) -> None:
    """Measure the coverage of the intervals in every population."""
    found = {
        title: measure(population, datasets=datasets, n_resamples=resamples)
        for title, population in POPULATIONS.items()
    }
    evidence = {
        title: count_false_evidence(population, datasets=datasets // 4, n_resamples=resamples)
        for title, population in POPULATIONS.items()
    }
    if as_json:
        click.echo(json.dumps({"coverage": found, "false_evidence": evidence}, indent=2))
        return
    for title, metrics in found.items():
        click.echo(f"\n{title}: coverage of {datasets} intervals, % (median width)")
        click.echo(f"{'':20}" + "".join(f"{name.replace('_', ' '):>20}" for name in metrics))
        for method in (LIBRARY_METHOD, *ALTERNATIVES):
            counts = (metrics[name][method] for name in metrics)
            cells = (f"{100 * c['covered']:.1f} ({c['width']:.2f})" for c in counts)
            click.echo(f"{method:20}" + "".join(f"{cell:>20}" for cell in cells))
    click.echo("\nFalse evidence of a difference between two equally good models, % of datasets")
    for title, proportions in evidence.items():
        text = ", ".join(
            f"{name.replace('_', ' ')} {100 * x:.1f}" for name, x in proportions.items()
        )
        click.echo(f"  {title}: {text}")
    click.echo(f"\nStandard error of the coverage, %: {100 * (0.95 * 0.05 / datasets) ** 0.5:.1f}")


if __name__ == "__main__":
    main()
