"""The run directory: a training job with its configuration, history, model and evaluation.

Besides the files of every job (see `bc_model.jobs`), it contains ``config.json`` with the
configuration, versions and hashes; ``split.csv``; ``history.jsonl`` with one line per epoch;
``checkpoints/``; ``model/``; ``evaluation/``.
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

import pandas as pd

from bc_model.data.hashing import pixel_sha256
from bc_model.data.images import decode_image, read_image_bytes
from bc_model.data.registry import find_images_dir
from bc_model.data.splits import read_split
from bc_model.errors import DataError, RunChangedError, RunError
from bc_model.jobs import ENDED_STATES, STATUS_FILE, Job, is_name
from bc_model.utils.io import project_dir, write_text_atomic
from bc_model.utils.processor import can_start_tensorflow

CONFIG_FILE = "config.json"
HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True)
class Run(Job):
    """One training run on disk, in the run directory `path`."""

    noun: ClassVar[str] = "Run"
    error: ClassVar[type[RunError]] = RunError
    final_phases: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"export": "is exporting its model", "evaluation": "is evaluating its model"}
    )

    @classmethod
    def create(cls, path: Path) -> Run:
        """Create a run directory; raises `RunError` if its name is invalid or it is not empty."""
        path = Path(path)
        if not is_name(path.resolve().name):
            raise RunError(
                f"Invalid run name '{path.name}'. Expected letters, digits, '.', '_' and '-', "
                "starting with a letter or digit. Choose another name."
            )
        if path.resolve().name == "bundled":
            raise RunError("The run name 'bundled' is reserved. Choose another name.")
        if is_taken(path):
            # Never suggest deleting files that are not a run.
            or_delete = ", or delete that run first" if (path / STATUS_FILE).is_file() else ""
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
        """Open an existing run; raises `RunError` if there is none."""
        if not (Path(path) / STATUS_FILE).is_file():
            raise RunError(f"There is no run in {path}.{_advise_on_model(Path(path))}")
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
        """True if the run can continue: it has a configuration, and TensorFlow can start here."""
        try:
            return (
                can_start_tensorflow()
                and self.read_status()["state"] in ENDED_STATES - {"done"}
                and "config" in self.read_config()
            )
        except RunError:
            return False

    @property
    def has_changed(self) -> bool:
        """True if the run failed to resume because its data or code have changed."""
        return self.read_status().get("error") == RunChangedError.__name__

    def write_config(self, config: dict[str, Any]) -> None:
        """Write ``config.json``."""
        text = json.dumps(config, indent=2, allow_nan=False)
        write_text_atomic(self.path / CONFIG_FILE, text + "\n")

    def read_config(self) -> dict[str, Any]:
        """Read ``config.json``; raises `RunError` if it is missing or damaged."""
        return self._read_json(CONFIG_FILE)

    def config_sha256(self) -> str:
        """Return the SHA-256 of ``config.json``; empty if there is none."""
        try:
            return hashlib.sha256((self.path / CONFIG_FILE).read_bytes()).hexdigest()
        except OSError:
            return ""

    def append_history(self, record: dict[str, Any]) -> None:
        """Append one epoch to ``history.jsonl``."""
        line = json.dumps(record, allow_nan=False) + "\n"
        with (self.path / HISTORY_FILE).open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            # The state of this epoch is written next. Both must survive a power failure.
            os.fsync(stream.fileno())

    def read_history(self) -> list[dict[str, Any]]:
        """Return the completed epochs, without an incomplete last line."""
        try:
            text = (self.path / HISTORY_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        complete = text[: text.rfind("\n") + 1]
        try:
            return [json.loads(line) for line in complete.splitlines()]
        except ValueError as error:
            raise RunError(
                f"{self.title} has a damaged {HISTORY_FILE} in {self.path}. Start a new run."
            ) from error

    def truncate_history(self, epochs: int) -> None:
        """Delete the epochs after a number of epochs; a resumed run repeats them."""
        lines = [json.dumps(record, allow_nan=False) for record in self.read_history()[:epochs]]
        write_text_atomic(self.path / HISTORY_FILE, "".join(f"{line}\n" for line in lines))


def runs_dir() -> Path:
    """Return the directory of all runs: BC_RUNS, or ``runs`` in the project directory."""
    return Path(os.environ.get("BC_RUNS") or project_dir() / "runs")


def new_run_id(backbone: str) -> str:
    """Return a name from the start time and the backbone, such as '20261123-181500-resnet50'."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{backbone}"


