"""Metrics of an experiment from its finished runs, and the comparison of two runs.

The test predictions of all folds of one configuration are pooled and evaluated once, because the
folds of a split test each image once. Incomplete groups carry a check that states this.
"""

import operator
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.splits import read_split
from bc_model.errors import BcModelError, DataError
from bc_model.evaluation.comparison import ComparedModel, Comparison, compare_predictions
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.report import EvaluationReport, read_report
from bc_model.experiments.experiment import MISSING, run_states
from bc_model.experiments.plan import Experiment, ExperimentRun
from bc_model.inference.bundle import open_bundle
from bc_model.jobs import ENDED_STATES
from bc_model.training.run import Run

_SPLIT_OPTIONS = ("data", "protocol", "official_fold_file", "n_folds", "split_seed", "test_fold")
_HASH_DIGITS = 12
_PROVENANCE = {
    "images (SHA-256)": "data_sha256", "split (SHA-256)": "split_sha256",
    "git commit": "git_commit",
}  # fmt: skip


@dataclass(frozen=True)
class GroupMetrics:
    """Pooled results of one configuration, as far as its runs are done.

    Attributes
    ----------
    group : str
        Options that distinguish the configuration; empty if the experiment has one configuration.
    folds : list of int
        Test folds with results.
    n_runs, n_failed : int
        Number of all runs, and of runs that ended without a result.
    report : EvaluationReport or None
        Evaluation of the pooled out-of-fold predictions; None if there are none, or if they cannot
        be pooled.
    checks : tuple of Check
        Progress of the runs, then the checks of the metrics.
    """

    group: str
    folds: list[int]
    n_runs: int
    n_failed: int
    report: EvaluationReport | None = field(repr=False)
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class ConfigRow:
    """One option or provenance value of several runs, as text, in the order of the runs."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """True if at least two runs have different values."""
        return len(set(self.values)) > 1


def summarize_experiment(experiment: Experiment, runs_dir: Path) -> list[GroupMetrics]:
    """Return the pooled metrics of each configuration, as far as its runs are done.

    Parameters
    ----------
    experiment : Experiment
    runs_dir : Path
        Directory of all runs.

    Returns
    -------
    list of GroupMetrics
        In the order of the plan.
    """
    statuses = run_states(experiment, runs_dir)
    states = {name: str(status["state"]) for name, status in statuses.items()}
    return [
        _summarize_group(group, members, states, runs_dir)
        for group, members in experiment.groups.items()
    ]


def _summarize_group(
    group: str, members: list[ExperimentRun], states: dict[str, str], runs_dir: Path
) -> GroupMetrics:
    done = [member for member in members if states[member.name] == "done"]
    counts = Counter(states[member.name] for member in members)
    n_failed = sum(counts[state] for state in (ENDED_STATES | {MISSING}) - {"done"})
    report, checks = None, list(check_progress(len(done), n_failed, len(members)))
    try:
        if done:
            report = pool_predictions([Run(Path(runs_dir) / member.name) for member in done])
            checks += report.checks
    except BcModelError as error:
        checks.append(make_check("BC243", reason=str(error)))
    return GroupMetrics(
        group=group, folds=sorted(member.fold for member in done), n_runs=len(members),
        n_failed=n_failed, report=report, checks=tuple(checks),
    )  # fmt: skip


def pool_predictions(runs: list[Run]) -> EvaluationReport:
    """Evaluate the pooled test predictions of finished runs, the folds of one split.

    The predictions of the report have the additional column ``run``. The report has leakage if one
    of the runs has. Raise `DataError` if two runs have a test image in common, or differ in
    dataset, threshold or protocol.
    """
    reports = [read_report(run.evaluation_dir) for run in runs]
    frames = [
        report.predictions.assign(run=run.name)
        for run, report in zip(runs, reports, strict=True)
        if report.predictions is not None
    ]
    pooled = pd.concat(frames, ignore_index=True)
    repeated = pooled[pooled["path"].duplicated(keep=False)]
    if len(repeated):
        first = repeated[repeated["path"] == repeated["path"].iloc[0]]
        raise DataError(
            f"Cannot pool the folds: '{first['path'].iloc[0]}' is a test image of "
            f"{' and '.join(first['run'])}. Expected each image in one test subset. Train the runs "
            "with one split."
        )
    require_equal({run.name: run.read_config().get("data_sha256") for run in runs}, "dataset")
    rules = {run.name: (r.threshold, r.protocol) for run, r in zip(runs, reports, strict=True)}
    require_equal(rules, "threshold or protocol")
    return evaluate_predictions(
        pooled, threshold=reports[0].threshold, protocol=reports[0].protocol,
        has_leakage=any(report.has_leakage for report in reports),
    )  # fmt: skip


def require_equal(values: dict[str, Any], attribute: str) -> None:
    """Raise `DataError` unless all runs have the same value of an attribute."""
    (first, value), *others = values.items()
    for name, other in others:
        if other != value:
            raise DataError(
                f"Cannot pool the folds: {name} and {first} differ in {attribute}. Expected equal "
                "values. Train them again."
            )


def check_selection(experiment: Experiment) -> tuple[Check, ...]:
    """Return the checks for a comparison of the configurations; empty for one configuration."""
    groups = experiment.groups.values()
    if len(groups) < 2:
        return ()
    split_of = operator.attrgetter(*_SPLIT_OPTIONS)
    splits = {frozenset(split_of(member.config) for member in members) for members in groups}
    return (make_check("BC247" if len(splits) > 1 else "BC248", n_groups=len(groups)),)


def check_progress(n_done: int, n_failed: int, n_runs: int) -> tuple[Check, ...]:
    """Return the check for failed or pending runs; empty if all are done."""
    if n_failed:
        return (make_check("BC241", n_done=n_done, n_failed=n_failed, n_runs=n_runs),)
    if n_done < n_runs:
        return (make_check("BC242", n_done=n_done, n_runs=n_runs),)
    return ()


def compare_runs(first: Run, second: Run, *, names: tuple[str, str] | None = None) -> Comparison:
    """Compare the test predictions of two finished runs.

    Parameters
    ----------
    first, second : Run
    names : (str, str), optional
        Display names. By default, the names of the runs.

    Raises
    ------
    RunError
        A run has no readable evaluation.
    SplitError
        A run has no readable split, so its training cases are unknown.
    DataError
        The runs have no test image in common, or disagree on the class or the case of one.
    """
    names = names or (first.name, second.name)
    return compare_predictions(
        _comparison_side(first, names[0]), _comparison_side(second, names[1])
    )


def _comparison_side(run: Run, name: str) -> ComparedModel:
    report = read_report(run.evaluation_dir)
    assert report.predictions is not None, "read_report reads the predictions or raises"
    split = read_split(run.split_file)
    return ComparedModel(
        name=name,
        predictions=report.predictions,
        threshold=report.threshold,
        has_leakage=report.has_leakage,
        seen_cases=(frozenset(split.loc[split["subset"] != "test", "case"]) - {""})
        | _initial_cases(run),
    )


def _initial_cases(run: Run) -> frozenset[str]:
    """Return the cases that the initial weights were trained on; empty without a model."""
    try:
        return frozenset(open_bundle(run.path).card.data.initial_cases)
    except BcModelError:
        return frozenset()


def compare_configs(runs: list[Run]) -> list[ConfigRow]:
    """Return the options of several runs, then the hashes of their data, split and code.

    Raises
    ------
    RunError
        A run has no readable ``config.json``.
    """
    columns = [_config_texts(run) for run in runs]
    # A dictionary keeps the order of the options.
    names = dict.fromkeys(name for column in columns for name in column)
    return [ConfigRow(n, tuple(c.get(n, "not stated") for c in columns)) for n in names]


def _config_texts(run: Run) -> dict[str, str]:
    record = run.read_config()
    config = record.get("config")
    texts = {
        name.replace("_", " "): _format_value(name, value)
        for name, value in (config if isinstance(config, dict) else {}).items()
    }
    for name, key in _PROVENANCE.items():
        texts[name] = str(record.get(key) or "not stated")[:_HASH_DIGITS]
    return texts


def _format_value(name: str, value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, list):
        return (" x " if name == "image_size" else ", ").join(map(str, value))
    return str(value)
