"""Which runs are a study, on disk: the file `NAME.study.json` in the folder of all runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bc_model.errors import RunError
from bc_model.files import write_text_atomic
from bc_model.training.run_folder import is_name
from bc_model.training.settings import TrainingConfig

_SUFFIX = ".study.json"
_VERSION = 1


@dataclass(frozen=True)
class Member:
    """One run of a study.

    Attributes
    ----------
    run : str
        Its name, in the folder of all runs.
    label : str
        Its name within the study.
    group : str
        What sets its settings apart, in words; the folds of one group are pooled. Empty when all
        runs differ in their fold alone.
    settings : TrainingConfig
    """

    run: str
    label: str
    group: str
    settings: TrainingConfig

    @property
    def fold(self) -> int:
        """The test fold."""
        return self.settings.test_fold


@dataclass(frozen=True)
class Study:
    """Runs that belong together.

    Attributes
    ----------
    name : str
    created : str
        Time in UTC, ISO 8601.
    members : tuple of Member
    """

    name: str
    created: str
    members: tuple[Member, ...]

    @property
    def groups(self) -> dict[str, list[Member]]:
        """The members by their group, in the order of the plan."""
        found: dict[str, list[Member]] = {}
        for member in self.members:
            found.setdefault(member.group, []).append(member)
        return found


def write_study(study: Study, runs: Path) -> None:
    """Write a study, whole or not at all."""
    text = json.dumps(_as_dict(study), indent=1, allow_nan=False)
    write_text_atomic(study_file(runs, study.name), text + "\n")


def read_study(runs: Path, name: str) -> Study:
    """Read a study.

    Raises
    ------
    RunError
        There is none of that name, or its file is damaged.
    """
    if not is_name(name):
        raise RunError(f"'{name[:100]}' is not the name of a study.")
    file = study_file(runs, name)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        members = tuple(
            Member(
                str(one["run"]), str(one["label"]), str(one["group"]),
                TrainingConfig.from_dict(one["settings"]),
            )
            for one in content["members"]
        )  # fmt: skip
        if content["version"] != _VERSION or not all(is_name(member.run) for member in members):
            raise ValueError("its version or the name of a run is not known")
        return Study(name, str(content["created"]), members)
    except FileNotFoundError as error:
        raise RunError(f"There is no study {name} in {runs}; start one with `sweep`.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"The file of the study {file} cannot be read: {error}.") from error


def list_studies(runs: Path) -> list[Study]:
    """Return the studies in a folder of runs, newest first; damaged ones are passed over."""
    found = []
    for file in Path(runs).glob(f"*{_SUFFIX}"):
        try:
            found.append(read_study(runs, file.name.removesuffix(_SUFFIX)))
        except RunError:
            continue
    return sorted(found, key=lambda study: study.created, reverse=True)


def study_file(runs: Path, name: str) -> Path:
    """Return where a study is kept."""
    return Path(runs) / f"{name}{_SUFFIX}"


def _as_dict(study: Study) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "name": study.name,
        "created": study.created,
        "members": [
            {
                "run": member.run, "label": member.label, "group": member.group,
                "fold": member.fold, "settings": member.settings.as_dict(),
            }
            for member in study.members
        ],
    }  # fmt: skip
