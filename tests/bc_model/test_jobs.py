"""Jobs: status, processes on this and other machines, control, priority and the queue."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from bc_model import jobs
from bc_model.errors import ConfigError, JobError
from bc_model.jobs import (
    ACTIONS,
    ENDED_STATES,
    MAX_HEARTBEAT_AGE_S,
    STATES,
    Job,
    JobSpec,
    is_alive,
    is_replaced,
    keep_alive,
    process_fields,
)

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_S = 60
OTHER_HOST = {"state": "running", "pid": 1, "pid_started": 0.0, "host": "other-host"}
NO_PROCESS = '{"state": "running"}'
DAMAGED = [
    b"", b"{", b"[]", b'"running"', b"\xff\xfe\x00", b'{"state": "asleep"}', b'{"pid": 1}',
    b"[" * 100_000, b'{"state": ["done"]}', b'{"state": "done", "message": 1}',
    b'{"state": "running", "pid": "1"}', b'{"state": "running", "epoch": -1}',
    b'{"state": "running", "epochs": 1e999}', b'{"state": "running", "step": NaN}',
    b'{"state": "running", "pid": 1' + b"0" * 400 + b"}", b'{"state": "done"}' + b" " * 2**16,
    b'{"state": "failed", "message": "\\ud800"}', b'{"state": "running", "host": ["a"]}',
]  # fmt: skip


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, "job")


@pytest.fixture(scope="module")
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(autouse=True)
def _forget_children() -> Iterator[None]:
    yield
    jobs._children.clear()


def make_job(directory: Path, name: str) -> Job:
    job = Job(directory / "jobs" / name)
    job.path.mkdir(parents=True)
    return job


def put_status(job: Job, *, age_s: float = 0.0, **changes: object) -> Path:
    """Write a status as another process would have written it."""
    status = {"state": "running", **process_fields(), "heartbeat": time.time()}
    job.status_file.write_text(json.dumps(status | changes))
    written_s = time.time() - age_s
    os.utime(job.status_file, (written_s, written_s))
    return job.status_file


def wait_for_file(path: Path) -> None:
    end_s = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < end_s
        time.sleep(0.02)


# Status


def test_write_status_adds_the_process_and_the_heartbeat(job: Job) -> None:
    job.write_status("running", phase="head", epoch=2)
    status = job.read_status()
    assert (status["state"], status["phase"], status["epoch"]) == ("running", "head", 2)
    assert (status["pid"], status["host"]) == (os.getpid(), platform.node())
    assert abs(status["heartbeat"] - time.time()) < 5


def test_write_status_invalid_state_is_refused(job: Job) -> None:
    with pytest.raises(JobError, match=r"Invalid job state 'asleep'\. Expected canceled, "):
        job.write_status("asleep")
    assert not job.status_file.exists()


def test_read_status_dead_process_is_interrupted(job: Job, dead_pid: int) -> None:
    before = put_status(job, pid=dead_pid, phase="head").read_bytes()
    status = job.read_status()
    assert (status["state"], status["phase"]) == ("interrupted", "head")
    assert status["message"] == "The process ended unexpectedly. It wrote no error message."
    assert job.status_file.read_bytes() == before


def test_read_status_reused_process_number_is_interrupted(job: Job) -> None:
    put_status(job, process_start="0/1")
    assert job.read_status()["state"] == "interrupted"


@pytest.mark.parametrize("state", ["done", "failed", "canceled"])
def test_read_status_ended_job_needs_no_process(job: Job, dead_pid: int, state: str) -> None:
    put_status(job, state=state, pid=dead_pid)
    assert job.read_status()["state"] == state


def test_read_status_queued_job_has_no_process(job: Job) -> None:
    job.write_status("queued", message="Waiting")
    assert "pid" not in json.loads(job.status_file.read_text())
    assert job.read_status()["state"] == "queued"


def test_read_status_dead_process_includes_its_last_error_output(job: Job, dead_pid: int) -> None:
    (job.path / "stderr.txt").write_text("noise\nError: the disk is full.\n\n")
    put_status(job, pid=dead_pid)
    message = job.read_status()["message"]
    assert message.endswith("unexpectedly. Last error output: Error: the disk is full.")


@pytest.mark.parametrize("content", DAMAGED)
def test_read_status_damaged_file_is_an_error(job: Job, content: bytes) -> None:
    job.status_file.write_bytes(content)
    with pytest.raises(JobError, match=r"Job 'job' has no readable status\.json"):
        job.read_status()


@pytest.mark.parametrize("state", ["paused", "running"])
def test_read_status_without_process_is_interrupted(job: Job, state: str) -> None:
    job.status_file.write_text(json.dumps({"state": state}))
    assert job.read_status()["state"] == "interrupted"


def test_write_status_with_a_long_message_or_name_can_be_read(job: Job) -> None:
    job.write_status("failed", message="\udcff \U0001f52c" + "x" * 3_000_000)
    message = job.read_status()["message"]
    assert message.startswith("\\udcff \U0001f52cxxx")
    assert len(message) == jobs.MAX_MESSAGE_LENGTH


def test_read_status_of_a_named_pipe_is_an_error(job: Job) -> None:
    os.mkfifo(job.status_file)
    with pytest.raises(JobError, match="Not a regular file"):
        job.read_status()


def test_read_status_during_writes_is_always_complete(job: Job) -> None:
    job.write_status("running", message="x" * 5000)
    over = threading.Event()

    def write() -> None:
        for _ in range(100):
            job.write_status("running", message="x" * 5000)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not over.is_set():
        assert len(job.read_status()["message"]) == 5000
    writer.join()
    assert [path.name for path in job.path.iterdir()] == ["status.json"]


def test_read_log_returns_the_last_lines(job: Job) -> None:
    assert job.read_log() == ""
    (job.path / "log.txt").write_bytes(b"one\ntwo\n\xff three\n")
    assert job.read_log(last_lines=2) == "two\n\ufffd three"


def test_read_log_reads_only_the_end_of_a_large_file(job: Job) -> None:
    with (job.path / "log.txt").open("wb") as stream:
        stream.truncate(2**33)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\nlast line\n")
    assert job.read_log(last_lines=1) == "last line"


@pytest.mark.parametrize("name", ["log.txt", "stderr.txt", "control.json"])
def test_read_files_that_are_no_regular_files(job: Job, name: str) -> None:
    os.mkfifo(job.path / name)
    job.status_file.write_text(NO_PROCESS)
    assert job.read_status()["state"] == "interrupted"
    assert (job.read_log(), job.requested_action()) == ("", None)


def test_find_all_ignores_other_files_and_directories(tmp_path: Path) -> None:
    assert Job.find_all(tmp_path / "missing") == []
    for name in ("b", "a", ".hidden", "no-status"):
        job = make_job(tmp_path, name)
        if name != "no-status":
            job.write_status("done")
    (tmp_path / "jobs" / "file").write_text("x")
    assert [job.name for job in Job.find_all(tmp_path / "jobs")] == ["a", "b"]


# job.json


def test_read_spec_returns_what_was_written(job: Job) -> None:
    assert job.read_spec() == JobSpec()
    spec = JobSpec(("train", "--run", "{job}"), {"a": 1}, {"B": "2"}, True, "ab", "tcp://h:1", "t")
    job.write_spec(spec)
    assert job.read_spec() == spec


def test_queue_job_replaces_spec_and_request(job: Job) -> None:
    job.request("stop")
    jobs.queue_job(job, JobSpec(("a",), task="t"))
    job.write_status("running")
    assert job.read_spec().task == "t"  # The spec outlives the statuses.
    jobs.queue_job(job, JobSpec(("b",)))
    assert job.read_spec() == JobSpec(("b",))
    assert job.requested_action() is None


@pytest.mark.parametrize("text", ["{", "[]", "\xff", '{"command": null}', '{"other": 1}'])
def test_read_spec_damaged_file_is_an_error(job: Job, text: str) -> None:
    (job.path / "job.json").write_text(text, encoding="latin-1")
    with pytest.raises(JobError, match=r"has no readable job\.json"):
        job.read_spec()


# Liveness


@pytest.mark.parametrize(
    ("age_s", "state"),
    [
        (0, "running"),
        (MAX_HEARTBEAT_AGE_S - 10, "running"),
        (MAX_HEARTBEAT_AGE_S + 10, "interrupted"),
    ],
)
def test_read_status_other_host_is_alive_while_fresh(job: Job, age_s: float, state: str) -> None:
    # The process number exists on this machine, but belongs to another process.
    put_status(job, age_s=age_s, **OTHER_HOST | {"pid": os.getpid()})
    assert job.read_status()["state"] == state


def test_read_status_dead_process_names_the_other_host(job: Job) -> None:
    put_status(job, age_s=MAX_HEARTBEAT_AGE_S + 10, **OTHER_HOST)
    message = job.read_status()["message"]
    assert message.startswith("The process on other-host ended unexpectedly.")


def test_is_alive_fresh_status_does_not_revive_a_local_process(job: Job) -> None:
    file = put_status(job, **OTHER_HOST | {"host": platform.node()})
    assert not is_alive(json.loads(file.read_text()), file)


def test_is_alive_this_process(tmp_path: Path) -> None:
    assert is_alive(process_fields(), tmp_path / "status.json")


def test_keep_alive_refreshes_the_status(job: Job) -> None:
    file = put_status(job, age_s=MAX_HEARTBEAT_AGE_S + 10)
    assert not is_alive(OTHER_HOST, file)
    with keep_alive(job, every_s=0.01):
        end_s = time.monotonic() + TIMEOUT_S
        while not is_alive(OTHER_HOST, file):
            assert time.monotonic() < end_s
            time.sleep(0.01)
    put_status(job, age_s=MAX_HEARTBEAT_AGE_S + 10)
    time.sleep(0.1)
    assert not is_alive(OTHER_HOST, file)  # The refreshing has ended.


def test_keep_alive_does_not_create_a_deleted_status(job: Job) -> None:
    with keep_alive(job, every_s=0.01):
        time.sleep(0.1)
    assert not list(job.path.iterdir())


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""
TIED = """
import sys, time
from pathlib import Path
from bc_model.jobs import Job, end_with_stdin
job = Job(Path(sys.argv[1]))
end_with_stdin(job)
job.write_status("running")
time.sleep(600)
"""


def test_end_with_stdin_ends_when_the_parent_is_killed(job: Job) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, TIED, str(job.path)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        pid = int(parent.stdout.readline())
        wait_for_file(job.status_file)
        status = job.read_status()
        assert (status["state"], status["pid"]) == ("running", pid)
        time.sleep(0.2)
        assert job.read_status()["state"] == "running"  # It does not end by itself.

        parent.kill()
        end_s = time.monotonic() + TIMEOUT_S
        while job.read_status()["state"] == "running":
            assert time.monotonic() < end_s
            time.sleep(0.02)
        assert "has ended" in parent.stderr.read()
    # Other machines see it at once as well.
    assert not is_alive(status | {"host": "other-host"}, job.status_file)


SLEEPER = """
import sys, time
from pathlib import Path
from bc_model.cli.options import log_to
from bc_model.jobs import Job, keep_alive
job = Job(Path(sys.argv[1]))
log_to(job.path / "log.txt")
job.write_status("running")
with keep_alive(job, every_s=0.05):
    time.sleep(600)
