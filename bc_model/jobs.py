"""Jobs: processes that outlive the page or the terminal that started them.

A job is a directory, which is the only channel between its process and all observers:

- ``job.json``: the command, its priority, and who starts it. Written when the job is queued; the
  process never writes it, so a job whose process was lost can be started again.
- ``status.json``: state, process, heartbeat, progress and message. Replaced atomically.
- ``log.txt`` and ``stderr.txt``: the log, and the error output of the process.
- ``control.json``: what the process is requested to do: pause, stop or cancel. Optional.

On its own machine, a process is identified by its number and its start time, because numbers are
reused. On another machine that shares the directory, numbers mean nothing: there, a job is alive
while its ``status.json`` is fresh. `keep_alive` refreshes that file every few seconds. Machines
need unique names and synchronized clocks.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Self, TypeVar

import filelock
import psutil

from bc_model.errors import ConfigError, JobError
from bc_model.utils.io import write_text_atomic

FINAL_STATES = frozenset({"done", "failed", "canceled"})
STATES = FINAL_STATES | {"queued", "starting", "running", "pausing", "paused", "canceling"}
ENDED_STATES = FINAL_STATES | {"interrupted"}
"""No process works on the job. 'interrupted' is derived: its process ended without a status."""
ACTIONS = ("pause", "stop", "cancel")
"""Wait without losing anything; end and keep the result so far; end without a result."""

SPEC_FILE = "job.json"
STATUS_FILE = "status.json"
CONTROL_FILE = "control.json"
LOG_FILE = "log.txt"
ERROR_FILE = "stderr.txt"
LOCK_FILE = ".lock"

LOCK_TIMEOUT_S = 30
HEARTBEAT_S = 10.0
MAX_HEARTBEAT_AGE_S = 120.0
"""Network file systems may cache the age of a file for up to a minute."""
NICENESS = 10
"""About a tenth of a processor when another process wants all of it."""

JOB_DIRECTORY = "{job}"
"""Placeholder for the directory of the job in the command of a `JobSpec`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

logger = logging.getLogger("bc_model.jobs")

_children: list[subprocess.Popen] = []
_thread_lock = threading.Lock()


@dataclass(frozen=True)
class JobSpec:
    """How a job is started, as stored in ``job.json``.

    Attributes
    ----------
    command : tuple of str
        Arguments of ``python -m bc_model``. `JOB_DIRECTORY` stands for the directory of the job.
        Empty if the job was started in a terminal and never queued.
    config : dict
        Settings of the job that its directory does not contain otherwise.
    environment : dict
        Environment variables to set for the process.
    low_priority : bool
        Whether the process yields to other processes; see `niceness`.
    accepted_config_sha256 : str
        SHA-256 of the ``config.json`` with which changes of data or code are accepted.
    scheduler, task : str
        Address of the cluster scheduler and the task that starts the job. Empty if the queue of
        this machine starts it.
    """

    command: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    low_priority: bool = False
    accepted_config_sha256: str = ""
    scheduler: str = ""
    task: str = ""


