"""A report study: one recipe under several split protocols, planned, checked and started together.

What cannot be made on the data is found before anything starts. Its reason is kept beside the
study, in `NAME.report.json`, so that every report says what is missing from it. The figures are the
work of `bc_model.experiments.protocols`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from bc_model.checks import Check, check_from_json, check_to_json, make_check
from bc_model.data.dataset import Dataset
from bc_model.data.splits import (
    FOLDS_PROTOCOLS,
    PROTOCOLS,
    PROTOCOLS_WITH_LEAKAGE,
    count_leaks,
    make_split,
    read_split,
)
from bc_model.errors import BcModelError, ConfigError, DataError, RunError, SplitError
from bc_model.evaluation.checks import JUDGED, alarms, too_good
from bc_model.evaluation.cross_validation import Spread, mean_differences, mean_metrics
from bc_model.evaluation.published_results import PublishedRange, published_ranges
from bc_model.evaluation.report import Report, read_report
from bc_model.evaluation.subgroups import RECOGNITION
from bc_model.experiments.experiment import MISSING, run_states, start_experiment
from bc_model.experiments.plan import (
    Experiment,
    ExperimentRun,
    Plan,
    experiment_file,
    read_experiment,
    require_folds_once,
)
from bc_model.experiments.results import check_progress, pool_predictions, require_one
from bc_model.jobs import ENDED_STATES, is_name
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.training.run_queue import checked_paths
from bc_model.utils.io import write_text_atomic
from bc_model.utils.metric import Metric

REPORT_PROTOCOLS = ("image", "folds", "folds-clean", "case")
"""What is asked for when nobody says otherwise, the leakiest first."""

_SUFFIX = ".report.json"
_VERSION = 2
_MAX_STEM = 40


@dataclass(frozen=True)
class ReportNote:
    """What a report was asked for.

    Attributes
    ----------
    protocols : tuple of str
        In the order of the rows of its table.
    skipped : dict of str to tuple of Check
        Protocol to the reasons why splits of it were skipped.
    """

    protocols: tuple[str, ...]
    skipped: dict[str, tuple[Check, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportPlan:
    """The runs of a report, and what it was asked for."""

    runs: Plan
    note: ReportNote


def plan_report(
    base: TrainingConfig,
    *,
    dataset: Callable[[], Dataset],
    protocols: Sequence[str] = REPORT_PROTOCOLS,
    fold_files: Sequence[str | Path] = (),
    test_folds: Sequence[int] | str = (0,),
    known: frozenset[TrainingConfig] = frozenset(),
) -> ReportPlan:
    """Plan the runs of each protocol and find out which splits can be made.

    Parameters
    ----------
    base : TrainingConfig
        The recipe; its protocol, fold and fold file do not count.
    manifest : callable
        Returns the data set; called once, and not at all when nothing has to be tried.
    protocols : sequence of str
        Out of `bc_model.data.splits.PROTOCOLS`.
    fold_files : sequence of path
        Official fold files: a run each for `folds` and for `folds-clean`.
    test_folds : sequence of int or 'all'
        Test folds of the other protocols, which deal the data out in ``base.n_folds``.
    known : frozenset of TrainingConfig
        Runs that a study of this name has already: their splits are not tried again.

    Returns
    -------
    ReportPlan
        Labels such as 'case-fold0' and 'folds-clean-dsfold1'.

    Raises
    ------
    ConfigError
        An unknown protocol or fold, or fold files that nobody asked for.
    SplitError
        A fold file is missing or not one, or no protocol can be made.
    DataError
        The data cannot be read.
    """
    protocols = tuple(dict.fromkeys(protocols))
    files = tuple(dict.fromkeys(Path(file).resolve() for file in fold_files))
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise ConfigError(
            f"There is no split protocol '{unknown[0]}'; choose from {', '.join(PROTOCOLS)}."
        )
    if not protocols:
        raise ConfigError(f"A report needs a protocol; choose from {', '.join(PROTOCOLS)}.")
    if files and not FOLDS_PROTOCOLS & set(protocols):
        raise ConfigError(
            f"Fold files are for the protocols folds and folds-clean; add one of them, or leave "
            f"{files[0].name} out."
        )
    if not test_folds or (isinstance(test_folds, str) and test_folds != "all"):
        raise ConfigError(f"test_folds must be all or numbers from 0; asked for '{test_folds}'.")
    # All of them before the first is tried: a wrong one should not cost the reading of the data.
    require_folds_once(test_folds)
    planned = {protocol: _runs_of(protocol, base, files, test_folds) for protocol in protocols}
    runs: Plan = []
    skipped: dict[str, tuple[Check, ...]] = {}
    found: Dataset | None = None
    for protocol, candidates in planned.items():
        reasons = [] if candidates else [make_check("BC246")]
        for label, config in candidates:
            error: SplitError | None = None
            if config not in known:
                found = found or dataset()
                error = _split_error(config, found)
            if error is None:
                runs.append((label, config))
            elif (check := make_check("BC245", reason=str(error))) not in reasons:
                reasons.append(check)
        if reasons:
            skipped[protocol] = tuple(reasons)
    if not runs:
        told = " ".join(f"{name}: {checks[0].message}" for name, checks in skipped.items())
        raise SplitError(f"None of the protocols can be made. {told}")
    return ReportPlan(runs, ReportNote(protocols, skipped))


def start_report(
    name: str, plan: ReportPlan, runs: Path, *, accept_changes: bool = False
) -> tuple[Experiment, ReportNote]:
    """Queue the runs of a report, or those of them that are not done, and keep its note.

    Raises
    ------
    ConfigError, WeightsError, RunError
        As `bc_model.experiments.experiment.start_study`.
    """
    experiment = start_experiment(name, plan.runs, runs, accept_changes=accept_changes)
    skipped = {
        name: [check_to_json(check) for check in checks]
        for name, checks in plan.note.skipped.items()
    }
    content = {"version": _VERSION, "protocols": plan.note.protocols, "skipped": skipped}
    text = json.dumps(content, indent=1, allow_nan=False)
    write_text_atomic(note_file(runs, name), text + "\n")
    return experiment, plan.note


def known_options(runs: Path, name: str) -> frozenset[TrainingConfig]:
    """Return the settings that a study has; none when there is no such study."""
    if not is_name(name) or not experiment_file(runs, name).exists():
        return frozenset()
    return frozenset(member.config for member in read_experiment(runs, name).members)


def read_note(runs: Path, name: str) -> ReportNote | None:
    """Read what a report was asked for; None when the study is no report.

    Raises
    ------
    RunError
        The file is damaged.
    """
    file = note_file(runs, name)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            raise ValueError(f"its version is {content['version']!r}, not {_VERSION}")
        skipped = {
            str(name): tuple(check_from_json(one) for one in checks)
            for name, checks in content["skipped"].items()
        }
        note = ReportNote(tuple(map(str, content["protocols"])), skipped)
        if not {*note.protocols, *skipped} <= set(PROTOCOLS):
            raise ValueError("a protocol is not known")
        return note
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"The note of the report {file} cannot be read: {error}; run the report again."
        ) from error


def note_file(runs: Path, name: str) -> Path:
    """Return where the note of a report is kept."""
    return Path(runs) / f"{name}{_SUFFIX}"


def _runs_of(
    protocol: str,
    base: TrainingConfig,
    files: tuple[Path, ...],
    test_folds: Sequence[int] | str,
) -> Plan:
    if protocol in FOLDS_PROTOCOLS:
        return [
            (
                f"{protocol}-{stem}",
                checked_paths(
                    dataclasses.replace(
                        base, protocol=protocol, test_fold=0, official_fold_file=str(file)
                    )
                ),
            )
            for stem, file in _stems(files).items()
        ]
    folds = range(base.n_folds) if isinstance(test_folds, str) else test_folds
    return [
        (
            f"{protocol}-fold{fold}",
            checked_paths(
                dataclasses.replace(base, protocol=protocol, test_fold=fold, official_fold_file="")
            ),
        )
        for fold in folds
    ]


def _stems(files: tuple[Path, ...]) -> dict[str, Path]:
    """Name each file as a run's name may end; two of one name in two folders are numbered."""
    named: dict[str, Path] = {}
    for file in files:
        stem = re.sub(r"[^A-Za-z0-9._]+", "-", file.stem).strip("-")[:_MAX_STEM] or "folds"
        number = sum(1 for other in named if re.fullmatch(rf"{re.escape(stem)}(-\d+)?", other))
        named[stem if number == 0 else f"{stem}-{number + 1}"] = file
    return named