"""


def test_keep_alive_replaced_process_ends_when_it_wakes(job: Job) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(job.path)], cwd=REPOSITORY, stderr=subprocess.DEVNULL
    ) as child:
        wait_for_file(job.status_file)
        time.sleep(0.3)
        assert child.poll() is None  # The job is its own.
        process = psutil.Process(child.pid)
        process.suspend()
        file = put_status(job, age_s=5, **OTHER_HOST)
        content, written_s = file.read_text(), file.stat().st_mtime
        process.resume()
        assert child.wait(TIMEOUT_S) == 1
    assert "Another process took over Job 'job'" in job.read_log()
    assert (file.read_text(), file.stat().st_mtime) == (content, written_s)


@pytest.mark.parametrize(
    ("status", "replaced"),
    [
        ({"pid": os.getpid(), "host": platform.node()}, False),
        ({"pid": os.getppid(), "host": platform.node()}, False),
        ({"pid": 2**22 + 1, "host": platform.node()}, True),
        ({"pid": os.getpid(), "host": "other-host"}, True),
        ({"state": "queued"}, False),
        ([], False),
    ],
)
def test_is_replaced_only_by_another_process(job: Job, status: object, replaced: bool) -> None:
    job.status_file.write_text(json.dumps(status))
    assert is_replaced(job) is replaced


def test_is_replaced_unreadable_status_is_not(job: Job) -> None:
    assert not is_replaced(job)
    job.status_file.write_text("{")
    assert not is_replaced(job)


def test_process_fields_do_not_depend_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the clock moves the start of the machine, from which psutil computes times."""
    before = process_fields()
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 2.0)
    monkeypatch.setattr(time, "time", lambda: 10.0)
    assert process_fields() == before
    assert is_alive(before, Path("status.json"))


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux counts ticks.")
def test_process_fields_contain_boot_and_ticks() -> None:
    boot_id, _, ticks = process_fields()["process_start"].partition("/")
    assert boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # The uptime is close to the ticks of this process, which started a moment ago.
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= uptime_s - int(ticks) / os.sysconf("SC_CLK_TCK") < 3600


