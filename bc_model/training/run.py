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
from typing import Any, ClassVar, TypedDict

import pandas as pd

from bc_model.data.hashing import pixel_sha256
from bc_model.data.images import Decode, decode_image, read_image_bytes
from bc_model.data.registry import find_images_dir
from bc_model.data.splits import read_split
from bc_model.errors import DataError, RecordError, RunChangedError, RunError
from bc_model.jobs import (
    ENDED_STATES,
    SPEC_FILE,
    STATUS_FILE,
    Job,
    JobSpec,
    create_job,
    is_name,
    queue_job,
)
from bc_model.training.config import TrainingConfig
from bc_model.utils.io import project_dir, read_bytes, write_text_atomic
from bc_model.utils.processor import can_start_tensorflow
from bc_model.utils.serialization import (
    MAX_JSON_BYTES,
    check_fields,
    from_json,
    parse_json,
    read_json,
    to_json,
)

CONFIG_FILE = "config.json"
HISTORY_FILE = "history.jsonl"
_MAX_TIME_S = 4_000_000_000
"""The year 2096."""


class RunRecord(TypedDict, total=False):
    """The content of ``config.json``. A run that has read no data yet has only its `config`."""

    config: dict[str, Any]
    data_sha256: str
    split_sha256: str
    weights_sha256: str | None
    compute_dtype: str
    feature_extractor: str | None
    devices: int
    versions: dict[str, str | None]
    git_commit: str | None
    started: str


class EpochRecord(TypedDict):
    """One line of ``history.jsonl``. `time` is in seconds since 1970."""

    epoch: int
    phase: str
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float
    time: float


@dataclass(frozen=True)
class Run(Job):
    """One training run on disk, in the run directory `path`."""

    noun: ClassVar[str] = "Run"
    error: ClassVar[type[RunError]] = RunError
    own_files: ClassVar[tuple[str, ...]] = (STATUS_FILE, SPEC_FILE, CONFIG_FILE)
    final_phases: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"export": "is exporting its model", "evaluation": "is evaluating its model"}
    )

    @classmethod
    def create(
        cls, path: Path, config: TrainingConfig | None = None, spec: JobSpec | None = None
    ) -> Run:
        """Create a run directory together with its first files, or nothing.

        Parameters
        ----------
        path : Path
            A path that does not exist, or an empty directory.
        config : TrainingConfig, optional
            The configuration, so that the run can be resumed from then on. By default, the
            directory is created without files, and is listed after the first status.
        spec : JobSpec, optional
            Queue the run. By default, a run with a configuration is starting in this process.

        Raises
        ------
        RunError
            The name is invalid, the directory is not empty, or the files cannot be written.
        """
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

        def write(run: Run) -> None:
            if config is None:
                return
            run.write_config({"config": to_json(config)})
            if spec:
                queue_job(run, spec)
            else:
                run.write_status("starting", message="Starting")

        run = cls(path)
        if path.is_dir() and config is None:
            return run
        create_job(run, write)
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run; raises `RunError` if there is none."""
        if not cls(Path(path)).exists:
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
            self.read_training_config()
            is_ended = self.read_status()["state"] in ENDED_STATES - {"done"}
            return is_ended and can_start_tensorflow()
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
        """Return the `RunRecord`; raises `RunError` if it is missing or damaged."""
        try:
            content = read_json(self.path / CONFIG_FILE)
            return dict(check_fields(content, RunRecord, CONFIG_FILE))
        except (OSError, RecordError) as error:
            raise self._unreadable(CONFIG_FILE, error) from error

    def read_training_config(self) -> TrainingConfig:
        """Return the configuration; raises `RunError` if it is missing or damaged."""
        record = self.read_config()
        try:
            return from_json(TrainingConfig, record.get("config", {}))
        except RecordError as error:
            raise self._unreadable(CONFIG_FILE, error) from error

    def config_sha256(self) -> str:
        """Return the SHA-256 of ``config.json``; empty if there is none."""
        try:
            return hashlib.sha256(read_bytes(self.path / CONFIG_FILE)).hexdigest()
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
        """Return the `EpochRecord` of each completed epoch, without an incomplete last line."""
        try:
            content = read_bytes(self.path / HISTORY_FILE, MAX_JSON_BYTES)
            complete = content[: content.rfind(b"\n") + 1]
            return [_parse_epoch(line) for line in complete.splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, RecordError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RunError(
                f"{self.title} has a damaged {HISTORY_FILE} in {self.path} ({reason}). Start a new "
                "run."
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
        data = run.read_config().get("config", {}).get("data")
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

    def read(self, sha256: str, *, decode: Decode = decode_image) -> tuple[str, bytes]:
        """Return the path of an image in the dataset and the content of its file.

        `decode` is that of `read_image`; the pixels are compared with the hash.

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
        if pixel_sha256(decode(data, path)) != sha256:
            raise DataError(
                f"The image {path} in {self.root} has changed since run '{self.run_name}' was "
                "trained. Restore the image, or start a new run."
            )
        return path, data


def _parse_epoch(line: bytes) -> dict[str, Any]:
    record = dict(check_fields(parse_json(line, HISTORY_FILE), EpochRecord, "epoch"))
    if missing := sorted(EpochRecord.__annotations__.keys() - record.keys()):
        raise RecordError(f"epoch: missing key '{missing[0]}'")
    for key in ("epoch", "seconds", "time"):
        if not 0 <= record[key] <= _MAX_TIME_S:
            raise RecordError(f"epoch.{key}: expected 0 to {_MAX_TIME_S}")
    return record


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