def is_taken(path: Path) -> bool:
    """Return whether a path is a file or a non-empty directory."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def find_run(runs: Path, run_id: str) -> Run:
    """Open a run by its name, for example from a URL; raises `RunError` if there is none."""
    if not is_name(run_id):
        raise RunError(f"Invalid run name '{run_id[:100]}'. Select a run from the list.")
    return Run.open(Path(runs) / run_id)


def list_runs(runs: Path) -> list[Run]:
    """Return the runs in a directory, newest first; other directories are ignored."""
    return sorted(Run.find_all(runs), key=_started, reverse=True)


@dataclass(frozen=True)
class RunImages:
    """The images of a run, identified by the SHA-256 of their pixels.

    Attributes
    ----------
    run_name : str
    root : Path
        The directory of the dataset. It may no longer exist.
    split : DataFrame
        The split, as `read_split` returns it.
    """

    run_name: str
    root: Path
    split: pd.DataFrame

    @classmethod
    def from_run(cls, run: Run) -> RunImages:
        """Read the split of a run; raises `RunError` or `SplitError` if a file is damaged."""
        config = run.read_config().get("config")
        data = config.get("data") if isinstance(config, dict) else None
        if not isinstance(data, str) or not data:
            raise RunError(f"{run.title} has no dataset in its configuration. Start a new run.")
        return cls(run.name, find_images_dir(data), read_split(run.split_file))

    def find_row(self, sha256: str) -> pd.Series:
        """Return the row of an image in the split; raises `DataError` if there is none."""
        rows = self.split[self.split["sha256"] == sha256]
        if not sha256 or rows.empty:
            raise DataError(
                f"Run '{self.run_name}' has no image {sha256[:12]}. Choose one of its images."
            )
        return rows.iloc[0]

    def read(self, sha256: str) -> tuple[str, bytes]:
        """Return the path of an image in the dataset and the content of its file.

        Raises
        ------
        DataError
            The run has no such image, or its file is outside of the dataset or has changed.
        ImageError
            The file is missing or damaged.
        """
        path = str(self.find_row(sha256)["path"])
        root = self.root.resolve()
        file = (root / path).resolve()
        if not file.is_relative_to(root):
            raise DataError(
                f"Run '{self.run_name}' lists the image {path}, which is outside of its dataset "
                f"{self.root}. The image is not opened."
            )
        data = read_image_bytes(file)
        if pixel_sha256(decode_image(data, path)) != sha256:
            raise DataError(
                f"The image {path} in {self.root} has changed since run '{self.run_name}' was "
                "trained. Restore the image, or start a new run."
            )
        return path, data


def _advise_on_model(path: Path) -> str:
    """Return a sentence if the path is a model, with or without its run."""
    if not (path / "model_card.json").is_file():
        return ""
    if (path.resolve().parent / STATUS_FILE).is_file():
        return f" It is the model of a run. Use the run itself: {path.resolve().parent}."
    return (
        " It is a model without a run, so it has no configuration and no test predictions. "
        "Evaluate it on an external dataset instead."
    )


def _started(run: Run) -> float:
    for name in (CONFIG_FILE, STATUS_FILE):
        try:
            return (run.path / name).stat().st_mtime
        except OSError:
            continue
    return 0.0  # The run was deleted after it was listed.
