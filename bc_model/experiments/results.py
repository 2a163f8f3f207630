"""Figures of a study: the test predictions of all folds of the same settings, pooled.

Over the folds of one split each picture is in test once, so the pool is judged as one evaluation,
by cases. A partial pool says so.
"""

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

_SPLIT = ("data", "protocol", "official_fold_file", "n_folds", "split_seed", "test_fold")
"""The settings that choose the test pictures."""


@dataclass(frozen=True)
class SubgroupMetrics:
    """What the runs of the same settings came to so far.

    Parameters
    ----------
    group : str
        What sets the settings apart, in words; empty when the study has one group.
    folds : list of int
        The test folds whose predictions are in.
    n_runs, n_failed : int
        All runs of the group, and those that ended without a result.
    report : Report or None
        Of the pooled predictions; None while none are in, or when they cannot be pooled.
    checks : tuple of Check
        The progress of the runs, then the checks of the metrics.
    """

    group: str
    folds: list[int]
    n_runs: int
    n_failed: int
    report: EvaluationReport | None = field(repr=False)
    checks: tuple[Check, ...]


def pool_predictions(runs: list[Run]) -> EvaluationReport:
    """Evaluate the test predictions of several finished runs as one.

    Parameters
    ----------
    runs : list of Run
        Folds of one split: no picture is in the test part of two.

    Returns
    -------
    Report
        Its predictions have a further column, ``run``. Leaky when one of the runs is.

    Raises
    ------
    RunError
        A run has no readable evaluation.
    DataError
        The runs share a test picture, saw other data, or were judged by other rules.
    """
    reports = [read_report(run.evaluation_dir) for run in runs]
    frames = [
        report.predictions.assign(run=run.name)
        for run, report in zip(runs, reports, strict=True)
        if report.predictions is not None
    ]
    pooled = pd.concat(frames, ignore_index=True)
    twice = pooled[pooled["path"].duplicated(keep=False)]
    if len(twice):
        first = twice[twice["path"] == twice["path"].iloc[0]]
        raise DataError(
            "Folds are pooled when each picture is in one test part, but "
            f"'{first['path'].iloc[0]}' is in those of {' and '.join(first['run'])}: train them "
            "with one split."
        )
    require_one({run.name: run.read_config().get("data_sha256") for run in runs}, "other pictures")
    rules = {run.name: (r.threshold, r.protocol) for run, r in zip(runs, reports, strict=True)}
    require_one(rules, "another cut-off or protocol")
    return evaluate_predictions(
        pooled,
        threshold=reports[0].threshold,
        protocol=reports[0].protocol,
        has_leakage=any(report.has_leakage for report in reports),
    )


def summarize_experiment(experiment: Experiment, runs: Path) -> list[SubgroupMetrics]:
    """Return the figures of each group of settings, as far as its runs are done.

    Parameters
    ----------
    study : Study
    runs : Path
        Folder of all runs.

    Returns
    -------
    list of SubgroupMetrics
        In the order of the plan.
    """
    states = {run: str(status["state"]) for run, status in run_states(experiment, runs).items()}
    return [_summarize(group, of, states, runs) for group, of in experiment.groups.items()]


def check_selection(experiment: Experiment) -> tuple[Check, ...]:
    """Check what a comparison of the configurations of a study supports, if it has several."""
    groups = experiment.groups.values()
    if len(groups) < 2:
        return ()
    splits = {
        frozenset(tuple(getattr(one.config, name) for name in _SPLIT) for one in of)
        for of in groups
    }
    return (make_check("BC247" if len(splits) > 1 else "BC248", n_groups=len(groups)),)


def check_progress(n_done: int, n_failed: int, n_runs: int) -> tuple[Check, ...]:
    """Check that all runs are complete."""
    if n_failed:
        return (make_check("BC241", n_done=n_done, n_failed=n_failed, n_runs=n_runs),)
    if n_done < n_runs:
        return (make_check("BC242", n_done=n_done, n_runs=n_runs),)
    return ()


def _summarize(
    group: str, members: list[ExperimentRun], states: dict[str, str], runs: Path
) -> SubgroupMetrics:
    done = [member for member in members if states[member.run] == "done"]
    count = Counter(states[member.run] for member in members)
    n_failed = sum(count[state] for state in (ENDED_STATES | {MISSING}) - {"done"})
    report, checks = None, list(check_progress(len(done), n_failed, len(members)))
    try:
        if done:
            report = pool_predictions([Run(Path(runs) / member.run) for member in done])
            checks += report.checks
    except BcModelError as error:
        checks.append(make_check("BC243", reason=str(error)))
    return SubgroupMetrics(
        group=group,
        folds=sorted(member.fold for member in done),
        n_runs=len(members),
        n_failed=n_failed,
        report=report,
        checks=tuple(checks),
    )


def require_one(values: dict[str, Any], what: str) -> None:
    """Raise `DataError` when runs that are to be judged as one differ.

    Parameters
    ----------
    values : dict of str to any
        Name of each run to what all must share.
    what : str
        Of a run that differs, in words, such as 'other pictures'.
    """
    (first, value), *others = values.items()
    for run, other in others:
        if other != value:
            raise DataError(
                f"Folds are pooled when all were made alike, but {run} has {what} than {first}: "
                "train them again."
            )


_HASH_DIGITS = 12


@dataclass(frozen=True)
class SettingRow:
    """One setting of several runs, in words, in the order of the runs."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """True when not all runs have the same value."""
        return len(set(self.values)) > 1


def compare_runs(first: Run, second: Run, *, names: tuple[str, str] | None = None) -> Comparison:
    """Compare the test predictions of two finished runs.

    Parameters
    ----------
    first, second : Run
    names : (str, str), optional
        As they are to stand in sentences; default is the names of the runs.

    Returns
    -------
    Comparison

    Raises
    ------
    RunError
        A run has no readable evaluation.
    SplitError
        A run has no readable split, so what it learned from is unknown.
    DataError
        They share no picture, or disagree on the class or the case of one.
    """
    names = names or (first.name, second.name)
    return compare_predictions(_side(first, names[0]), _side(second, names[1]))


def setting_rows(runs: list[Run]) -> list[SettingRow]:
    """Return every setting of the runs, then what they were made from, in words.

    Raises
    ------
    RunError
        A run has no readable `config.json`.
    """
    told = [_told(run) for run in runs]
    # A dictionary keeps the order of the settings and takes each name once.
    names = dict.fromkeys(name for one in told for name in one)
    return [SettingRow(name, tuple(one.get(name, "not stated") for one in told)) for name in names]


def _side(run: Run, name: str) -> ComparedModel:
    report = read_report(run.evaluation_dir)
    assert report.predictions is not None, "read_report reads the predictions or fails"
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
    """Return the cases that the first weights knew; none are told of a run without its model."""
    try:
        card = open_bundle(run.path).card
    except BcModelError:
        return frozenset()
    return frozenset(card.data.initial_cases)


def _told(run: Run) -> dict[str, str]:
    record = run.read_config()
    config = record.get("config")
    told = {
        name.replace("_", " "): _in_words(name, value)
        for name, value in (config if isinstance(config, dict) else {}).items()
    }
    # What no setting says and two runs must share to be comparable.
    for name, key in (
        ("pictures (hash)", "data_sha256"),
        ("split (hash)", "split_sha256"),
        ("program (commit)", "git_commit"),
    ):
        told[name] = str(record.get(key) or "not stated")[:_HASH_DIGITS]
    return told


def _in_words(name: str, value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, list):
        return (" x " if name == "image_size" else ", ").join(map(str, value))
    return str(value)
