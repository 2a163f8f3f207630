"""Who lives: by number here, by the age of the status elsewhere; and a trainer tied to a pipe."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bc_model.training.liveness import (
    ALIVE_S,
    is_alive,
    is_replaced,
    process_fields,
    touched,
)
from bc_model.training.run_folder import RunFolder

ELSEWHERE = {"state": "running", "pid": 1, "pid_started": 0.0, "host": "elsewhere"}
PATIENCE_S = 60


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


def put(run: RunFolder, status: dict, age_s: float = 0.0) -> Path:
    file = run.path / "status.json"
    file.write_text(json.dumps(status))
    then = time.time() - age_s
    os.utime(file, (then, then))
    return file


def test_a_status_says_its_machine(run: RunFolder) -> None:
    run.write_status("running")
    assert run.read_status()["host"] == platform.node()


@pytest.mark.parametrize(
    ("age_s", "state"), [(0, "running"), (ALIVE_S - 10, "running"), (ALIVE_S + 10, "interrupted")]
)
def test_a_run_of_another_machine_lives_while_its_status_is_fresh(
    run: RunFolder, age_s: float, state: str
) -> None:
    # Its number is that of a process here, which tells nothing.
    put(run, ELSEWHERE | {"pid": os.getpid()}, age_s)
    assert run.read_status()["state"] == state


def test_the_machine_of_a_run_that_is_gone_is_named(run: RunFolder) -> None:
    put(run, ELSEWHERE, age_s=ALIVE_S + 10)
    assert run.read_status()["message"] == (
        "The training process on elsewhere is gone without a word."
    )


def test_here_a_fresh_status_does_not_bring_back_a_dead_process(run: RunFolder) -> None:
    file = put(run, ELSEWHERE | {"host": platform.node()})
    assert not is_alive(json.loads(file.read_text()), file)


def test_a_long_step_without_a_status_does_not_look_dead(run: RunFolder) -> None:
    mine = {"state": "running", **process_fields()}
    file = put(run, mine, age_s=ALIVE_S + 10)
    assert not is_alive(ELSEWHERE, file)
    with touched(file, every_s=0.01):
        end = time.monotonic() + PATIENCE_S
        while not is_alive(ELSEWHERE, file):
            assert time.monotonic() < end
            time.sleep(0.01)
    put(run, mine, age_s=ALIVE_S + 10)
    time.sleep(0.1)
    assert not is_alive(ELSEWHERE, file)  # nobody touches it any more


def test_a_status_that_is_deleted_meanwhile_is_not_brought_back(tmp_path: Path) -> None:
    with touched(tmp_path / "status.json", every_s=0.01):
        time.sleep(0.1)
    assert not list(tmp_path.iterdir())


HOLDER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""
TIED = """
import sys, time
from pathlib import Path
from bc_model.training.liveness import end_with_stdin
from bc_model.training.run_folder import RunFolder
end_with_stdin(Path(sys.argv[1]) / "status.json")
RunFolder(Path(sys.argv[1])).write_status("running")
time.sleep(600)
"""


def test_a_tied_process_ends_when_its_holder_is_killed(run: RunFolder) -> None:
    repository = Path(__file__).parents[3]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, TIED, str(run.path)],
        cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stderr is not None
        pid = int(holder.stdout.readline())
        end = time.monotonic() + PATIENCE_S
        while not (run.path / "status.json").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        status = run.read_status()
        assert (status["state"], status["pid"]) == ("running", pid)
        time.sleep(0.2)
        assert run.read_status()["state"] == "running"  # it does not end by itself

        holder.kill()
        while run.read_status()["state"] == "running":
            assert time.monotonic() < end
            time.sleep(0.02)
        assert "has ended" in holder.stderr.read()
    # Another machine is told at once as well.
    assert not is_alive(status | {"host": "elsewhere"}, run.path / "status.json")


SLEEPER = """
import sys, time
from pathlib import Path
from bc_model.cli.options import log_to
from bc_model.training.liveness import touched
from bc_model.training.run_folder import RunFolder
run = RunFolder(Path(sys.argv[1]))
log_to(run.path / "log.txt")
run.write_status("running")
with touched(run.path / "status.json", every_s=0.05):
    time.sleep(600)
"""


def test_a_trainer_that_was_replaced_while_it_was_frozen_ends_when_it_wakes(
    run: RunFolder,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(run.path)], cwd=Path(__file__).parents[3],
        stderr=subprocess.DEVNULL,
    ) as trainer:  # fmt: skip
        end = time.monotonic() + PATIENCE_S
        while not (run.path / "status.json").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.3)
        assert trainer.poll() is None  # the run is its own
        process = psutil.Process(trainer.pid)
        process.suspend()
        file = put(run, ELSEWHERE, age_s=5)
        then = file.stat().st_mtime
        process.resume()
        assert trainer.wait(PATIENCE_S) == 1
    assert "Another process works on the run run since this one stood still" in run.read_log()
    assert (json.loads(file.read_text()), file.stat().st_mtime) == (ELSEWHERE, then)


@pytest.mark.parametrize(
    ("status", "replaced"),
    [
        ({"pid": os.getpid(), "host": platform.node()}, False),
        ({"pid": os.getppid(), "host": platform.node()}, False),
        ({"pid": 2**22 + 1, "host": platform.node()}, True),
        ({"pid": os.getpid(), "host": "elsewhere"}, True),
        ({"state": "queued"}, False),
        ([], False),
    ],
)
def test_a_status_of_another_process_is_told_from_ones_own(
    run: RunFolder, status: dict, replaced: bool
) -> None:
    assert is_replaced(put(run, status)) is replaced


def test_a_status_that_cannot_be_read_replaces_nobody(run: RunFolder) -> None:
    assert not is_replaced(run.path / "status.json")
    (run.path / "status.json").write_text("{")
    assert not is_replaced(run.path / "status.json")


def test_this_process_is_alive(tmp_path: Path) -> None:
    assert is_alive(process_fields(), tmp_path / "status.json")