def test_process_fields_differ_between_processes(sleeper: psutil.Process) -> None:
    assert process_fields()["process_start"] != process_fields(sleeper.pid)["process_start"]


def test_is_alive_other_host_is_measured_with_the_clock_of_the_files(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put_status(job, age_s=MAX_HEARTBEAT_AGE_S - 10)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert is_alive(OTHER_HOST, file)


def test_create_job_deletes_what_killed_processes_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: 4e9)  # Another machine stores the directory.
    for prefix in (jobs.STAGING_PREFIX, jobs.DELETED_PREFIX):
        for name, age_s in (("old", jobs.MAX_HIDDEN_AGE_S + 60), ("new", 7200)):
            (tmp_path / f"{prefix}{name}-folder").mkdir()
            (tmp_path / f"{prefix}{name}-file").touch()
            (tmp_path / f"{prefix}{name}-link").symlink_to(tmp_path)
            for path in tmp_path.glob(f"{prefix}{name}-*"):
                os.utime(path, (now_s - age_s,) * 2, follow_symlinks=False)
    jobs.create_job(Job(tmp_path / "job"), lambda job: job.write_status("queued"))
    left = {path.name for path in tmp_path.iterdir()} - {jobs.LOCK_FILE, "job"}
    assert left == {
        f"{p}new-{k}" for p in (".new-", ".deleted-") for k in ("folder", "file", "link")
    }