def _split_error(config: TrainingConfig, dataset: Dataset) -> SplitError | None:
    """Return the error of a split that the dataset does not support; None if it does."""
    try:
        make_split(
            dataset, config.protocol, n_folds=config.n_folds, fold=config.test_fold,
            seed=config.split_seed, folds_file=config.official_fold_file,
        )  # fmt: skip
    except SplitError as error:
        return error
    return None


REPORTED_METRICS = {
    name: JUDGED.get(name, name)
    for name in (
        "balanced_accuracy",
        "accuracy",
        "roc_auc",
        "sensitivity",
        "specificity",
        RECOGNITION,
    )
}
"""Figures of a protocol with their words; the recognition rate is the mean patient score."""

PROTOCOL_WORDS = {
    "image": "by picture",
    "folder": "by folder",
    "folds": "official folds",
    "folds-clean": "cleaned official folds",
    "case": "by case",
}


@dataclass(frozen=True)
class Shared:
    """How many test pictures have their case in training, over the test parts of all runs.

    Attributes
    ----------
    n, n_test : int
        Such pictures, and all whose case is known.
    """

    n: int
    n_test: int

    @property
    def proportion(self) -> float | None:
        """0 to 1; None when no case is known."""
        return self.n / self.n_test if self.n_test else None


@dataclass(frozen=True)
class ProtocolRow:
    """What the recipe came to under one protocol, as far as its runs are done.

    Attributes
    ----------
    protocol : str
    leaky : bool
        Whether pictures of one case stand in training and test.
    rests_on : str
        Which folds or files the figures are from, in words.
    runs : dict of str to str
        Name of each run to its state, in the order of the plan.
    figures : dict of str to Figure
        Keys as in `REPORTED_METRICS`; empty while no run is in.
    spread : dict of str to Spread
        Between the official files, where several are averaged.
    n, n_cases, n_benign_cases, n_malignant_cases : int
        Test pictures and their known cases, each once; 0 while no run is in.
    malignant_proportion : float or None
        Share of malignant test pictures: the accuracy of always answering 'malignant'. The mean
        over the official files, where their accuracies are averaged.
    shared : Shared or None
        None while no run is in.
    alarms : tuple of str
        Those of `alarms.JUDGED` that are better than honest results.
    checks : tuple of Check
        Skipped splits, the progress of the runs, then the checks of the metrics.
    reports : dict of str to Report
        Of the test folds of one split, one under '' with all that is in; of official files, one
        each by its path.
    """

    protocol: str
    has_leakage: bool
    rests_on: str
    runs: dict[str, str]
    metrics: dict[str, Metric] = field(default_factory=dict)
    spread: dict[str, Spread] = field(default_factory=dict)
    n: int = 0
    n_cases: int = 0
    n_benign_cases: int = 0
    n_malignant_cases: int = 0
    malignant_proportion: float | None = None
    shared: Shared | None = None
    alarms: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    reports: dict[str, Report] = field(
        default_factory=dict, repr=False, compare=False, metadata={"json": False}
    )

    @property
    def words(self) -> str:
        """The protocol in words, with what must stand beside every figure of it."""
        return PROTOCOL_WORDS[self.protocol] + (" (leaky)" if self.has_leakage else "")

    @property
    def n_done(self) -> int:
        """Runs that are in."""
        return sum(state == "done" for state in self.runs.values())

    @property
    def n_failed(self) -> int:
        """Runs that ended without a result."""
        return sum(state in (ENDED_STATES | {MISSING}) - {"done"} for state in self.runs.values())

    @property
    def is_over(self) -> bool:
        """True when nothing more will come."""
        return self.n_done + self.n_failed == len(self.runs)


