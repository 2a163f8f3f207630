"""Runs on disk side by side: their settings, and what `compare` needs of each."""

from dataclasses import dataclass
from typing import Any

from bc_model.data.splits import read_split
from bc_model.errors import BcModelError
from bc_model.evaluation.compare import compare
from bc_model.evaluation.difference import Comparison, Side
from bc_model.evaluation.report import read_report
from bc_model.serving.bundle import open_bundle
from bc_model.training.run_folder import RunFolder

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


def compare_runs(
    first: RunFolder, second: RunFolder, *, names: tuple[str, str] | None = None
) -> Comparison:
    """Compare the test predictions of two finished runs.

    Parameters
    ----------
    first, second : RunFolder
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
    return compare(_side(first, names[0]), _side(second, names[1]))


def setting_rows(runs: list[RunFolder]) -> list[SettingRow]:
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


def _side(run: RunFolder, name: str) -> Side:
    report = read_report(run.evaluation_folder)
    assert report.predictions is not None, "read_report reads the predictions or fails"
    split = read_split(run.split_file)
    return Side(
        name=name,
        predictions=report.predictions,
        threshold=report.threshold,
        leaky=report.leaky,
        seen_cases=(frozenset(split.loc[split["part"] != "test", "case"]) - {""})
        | _initial_cases(run),
    )


def _initial_cases(run: RunFolder) -> frozenset[str]:
    """Return the cases that the first weights knew; none are told of a run without its model."""
    try:
        card = open_bundle(run.path).card
    except BcModelError:
        return frozenset()
    return frozenset(card.data.initial_cases)


def _told(run: RunFolder) -> dict[str, str]:
    record = run.read_config()
    settings = record.get("settings")
    told = {
        name.replace("_", " "): _in_words(name, value)
        for name, value in (settings if isinstance(settings, dict) else {}).items()
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