HOLDER = """
import sys, time
from pathlib import Path
from bc_model.jobs import Job, hold_job
job = Job(Path(sys.argv[1]))
with hold_job(job), hold_job(job):
    (job.path / "held").touch()
    time.sleep(600)
"""


def test_hold_job_refuses_a_second_process_until_the_first_is_killed(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PROCESS_LOCK_TIMEOUT_S", 0.1)
    job.write_spec(JobSpec(("train",)))
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(job.path)], cwd=REPOSITORY) as child:
        wait_for_file(job.path / "held")
        # Every reader is misled: the status contains a process that does not exist.
        content = put_status(job, pid=2**22 + 1, process_start="0/0").read_bytes()
        assert job.read_status()["state"] == "running"
        for start in (lambda: jobs.hold_job(job).__enter__(), lambda: jobs.launch_job(job)):
            with pytest.raises(JobError, match="Another process works on Job 'job'"):
                start()
        with pytest.raises(JobError, match="Cancel it before you delete it"):
            jobs.delete_job(job)
        assert job.status_file.read_bytes() == content
        child.kill()
        child.wait()
        assert job.read_status()["state"] == "interrupted"
        with jobs.hold_job(job), jobs.hold_job(job):
            assert jobs.is_held(job.path)
        assert not jobs.is_held(job.path)


READER = """
import sys
from pathlib import Path
from bc_model.jobs import is_held
job = Path(sys.argv[1])
(job / "reading").touch()
answers = {is_held(job) for _ in iter((job / "stop").exists, True)}
print(*answers, flush=True)
"""


def read_in_threads(is_held: Callable[[], bool]) -> set[bool]:
    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(lambda _: is_held(), range(800)))