def make_row(
    protocol: str,
    members: list[ExperimentRun],
    states: dict[str, str],
    runs: Path,
    skipped: tuple[Check, ...] = (),
) -> ProtocolRow:
    """Read what is done of one protocol and compute its figures.

    Parameters
    ----------
    protocol : str
    members : list of Member
        Its runs; empty when none could be made.
    states : dict of str to str
        State of each run.
    runs : Path
        Folder of all runs.
    skipped : tuple of Check
        Why splits of this protocol were skipped.
    """
    done = [member for member in members if states[member.run] == "done"]
    row = ProtocolRow(
        protocol=protocol,
        has_leakage=protocol in PROTOCOLS_WITH_LEAKAGE,
        rests_on=_rests_on(protocol, members, done),
        runs={member.run: states[member.run] for member in members},
    )
    # Runs of which none has ended change no metric of this row.
    has_ended = row.n_done or row.n_failed
    progress = check_progress(row.n_done, row.n_failed, len(row.runs)) if has_ended else ()
    row = replace(row, checks=(*skipped, *progress))
    if not done:
        return row
    try:
        found = _metrics(row, done, Path(runs))
    except BcModelError as error:
        return replace(row, checks=(*row.checks, make_check("BC243", reason=str(error))))
    return replace(row, **found | {"checks": (*row.checks, *found["checks"])})