@dataclass(frozen=True)
class Job:
    """One job on disk. Subclasses add the files of one type of job.

    Attributes
    ----------
    path : Path
        The directory of the job.
    """

    path: Path

    noun: ClassVar[str] = "Job"
    error: ClassVar[type[JobError]] = JobError
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

    def write_spec(self, spec: JobSpec) -> None:
        """Replace ``job.json``."""
        write_text_atomic(self.path / SPEC_FILE, json.dumps(asdict(spec), allow_nan=False) + "\n")

    def read_spec(self) -> JobSpec:
        """Read ``job.json``; an empty `JobSpec` if there is none.

        Raises
        ------
        JobError
            The file is damaged.
        """
        if not (self.path / SPEC_FILE).exists():
            return JobSpec()
        try:
            spec = JobSpec(**self._read_json(SPEC_FILE))
            return JobSpec(**{**vars(spec), "command": tuple(spec.command)})
        except TypeError as error:
            raise self._unreadable(SPEC_FILE) from error

    def write_status(self, state: str, *, pid: int | None = None, **fields: Any) -> None:
        """Replace ``status.json``, including the process, its machine and the heartbeat.

        Parameters
        ----------
        state : str
            One of `STATES`.
        pid : int, optional
            The process that works on the job. Default: this process; no process if queued.
        **fields
            JSON-safe values, such as phase, progress and message.
        """
        if state not in STATES:
            raise self.error(f"Invalid job state '{state}'. Expected {', '.join(sorted(STATES))}.")
        process = {} if state == "queued" else process_fields(pid)
        status = {"state": state, **process, "heartbeat": time.time(), **fields}
        write_text_atomic(self.status_file, json.dumps(status, allow_nan=False) + "\n")

    def read_status(self) -> dict[str, Any]:
        """Read ``status.json``; the state is 'interrupted' if the process ended without a status.

        Raises
        ------
        JobError
            The file is missing or damaged.
        """
        status = self._read_json(STATUS_FILE)
        state = status.get("state")
        if state not in STATES:
            raise self._unreadable(STATUS_FILE)
        if state in FINAL_STATES | {"queued"} or is_alive(status, self.status_file):
            return status
        host = "" if is_on_this_host(status) else f" on {status['host']}"
        last_line = self._last_error_line()
        reason = f"Last error output: {last_line}" if last_line else "It wrote no error message."
        message = f"The process{host} ended unexpectedly. {reason}"
        return status | {"state": "interrupted", "message": message}

    def request(self, action: str | None) -> None:
        """Request an action from the process, or withdraw the request.

        Parameters
        ----------
        action : {'pause', 'stop', 'cancel'} or None
            The latest request counts. None withdraws it.
        """
        if action is None:
            (self.path / CONTROL_FILE).unlink(missing_ok=True)
        elif action in ACTIONS:
            write_text_atomic(self.path / CONTROL_FILE, json.dumps({"action": action}) + "\n")
        else:
            raise self.error(f"Invalid action '{action}'. Expected {', '.join(ACTIONS)}.")

    def requested_action(self) -> str | None:
        """Return the requested action, or None."""
        try:
            action = json.loads((self.path / CONTROL_FILE).read_text(encoding="utf-8"))["action"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return action if action in ACTIONS else None

    def read_log(self, last_lines: int = 200) -> str:
        """Return the end of the log."""
        return "\n".join(self._read_text(LOG_FILE).splitlines()[-last_lines:])

    def _last_error_line(self) -> str:
        lines = self._read_text(ERROR_FILE).splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")

    def _read_text(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._unreadable(name) from error
        if not isinstance(content, dict):
            raise self._unreadable(name)
        return content

    def _unreadable(self, name: str) -> JobError:
        return self.error(f"{self.title} has no readable {name} in {self.path}.")

    @classmethod
    def find_all(cls, directory: Path) -> list[Self]:
        """Return the jobs in a directory, by name; other files and directories are ignored."""
        try:
            jobs = [cls(path) for path in sorted(Path(directory).iterdir())]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [job for job in jobs if is_name(job.name) and job.status_file.is_file()]


J = TypeVar("J", bound=Job)


def is_name(text: str) -> bool:
    """Return whether a job may have this name: ASCII letters, digits, '.', '_' and '-'."""
    return bool(_NAME.fullmatch(text))


# Control: pause, continue, stop, cancel, delete


def pause_job(job: Job) -> None:
    """Let a running job wait; it loses nothing.

    Raises
    ------
    JobError
        The job is queued or has ended, or its phase cannot be paused.
    """
    _require_controllable(job, "paused")
    job.request("pause")


def continue_job(job: Job) -> None:
    """Let a paused job run again.

    Raises
    ------
    JobError
        The job is not paused.
    """
    state = _require_controllable(job, "continued")
    if job.requested_action() != "pause":
        raise job.error(f"{job.title} is not paused. Expected a paused job, got state '{state}'.")
    job.request(None)


def stop_job(job: Job) -> None:
    """End a running job and keep its result so far.

    Raises
    ------
    JobError
        The job is queued or has ended, or its phase cannot be stopped.
    """
    _require_controllable(job, "stopped")
    job.request("stop")


def cancel_job(job: Job) -> None:
    """End a job without a result. A job without a process is canceled at once.

    Raises
    ------
    JobError
        The job has ended, or its phase cannot be canceled.
    """
    with locked(job.path.parent):
        if _state(job) in {"queued", "interrupted"}:
            job.write_status("canceled", message="Canceled on request.")
        else:
            _require_controllable(job, "canceled")
            job.request("cancel")


def delete_job(job: Job) -> None:
    """Delete the directory of a job that has ended.

    Raises
    ------
    JobError
        The job is queued or running.
    """
    with locked(job.path.parent):
        state = _state(job)
        if state not in ENDED_STATES | {""}:
            raise job.error(f"{job.title} is {state}. Cancel it before you delete it.")
        # A rename removes the job from all lists in one step, even if the rest is interrupted.
        doomed = job.path.with_name(f".deleted-{secrets.token_hex(8)}")
        job.path.replace(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _require_controllable(job: Job, verb: str) -> str:
    """Return the state of a running job; a request that no process obeys is refused."""
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


# Start and queue


def launch_job(
    job: Job,
    arguments: Sequence[str] = (),
    *,
    tied: bool = False,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    """Start the process of a job in a session of its own; the caller holds the lock.

    Parameters
    ----------
    job : Job
        A job with a command in its ``job.json``.
    arguments : sequence of str
        Further arguments of the command.
    tied : bool
        Give the process a pipe as standard input; see `end_with_stdin`.
    environment : mapping of str to str, optional
        The environment of the process. Default: the environment of this process.

    Returns
    -------
    Popen
        The process. The job is 'starting', or 'failed' if its process has already ended.

    Raises
    ------
    JobError
        The job has no command.
    ConfigError
        BC_NICENESS is invalid.
    """
    reap_children()
    spec = job.read_spec()
    if not spec.command:
        raise job.error(f"{job.title} has no command in {SPEC_FILE}, so it cannot be started.")
    nice = niceness() if spec.low_priority else 0
    command = [str(job.path) if subset == JOB_DIRECTORY else subset for subset in spec.command]
    inherited = os.environ if environment is None else environment
    # Windows has no sessions. A process group of its own keeps Ctrl-C from reaching the process.
    windows = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(
        subprocess, "CREATE_NO_WINDOW", 0
    )
    with (job.path / ERROR_FILE).open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "bc_model", *command, *arguments],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            creationflags=windows,
            env={**inherited, **spec.environment},
        )
    _children.append(child)
    _lower_priority(child.pid, nice)
    try:
        job.write_status("starting", pid=child.pid, message="Starting the process")
    except psutil.NoSuchProcess:
        job.write_status("failed", message="The process ended before it started its work.")
    except OSError:
        child.kill()  # Without a status, the process would be invisible.
        raise
    return child


def queue_job(job: Job, spec: JobSpec, message: str = "Waiting in the queue") -> None:
    """Write ``job.json`` and queue a job; the caller ensures that no process works on it."""
    job.request(None)
    job.write_spec(spec)
    job.write_status("queued", message=message)


def advance_queue(
    directory: Path,
    list_jobs: Callable[[Path], Sequence[J]],
    launch: Callable[[J], object],
    limit: Callable[[], int],
) -> list[str]:
    """Start queued jobs, oldest first, while fewer than the limit run on this machine.

    The queue is the directories themselves. A page or a job that has just ended advances it.

    Parameters
    ----------
    directory : Path
        The parent directory of the jobs.
    list_jobs : callable
        Returns the jobs in the directory, newest first.
    launch : callable
        Starts one job.
    limit : callable
        Returns how many jobs may run at a time. Called only if jobs are waiting.

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
            launch(job)
    return [job.name for job in started]


def reap_children() -> None:
    """Collect child processes that have ended, so that they do not remain as zombies."""
    _children[:] = [child for child in _children if child.poll() is None]


def niceness() -> int:
    """Return the niceness of low-priority processes: BC_NICENESS, or 10.

    Raises
    ------
    ConfigError
        BC_NICENESS is not a number from 0 (normal priority) to 19.
    """
    value = os.environ.get("BC_NICENESS", str(NICENESS))
    if not value.isdecimal() or int(value) > 19:
        raise ConfigError(f"BC_NICENESS must be a number from 0 to 19; it is '{value}'.")
    return int(value)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes, machines and threads from starting the same job.

    Raises
    ------
    JobError
        Another process holds the lock for longer than `LOCK_TIMEOUT_S`.
    """
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
    """Let the page and its predictions run before a low-priority process."""
    if nice == 0:
        return
    with suppress(psutil.Error):
        below = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", None)
        if below is None:  # Not on Windows. Never above a parent that is nicer still.
            below = max(nice, psutil.Process().nice())
        psutil.Process(pid).nice(below)
    # Linux may group processes by session. Niceness then counts only within a group, and the
    # process has a session of its own: the group needs it, too (sched(7), autogroup).
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


def _status(job: Job) -> dict[str, Any]:
    try:
        return job.read_status()
    except JobError:
        return {}


# Processes


def process_fields(pid: int | None = None) -> dict[str, Any]:
    """Return the fields that identify a process: number, start time and machine.

    Parameters
    ----------
    pid : int, optional
        The number of a process on this machine. Default: this process.
    """
    process = psutil.Process(pid)
    return {"pid": process.pid, "pid_started": process.create_time(), "host": platform.node()}


def is_on_this_host(status: Mapping[str, Any]) -> bool:
    """Return whether the process of a job is, or was, on this machine."""
    return bool(status.get("host", platform.node()) == platform.node())


def is_own(status: Mapping[str, Any]) -> bool:
    """Return whether a status names this process."""
    # A virtual environment on Windows starts Python through a launcher. Whoever started the job
    # then knows the number of the launcher, which is the parent of this process.
    return is_on_this_host(status) and status.get("pid") in (os.getpid(), os.getppid())


def is_alive(status: Mapping[str, Any], status_file: Path) -> bool:
    """Return whether the process that a status names still works on its job.

    Parameters
    ----------
    status : mapping
        With the keys of `process_fields`; a status without them names no process.
    status_file : Path
        The file of the status; its age counts for other machines.
    """
    if not is_on_this_host(status):
        try:
            return time.time() - status_file.stat().st_mtime < MAX_HEARTBEAT_AGE_S
        except OSError:
            return False
    try:
        process = psutil.Process(int(status["pid"]))
        is_same = abs(process.create_time() - float(status["pid_started"])) < 1.0
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def is_replaced(job: Job) -> bool:
    """Return whether the status names another process than this one.

    A status that names no process, or is unreadable at the moment, does not.
    """
    try:
        status = json.loads(job.status_file.read_text(encoding="utf-8"))
        return status.get("pid") is not None and not is_own(status)
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def keep_alive(job: Job, every_s: float = HEARTBEAT_S) -> Iterator[None]:
    """Refresh the status within a block, also during steps that write no status.

    A process that was suspended for so long that another process took over its job ends as soon
    as it wakes, as if killed: otherwise it would write into the files of the other process.
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
    """End this process as soon as its standard input ends, as if killed.

    The process that starts a tied job holds the other end of a pipe. The system closes it however
    that process ends, also on Windows, so that no job process is left behind.
    """

    def wait() -> None:
        # Not sys.stdin: its lock, held by a thread, would keep the interpreter from ending.
        while os.read(0, 1024):
            pass
        os.write(2, b"The process that started this one has ended.\n")
        _set_time(job.status_file, 0.0)  # Other machines need not wait until it has aged.
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def end_process(job: Job, timeout_s: float = 10.0) -> None:
    """Terminate the process of a job on this machine and wait until it has ended.

    Raises
    ------
    JobError
        The process does not end in time, or belongs to another user.
    """
    status = job.read_status()
    if status["state"] in ENDED_STATES | {"queued"} or not is_on_this_host(status):
        return
    try:
        process = psutil.Process(int(status["pid"]))
        process.terminate()
        process.wait(timeout_s)
    except psutil.NoSuchProcess:
        pass
    except psutil.Error as error:
        raise job.error(
            f"Process {status['pid']} of {job.title} does not end: {error}. Try again in a minute."
        ) from error


def _end_replaced(job: Job) -> NoReturn:
    try:
        logger.error(
            "Another process took over %s while this one was suspended: this one ends.", job.title
        )
    finally:
        os._exit(1)  # This process must write nothing more, not even its final status.


def _set_time(path: Path, seconds: float | None) -> None:
    # The file may be deleted or its disk unavailable. Observers then see it age.
    with suppress(OSError):
        os.utime(path, None if seconds is None else (seconds, seconds))