def test_is_held_readers_do_not_mistake_each_other_for_the_holder(job: Job) -> None:
    with jobs.hold_job(job):
        assert read_in_threads(lambda: jobs.is_held(job.path)) == {True}
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(job.path)], cwd=REPOSITORY, stdout=subprocess.PIPE
    ) as child:
        wait_for_file(job.path / "reading")
        answers = read_in_threads(lambda: jobs.is_held(job.path))
        (job.path / "stop").touch()
        assert answers == {False}
        assert child.communicate(timeout=TIMEOUT_S)[0].split() == [b"False"]


def test_is_held_on_windows_readers_exclude_each_other(job: Job) -> None:
    path = job.path / jobs.PROCESS_LOCK_FILE
    with jobs.hold_job(job):
        assert jobs._is_held_windows(path)
    assert read_in_threads(lambda: jobs._is_held_windows(path)) == {False}


def test_hold_job_while_others_read(job: Job) -> None:
    with jobs.hold_job(job):
        pass
    over = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(lambda: [jobs.is_held(job.path) for _ in iter(over.is_set, True)])
        try:
            for _ in range(10):
                with jobs.hold_job(job):
                    assert jobs.is_held(job.path)
        finally:
            over.set()


def test_hold_job_without_locks_is_a_warning(
    job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(jobs.filelock.FileLock, "acquire", fail)
    with jobs.hold_job(job):
        assert not jobs.is_held(job.path)
    assert "has no locks" in caplog.text


# Control


class Exporting(Job):
    """A job with a phase that cannot be interrupted."""

    final_phases: ClassVar[dict[str, str]] = {"export": "is exporting its model"}


CONTROLS = {"pause": jobs.pause_job, "stop": jobs.stop_job, "cancel": jobs.cancel_job}


def test_request_writes_and_withdraws_an_action(job: Job) -> None:
    assert job.requested_action() is None
    job.request("stop")
    job.request("stop")
    assert json.loads((job.path / "control.json").read_text()) == {"action": "stop"}
    assert job.requested_action() == "stop"
    job.request(None)
    job.request(None)
    assert job.requested_action() is None


def test_request_invalid_action_is_refused(job: Job) -> None:
    with pytest.raises(JobError, match=r"Invalid action 'explode'\. Expected pause, stop, cancel"):
        job.request("explode")


@pytest.mark.parametrize(
    "text",
    [
        '{"action": "explode"}', '{"action": []}', "[]", "{", "stop",
        '{"action": "stop"}' + " " * 2**16,
    ],
)  # fmt: skip
def test_requested_action_damaged_file_is_none(job: Job, text: str) -> None:
    (job.path / "control.json").write_text(text)
    assert job.requested_action() is None


@pytest.mark.parametrize("state", ["starting", "running", "pausing", "paused"])
@pytest.mark.parametrize("action", ACTIONS)
def test_control_running_job_gets_the_request(job: Job, state: str, action: str) -> None:
    job.write_status(state)
    CONTROLS[action](job)
    assert (job.read_status()["state"], job.requested_action()) == (state, action)


@pytest.mark.parametrize("state", sorted(ENDED_STATES))
@pytest.mark.parametrize("action", ["pause", "stop", "continue"])
def test_control_ended_job_is_refused(job: Job, state: str, action: str) -> None:
    put_status(job, state="running" if state == "interrupted" else state, pid=None)
    control = CONTROLS.get(action, jobs.continue_job)
    with pytest.raises(JobError, match=f"has already ended with state '{state}'"):
        control(job)
    assert job.requested_action() is None


@pytest.mark.parametrize("action", ACTIONS)
def test_control_final_phase_is_refused(job: Job, action: str) -> None:
    exporting = Exporting(job.path)
    exporting.write_status("running", phase="export")
    with pytest.raises(JobError) as caught:
        CONTROLS[action](exporting)
    assert str(caught.value) == (
        "Job 'job' is exporting its model and can no longer be paused, stopped or canceled. "
        "Wait until it finishes."
    )
    assert job.requested_action() is None


def test_pause_job_queued_job_is_refused(job: Job) -> None:
    job.write_status("queued")
    with pytest.raises(JobError, match=r"is queued and cannot be paused .* You can cancel it"):
        jobs.pause_job(job)


def test_continue_job_withdraws_only_a_pause(job: Job) -> None:
    job.write_status("running")
    with pytest.raises(JobError, match=r"Expected a paused job, got state 'running'"):
        jobs.continue_job(job)
    job.request("stop")
    with pytest.raises(JobError, match="is not paused"):
        jobs.continue_job(job)
    assert job.requested_action() == "stop"
    job.request("pause")
    jobs.continue_job(job)
    assert job.requested_action() is None


@pytest.mark.parametrize("status", ['{"state": "queued"}', NO_PROCESS])
def test_cancel_job_without_process_is_canceled_at_once(job: Job, status: str) -> None:
    job.status_file.write_text(status)
    jobs.cancel_job(job)
    assert job.read_status()["state"] == "canceled"
    with pytest.raises(JobError, match="has already ended"):
        jobs.cancel_job(job)


@pytest.mark.parametrize("state", sorted(STATES - ENDED_STATES))
def test_delete_job_running_job_is_refused(job: Job, state: str) -> None:
    job.write_status(state)
    with pytest.raises(JobError, match=f"is {state}. Cancel it before you delete it"):
        jobs.delete_job(job)
    assert job.path.exists()


@pytest.mark.parametrize("content", [b'{"state": "done"}', *DAMAGED])
def test_delete_job_ended_or_damaged_job_is_gone(job: Job, content: bytes) -> None:
    job.status_file.write_bytes(content)
    jobs.delete_job(job)
    assert [path.name for path in job.path.parent.iterdir()] == [".lock"]


# Priority


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


@pytest.mark.skipif(os.name == "nt", reason="Niceness exists only on POSIX.")
def test_lower_priority_covers_process_and_session(sleeper: psutil.Process) -> None:
    jobs._lower_priority(sleeper.pid, 10)
    assert sleeper.nice() == max(10, psutil.Process().nice())
    group = Path(f"/proc/{sleeper.pid}/autogroup")
    if group.exists() and (text := group.read_text()):
        assert text.split()[-2:] == ["nice", "10"]


def test_lower_priority_forbidden_is_ignored(
    sleeper: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_: object) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "nice", forbid)
    jobs._lower_priority(sleeper.pid, 10)
    assert sleeper.is_running()