def _metrics(row: ProtocolRow, done: list[ExperimentRun], runs: Path) -> dict[str, Any]:
    folders = [Run(runs / member.run) for member in done]
    spread: dict[str, Spread] = {}
    if row.protocol in FOLDS_PROTOCOLS:
        reports = {
            member.config.official_fold_file: read_report(run.evaluation_dir)
            for member, run in zip(done, folders, strict=True)
        }
    else:
        reports = {"": pool_predictions(folders)}
    first, *others = reports.values()
    if others:
        of_run = {run.name: run.read_config().get("data_sha256") for run in folders}
        require_one(of_run, "other pictures")
        metrics, spread = mean_metrics(list(reports.values()), REPORTED_METRICS)
        images = pd.concat([one.predictions for one in reports.values()])
        images = images.drop_duplicates("path")
        has_leakage = row.has_leakage or any(one.has_leakage for one in reports.values())
        malignant_proportion = statistics.fmean(
            one.malignant_proportion for one in reports.values()
        )
        checks = alarms(
            images, metrics, has_leakage=has_leakage, malignant_proportion=malignant_proportion
        )
    else:
        assert first.predictions is not None, "both roads keep the predictions"
        metrics = {name: first.metrics[name] for name in REPORTED_METRICS if name != RECOGNITION}
        if first.by_case:
            metrics[RECOGNITION] = first.by_case.metrics[RECOGNITION]
        images, checks = first.predictions, list(first.checks)
        has_leakage, malignant_proportion = (
            row.has_leakage or first.has_leakage,
            first.malignant_proportion,
        )
    known = images[images["case"] != ""]
    return {
        "has_leakage": has_leakage,
        "metrics": metrics,
        "spread": spread,
        "n": len(images),
        "n_cases": int(known["case"].nunique()),
        "n_benign_cases": int(known.loc[known["class"] == "benign", "case"].nunique()),
        "n_malignant_cases": int(known.loc[known["class"] == "malignant", "case"].nunique()),
        "malignant_proportion": malignant_proportion,
        "shared": _shared(folders),
        "alarms": too_good(metrics),
        "checks": checks,
        "reports": reports,
    }


def _shared(folders: list[Run]) -> Shared:
    counts: Counter[str] = Counter()
    for run in folders:
        split = read_split(run.split_file)
        counts["n"] += count_leaks(split).test_images
        counts["n_test"] += int(((split["subset"] == "test") & (split["case"] != "")).sum())
    return Shared(counts["n"], counts["n_test"])


