"""A report study: one recipe under several split protocols, planned, checked and started together.

What cannot be made on the data is found before anything starts. Its reason is kept beside the
study, in `NAME.report.json`, so that every report says what is missing from it. The figures are the
work of `bc_model.evaluation.protocol_report`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bc_model.checks import Check, check_from_json, check_to_json, make_check
from bc_model.data.manifest import Manifest
from bc_model.data.protocols import FOLDS_PROTOCOLS, PROTOCOLS
from bc_model.data.splits import make_split
from bc_model.errors import RunError, SettingsError, SplitError
from bc_model.files import write_text_atomic
from bc_model.training.jobs import checked_paths
from bc_model.training.run_folder import is_name
from bc_model.training.settings import TrainingConfig
from bc_model.training.study import start_study
from bc_model.training.study_file import Study, read_study, study_file
from bc_model.training.study_plan import Plan, require_folds_once

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
    manifest: Callable[[], Manifest],
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
        Out of `bc_model.data.protocols.PROTOCOLS`.
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
    SettingsError
        An unknown protocol or fold, or fold files that nobody asked for.
    SplitError
        A fold file is missing or not one, or no protocol can be made.
    DataError
        The data cannot be read.
    """
    protocols = tuple(dict.fromkeys(protocols))
    files = tuple(dict.fromkeys(Path(file).resolve() for file in fold_files))
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise SettingsError(
            f"There is no split protocol '{unknown[0]}'; choose from {', '.join(PROTOCOLS)}."
        )
    if not protocols:
        raise SettingsError(f"A report needs a protocol; choose from {', '.join(PROTOCOLS)}.")
    if files and not FOLDS_PROTOCOLS & set(protocols):
        raise SettingsError(
            f"Fold files are for the protocols folds and folds-clean; add one of them, or leave "
            f"{files[0].name} out."
        )
    if not test_folds or (isinstance(test_folds, str) and test_folds != "all"):
        raise SettingsError(f"test_folds must be all or numbers from 0; asked for '{test_folds}'.")
    # All of them before the first is tried: a wrong one should not cost the reading of the data.
    require_folds_once(test_folds)
    planned = {protocol: _runs_of(protocol, base, files, test_folds) for protocol in protocols}
    runs: Plan = []
    skipped: dict[str, tuple[Check, ...]] = {}
    found: Manifest | None = None
    for protocol, candidates in planned.items():
        reasons = [] if candidates else [make_check("BC246")]
        for label, settings in candidates:
            error: SplitError | None = None
            if settings not in known:
                found = found or manifest()
                error = _split_error(settings, found)
            if error is None:
                runs.append((label, settings))
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
) -> tuple[Study, ReportNote]:
    """Queue the runs of a report, or those of them that are not done, and keep its note.

    Raises
    ------
    SettingsError, WeightsError, RunError
        As `bc_model.training.study.start_study`.
    """
    study = start_study(name, plan.runs, runs, accept_changes=accept_changes)
    skipped = {
        name: [check_to_json(check) for check in checks]
        for name, checks in plan.note.skipped.items()
    }
    content = {"version": _VERSION, "protocols": plan.note.protocols, "skipped": skipped}
    text = json.dumps(content, indent=1, allow_nan=False)
    write_text_atomic(note_file(runs, name), text + "\n")
    return study, plan.note


def known_settings(runs: Path, name: str) -> frozenset[TrainingConfig]:
    """Return the settings that a study has; none when there is no such study."""
    if not is_name(name) or not study_file(runs, name).exists():
        return frozenset()
    return frozenset(member.settings for member in read_study(runs, name).members)


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


def _split_error(settings: TrainingConfig, manifest: Manifest) -> SplitError | None:
    """Return the error of a split that the dataset does not support; None if it does."""
    try:
        make_split(
            manifest, settings.protocol, n_folds=settings.n_folds, fold=settings.test_fold,
            seed=settings.split_seed, folds_file=settings.official_fold_file,
        )  # fmt: skip
    except SplitError as error:
        return error
    return None
