"""The run folder: the only channel between a training process and everyone who watches it.

`config.json` every setting, versions, data hash; `split.csv`; `history.jsonl` one line an epoch,
append-only; `status.json` replaced atomically; `log.txt`; `checkpoints/`; `model/`;
`evaluation/`. A file named `request` holds what the trainer is asked to do; `order.json` says how
it is to be started.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bc_model.errors import RunError
from bc_model.files import write_text_atomic
from bc_model.training.liveness import is_alive, is_of_this_host, process_fields

FINAL_STATES = frozenset({"done", "failed", "cancelled"})
STATES = FINAL_STATES | {"queued", "starting", "running", "pausing", "paused", "cancelling"}
ENDED_STATES = FINAL_STATES | {"interrupted"}
"""Nobody works on the run. 'interrupted' is never written: its process is gone without a word."""
REQUESTS = ("stop", "pause", "cancel")
"""End and keep the best model; wait, losing nothing; end without a model."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RunFolder:
    """One run on disk.

    Attributes
    ----------
    path : Path
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new run folder.

        Raises
        ------
        RunError
            The name cannot be a run's, or the folder holds something else.
        """
        path = Path(path)
        if not is_name(path.resolve().name):
            raise RunError(
                f"'{path.name}' cannot be the name of a run: it may hold letters, digits, '.', '_' "
                "and '-', and begins with a letter or digit."
            )
        if path.resolve().name == "bundled":
            raise RunError(
                "'bundled' names the model that comes with the program wherever a model is asked "
                "for, so no run can be called that; choose another name."
            )
        if is_taken(path):
            # Whatever else lies there is not ours to have deleted.
            or_else = ", or delete that run first" if (path / "status.json").is_file() else ""
            raise RunError(f"The run folder {path} is taken; name a new one with --run{or_else}.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"The run folder {path} cannot be made: {error.strerror}.") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises
        ------
        RunError
            There is none.
        """
        if not (Path(path) / "status.json").is_file():
            raise RunError(f"There is no run in {path}.{_what_is_there(Path(path))}")
        return cls(Path(path))

    @property
    def name(self) -> str:
        """The id: the folder's name."""
        return self.path.name

    @property
    def model_folder(self) -> Path:
        """Where the bundle is, once there is one."""
        return self.path / "model"

    @property
    def evaluation_folder(self) -> Path:
        """Where the report on the test part is, once there is one."""
        return self.path / "evaluation"

    @property
    def has_report(self) -> bool:
        """True once the test part has been evaluated."""
        return (self.evaluation_folder / "report.json").is_file()

    @property
    def split_file(self) -> Path:
        """The split of this run."""
        return self.path / "split.csv"

    @property
    def best_weights(self) -> Path:
        """The weights of the best epoch so far."""
        return self.path / "checkpoints" / "best.npz"

    @property
    def state_file(self) -> Path:
        """What the next epoch depends on."""
        return self.path / "checkpoints" / "state.npz"

    @property
    def cache_folder(self) -> Path:
        """Features of the pictures, kept while the run goes on."""
        return self.path / "cache"

    @property
    def can_resume(self) -> bool:
        """True when the run ended before it was done and knows its settings."""
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
        write_text_atomic(self.path / "config.json", text + "\n")

    def read_config(self) -> dict[str, Any]:
        """Read `config.json`; raises `RunError` when it is missing or damaged."""
        return self._read_json("config.json")

    def write_status(self, state: str, *, pid: int | None = None, **fields: Any) -> None:
        """Replace `status.json`; the process, its machine and the heartbeat are filled in.

        Parameters
        ----------
        state : str
            One of `STATES`.
        pid : int, optional
            The process that works on the run; default is this one, and nobody when queued.
        **fields
            JSON-safe values: phase, epoch, epochs, step, steps, seconds_left, message.
        """
        if state not in STATES:
            raise RunError(f"'{state}' is not a state of a run.")
        who = {} if state == "queued" else process_fields(pid)
        status = {"state": state, **who, "heartbeat": time.time(), **fields}
        write_text_atomic(self.path / "status.json", json.dumps(status, allow_nan=False) + "\n")

    def read_status(self) -> dict[str, Any]:
        """Read `status.json`; a run whose process is gone is told as 'interrupted'.

        The process is known by its number *and* its start time, since numbers are used again; one
        of another machine by the age of its status.
        """
        status = self._read_json("status.json")
        if status.get("state") not in STATES:
            raise RunError(f"The status of the run {self.name} is not valid.")
        if status["state"] in FINAL_STATES | {"queued"} or is_alive(
            status, self.path / "status.json"
        ):
            return status
        last_words = self._last_words()
        where = "" if is_of_this_host(status) else f" on {status['host']}"
        return status | {
            "state": "interrupted",
            "message": f"The training process{where} is gone"
            + (f"; its last words: {last_words}" if last_words else " without a word."),
        }

    def append_history(self, record: dict[str, Any]) -> None:
        """Append one epoch to `history.jsonl`, in one write."""
        line = json.dumps(record, allow_nan=False) + "\n"
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            # The state of this epoch is on the disk next: a power cut must not leave it without.
            os.fsync(stream.fileno())

    def read_history(self) -> list[dict[str, Any]]:
        """Read the epochs so far; a last line that is still being written is left for later."""
        try:
            text = (self.path / "history.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        complete = text[: text.rfind("\n") + 1]
        try:
            return [json.loads(line) for line in complete.splitlines()]
        except ValueError as error:
            raise RunError(f"The history of the run {self.name} is damaged.") from error

    def keep_history(self, epochs: int) -> None:
        """Forget the epochs after the given number: a resumed run makes them again."""
        lines = [json.dumps(record, allow_nan=False) for record in self.read_history()[:epochs]]
        write_text_atomic(self.path / "history.jsonl", "".join(f"{line}\n" for line in lines))

    def request(self, what: str | None) -> None:
        """Ask the trainer for something within one batch; None takes it back.

        Parameters
        ----------
        what : {'stop', 'pause', 'cancel'} or None
        """
        if what is None:
            (self.path / "request").unlink(missing_ok=True)
        elif what in REQUESTS:
            write_text_atomic(self.path / "request", what)
        else:
            raise RunError(f"'{what}' cannot be asked of a run; there are {', '.join(REQUESTS)}.")

    def requested(self) -> str | None:
        """Return what the trainer is asked to do."""
        try:
            said = (self.path / "request").read_text(encoding="utf-8")
        except OSError:
            return None
        return said if said in REQUESTS else None

    def read_log(self, last_lines: int = 200) -> str:
        """Return the end of `log.txt`."""
        try:
            text = (self.path / "log.txt").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-last_lines:])

    def _last_words(self) -> str:
        try:
            text = (self.path / "stderr.txt").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return next((line for line in reversed(text.splitlines()) if line.strip()), "")

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"The run in {self.path} has no readable {name}.") from error
        if not isinstance(content, dict):
            raise RunError(f"The run in {self.path} has no readable {name}.")
        return content


