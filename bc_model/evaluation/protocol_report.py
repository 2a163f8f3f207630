"""The report of one recipe under several split protocols: what each says, and what a leak is worth.

It reads a study that `bc_model.training.report_study` started, or any other of one recipe, and may
be read while runs go on. Drawing is the work of `protocol_plot`, files that of `protocol_files`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bc_model.checks import Check, make_check
from bc_model.data.protocols import PROTOCOLS
from bc_model.errors import RunError
from bc_model.evaluation.literature import Band, bands
from bc_model.evaluation.protocol_gap import INTERVAL_SCOPE, Gap, find_gaps
from bc_model.evaluation.protocol_row import FIGURES, ProtocolRow, make_row
from bc_model.evaluation.study_figures import check_progress
from bc_model.training.report_study import ReportNote, read_note
from bc_model.training.run_folder import RunFolder
from bc_model.training.study import member_states
from bc_model.training.study_file import Member, Study

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

    study: str
    created: str
    recipe: dict[str, Any]
    rows: list[ProtocolRow]
    gaps: list[Gap] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    checks: tuple[Check, ...] = ()

    @property
    def is_over(self) -> bool:
        """True when no run will bring more."""
        return all(row.is_over for row in self.rows)

    @property
    def is_whole(self) -> bool:
        """True when all runs are in."""
        return all(row.n_done == len(row.runs) for row in self.rows)


def is_one_recipe(study: Study) -> bool:
    """Return whether the runs of a study differ in nothing but their split."""
    return len({_key(_recipe(member)) for member in study.members}) == 1


def summarise_protocols(
    study: Study, runs: Path, *, n_resamples: int = 2000, seed: int = 0
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
    if not is_one_recipe(study):
        raise RunError(
            f"The runs of the study {study.name} differ in more than their split, so what sets "
            "their figures apart is not the protocol; look at its groups of settings instead."
        )
    states = {run: str(status["state"]) for run, status in member_states(study, runs).items()}
    by_protocol: dict[str, list[Member]] = {}
    for member in study.members:
        by_protocol.setdefault(member.settings.protocol, []).append(member)
    note = read_note(runs, study.name) or ReportNote(
        tuple(name for name in PROTOCOLS[::-1] if name in by_protocol)
    )
    names = dict.fromkeys((*note.protocols, *by_protocol))
    rows = [
        make_row(name, by_protocol.get(name, []), states, runs, note.skipped.get(name, ()))
        for name in names
    ]
    gaps = find_gaps(rows, n_resamples=n_resamples, seed=seed)
    return ProtocolReport(
        study=study.name,
        created=study.created,
        recipe=_recipe(study.members[0]),
        rows=rows,
        gaps=gaps,
        bands=[band for name in FIGURES for band in bands(name)],
        checks=tuple(_check(rows, gaps, runs)),
    )


def _recipe(member: Member) -> dict[str, Any]:
    settings = member.settings.as_dict()
    return {name: value for name, value in settings.items() if name not in _OWN_TO_A_SPLIT}


def _key(recipe: dict[str, Any]) -> str:
    return repr(sorted(recipe.items()))


def _check(rows: list[ProtocolRow], gaps: list[Gap], runs: Path) -> Iterator[Check]:
    yield from check_progress(
        sum(row.n_done for row in rows),
        sum(row.n_failed for row in rows),
        sum(len(row.runs) for row in rows),
    )
    hashes = {
        RunFolder(runs / run).read_config().get("data_sha256")
        for row in rows
        for run, state in row.runs.items()
        if state == "done"
    }
    if len(hashes) > 1:
        yield make_check("BC244")
    if gaps:
        yield INTERVAL_SCOPE
