"""The process of a run goes second, whoever starts it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bc_model.training.launch import NICENESS, _go_second


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


@pytest.mark.skipif(os.name == "nt", reason="niceness is of POSIX")
def test_the_trainer_and_its_session_are_nice(sleeper: psutil.Process) -> None:
    _go_second(sleeper.pid)
    assert sleeper.nice() == max(NICENESS, psutil.Process().nice())
    group = Path(f"/proc/{sleeper.pid}/autogroup")
    if group.exists() and (text := group.read_text()):
        assert text.split()[-2:] == ["nice", str(NICENESS)]


def test_a_system_that_forbids_it_is_no_failure(
    sleeper: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "nice", forbidden)
    _go_second(sleeper.pid)
    assert sleeper.is_running()
