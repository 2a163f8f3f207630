"""One protocol of a report: its runs, its figures, and what they rest on.

Test folds of one split are disjoint and pooled. The official fold files are repeated hold-outs that
overlap, so their figures are averaged (`hold_outs`).
"""

import statistics
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.protocols import FOLDS_PROTOCOLS, LEAKY_PROTOCOLS
from bc_model.data.splits import count_leaks, read_split
from bc_model.errors import BcModelError
from bc_model.evaluation.alarms import JUDGED, alarms, too_good
from bc_model.evaluation.by_case import RECOGNITION
from bc_model.evaluation.hold_outs import Spread, mean_figures
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.report import Report, read_report
from bc_model.evaluation.study_figures import check_progress, pool_predictions, require_one
from bc_model.training.run_folder import ENDED_STATES, RunFolder
from bc_model.training.study import MISSING
from bc_model.training.study_file import Member

FIGURES = {
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
    def share(self) -> float | None:
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
        Keys as in `FIGURES`; empty while no run is in.
    spread : dict of str to Spread
        Between the official files, where several are averaged.
    n, n_cases, n_benign_cases, n_malignant_cases : int
        Test pictures and their known cases, each once; 0 while no run is in.
    base_rate : float or None
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
    leaky: bool
    rests_on: str
    runs: dict[str, str]
    figures: dict[str, Figure] = field(default_factory=dict)
    spread: dict[str, Spread] = field(default_factory=dict)
    n: int = 0
    n_cases: int = 0
    n_benign_cases: int = 0
    n_malignant_cases: int = 0
    base_rate: float | None = None
    shared: Shared | None = None
    alarms: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    reports: dict[str, Report] = field(
        default_factory=dict, repr=False, compare=False, metadata={"json": False}
    )

    @property
    def words(self) -> str:
        """The protocol in words, with what must stand beside every figure of it."""
        return PROTOCOL_WORDS[self.protocol] + (" (leaky)" if self.leaky else "")

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
    members: list[Member],
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
        leaky=protocol in LEAKY_PROTOCOLS,
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
        found = _figures(row, done, Path(runs))
    except BcModelError as error:
        return replace(row, checks=(*row.checks, make_check("BC243", reason=str(error))))
    return replace(row, **found | {"checks": (*row.checks, *found["checks"])})


def _figures(row: ProtocolRow, done: list[Member], runs: Path) -> dict[str, Any]:
    folders = [RunFolder(runs / member.run) for member in done]
    spread: dict[str, Spread] = {}
    if row.protocol in FOLDS_PROTOCOLS:
        reports = {
            member.settings.official_fold_file: read_report(run.evaluation_folder)
            for member, run in zip(done, folders, strict=True)
        }
    else:
        reports = {"": pool_predictions(folders)}
    first, *others = reports.values()
    if others:
        of_run = {run.name: run.read_config().get("data_sha256") for run in folders}
        require_one(of_run, "other pictures")
        figures, spread = mean_figures(list(reports.values()), FIGURES)
        pictures = pd.concat([one.predictions for one in reports.values()])
        pictures = pictures.drop_duplicates("path")
        leaky = row.leaky or any(one.leaky for one in reports.values())
        base_rate = statistics.fmean(one.base_rate for one in reports.values())
        checks = alarms(pictures, figures, leaky=leaky, base_rate=base_rate)
    else:
        assert first.predictions is not None, "both roads keep the predictions"
        figures = {name: first.figures[name] for name in FIGURES if name != RECOGNITION}
        if first.by_case:
            figures[RECOGNITION] = first.by_case.figures[RECOGNITION]
        pictures, checks = first.predictions, list(first.checks)
        leaky, base_rate = row.leaky or first.leaky, first.base_rate
    known = pictures[pictures["case"] != ""]
    return {
        "leaky": leaky,
        "figures": figures,
        "spread": spread,
        "n": len(pictures),
        "n_cases": int(known["case"].nunique()),
        "n_benign_cases": int(known.loc[known["class"] == "benign", "case"].nunique()),
        "n_malignant_cases": int(known.loc[known["class"] == "malignant", "case"].nunique()),
        "base_rate": base_rate,
        "shared": _shared(folders),
        "alarms": too_good(figures),
        "checks": checks,
        "reports": reports,
    }


def _shared(folders: list[RunFolder]) -> Shared:
    counts: Counter[str] = Counter()
    for run in folders:
        split = read_split(run.split_file)
        counts["n"] += count_leaks(split).test_pictures
        counts["n_test"] += int(((split["part"] == "test") & (split["case"] != "")).sum())
    return Shared(counts["n"], counts["n_test"])


def _rests_on(protocol: str, members: list[Member], done: list[Member]) -> str:
    if not members:
        return "no run"
    if protocol in FOLDS_PROTOCOLS:
        names = [Path(member.settings.official_fold_file).name for member in done or members]
        if len(names) == 1:
            return f"official file {names[0]}"
        return f"mean over {len(names)} official files"
    n_folds = members[0].settings.n_folds
    folds = sorted(member.fold for member in done or members)
    if len(folds) == n_folds:
        return f"all {n_folds} folds, each picture tested once"
    word = "fold" if len(folds) == 1 else "folds"
    return f"test {word} {', '.join(map(str, folds))} of {n_folds}"
