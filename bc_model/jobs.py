"""Jobs: processes that outlive the page or the terminal that started them.

A job is a directory, which is the only channel between its process and all observers:

- ``job.json``: the command and how to start it, written when the job is queued.
- ``status.json``: state, process, heartbeat, progress and message.
- ``log.txt`` and ``stderr.txt``: the log and the error output of the process.
- ``control.json``: the requested action: pause, stop or cancel. Optional.
- ``.process.lock``: locked by the process that works on the job; see `hold_job`.

On its own machine, a process is alive while it holds this lock, which the system releases when the
process ends. Before it holds the lock, its number and its start identify it. Neither depends on
the clock of the machine. For other machines that share the directory, a job is alive while
`keep_alive` refreshes its ``status.json``; ages are measured with the clock of the file system.
Machines need unique names.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Required, Self, TypedDict, TypeVar

import filelock
import psutil

from bc_model.errors import BcModelError, ConfigError, JobError, RecordError
from bc_model.utils.io import (
    DELETED_PREFIX,
    describe_error,
    discard_path,
    open_regular,
    project_dir,
    read_bytes,
    write_text_atomic,
)
from bc_model.utils.serialization import (
    check_fields,
    read_json,
    read_record,
    write_record,
)

FINAL_STATES = frozenset({"done", "failed", "canceled"})
STATES = FINAL_STATES | {"queued", "starting", "running", "pausing", "paused", "canceling"}
ENDED_STATES = FINAL_STATES | {"interrupted"}
"""No process works on the job. 'interrupted' means that it ended without a final status."""
ACTIONS = ("pause", "stop", "cancel")
"""Wait, end with the result so far, or end without a result."""

SPEC_FILE = "job.json"
STATUS_FILE = "status.json"
CONTROL_FILE = "control.json"
LOG_FILE = "log.txt"
ERROR_FILE = "stderr.txt"
LOCK_FILE = ".lock"
PROCESS_LOCK_FILE = ".process.lock"

MAX_STATUS_BYTES = 2**16
"""Limit of each JSON file of a job."""
MAX_MESSAGE_LENGTH = 5000
MAX_LOG_BYTES = 2**17
"""The end of a log that `Job.read_log` reads."""

LOCK_TIMEOUT_S = 30
PROCESS_LOCK_TIMEOUT_S = 2.0
"""Readers hold the lock for less than a millisecond to test it."""
_PROBE_TIMEOUT_S, _PROBE_INTERVAL_S = 0.1, 0.005
HEARTBEAT_S = 10.0
MAX_HEARTBEAT_AGE_S = 120.0
"""Network file systems may cache the age of a file for up to a minute."""
NICENESS = 10
"""About a tenth of a processor while another process needs all of it."""

JOB_DIRECTORY = "{job}"
"""Placeholder for the directory of the job in the command of a `JobSpec`."""

STAGING_PREFIX = ".new-"
"""Hidden directories of jobs that are being created."""
MAX_HIDDEN_AGE_S = 86400.0
"""Older hidden files were left by processes that were killed, even if the clock was set."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

logger = logging.getLogger("bc_model.jobs")

_children: list[subprocess.Popen] = []
_job_of: dict[int, Job] = {}
"""The job of each child process, by the number of the process."""
_thread_lock = threading.Lock()
_probe_lock = threading.Lock()


@dataclass(frozen=True)
class JobSpec:
    """How a job is started: the content of ``job.json``.

    Attributes
    ----------
    command : tuple of str
        Arguments of ``python -m bc_model``, with the placeholder `JOB_DIRECTORY`. Empty if the job
        was started in a terminal.
    config : dict
        Further configuration of the job.
    environment : dict
        Environment variables to set for the process.
    low_priority : bool
        Whether the process yields to other processes; see `niceness`.
    accepted_config_sha256 : str
        SHA-256 of the ``config.json`` for which changes of data or code are accepted.
    scheduler, task : str
        Address of the cluster scheduler and the task that starts the job. Empty for the queue of
        this machine.
    """

    command: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    low_priority: bool = False
    accepted_config_sha256: str = ""
    scheduler: str = ""
    task: str = ""


class JobStatus(TypedDict, total=False):
    """The content of ``status.json``. Every number is between 0 and 2**53.

    `process_start` identifies the start of the process; see `process_fields`. Progress is counted
    in epochs and steps (training) or bytes (download).
    """

    state: Required[str]
    pid: int | None
    process_start: str
    host: str
    heartbeat: float
    message: str
    error: str
    phase: str
    epoch: int
    epochs: int
    step: int | None
    steps: int | None
    seconds_left: float | None
    n_bytes: int
    n_total_bytes: int