def test_lower_priority_zero_changes_nothing(sleeper: psutil.Process) -> None:
    before = sleeper.nice()
    jobs._lower_priority(sleeper.pid, 0)
    assert sleeper.nice() == before


def test_niceness_is_ten_or_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BC_NICENESS", raising=False)
    assert jobs.niceness() == 10
    monkeypatch.setenv("BC_NICENESS", "0")
    assert jobs.niceness() == 0
    for value in ("20", "-5", "low", ""):
        monkeypatch.setenv("BC_NICENESS", value)
        with pytest.raises(ConfigError, match=r"BC_NICENESS\. Expected 0 to 19"):
            jobs.niceness()


# Launch and queue


class FakeProcess:
    """Replaces a child process and stores how it was started."""

    pid = 2**22 + 1

    def __init__(self, command: list[str], **options: object) -> None:
        self.command, self.options = command, options

    def poll(self) -> None:
        return None


@pytest.fixture
def fake_popen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.subprocess, "Popen", FakeProcess)


@pytest.mark.usefixtures("fake_popen")
def test_launch_job_fills_in_directory_and_environment(job: Job) -> None:
    job.write_spec(JobSpec(("train", "--run", "{job}"), environment={"A": "1"}))
    child = jobs.launch_job(job, ["--more"], environment={"A": "0", "B": "2"})
    command = [sys.executable, "-m", "bc_model", "train", "--run", str(job.path), "--more"]
    environment = {"A": "1", "B": "2", "PYTHONIOENCODING": "utf-8:backslashreplace"}
    assert (child.command, child.options["env"]) == (command, environment)  # type: ignore[attr-defined]
    assert jobs._children == [child]
    assert job.read_status()["state"] == "failed"  # There is no such process.


@pytest.mark.usefixtures("fake_popen")
def test_launch_job_without_command_is_refused(job: Job) -> None:
    with pytest.raises(JobError, match=r"has no command in job\.json"):
        jobs.launch_job(job)


def test_launch_job_real_process_writes_its_errors_into_the_job(job: Job) -> None:
    job.write_spec(JobSpec(("no-such-command",)))
    child = jobs.launch_job(job)
    assert child.wait(TIMEOUT_S) == 2
    status = job.read_status()
    assert status["state"] == "interrupted"
    assert "No such command 'no-such-command'" in status["message"]