def _rests_on(protocol: str, members: list[ExperimentRun], done: list[ExperimentRun]) -> str:
    if not members:
        return "no run"
    if protocol in FOLDS_PROTOCOLS:
        names = [Path(member.config.official_fold_file).name for member in done or members]
        if len(names) == 1:
            return f"official file {names[0]}"
        return f"mean over {len(names)} official files"
    n_folds = members[0].config.n_folds
    folds = sorted(member.fold for member in done or members)
    if len(folds) == n_folds:
        return f"all {n_folds} folds, each picture tested once"
    word = "fold" if len(folds) == 1 else "folds"
    return f"test {word} {', '.join(map(str, folds))} of {n_folds}"


PAIRS = (("image", "case"), ("folder", "case"), ("folds", "folds-clean"))
"""A leaky protocol and the honest one that differs from it by the leak alone."""

INTERVAL_SCOPE = make_check("BC237")
"""What the intervals of the differences do not cover."""

FIGURE = "balanced_accuracy"
COMPARED = (FIGURE, "sensitivity", "specificity", "accuracy", "roc_auc")


@dataclass(frozen=True)
class LeakageEffect:
    """A leaky protocol against an honest one.

    Attributes
    ----------
    leaky, honest : str
        Protocols.
    differences : dict of str to Figure
        Leaky minus honest on the pictures that both tested, keys as in `COMPARED`; empty when they
        share none.
    check : Check
        The leakage effect on the balanced accuracy.
    """

    has_leakage: str
    leakage_free: str
    differences: dict[str, Metric]
    check: Check

    @property
    def is_paired(self) -> bool:
        """True when both were judged on the same pictures."""
        return bool(self.differences)


def find_gaps(
    rows: list[ProtocolRow], *, n_resamples: int = 2000, seed: int = 0
) -> list[LeakageEffect]:
    """Compare the protocols of `PAIRS` of which both have figures.

    Parameters
    ----------
    rows : list of ProtocolRow
    n_resamples, seed : int
        Of the bootstrap.
    """
    by_name = {row.protocol: row for row in rows if row.reports}
    return [
        _gap(by_name[has_leakage], by_name[leakage_free], n_resamples, seed)
        for has_leakage, leakage_free in PAIRS
        # A model can know test cases by the weights it began with: then no split is honest.
        if has_leakage in by_name
        and leakage_free in by_name
        and not by_name[leakage_free].has_leakage
    ]


def _gap(
    has_leakage: ProtocolRow, leakage_free: ProtocolRow, n_resamples: int, seed: int
) -> LeakageEffect:
    # Pooled folds stand under one key, official files under their own: both meet their like.
    keys = [key for key in has_leakage.reports if key in leakage_free.reports]
    pairs = [(leakage_free.reports[key], has_leakage.reports[key]) for key in keys]
    reason = "their test images differ"
    try:
        found = mean_differences(pairs, COMPARED, n_resamples=n_resamples, seed=seed)
    except DataError as error:
        found, reason = {}, str(error)
    check = _check_protocol_gap(has_leakage, leakage_free, found.get(FIGURE), reason)
    return LeakageEffect(has_leakage.protocol, leakage_free.protocol, found, check)


def _check_protocol_gap(
    has_leakage: ProtocolRow, leakage_free: ProtocolRow, found: Metric | None, reason: str
) -> Check:
    params: dict[str, Any] = {
        "leakage_protocol": f"'{has_leakage.words}'",
        "leakage_free_protocol": f"'{leakage_free.words}'",
        "metric": REPORTED_METRICS[FIGURE],
    }
    if found is None:
        values = (row.metrics[FIGURE].brief() for row in (has_leakage, leakage_free))
        params |= dict(zip(("leakage_value", "leakage_free_value"), values, strict=True))
        return make_check("BC236", reason=reason, **params)
    params |= {"n_images": found.n, "n_cases": found.n_cases}
    if found.value is None:
        return make_check("BC235", reason=found.note, **params)
    params["difference"] = found.value
    if found.low is None or found.high is None:
        return make_check("BC234", reason=found.note or "the predictions never differ", **params)
    code = "BC231" if found.low > 0 else "BC232" if found.high < 0 else "BC233"
    return make_check(code, ci=[found.low, found.high], **params)


