"""The run directory: a job that trains, with its settings, history, model and evaluation.

Besides the files of every job (see `bc_model.jobs`): `config.json` with every setting, versions
and data hash; `split.csv`; `history.jsonl`, one line per epoch, append-only; `checkpoints/`;
`model/`; `evaluation/`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pandas as pd

from bc_model.data.hashing import pixel_sha256
from bc_model.data.images import decode_image, read_image_bytes
from bc_model.data.splits import read_split
from bc_model.errors import DataError, RunError
from bc_model.jobs import ENDED_STATES as ENDED_STATES
from bc_model.jobs import FINAL_STATES as FINAL_STATES
from bc_model.jobs import STATUS_FILE, Job
from bc_model.jobs import is_name as is_name
from bc_model.utils.io import write_text_atomic

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Run(Job):
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
    def create(cls, path: Path) -> Run:
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
    def open(cls, path: Path) -> Run:
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
    def model_dir(self) -> Path:
        """The directory of the model bundle; it exists after the export."""
        return self.path / "model"

    @property
    def evaluation_dir(self) -> Path:
        """The directory of the evaluation on the test subset; it exists after the evaluation."""
        return self.path / "evaluation"

    @property
    def has_report(self) -> bool:
        """True if the test subset has been evaluated."""
        return (self.evaluation_dir / "report.json").is_file()

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
    def cache_dir(self) -> Path:
        """The directory of cached features, which exists while the run trains."""
        return self.path / "cache"

    @property
    def can_resume(self) -> bool:
        """True if the run ended before it was done and has its settings."""
        try:
            return (
                self.read_status()["state"] in ENDED_STATES - {"done"}
                and "config" in self.read_config()
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

    def truncate_history(self, epochs: int) -> None:
        """Delete the epochs after the given number: a resumed run repeats them."""
        lines = [json.dumps(record, allow_nan=False) for record in self.read_history()[:epochs]]
        write_text_atomic(self.path / "history.jsonl", "".join(f"{line}\n" for line in lines))


def runs_dir() -> Path:
    """Return the directory of all runs: `BC_RUNS`, or `runs` next to the program."""
    return Path(os.environ.get("BC_RUNS") or Path(__file__).parents[2] / "runs")


def new_run_id(backbone: str) -> str:
    """Return a name from the start time and the backbone, such as '20261123-181500-resnet50'."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{backbone}"


def is_taken(path: Path) -> bool:
    """Return whether a path is a file or a non-empty directory."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def find_run(runs: Path, run_id: str) -> Run:
    """Open a run by its name, which may come from a URL.

    Raises
    ------
    RunError
        The name is invalid, or there is no such run.
    """
    if not is_name(run_id):
        raise RunError(f"Invalid run name '{run_id[:100]}'.")
    return Run.open(Path(runs) / run_id)


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


def list_runs(runs: Path) -> list[Run]:
    """Return the runs in a directory, newest first; other directories are ignored."""
    return sorted(Run.find_all(runs), key=_started, reverse=True)


def _started(run: Run) -> float:
    for name in (CONFIG_FILE, STATUS_FILE):
        try:
            return (run.path / name).stat().st_mtime
        except OSError:
            continue
    return 0.0  # The run was deleted after it was listed.


_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RunImages:
    """The pictures that a run was trained, chosen and judged by.

    Attributes
    ----------
    run : str
        Its name.
    root : Path
        Folder of the data set; it may be gone.
    split : pandas.DataFrame
        As `read_split` returns it.
    """

    run: str
    root: Path
    split: pd.DataFrame

    @classmethod
    def from_run(cls, run: Run) -> RunImages:
        """Read the split of a run and where its data set lies.

        Raises
        ------
        RunError
            The settings of the run are damaged.
        SplitError
            Its split is missing or damaged.
        """
        config = run.read_config().get("config")
        data = config.get("data") if isinstance(config, dict) else None
        if not isinstance(data, str) or not data:
            raise RunError(f"The run {run.name} does not say where its data set lies.")
        return cls(run.name, Path(data), read_split(run.split_file))

    def find_row(self, sha256: str) -> pd.Series:
        """Return the row of the split with these pixels.

        Raises
        ------
        DataError
            Not a hash, or of no picture of this run.
        """
        found = self.split[self.split["sha256"] == sha256]
        if not _HASH.fullmatch(sha256) or found.empty:
            raise DataError(
                f"The run {self.run} has no picture {sha256[:12]}; choose one from its error "
                "gallery."
            )
        return found.iloc[0]

    def read(self, sha256: str) -> tuple[str, bytes]:
        """Read the file of a picture, and check that its pixels are still the same.

        Parameters
        ----------
        sha256 : str
            Of the pixels.

        Returns
        -------
        path : str
            Relative to the data set.
        data : bytes
            Of the file.

        Raises
        ------
        DataError
            No such picture in this run, it lies outside its data set, or has other pixels now.
        ImageError
            The file is gone or damaged.
        """
        path = str(self.find_row(sha256)["path"])
        root = self.root.resolve()
        place = (root / path).resolve()
        if not place.is_relative_to(root):
            raise DataError(
                f"The picture {path} of the run {self.run} lies outside its data set {self.root} "
                "and is not opened."
            )
        data = read_image_bytes(place)
        if pixel_sha256(decode_image(data, path)) != sha256:
            raise DataError(
                f"The picture {path} under {self.root} has other pixels than when the run "
                f"{self.run} saw it; bring the old one back, or train again."
            )
        return path, data