def test_end_process_terminates_and_waits(job: Job, sleeper: psutil.Process) -> None:
    job.write_status("running", pid=sleeper.pid)
    jobs.end_process(job)
    assert job.read_status()["state"] == "interrupted"
    jobs.end_process(job)


def queue_jobs(directory: Path, *names: str) -> list[Job]:
    queued = [make_job(directory, name) for name in names]
    for job in queued:
        jobs.queue_job(job, JobSpec(("command",)))
    return queued


def advance(directory: Path, limit: int = 1) -> list[str]:
    """Advance a queue; the jobs run in this process."""

    def newest_first(path: Path) -> list[Job]:
        return Job.find_all(path)[::-1]

    def launch(job: Job) -> None:
        job.write_status("running")

    return jobs.advance_queue(directory / "jobs", newest_first, launch, lambda: limit)


@pytest.mark.parametrize("state", ["starting", "running", "pausing", "canceling"])
def test_advance_queue_waits_for_a_running_job(tmp_path: Path, state: str) -> None:
    first = make_job(tmp_path, "first")
    first.write_status(state)
    queue_jobs(tmp_path, "second")
    assert advance(tmp_path) == []
    first.write_status("done")
    assert advance(tmp_path) == ["second"]


@pytest.mark.parametrize(
    "status",
    ['{"state": "done"}', "damaged", NO_PROCESS, json.dumps(OTHER_HOST)],
    ids=["ended", "damaged", "dead", "other-host"],
)
def test_advance_queue_ignores_jobs_that_do_not_run_here(tmp_path: Path, status: str) -> None:
    make_job(tmp_path, "first").status_file.write_text(status)
    queue_jobs(tmp_path, "second")
    assert advance(tmp_path) == ["second"]


def test_advance_queue_paused_job_leaves_its_place(tmp_path: Path) -> None:
    make_job(tmp_path, "first").write_status("paused")
    queue_jobs(tmp_path, "second")
    assert advance(tmp_path) == ["second"]


def test_advance_queue_starts_the_oldest_up_to_the_limit(tmp_path: Path) -> None:
    queued = queue_jobs(tmp_path, "a", "b", "c", "d")
    assert advance(tmp_path, limit=2) == ["a", "b"]
    queued[1].write_status("done")
    assert advance(tmp_path, limit=2) == ["c"]


def test_advance_queue_starts_the_others_after_a_job_that_cannot_start(tmp_path: Path) -> None:
    damaged, sound = queue_jobs(tmp_path, "damaged", "sound")
    damaged.write_spec(JobSpec(("null \0 character",)))

    def launch(job: Job) -> None:
        jobs.launch_job(job) if job == damaged else job.write_status("running")

    jobs.advance_queue(tmp_path / "jobs", lambda path: Job.find_all(path)[::-1], launch, lambda: 2)
    assert sound.read_status()["state"] == "running"
    status = damaged.read_status()
    assert status["state"] == "failed"
    assert status["message"] == "The process cannot be started. embedded null byte"


def test_advance_queue_leaves_cluster_jobs_and_damaged_specs(tmp_path: Path) -> None:
    cluster, damaged = queue_jobs(tmp_path, "cluster", "damaged")
    cluster.write_spec(JobSpec(("command",), scheduler="tcp://host:1", task="t"))
    (damaged.path / "job.json").write_text("{")
    make_job(tmp_path, "no-command").write_status("queued")
    assert advance(tmp_path, limit=9) == []


def test_locked_directory_is_an_error_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LOCK_TIMEOUT_S", 0)
    with (
        jobs.filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(JobError, match="Another process has locked the directory"),
        jobs.locked(tmp_path),
    ):
        pass


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_reap_children_reports_an_instruction_that_the_processor_does_not_have(job: Job) -> None:
    child = subprocess.Popen(["sleep", "60"])
    job.write_status("running", pid=child.pid)
    child.send_signal(signal.SIGILL)
    child.wait()
    jobs._children.append(child)
    jobs._job_of[child.pid] = job
    jobs.reap_children()
    status = job.read_status()
    assert status["state"] == "failed"
    assert "an instruction that this processor does not have (SIGILL)" in status["message"]
