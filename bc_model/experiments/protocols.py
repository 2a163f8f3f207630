"""Protocol comparison: one configuration trained under several split protocols.

The plan skips splits that the dataset does not support, and records the reasons. The comparison
contains the metrics of each protocol and the leakage effect, as far as the runs are done.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.dataset import Dataset
from bc_model.data.splits import (
    FOLDS_PROTOCOLS,
    PROTOCOLS,
    PROTOCOLS_WITH_LEAKAGE,
    count_leakage,
    make_split,
    read_split,
)
from bc_model.errors import BcModelError, ConfigError, DataError, RecordError, RunError, SplitError
from bc_model.evaluation.checks import PLAUSIBILITY_LABELS, check_metrics, implausible_metrics
from bc_model.evaluation.cross_validation import Spread, mean_differences, mean_metrics
from bc_model.evaluation.published_results import PublishedRange, published_ranges
from bc_model.evaluation.report import EvaluationReport, read_report
from bc_model.evaluation.subgroups import RECOGNITION_RATE
from bc_model.experiments.experiment import MISSING, run_states, start_experiment
from bc_model.experiments.plan import (
    Experiment,
    ExperimentRun,
    Plan,
    experiment_file,
    read_experiment,
    require_folds,
)
from bc_model.experiments.results import check_progress, pool_predictions, require_equal
from bc_model.jobs import ENDED_STATES, JobStatus, is_name, locked
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.training.run_queue import resolve_paths
from bc_model.utils.io import discard_path
from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import read_record, to_json, write_record

DEFAULT_PROTOCOLS = ("image", "folds", "folds-clean", "case")
"""Compared by default, from the most to the least leakage."""

PROTOCOL_LABELS = {
    "image": "image-level", "folder": "section-level", "folds": "official folds",
    "folds-clean": "cleaned official folds", "case": "case-level",
}  # fmt: skip

REPORTED_METRICS = {name: PLAUSIBILITY_LABELS.get(name, name) for name in (
    "balanced_accuracy", "accuracy", "roc_auc", "sensitivity", "specificity", RECOGNITION_RATE,
)}  # fmt: skip
"""Metrics of each protocol, with their labels."""

_SPLIT_OPTIONS = ("protocol", "test_fold", "official_fold_file")
_MAX_STEM_LENGTH = 40


@dataclass(frozen=True)
class ComparisonSpec:
    """The protocols of a comparison, in the order of its table, and why splits were skipped."""

    SCHEMA_VERSION: ClassVar[int] = 3

    protocols: tuple[str, ...]
    skipped: dict[str, tuple[Check, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparisonPlan:
    """The runs of a protocol comparison, and its specification."""

    runs: Plan
    spec: ComparisonSpec


def plan_comparison(
    base: TrainingConfig, *, dataset: Callable[[], Dataset],
    protocols: Sequence[str] = DEFAULT_PROTOCOLS, fold_files: Sequence[str | Path] = (),
    test_folds: Sequence[int] | str = (0,), known: frozenset[TrainingConfig] = frozenset(),
) -> ComparisonPlan:  # fmt: skip
    """Return the runs of each protocol that the dataset supports.

    Parameters
    ----------
    base : TrainingConfig
        Common configuration. Its protocol, test fold and fold file are ignored.
    dataset : callable
        Returns the dataset. It is called at most once, when the first split is tried.
    protocols : sequence of str
        Protocols out of `bc_model.data.splits.PROTOCOLS`.
    fold_files : sequence of path
        Official fold files; each has one run of 'folds' and one of 'folds-clean'.
    test_folds : sequence of int or 'all'
        Test folds of the other protocols, out of ``base.n_folds``.
    known : frozenset of TrainingConfig
        Configurations whose splits are known to be possible; see `planned_configs`.

    Returns
    -------
    ComparisonPlan
        Labels such as 'case-fold0' and 'folds-clean-dsfold1'.

    Raises
    ------
    ConfigError
        A protocol or a fold is unknown, or no protocol uses the fold files.
    SplitError
        A fold file is missing or invalid, or the dataset supports no protocol.
    DataError
        The dataset cannot be read.
    """
    protocols = tuple(dict.fromkeys(protocols))
    files = tuple(dict.fromkeys(Path(file).resolve() for file in fold_files))
    unknown = [name for name in protocols if name not in PROTOCOLS]
    if unknown or not protocols:
        wrong = f"Unknown protocol '{unknown[0]}'" if unknown else "No protocol"
        raise ConfigError(f"{wrong}. Expected at least one of {', '.join(PROTOCOLS)}. Choose one.")
    if files and not FOLDS_PROTOCOLS & set(protocols):
        raise ConfigError(
            f"The fold file {files[0].name} is not used. Expected the protocol folds or "
            "folds-clean. Add one of them, or omit the file."
        )
    require_folds(test_folds)
    # All configurations are checked before the dataset is read, which takes longer.
    candidates = {name: _candidates(name, base, files, test_folds) for name in protocols}
    runs: Plan = []
    skipped: dict[str, tuple[Check, ...]] = {}
    loaded: Dataset | None = None
    for protocol, plan in candidates.items():
        reasons = [] if plan else [make_check("BC246")]
        for label, config in plan:
            error: SplitError | None = None
            if config not in known:
                loaded = loaded or dataset()
                error = _split_error(config, loaded)
            if error is None:
                runs.append((label, config))
            elif (check := make_check("BC245", reason=str(error))) not in reasons:
                reasons.append(check)
        if reasons:
            skipped[protocol] = tuple(reasons)
    if not runs:
        reason = " ".join(f"{name}: {checks[0].message}" for name, checks in skipped.items())
        raise SplitError(f"The dataset supports none of the protocols. {reason}")
    return ComparisonPlan(runs, ComparisonSpec(protocols, skipped))


def _candidates(
    protocol: str, base: TrainingConfig, files: tuple[Path, ...], test_folds: Sequence[int] | str
) -> Plan:
    if protocol in FOLDS_PROTOCOLS:
        splits = [(stem, 0, str(file)) for stem, file in _label_files(files).items()]
    else:
        folds = range(base.n_folds) if isinstance(test_folds, str) else test_folds
        splits = [(f"fold{fold}", fold, "") for fold in folds]
    return [
        (f"{protocol}-{label}", resolve_paths(dataclasses.replace(
            base, protocol=protocol, test_fold=fold, official_fold_file=file,
        )))
        for label, fold, file in splits
    ]  # fmt: skip


def _label_files(files: tuple[Path, ...]) -> dict[str, Path]:
    """Return the files by stem, valid in a run name; equal stems are numbered."""
    labeled: dict[str, Path] = {}
    for file in files:
        stem = re.sub(r"[^A-Za-z0-9._]+", "-", file.stem).strip("-")[:_MAX_STEM_LENGTH] or "folds"
        n_equal = sum(1 for label in labeled if re.fullmatch(rf"{re.escape(stem)}(-\d+)?", label))
        labeled[f"{stem}-{n_equal + 1}" if n_equal else stem] = file
    return labeled


def _split_error(config: TrainingConfig, dataset: Dataset) -> SplitError | None:
    """Return the error of a split that the dataset does not support; None if it does."""
    try:
        make_split(
            dataset, config.protocol, n_folds=config.n_folds, test_fold=config.test_fold,
            seed=config.split_seed, official_fold_file=config.official_fold_file,
        )  # fmt: skip
    except SplitError as error:
        return error
    return None


def start_comparison(
    name: str, plan: ComparisonPlan, runs_dir: Path, *, accept_changes: bool = False
) -> tuple[Experiment, ComparisonSpec]:
    """Write the specification of a comparison, and queue its runs as `start_experiment` does."""
    experiment = start_experiment(name, plan.runs, runs_dir, accept_changes=accept_changes)
    write_record(comparison_file(runs_dir, name), plan.spec)
    return experiment, plan.spec


def planned_configs(runs_dir: Path, name: str) -> frozenset[TrainingConfig]:
    """Return the configurations of an experiment; empty if it does not exist."""
    if not is_name(name) or not experiment_file(runs_dir, name).exists():
        return frozenset()
    return frozenset(run.config for run in read_experiment(runs_dir, name).runs)


def read_comparison_spec(runs_dir: Path, name: str) -> ComparisonSpec | None:
    """Read the specification of a comparison; None if the experiment has none.

    Raises
    ------
    RunError
        The file is damaged.
    """
    file = comparison_file(runs_dir, name)
    try:
        spec = read_record(file, ComparisonSpec)
        if unknown := {*spec.protocols, *spec.skipped} - set(PROTOCOLS):
            raise RecordError(f"protocols: unknown protocol '{min(unknown)}'")
        return spec
    except FileNotFoundError:
        return None
    except (OSError, RecordError) as error:
        raise RunError(
            f"Cannot read the protocol comparison {file}: {error}. Start the comparison again."
        ) from error


def delete_experiment(runs_dir: Path, name: str) -> None:
    """Delete the record of an experiment, which may be damaged; its runs stay.

    Raises
    ------
    RunError
        No experiment can have this name.
    """
    if not is_name(name):
        raise RunError(f"There is no experiment '{name}' in {runs_dir}.")
    with locked(runs_dir):
        for file in (comparison_file(runs_dir, name), experiment_file(runs_dir, name)):
            discard_path(file)


def comparison_file(runs_dir: Path, name: str) -> Path:
    """Return the path of the specification of a comparison."""
    return Path(runs_dir) / f"{name}.protocols.json"


@dataclass(frozen=True)
class CaseOverlap:
    """Number of test images with a known case, and of those whose case is in training as well."""

    n_overlapping: int
    n_test_images: int

    @property
    def proportion(self) -> float | None:
        """Proportion in [0, 1]; None if no case is known."""
        return self.n_overlapping / self.n_test_images if self.n_test_images else None


@dataclass(frozen=True)
class ProtocolRow:
    """Results under one protocol, as far as its runs are done.

    Attributes
    ----------
    protocol : str
    has_leakage : bool
        Whether images of one case can be in training and test, or a model has seen test cases.
    test_data : str
        Description of the folds or fold files.
    runs : dict of str to str
        State of each run by name, in the order of the plan.
    metrics : dict of str to Metric
        Keys of `REPORTED_METRICS`; empty while no run is done.
    spread : dict of str to Spread
        Spread over the official fold files, if there are several.
    n_images, n_cases, n_benign_cases, n_malignant_cases : int
        Distinct test images and known cases; 0 while no run is done.
    malignant_proportion : float or None
        Proportion of malignant test images, averaged over the fold files like the metrics.
    case_overlap : CaseOverlap or None
        None while no run is done.
    implausible : tuple of str
        Metrics that are higher than leakage-free results.
    checks : tuple of Check
        Skipped splits, progress of the runs, then the checks of the metrics.
    reports : dict of str to EvaluationReport
        One pooled report under '', or one report for each fold file by path.
    """

    protocol: str
    has_leakage: bool
    test_data: str
    runs: dict[str, str]
    metrics: dict[str, Metric] = field(default_factory=dict)
    spread: dict[str, Spread] = field(default_factory=dict)
    n_images: int = 0
    n_cases: int = 0
    n_benign_cases: int = 0
    n_malignant_cases: int = 0
    malignant_proportion: float | None = None
    case_overlap: CaseOverlap | None = None
    implausible: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    reports: dict[str, EvaluationReport] = field(
        default_factory=dict, repr=False, compare=False, metadata={"json": False}
    )

    @property
    def label(self) -> str:
        """The label of the protocol, which states leakage."""
        return PROTOCOL_LABELS[self.protocol] + (" (with leakage)" if self.has_leakage else "")

    @property
    def n_done(self) -> int:
        """Number of runs with a result."""
        return sum(state == "done" for state in self.runs.values())

    @property
    def n_failed(self) -> int:
        """Number of runs that ended without a result."""
        return sum(state in (ENDED_STATES | {MISSING}) - {"done"} for state in self.runs.values())

    @property
    def is_finished(self) -> bool:
        """True if no run is queued or running."""
        return self.n_done + self.n_failed == len(self.runs)


@dataclass(frozen=True)
class LeakageEffect:
    """The difference between a protocol with leakage and one without, on their common test images.

    `differences` is empty if there are none. `check` describes the balanced accuracy.
    """

    leakage_protocol: str
    leakage_free_protocol: str
    differences: dict[str, Metric]
    check: Check


@dataclass(frozen=True)
class ProtocolComparison:
    """The results of one configuration under several split protocols.

    Attributes
    ----------
    experiment : str
        Name of the experiment.
    created : str
        Time in UTC, ISO 8601.
    config : dict of str to any
        The options that all runs have in common.
    rows : list of ProtocolRow
        One for each requested protocol, in this order.
    leakage_effects : list of LeakageEffect
    published_ranges : list of PublishedRange
        Published ranges of the same metrics.
    checks : tuple of Check
        Checks of the comparison; each row has its own.
    """

    SCHEMA_VERSION: ClassVar[int] = 3

    experiment: str
    created: str
    config: dict[str, Any]
    rows: list[ProtocolRow]
    leakage_effects: list[LeakageEffect] = field(default_factory=list)
    published_ranges: list[PublishedRange] = field(default_factory=list)
    checks: tuple[Check, ...] = ()

    @property
    def is_finished(self) -> bool:
        """True if no run is queued or running."""
        return all(row.is_finished for row in self.rows)

    @property
    def is_complete(self) -> bool:
        """True if all runs are done."""
        return all(row.n_done == len(row.runs) for row in self.rows)


def is_protocol_comparison(experiment: Experiment) -> bool:
    """Return whether the runs of an experiment differ only in their split."""
    configs = [_common_config(run) for run in experiment.runs]
    return all(config == configs[0] for config in configs)


def compare_protocols(
    experiment: Experiment, runs_dir: Path, *, n_resamples: int = 2000, seed: int = 0
) -> ProtocolComparison:
    """Return the protocol comparison of an experiment, as far as its runs are done.

    Parameters
    ----------
    experiment : Experiment
        An experiment whose runs differ only in their split.
    runs_dir : Path
        Directory of all runs.
    n_resamples : int, default=2000
        Number of bootstrap resamples for the leakage effects.
    seed : int, default=0
        Random seed of the bootstrap.

    Raises
    ------
    RunError
        The runs differ in more than their split, or the specification is damaged.
    """
    if not is_protocol_comparison(experiment):
        raise RunError(
            f"The runs of the experiment '{experiment.name}' differ in more than their split. "
            "Expected one configuration. Compare its configurations instead."
        )
    statuses = run_states(experiment, runs_dir)
    members: dict[str, list[ExperimentRun]] = {}
    for run in experiment.runs:
        members.setdefault(run.config.protocol, []).append(run)
    spec = read_comparison_spec(runs_dir, experiment.name) or ComparisonSpec(
        tuple(name for name in PROTOCOLS[::-1] if name in members)
    )
    rows = [
        _make_row(name, members.get(name, []), statuses, Path(runs_dir), spec.skipped.get(name, ()))
        for name in dict.fromkeys((*spec.protocols, *members))
    ]
    effects = _leakage_effects(rows, n_resamples, seed)
    return ProtocolComparison(
        experiment=experiment.name, created=experiment.created,
        config=_common_config(experiment.runs[0]), rows=rows, leakage_effects=effects,
        published_ranges=[one for name in REPORTED_METRICS for one in published_ranges(name)],
        checks=tuple(_check_comparison(rows, effects, Path(runs_dir))),
    )  # fmt: skip


def _common_config(run: ExperimentRun) -> dict[str, Any]:
    options = to_json(run.config).items()
    return {name: value for name, value in options if name not in _SPLIT_OPTIONS}


def _check_comparison(
    rows: list[ProtocolRow], effects: list[LeakageEffect], runs_dir: Path
) -> Iterator[Check]:
    n_done, n_failed = sum(row.n_done for row in rows), sum(row.n_failed for row in rows)
    yield from check_progress(n_done, n_failed, sum(len(row.runs) for row in rows))
    done = [name for row in rows for name, state in row.runs.items() if state == "done"]
    hashes = {Run(runs_dir / name).read_config().get("data_sha256") for name in done}
    if len(hashes) > 1:
        yield make_check("BC244")
    if effects:
        yield make_check("BC237")


def _make_row(
    protocol: str, members: list[ExperimentRun], statuses: dict[str, JobStatus],
    runs_dir: Path, skipped: tuple[Check, ...],
) -> ProtocolRow:  # fmt: skip
    states = {member.name: str(statuses[member.name]["state"]) for member in members}
    done = [member for member in members if states[member.name] == "done"]
    has_leakage = protocol in PROTOCOLS_WITH_LEAKAGE
    row = ProtocolRow(protocol, has_leakage, _describe_test_data(protocol, done or members), states)
    # The comparison reports pending runs; a row does only if some of its runs have ended.
    has_ended = row.n_done or row.n_failed
    progress = check_progress(row.n_done, row.n_failed, len(states)) if has_ended else ()
    row = dataclasses.replace(row, checks=(*skipped, *progress))
    if not done:
        return row
    try:
        return _add_results(row, done, [Run(runs_dir / member.name) for member in done])
    except BcModelError as error:
        checks = (*row.checks, make_check("BC243", reason=str(error)))
        return dataclasses.replace(row, checks=checks)


def _add_results(row: ProtocolRow, done: list[ExperimentRun], runs: list[Run]) -> ProtocolRow:
    """Return the row with the pooled results, or with the mean over the official fold files."""
    if row.protocol in FOLDS_PROTOCOLS:
        reports = {
            member.config.official_fold_file: read_report(run.evaluation_dir)
            for member, run in zip(done, runs, strict=True)
        }
    else:
        reports = {"": pool_predictions(runs)}
    all_reports = list(reports.values())
    first = all_reports[0]
    has_leakage = row.has_leakage or any(report.has_leakage for report in all_reports)
    malignant_proportion = statistics.fmean(report.malignant_proportion for report in all_reports)
    spread: dict[str, Spread] = {}
    if len(all_reports) > 1:
        require_equal({run.name: run.read_config().get("data_sha256") for run in runs}, "dataset")
        metrics, spread = mean_metrics(all_reports, REPORTED_METRICS)
        images = pd.concat([report.predictions for report in all_reports]).drop_duplicates("path")
        checks = check_metrics(
            images, metrics, has_leakage=has_leakage, malignant_proportion=malignant_proportion
        )
    else:
        assert first.predictions is not None, "a report that was read has predictions"
        metrics = {
            name: first.metrics[name] for name in REPORTED_METRICS if name != RECOGNITION_RATE
        }
        if first.case_metrics:
            metrics[RECOGNITION_RATE] = first.case_metrics.metrics[RECOGNITION_RATE]
        images, checks = first.predictions, list(first.checks)
    known = images[images["case"] != ""]
    n_cases = known.groupby("class")["case"].nunique()
    return dataclasses.replace(
        row, has_leakage=has_leakage, metrics=metrics, spread=spread,
        n_images=len(images), n_cases=int(known["case"].nunique()),
        n_benign_cases=int(n_cases.get("benign", 0)),
        n_malignant_cases=int(n_cases.get("malignant", 0)),
        malignant_proportion=malignant_proportion, case_overlap=_count_case_overlap(runs),
        implausible=implausible_metrics(metrics), checks=(*row.checks, *checks), reports=reports,
    )  # fmt: skip


def _count_case_overlap(runs: list[Run]) -> CaseOverlap:
    splits = [read_split(run.split_file) for run in runs]
    return CaseOverlap(
        sum(count_leakage(split).n_test_images for split in splits),
        sum(int(((split["subset"] == "test") & (split["case"] != "")).sum()) for split in splits),
    )


def _describe_test_data(protocol: str, members: list[ExperimentRun]) -> str:
    if not members:
        return "no run"
    if protocol in FOLDS_PROTOCOLS:
        names = [Path(member.config.official_fold_file).name for member in members]
        if len(names) == 1:
            return f"official fold file {names[0]}"
        return f"mean of {len(names)} official fold files"
    n_folds = members[0].config.n_folds
    folds = sorted(member.fold for member in members)
    if len(folds) == n_folds:
        return f"all {n_folds} folds"
    return (
        f"test {'fold' if len(folds) == 1 else 'folds'} {', '.join(map(str, folds))} of {n_folds}"
    )


_EFFECT_PAIRS = (("image", "case"), ("folder", "case"), ("folds", "folds-clean"))
"""Protocols with leakage, and the leakage-free ones that differ from them only in leakage."""

_MAIN_METRIC = "balanced_accuracy"
_EFFECT_METRICS = (_MAIN_METRIC, "sensitivity", "specificity", "accuracy", "roc_auc")


def _leakage_effects(rows: list[ProtocolRow], n_resamples: int, seed: int) -> list[LeakageEffect]:
    """Compare the pairs of protocols that both have results."""
    by_protocol = {row.protocol: row for row in rows if row.reports}
    return [
        _leakage_effect(by_protocol[leakage], by_protocol[clean], n_resamples, seed)
        for leakage, clean in _EFFECT_PAIRS
        # Initial weights that were trained on test cases cause leakage under every protocol.
        if leakage in by_protocol and clean in by_protocol and not by_protocol[clean].has_leakage
    ]


def _leakage_effect(
    leakage: ProtocolRow, clean: ProtocolRow, n_resamples: int, seed: int
) -> LeakageEffect:
    pairs = [
        (clean.reports[key], leakage.reports[key])
        for key in leakage.reports
        if key in clean.reports
    ]
    reason = "their test images differ"
    try:
        differences = mean_differences(pairs, _EFFECT_METRICS, n_resamples=n_resamples, seed=seed)
    except DataError as error:
        differences, reason = {}, str(error)
    check = _check_effect(leakage, clean, differences.get(_MAIN_METRIC), reason)
    return LeakageEffect(leakage.protocol, clean.protocol, differences, check)


def _check_effect(
    leakage: ProtocolRow, clean: ProtocolRow, difference: Metric | None, reason: str
) -> Check:
    params: dict[str, Any] = {
        "leakage_protocol": f"'{leakage.label}'",
        "leakage_free_protocol": f"'{clean.label}'",
        "metric": REPORTED_METRICS[_MAIN_METRIC],
    }
    if difference is None:
        params["leakage_value"] = leakage.metrics[_MAIN_METRIC].brief()
        params["leakage_free_value"] = clean.metrics[_MAIN_METRIC].brief()
        return make_check("BC236", reason=reason, **params)
    params |= {"n_images": difference.n_images, "n_cases": difference.n_cases}
    if difference.value is None:
        return make_check("BC235", reason=difference.note, **params)
    params["difference"] = difference.value
    if difference.ci_low is None or difference.ci_high is None:
        reason = difference.note or "the predictions never differ"
        return make_check("BC234", reason=reason, **params)
    code = "BC231" if difference.ci_low > 0 else "BC232" if difference.ci_high < 0 else "BC233"
    return make_check(code, ci=[difference.ci_low, difference.ci_high], **params)