_OWN_TO_A_SPLIT = ("protocol", "test_fold", "official_fold_file")


@dataclass(frozen=True)
class ProtocolReport:
    """One recipe under several protocols.

    Attributes
    ----------
    study : str
        Name of the study.
    created : str
        Time in UTC, ISO 8601.
    recipe : dict of str to any
        The settings that all runs share.
    rows : list of ProtocolRow
        One a protocol that was asked for, in that order.
    gaps : list of Gap
    bands : list of Band
        Published ranges of the same figures.
    checks : tuple of Check
        Checks of the entire report; each row has its own.
    """

    SCHEMA_VERSION: ClassVar[int] = 2

    experiment: str
    created: str
    config: dict[str, Any]
    rows: list[ProtocolRow]
    gaps: list[LeakageEffect] = field(default_factory=list)
    published_ranges: list[PublishedRange] = field(default_factory=list)
    checks: tuple[Check, ...] = ()

    @property
    def is_over(self) -> bool:
        """True when no run will bring more."""
        return all(row.is_over for row in self.rows)

    @property
    def is_whole(self) -> bool:
        """True when all runs are in."""
        return all(row.n_done == len(row.runs) for row in self.rows)


def is_one_recipe(experiment: Experiment) -> bool:
    """Return whether the runs of a study differ in nothing but their split."""
    return len({_key(_recipe(member)) for member in experiment.members}) == 1


def summarize_protocols(
    experiment: Experiment, runs: Path, *, n_resamples: int = 2000, seed: int = 0
) -> ProtocolReport:
    """Compute the report of a study, as far as its runs are done.

    Parameters
    ----------
    study : Study
        Of one recipe.
    runs : Path
        Folder of all runs.
    n_resamples, seed : int
        Of the bootstrap of the comparisons.

    Returns
    -------
    ProtocolReport

    Raises
    ------
    RunError
        The runs differ in more than their split, or the note of the report is damaged.
    """
    if not is_one_recipe(experiment):
        raise RunError(
            f"The runs of the study {experiment.name} differ in more than their split, so what sets "
            "their figures apart is not the protocol; look at its groups of settings instead."
        )
    states = {run: str(status["state"]) for run, status in run_states(experiment, runs).items()}
    by_protocol: dict[str, list[ExperimentRun]] = {}
    for member in experiment.members:
        by_protocol.setdefault(member.config.protocol, []).append(member)
    note = read_note(runs, experiment.name) or ReportNote(
        tuple(name for name in PROTOCOLS[::-1] if name in by_protocol)
    )
    names = dict.fromkeys((*note.protocols, *by_protocol))
    rows = [
        make_row(name, by_protocol.get(name, []), states, runs, note.skipped.get(name, ()))
        for name in names
    ]
    gaps = find_gaps(rows, n_resamples=n_resamples, seed=seed)
    return ProtocolReport(
        experiment=experiment.name,
        created=experiment.created,
        config=_recipe(experiment.members[0]),
        rows=rows,
        gaps=gaps,
        published_ranges=[
            published_range
            for name in REPORTED_METRICS
            for published_range in published_ranges(name)
        ],
        checks=tuple(_check(rows, gaps, runs)),
    )


def _recipe(member: ExperimentRun) -> dict[str, Any]:
    config = member.config.as_dict()
    return {name: value for name, value in config.items() if name not in _OWN_TO_A_SPLIT}


def _key(config: dict[str, Any]) -> str:
    return repr(sorted(config.items()))


def _check(rows: list[ProtocolRow], gaps: list[LeakageEffect], runs: Path) -> Iterator[Check]:
    yield from check_progress(
        sum(row.n_done for row in rows),
        sum(row.n_failed for row in rows),
        sum(len(row.runs) for row in rows),
    )
    hashes = {
        Run(runs / run).read_config().get("data_sha256")
        for row in rows
        for run, state in row.runs.items()
        if state == "done"
    }
    if len(hashes) > 1:
        yield make_check("BC244")
    if gaps:
        yield INTERVAL_SCOPE