@dataclass(frozen=True)
class Job:
    """One job on disk, in the directory `path`. Subclasses add the files of a type of job."""

    path: Path

    noun: ClassVar[str] = "Job"
    error: ClassVar[type[JobError]] = JobError
    own_files: ClassVar[tuple[str, ...]] = (STATUS_FILE, SPEC_FILE)
    """Files that only a job has, so that a damaged job is listed."""
    final_phases: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Phases that cannot be paused, stopped or canceled, each with its predicate."""

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.name

    @property
    def title(self) -> str:
        """The type and name of the job, for messages."""
        return f"{self.noun} '{self.name}'"

    @property
    def status_file(self) -> Path:
        """The file with the state and progress."""
        return self.path / STATUS_FILE

    @property
    def exists(self) -> bool:
        """True if the directory is a job, which may be damaged."""
        return any(os.path.lexists(self.path / name) for name in self.own_files)

    def write_spec(self, spec: JobSpec) -> None:
        """Replace ``job.json``."""
        write_record(self.path / SPEC_FILE, spec)

    def read_spec(self) -> JobSpec:
        """Return the content of ``job.json``, or an empty `JobSpec` if there is none."""
        try:
            return read_record(self.path / SPEC_FILE, JobSpec, MAX_STATUS_BYTES)
        except FileNotFoundError:
            return JobSpec()
        except (OSError, RecordError) as error:
            raise self._unreadable(SPEC_FILE, error) from error

    def write_status(self, state: str, *, pid: int | None = None, **fields: Any) -> None:
        """Replace ``status.json``, including the process, its machine and the heartbeat.

        Parameters
        ----------
        state : str
            One of `STATES`.
        pid : int, optional
            The number of the process. Default: this process.
        **fields
            Further keys of `JobStatus`.
        """
        if state not in STATES:
            raise self.error(f"Invalid job state '{state}'. Expected {', '.join(sorted(STATES))}.")
        process = {} if state == "queued" else process_fields(pid)
        if "message" in fields:  # It may contain the name of a file that is not UTF-8.
            message = str(fields["message"]).encode("utf-8", "backslashreplace").decode()
            fields["message"] = message[:MAX_MESSAGE_LENGTH]
        status = {"state": state, **process, "heartbeat": time.time(), **fields}
        write_text_atomic(self.status_file, json.dumps(status, allow_nan=False) + "\n")

    def read_status(self) -> JobStatus:
        """Return the content of ``status.json``; raises `JobError` if it is missing or damaged.

        The state is 'interrupted' if the process has ended without a final status.
        """
        try:
            content = read_json(self.status_file, MAX_STATUS_BYTES)
            status = _check_status(content)
        except (OSError, RecordError) as error:
            raise self._unreadable(STATUS_FILE, error) from error
        state = status["state"]
        if state in FINAL_STATES | {"queued"} or is_alive(status, self.status_file):
            return status
        host = "" if is_on_this_host(status) else f" on {status['host']}"
        lines = [line for line in self._read_end(ERROR_FILE).splitlines() if line.strip()]
        last = lines[-1][:MAX_MESSAGE_LENGTH] if lines else ""
        reason = f"Last error output: {last}" if last else "It wrote no error message."
        message = f"The process{host} ended unexpectedly. {reason}"
        return status | {"state": "interrupted", "message": message}

    def request(self, action: str | None) -> None:
        """Request an action of `ACTIONS` from the process; None withdraws the request."""
        if action is None:
            (self.path / CONTROL_FILE).unlink(missing_ok=True)
        elif action in ACTIONS:
            write_text_atomic(self.path / CONTROL_FILE, json.dumps({"action": action}) + "\n")
        else:
            raise self.error(f"Invalid action '{action}'. Expected {', '.join(ACTIONS)}.")

    def requested_action(self) -> str | None:
        """Return the requested action, or None."""
        try:
            action = read_json(self.path / CONTROL_FILE, MAX_STATUS_BYTES)["action"]
        except (OSError, RecordError, TypeError, KeyError, IndexError):
            return None
        return action if action in ACTIONS else None

    def read_log(self, last_lines: int = 200) -> str:
        """Return the end of the log."""
        return "\n".join(self._read_end(LOG_FILE).splitlines()[-last_lines:])

    def _read_end(self, name: str) -> str:
        """Return the end of a text file; empty if it cannot be read."""
        try:
            with open_regular(self.path / name) as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, size - MAX_LOG_BYTES))
                return stream.read(MAX_LOG_BYTES).decode(errors="replace")
        except OSError:
            return ""

    def _unreadable(self, name: str, error: Exception) -> JobError:
        reason = error.strerror if isinstance(error, OSError) else error
        return self.error(f"{self.title} has no readable {name} in {self.path} ({reason}).")

    @classmethod
    def find_all(cls, directory: Path) -> list[Self]:
        """Return the jobs in a directory by name, including damaged ones."""
        try:
            jobs = [cls(path) for path in sorted(Path(directory).iterdir())]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [job for job in jobs if is_name(job.name) and job.exists]


J = TypeVar("J", bound=Job)


def is_name(text: str) -> bool:
    """Return whether a job may have this name: ASCII letters, digits, '.', '_' and '-'."""
    return bool(_NAME.fullmatch(text))


def pause_job(job: Job) -> None:
    """Pause a running job; raises `JobError` if no process can obey."""
    _require_controllable(job, "paused")
    job.request("pause")


def continue_job(job: Job) -> None:
    """Continue a paused job; raises `JobError` if it is not paused."""
    state = _require_controllable(job, "continued")
    if job.requested_action() != "pause":
        raise job.error(f"{job.title} is not paused. Expected a paused job, got state '{state}'.")
    job.request(None)


def stop_job(job: Job) -> None:
    """End a running job with its result so far; raises `JobError` if no process can obey."""
    _require_controllable(job, "stopped")
    job.request("stop")


def cancel_job(job: Job) -> None:
    """End a job without a result; raises `JobError` if it has ended or no process can obey."""
    with locked(job.path.parent):
        if _state(job) in {"queued", "interrupted"}:
            job.write_status("canceled", message="Canceled on request.")
        else:
            _require_controllable(job, "canceled")
            job.request("cancel")


def delete_job(job: Job) -> None:
    """Delete the directory of a job; raises `JobError` if it is queued or running."""
    with locked(job.path.parent):
        state = _state(job)
        if state not in ENDED_STATES | {""}:
            raise job.error(f"{job.title} is {state}. Cancel it before you delete it.")
        discard_path(job.path)


def create_job(job: J, write: Callable[[J], None]) -> None:
    """Create the directory of a job together with its first files, or nothing.

    Parameters
    ----------
    job : Job
        The job. Its directory is missing or empty.
    write : callable
        Writes the first files, including ``status.json``, of the job that it receives: a copy in a
        hidden directory, which is renamed at the end.

    Raises
    ------
    JobError
        The directory is not empty, or the files cannot be written.
    """
    parent = job.path.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(parent)
        staging = parent / f"{STAGING_PREFIX}{secrets.token_hex(8)}"
        try:
            staging.mkdir()
            write(replace(job, path=staging))
            if job.path.is_dir():
                job.path.rmdir()  # Windows does not replace a directory.
            staging.rename(job.path)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    except OSError as error:
        raise job.error(f"{job.title} cannot be created. {describe_error(error)}") from error


def _clear_leftovers(directory: Path) -> None:
    """Delete what killed processes have left of jobs that they were creating or deleting."""
    prefixes = (STAGING_PREFIX, DELETED_PREFIX)
    paths = [path for prefix in prefixes for path in directory.glob(f"{prefix}*")]
    if not paths:
        return
    now = _file_system_time(directory)
    for path in paths:
        with suppress(OSError):
            if now - path.lstat().st_mtime <= MAX_HIDDEN_AGE_S:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _require_controllable(job: Job, verb: str) -> str:
    """Return the state of a job; raises `JobError` if no process can obey a request."""
    status = job.read_status()
    state = str(status["state"])
    if state in ENDED_STATES:
        raise job.error(
            f"{job.title} has already ended with state '{state}'. Only a running job can be {verb}."
        )
    if state == "queued":
        raise job.error(
            f"{job.title} is queued and cannot be {verb} before it starts. You can cancel it."
        )
    if predicate := job.final_phases.get(status.get("phase", "")):
        raise job.error(
            f"{job.title} {predicate} and can no longer be paused, stopped or canceled. "
            "Wait until it finishes."
        )
    return state


def launch_job(
    job: Job,
    arguments: Sequence[str] = (),
    *,
    tied: bool = False,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    """Start the process of a job in a separate session; the caller holds the lock.

    Parameters
    ----------
    job : Job
        A job with a command in its ``job.json``.
    arguments : sequence of str
        Further arguments of the command.
    tied : bool
        Give the process a pipe as standard input; see `end_with_stdin`.
    environment : mapping, optional
        Default: the environment of this process.

    Returns
    -------
    Popen
        The process. The job is 'starting', or 'failed' if its process has already ended.

    Raises
    ------
    JobError
        The job has no command, a process works on it already, or its process cannot be started. In
        the last case, the job is 'failed'.
    """
    reap_children()
    if is_held(job.path):
        raise _held(job)
    spec = job.read_spec()
    if not spec.command:
        raise job.error(f"{job.title} has no command in {SPEC_FILE}, so it cannot be started.")
    nice = niceness() if spec.low_priority else 0
    command = [str(job.path) if word == JOB_DIRECTORY else word for word in spec.command]
    inherited = os.environ if environment is None else environment
    # Windows has no sessions. A separate process group keeps Ctrl-C from reaching the process.
    names = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")
    windows = sum(getattr(subprocess, name, 0) for name in names)
    # Names in messages may contain characters that the code page of the machine lacks.
    environment = {**inherited, "PYTHONIOENCODING": "utf-8:backslashreplace", **spec.environment}
    try:
        with (job.path / ERROR_FILE).open("wb") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "bc_model", *command, *arguments], cwd=project_dir(),
                stdin=subprocess.PIPE if tied else subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=errors, start_new_session=True, creationflags=windows, env=environment,
            )  # fmt: skip
    except (OSError, ValueError) as error:  # A command with a null character is a ValueError.
        message = f"The process cannot be started. {describe_error(error)}"
        with suppress(OSError):
            job.write_status("failed", message=message)
        raise job.error(f"{job.title}: {message}") from error
    _children.append(child)
    _job_of[child.pid] = job
    _lower_priority(child.pid, nice)
    try:
        job.write_status("starting", pid=child.pid, message="Starting the process")
    except psutil.NoSuchProcess:
        job.write_status("failed", message="The process ended before it started its work.")
    except OSError:
        child.kill()  # Without a status, the process would be invisible.
        raise
    return child


def queue_job(job: Job, spec: JobSpec) -> None:
    """Write ``job.json`` and queue a job; the caller ensures that no process works on it."""
    job.request(None)
    job.write_spec(spec)
    queue = f"queue of {spec.scheduler}" if spec.scheduler else "queue"
    job.write_status("queued", message=f"Waiting in the {queue}")


def advance_queue(
    directory: Path,
    list_jobs: Callable[[Path], Sequence[J]],
    launch: Callable[[J], object],
    limit: Callable[[], int],
) -> list[str]:
    """Start queued jobs, oldest first, while fewer than the limit run on this machine.

    Parameters
    ----------
    directory : Path
        The parent directory of the jobs.
    list_jobs : callable
        Returns the jobs in the directory, newest first.
    launch : callable
        Starts one job.
    limit : callable
        Returns how many jobs may run at a time.

    Returns
    -------
    list of str
        The names of the started jobs.
    """
    reap_children()
    if not any(_is_waiting(job) for job in list_jobs(directory)):
        return []
    with locked(directory):
        jobs = list_jobs(directory)
        n_free = limit() - sum(_takes_place(job) for job in jobs)
        waiting = [job for job in reversed(jobs) if _is_waiting(job)]
        started = waiting[: max(0, n_free)]
        for job in started:
            try:
                launch(job)
            except (BcModelError, OSError) as error:  # The other jobs of the queue can start.
                logger.warning("%s was not started: %s", job.title, error)
    return [job.name for job in started]


def reap_children() -> None:
    """Collect child processes that have ended, so that they do not remain as zombies."""
    ended = [child for child in _children if child.poll() is not None]
    for child in ended:
        _children.remove(child)
        if job := _job_of.pop(child.pid, None):
            _report_illegal_instruction(job, child.returncode)


def _report_illegal_instruction(job: Job, returncode: int) -> None:
    """Write why a process ended that could not write it itself."""
    if returncode == -getattr(signal, "SIGILL", 0) and _state(job) == "interrupted":
        job.write_status("failed", message=(
            "The process ended because of an instruction that this processor does not have "
            "(SIGILL). Run it on another machine."
        ))  # fmt: skip


def niceness() -> int:
    """Return the niceness of low-priority processes: BC_NICENESS (0 to 19), or 10."""
    value = os.environ.get("BC_NICENESS", str(NICENESS))
    if not value.isdecimal() or int(value) > 19:
        raise ConfigError(
            f"Invalid environment variable BC_NICENESS. Expected 0 to 19, got '{value}'."
        )
    return int(value)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock a directory of jobs; raises `JobError` if this takes longer than `LOCK_TIMEOUT_S`."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    try:
        with _thread_lock, filelock.FileLock(Path(directory) / LOCK_FILE, timeout=LOCK_TIMEOUT_S):
            yield
    except filelock.Timeout as error:
        raise JobError(
            f"Another process has locked the directory {directory} for more than "
            f"{LOCK_TIMEOUT_S} s. Try again in a minute."
        ) from error


def _lower_priority(pid: int, nice: int) -> None:
    """Lower the priority of a process and its session, so that the app stays responsive."""
    if nice == 0:
        return
    with suppress(psutil.Error):
        below = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", None)
        if below is None:  # Not on Windows. Never higher than the priority of the parent.
            below = max(nice, psutil.Process().nice())
        psutil.Process(pid).nice(below)
    # Linux may group processes by session. Niceness then counts only within the group, so the
    # group needs it, too (sched(7), autogroup).
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="ascii")


def _is_waiting(job: Job) -> bool:
    """Return whether this queue may start a job; a job with a task waits for a cluster."""
    if _state(job) != "queued":
        return False
    try:
        spec = job.read_spec()
    except JobError:
        return False
    return bool(spec.command) and not spec.task


def _takes_place(job: Job) -> bool:
    """Return whether a job takes one of the places on this machine."""
    status = _status(job)
    idle = ENDED_STATES | {"queued", "paused", ""}
    return is_on_this_host(status) and status.get("state", "") not in idle


def _state(job: Job) -> str:
    """Return the state of a job; empty if its status is unreadable."""
    return str(_status(job).get("state", ""))


def _status(job: Job) -> Mapping[str, Any]:
    try:
        return job.read_status()
    except JobError:
        return {}


def _check_status(content: Any) -> JobStatus:
    """Return the content of ``status.json``; raises `RecordError` if a value is invalid."""
    status: JobStatus = check_fields(content, JobStatus, "status")
    if status.get("state") not in STATES:
        raise RecordError(f"status.state: expected one of {', '.join(sorted(STATES))}")
    for key, value in status.items():
        if isinstance(value, int | float) and not 0 <= value <= 2**53:
            raise RecordError(f"status.{key}: expected 0 to 2**53")
    return status


def process_fields(pid: int | None = None) -> dict[str, Any]:
    """Return number, start and machine of a process on this machine (default: this one)."""
    process = psutil.Process(pid)
    start = _process_start(process)
    return {"pid": process.pid, "process_start": start, "host": platform.node()}


def _process_start(process: psutil.Process) -> str:
    """Return a text that identifies the start of a process, whatever the clock says.

    Linux counts ticks since the start of the machine. `psutil.Process.create_time` adds the time of
    that start, which moves when the clock is set. Other systems store the time of the process.
    """
    if sys.platform != "linux":
        return f"{process.create_time():.3f}"
    try:
        text = read_bytes(f"/proc/{process.pid}/stat", 4096).decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(process.pid) from error
    # The second field, the name of the program, may contain spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return f"{_boot_id()}/{fields[19]}"


@functools.cache
def _boot_id() -> str:
    """Return a text that changes when Linux starts; empty if the system does not provide it."""
    try:
        return read_bytes("/proc/sys/kernel/random/boot_id", 64).decode("ascii").strip()
    except OSError:
        return ""


def is_on_this_host(status: Mapping[str, Any]) -> bool:
    """Return whether the process of a job is, or was, on this machine."""
    return bool(status.get("host", platform.node()) == platform.node())


def is_own(status: Mapping[str, Any]) -> bool:
    """Return whether a status contains this process."""
    # A virtual environment on Windows starts Python through a launcher, which is the parent of this
    # process. The status can contain the number of the launcher.
    return is_on_this_host(status) and status.get("pid") in (os.getpid(), os.getppid())


def is_alive(status: Mapping[str, Any], status_file: Path) -> bool:
    """Return whether the process in a status, with the keys of `process_fields`, is running."""
    if not is_on_this_host(status):
        try:
            age_s = _file_system_time(status_file.parent.parent) - status_file.stat().st_mtime
        except OSError:
            return False
        return age_s < MAX_HEARTBEAT_AGE_S
    if is_held(status_file.parent):
        return True
    try:
        process = psutil.Process(int(status["pid"]))
        is_same = _process_start(process) == status["process_start"]
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError, KeyError, TypeError, ValueError, OverflowError):
        return False


def _file_system_time(directory: Path) -> float:
    """Return the time of the machine that stores a directory: that of a file it has just touched.

    The clocks of the machines that share a directory may differ, and may be set.
    """
    clock = directory / LOCK_FILE
    try:
        clock.touch()
        return clock.stat().st_mtime
    except OSError:  # The directory is read-only.
        return time.time()


@contextmanager
def hold_job(job: Job) -> Iterator[None]:
    """Lock a job for this process; raises `JobError` if another process works on it.

    The system releases the lock when the process ends for any reason. Blocks can be nested.
    """
    # A file system without locks must not get a file instead, which would outlive the process.
    lock = filelock.FileLock(
        job.path / PROCESS_LOCK_FILE, is_singleton=True, fallback_to_soft=False
    )
    try:
        lock.acquire(timeout=PROCESS_LOCK_TIMEOUT_S, poll_interval=_PROBE_INTERVAL_S)
    except filelock.Timeout as error:
        raise _held(job) from error
    except NotImplementedError:
        logger.warning("The file system of %s has no locks. Start each job only once.", job.path)
    try:
        yield
    finally:
        lock.release()


def is_held(directory: Path) -> bool:
    """Return whether a process of this machine holds the lock of a job."""
    path = directory / PROCESS_LOCK_FILE
    try:
        if sys.platform == "win32":
            return _is_held_windows(path)
        import fcntl

        # A shared lock excludes the holder, but no other reader.
        with open_regular(path) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return True
    except OSError:  # The job was never held, or its file system has no locks.
        pass
    return False


def _is_held_windows(path: Path) -> bool:
    """Return whether a lock stays held for longer than other readers take, which exclude it."""
    if not path.is_file():
        return False
    lock = filelock.FileLock(path, timeout=_PROBE_TIMEOUT_S, poll_interval=_PROBE_INTERVAL_S)
    try:
        with _probe_lock, lock:
            return False
    except filelock.Timeout:
        return True
    except NotImplementedError:
        return False


def _held(job: Job) -> JobError:
    return job.error(
        f"Another process works on {job.title}. Expected one process for each directory. Wait "
        "until it finishes, or cancel it."
    )


def is_replaced(job: Job) -> bool:
    """Return whether the status contains another process than this one."""
    try:
        status = read_json(job.status_file, MAX_STATUS_BYTES)
        return status.get("pid") is not None and not is_own(status)
    except (OSError, RecordError, AttributeError):
        return False


@contextmanager
def keep_alive(job: Job, every_s: float = HEARTBEAT_S) -> Iterator[None]:
    """Refresh the status file within a block, also during steps that write no status.

    If another process has taken over the job of a suspended process, this process ends when it
    resumes. Otherwise both processes would write into the same files.
    """
    over = threading.Event()

    def refresh() -> None:
        while not over.wait(every_s):
            if is_replaced(job):
                _end_replaced(job)
            _set_time(job.status_file, None)

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def end_with_stdin(job: Job) -> None:
    """End this process as soon as its standard input ends.

    The process that starts a tied job holds the other end of a pipe, which the system closes when
    that process ends for any reason.
    """

    def wait() -> None:
        # Not sys.stdin: its lock, held by a thread, would keep the interpreter from ending.
        while os.read(0, 1024):
            pass
        os.write(2, b"The process that started this one has ended.\n")
        _set_time(job.status_file, 0.0)  # For other machines, the job is interrupted immediately.
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def end_process(job: Job, timeout_s: float = 10.0) -> None:
    """Terminate the process of a job on this machine; raises `JobError` if it does not end."""
    status = job.read_status()
    if status["state"] in ENDED_STATES | {"queued"} or not is_on_this_host(status):
        return
    try:
        process = psutil.Process(status.get("pid"))
        process.terminate()
        process.wait(timeout_s)
    except psutil.NoSuchProcess:
        pass
    except psutil.Error as error:
        raise job.error(
            f"Process {status.get('pid')} of {job.title} does not end: {error}. Try again in a "
            "minute."
        ) from error


def _end_replaced(job: Job) -> NoReturn:
    try:
        logger.error("Another process took over %s, so this process ends.", job.title)
    finally:
        os._exit(1)  # This process must write nothing more, not even its final status.


def _set_time(path: Path, seconds: float | None) -> None:
    # The file may be deleted, or its disk unavailable.
    with suppress(OSError):
        os.utime(path, None if seconds is None else (seconds, seconds))
