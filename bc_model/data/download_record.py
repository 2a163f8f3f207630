"""How far a download is: one small file, replaced atomically, for whoever looks."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from bc_model.data.intake import DOWNLOADS_FOLDER
from bc_model.data.set_names import is_name
from bc_model.files import write_text_atomic

GOING_STATES = frozenset({"starting", "downloading", "unpacking"})
ENDED_STATES = frozenset({"failed", "cancelled", "interrupted"})
"""It can be gone on with. 'interrupted' is never written: its process is gone without a word."""

_SUFFIX = ".job.json"


@dataclass(frozen=True)
class Download:
    """One download that has not become a set yet.

    Attributes
    ----------
    name : str
        Of the set to be.
    url, sha256 : str
        As `bc_model.data.intake.add_download` takes them.
    state : str
        One of `GOING_STATES` or `ENDED_STATES`.
    done, total : int
        Bytes of what the state says; total is 0 where nobody knows.
    message : str
        Why it ended; empty while it goes on.
    pid : int
    pid_started : float
        The process that works on it, by its number and its start.
    """

    name: str
    url: str
    sha256: str
    state: str
    done: int = 0
    total: int = 0
    message: str = ""
    pid: int = 0
    pid_started: float = 0.0

    @property
    def is_going(self) -> bool:
        """True while a process works on it."""
        return self.state in GOING_STATES


def record_file(shelf: Path, name: str, suffix: str = _SUFFIX) -> Path:
    """Return where the record of a download is, or a file beside it."""
    return shelf / DOWNLOADS_FOLDER / f"{name}{suffix}"


def write_record(shelf: Path, told: Download) -> None:
    """Replace the record of a download."""
    write_text_atomic(record_file(shelf, told.name), json.dumps(asdict(told)))


def read_record(shelf: Path, name: str) -> Download | None:
    """Read the record of a download, None when there is none; see that its process is there.

    The process is known by its number *and* its start time, since numbers are used again.
    """
    try:
        told = Download(**json.loads(record_file(shelf, name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if told.name != name or told.state not in GOING_STATES | ENDED_STATES:
        return None
    if not told.is_going or _is_alive(told):
        return told
    try:
        text = record_file(shelf, name, ".job.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    words = f"; its last words: {last}" if last else " without a word."
    return replace(told, state="interrupted", message=f"The process is gone{words}")


def list_records(shelf: Path) -> list[Download]:
    """Read all records, by name."""
    files = sorted((shelf / DOWNLOADS_FOLDER).glob(f"*{_SUFFIX}"))
    names = [path.name.removesuffix(_SUFFIX) for path in files]
    return [one for name in names if is_name(name) and (one := read_record(shelf, name))]


def who(pid: int | None = None) -> dict:
    """Return the fields that name a process; default is this one."""
    try:
        process = psutil.Process(pid)
        return {"pid": process.pid, "pid_started": process.create_time()}
    except psutil.Error:  # it has ended before we could look
        return {"pid": pid or 0}


def _is_alive(told: Download) -> bool:
    try:
        process = psutil.Process(told.pid)
        same = abs(process.create_time() - told.pid_started) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, TypeError):
        return False
