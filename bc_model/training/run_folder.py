"""The run directory: a job that trains, with its settings, history, model and evaluation.

Besides the files of every job (see `bc_model.jobs`): `config.json` with every setting, versions
and data hash; `split.csv`; `history.jsonl`, one line per epoch, append-only; `checkpoints/`;
`model/`; `evaluation/`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from bc_model.errors import RunError
from bc_model.files import write_text_atomic
from bc_model.jobs import ENDED_STATES as ENDED_STATES
from bc_model.jobs import FINAL_STATES as FINAL_STATES
from bc_model.jobs import STATUS_FILE, Job
from bc_model.jobs import is_name as is_name

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class RunFolder(Job):
    """One training run on disk.

    Attributes
    ----------
    path : Path
        The run directory.
    """

    noun: ClassVar[str] = "Run"
    error: ClassVar[type[RunError]] = RunError
    final_phases: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"export": "is exporting its model", "evaluation": "is evaluating its model"}
    )

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Create a new run directory.

        Raises
        ------
        RunError
            The name is invalid or reserved, or the directory is not empty.
        """
        path = Path(path)
        if not is_name(path.resolve().name):
            raise RunError(
                f"Invalid run name '{path.name}'. Expected letters, digits, '.', '_' and '-', "
                "starting with a letter or digit."
            )
        if path.resolve().name == "bundled":
            raise RunError(
                "The run name 'bundled' is reserved for the bundled model. Choose another name."
            )
        if is_taken(path):
            # Never suggest deleting files that are not a run.
            or_delete = " or delete that run first" if (path / STATUS_FILE).is_file() else ""
            raise RunError(
                f"{path} already exists and is not empty. Choose another name{or_delete}."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"Cannot create the run directory {path}: {error.strerror}.") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises
        ------
        RunError
            There is no run in the directory.
        """
        if not (Path(path) / STATUS_FILE).is_file():
            raise RunError(f"There is no run in {path}.{_what_is_there(Path(path))}")
        return cls(Path(path))

    @property
    def model_folder(self) -> Path:
        """The directory of the model bundle; it exists after the export."""
        return self.path / "model"

    @property
    def evaluation_folder(self) -> Path:
        """The directory of the evaluation on the test subset; it exists after the evaluation."""
        return self.path / "evaluation"

    @property
    def has_report(self) -> bool:
        """True if the test subset has been evaluated."""
        return (self.evaluation_folder / "report.json").is_file()

    @property
    def split_file(self) -> Path:
        """The file with the split of this run."""
        return self.path / "split.csv"

    @property
    def best_weights(self) -> Path:
        """The file with the weights of the best epoch so far."""
        return self.path / "checkpoints" / "best.npz"

    @property
    def state_file(self) -> Path:
        """The file with the state that the next epoch depends on."""
        return self.path / "checkpoints" / "state.npz"

    @property
    def cache_folder(self) -> Path:
        """The directory of cached features, which exists while the run trains."""
        return self.path / "cache"

    @property
    def can_resume(self) -> bool:
        """True if the run ended before it was done and has its settings."""
        try:
            return (
                self.read_status()["state"] in ENDED_STATES - {"done"}
                and "settings" in self.read_config()
            )
        except RunError:
            return False

    def write_config(self, config: dict[str, Any]) -> None:
        """Write `config.json`."""
        text = json.dumps(config, indent=2, allow_nan=False)
        write_text_atomic(self.path / CONFIG_FILE, text + "\n")

    def read_config(self) -> dict[str, Any]:
        """Read `config.json`; raises `RunError` if it is missing or damaged."""
        return self._read_json(CONFIG_FILE)

    def config_sha256(self) -> str:
        """Return the SHA-256 of `config.json`; empty if there is none."""
        try:
            return hashlib.sha256((self.path / CONFIG_FILE).read_bytes()).hexdigest()
        except OSError:
            return ""

    def append_history(self, record: dict[str, Any]) -> None:
        """Append one epoch to `history.jsonl`, in one write."""
        line = json.dumps(record, allow_nan=False) + "\n"
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            # The state of this epoch is written next. After a power cut, both must be on disk.
            os.fsync(stream.fileno())

    def read_history(self) -> list[dict[str, Any]]:
        """Read the epochs so far, without a last line that is still being written."""
        try:
            text = (self.path / "history.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        complete = text[: text.rfind("\n") + 1]
        try:
            return [json.loads(line) for line in complete.splitlines()]
        except ValueError as error:
            raise RunError(f"The history of {self.title} is damaged.") from error

    def keep_history(self, epochs: int) -> None:
        """Delete the epochs after the given number: a resumed run repeats them."""
        lines = [json.dumps(record, allow_nan=False) for record in self.read_history()[:epochs]]
        write_text_atomic(self.path / "history.jsonl", "".join(f"{line}\n" for line in lines))


def runs_folder() -> Path:
    """Return the directory of all runs: `BC_RUNS`, or `runs` next to the program."""
    return Path(os.environ.get("BC_RUNS") or Path(__file__).parents[2] / "runs")


def new_run_id(backbone: str) -> str:
    """Return a name from the start time and the backbone, such as '20261123-181500-resnet50'."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{backbone}"


def is_taken(path: Path) -> bool:
    """Return whether a path is a file or a non-empty directory."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def find_run(runs: Path, run_id: str) -> RunFolder:
    """Open a run by its name, which may come from a URL.

    Raises
    ------
    RunError
        The name is invalid, or there is no such run.
    """
    if not is_name(run_id):
        raise RunError(f"Invalid run name '{run_id[:100]}'.")
    return RunFolder.open(Path(runs) / run_id)


def _what_is_there(path: Path) -> str:
    """Return a sentence if the path is a model, with or without its run."""
    if not (path / "model_card.json").is_file():
        return ""
    if (path.resolve().parent / STATUS_FILE).is_file():
        return f" It is the model of a run. Use the run itself: {path.resolve().parent}."
    return (
        " It is a model without its run, so it has no settings and no test predictions. Evaluate "
        "it on an external dataset instead."
    )


def list_runs(runs: Path) -> list[RunFolder]:
    """Return the runs in a directory, newest first; other directories are ignored."""
    return sorted(RunFolder.find_all(runs), key=_started, reverse=True)


def _started(run: RunFolder) -> float:
    for name in (CONFIG_FILE, STATUS_FILE):
        try:
            return (run.path / name).stat().st_mtime
        except OSError:
            continue
    return 0.0  # The run was deleted after it was listed.