def runs_folder() -> Path:
    """Return the folder of all runs: `BC_RUNS`, or `runs` beside the program."""
    return Path(os.environ.get("BC_RUNS") or Path(__file__).parents[2] / "runs")


def new_run_id(backbone: str) -> str:
    """Name a run by its start and its backbone, such as '20261123-181500-resnet50'."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{backbone}"


def is_name(text: str) -> bool:
    """Return whether a run may be called so: ASCII letters, digits, '.', '_' and '-'."""
    return bool(_ID.fullmatch(text))


def is_taken(path: Path) -> bool:
    """Return whether a path holds something already; an empty folder is free."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def find_run(runs: Path, run_id: str) -> RunFolder:
    """Open a run by its id, which may come from a URL.

    Raises
    ------
    RunError
        Not an id, or no such run.
    """
    if not is_name(run_id):
        raise RunError(f"'{run_id[:100]}' is not the name of a run.")
    return RunFolder.open(Path(runs) / run_id)


def _what_is_there(path: Path) -> str:
    """Return a sentence where somebody named a model for its run, or one that has none."""
    if not (path / "model_card.json").is_file():
        return ""
    if (path.resolve().parent / "status.json").is_file():
        return f" It is the model of a run: name the run itself, {path.resolve().parent}."
    return (
        " It is a model that came without its run, so it has no settings and no test predictions; "
        "`evaluate MODEL DATA --unseen` tries it on pictures of other cases."
    )


def list_runs(runs: Path) -> list[RunFolder]:
    """Return the runs under a folder, newest first; other folders are passed over."""
    try:
        folders = [
            path
            for path in Path(runs).iterdir()
            if is_name(path.name) and (path / "status.json").is_file()
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    folders.sort(key=_started, reverse=True)
    return [RunFolder(path) for path in folders]


def _started(path: Path) -> float:
    for name in ("config.json", "status.json"):
        try:
            return (path / name).stat().st_mtime
        except OSError:
            continue
    return 0.0  # deleted since it was listed
