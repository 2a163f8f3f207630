"""Jobs: processes that outlive the page or the terminal that started them.

A job is a directory, which is the only channel between its process and all observers:

- ``job.json``: the command and how to start it, written when the job is queued.
- ``status.json``: state, process, heartbeat, progress and message.
- ``log.txt`` and ``stderr.txt``: the log and the error output of the process.
- ``control.json``: the requested action: pause, stop or cancel. Optional.

On its own machine, a process is identified by its number and start time, because numbers are
reused. For other machines that share the directory, a job is alive while `keep_alive` refreshes its
``status.json``. Machines need unique names and synchronized clocks.
"""

from __future__ import annotations

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
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Self, TypeVar

import filelock
import psutil

from bc_model.errors import ConfigError, JobError, RecordError
from bc_model.utils.io import project_dir, write_text_atomic
from bc_model.utils.serialization import read_record, write_record

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

LOCK_TIMEOUT_S = 30
HEARTBEAT_S = 10.0
MAX_HEARTBEAT_AGE_S = 120.0
"""Network file systems may cache the age of a file for up to a minute."""
NICENESS = 10
"""About a tenth of a processor while another process needs all of it."""

JOB_DIRECTORY = "{job}"
"""Placeholder for the directory of the job in the command of a `JobSpec`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

logger = logging.getLogger("bc_model.jobs")

_children: list[subprocess.Popen] = []
_job_of: dict[int, Job] = {}
"""The job of each child process, by the number of the process."""
_thread_lock = threading.Lock()


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


@dataclass(frozen=True)
class Job:
    """One job on disk, in the directory `path`. Subclasses add the files of a type of job."""

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
        write_record(self.path / SPEC_FILE, spec)

    def read_spec(self) -> JobSpec:
        """Return the content of ``job.json``, or an empty `JobSpec` if there is none."""
        try:
            return read_record(self.path / SPEC_FILE, JobSpec)
        except FileNotFoundError:
            return JobSpec()
        except (OSError, RecordError) as error:
            raise self._unreadable(SPEC_FILE) from error

    def write_status(self, state: str, *, pid: int | None = None, **fields: Any) -> None:
        """Replace ``status.json``, including the process, its machine and the heartbeat.

        Parameters
        ----------
        state : str
            One of `STATES`.
        pid : int, optional
            The number of the process. Default: this process.
        **fields
            JSON-safe values, such as phase, progress and message.
        """
        if state not in STATES:
            raise self.error(f"Invalid job state '{state}'. Expected {', '.join(sorted(STATES))}.")
        process = {} if state == "queued" else process_fields(pid)
        status = {"state": state, **process, "heartbeat": time.time(), **fields}
        write_text_atomic(self.status_file, json.dumps(status, allow_nan=False) + "\n")

    def read_status(self) -> dict[str, Any]:
        """Return the content of ``status.json``; raises `JobError` if it is missing or damaged.

        The state is 'interrupted' if the process has ended without a final status.
        """
        status = self._read_json(STATUS_FILE)
        state = status.get("state")
        if state not in STATES:
            raise self._unreadable(STATUS_FILE)
        if state in FINAL_STATES | {"queued"} or is_alive(status, self.status_file):
            return status
        host = "" if is_on_this_host(status) else f" on {status['host']}"
        lines = [line for line in self._read_text(ERROR_FILE).splitlines() if line.strip()]
        reason = f"Last error output: {lines[-1]}" if lines else "It wrote no error message."
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
            action = json.loads((self.path / CONTROL_FILE).read_text(encoding="utf-8"))["action"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return action if action in ACTIONS else None

    def read_log(self, last_lines: int = 200) -> str:
        """Return the end of the log."""
        return "\n".join(self._read_text(LOG_FILE).splitlines()[-last_lines:])

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
        # A rename removes the job from all lists in one step, even if the rest is interrupted.
        renamed = job.path.with_name(f".deleted-{secrets.token_hex(8)}")
        job.path.replace(renamed)
    shutil.rmtree(renamed, ignore_errors=True)


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
        The job has no command.
    """
    reap_children()
    spec = job.read_spec()
    if not spec.command:
        raise job.error(f"{job.title} has no command in {SPEC_FILE}, so it cannot be started.")
    nice = niceness() if spec.low_priority else 0
    command = [str(job.path) if word == JOB_DIRECTORY else word for word in spec.command]
    inherited = os.environ if environment is None else environment
    # Windows has no sessions. A separate process group keeps Ctrl-C from reaching the process.
    names = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")
    windows = sum(getattr(subprocess, name, 0) for name in names)
    with (job.path / ERROR_FILE).open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "bc_model", *command, *arguments], cwd=project_dir(),
            stdin=subprocess.PIPE if tied else subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=errors, start_new_session=True, creationflags=windows,
            env={**inherited, **spec.environment},
        )  # fmt: skip
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
            launch(job)
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


def _status(job: Job) -> dict[str, Any]:
    try:
        return job.read_status()
    except JobError:
        return {}


def process_fields(pid: int | None = None) -> dict[str, Any]:
    """Return number, start time and machine of a process on this machine (default: this one)."""
    process = psutil.Process(pid)
    return {"pid": process.pid, "pid_started": process.create_time(), "host": platform.node()}


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
    """Return whether the status contains another process than this one."""
    try:
        status = json.loads(job.status_file.read_text(encoding="utf-8"))
        return status.get("pid") is not None and not is_own(status)
    except (OSError, ValueError, AttributeError):
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
        logger.error("Another process took over %s, so this process ends.", job.title)
    finally:
        os._exit(1)  # This process must write nothing more, not even its final status.


def _set_time(path: Path, seconds: float | None) -> None:
    # The file may be deleted, or its disk unavailable.
    with suppress(OSError):
        os.utime(path, None if seconds is None else (seconds, seconds))
