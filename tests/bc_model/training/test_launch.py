"""The process of a run goes second, whoever starts it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bc_model.errors import SettingsError
from bc_model.training.launch import _go_second, niceness


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
    _go_second(sleeper.pid, 10)
    assert sleeper.nice() == max(10, psutil.Process().nice())
    group = Path(f"/proc/{sleeper.pid}/autogroup")
    if group.exists() and (text := group.read_text()):
        assert text.split()[-2:] == ["nice", "10"]


def test_a_system_that_forbids_it_is_no_failure(
    sleeper: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "nice", forbidden)
    _go_second(sleeper.pid, 10)
    assert sleeper.is_running()


def test_on_a_machine_that_only_trains_it_need_not(sleeper: psutil.Process) -> None:
    before = sleeper.nice()
    _go_second(sleeper.pid, 0)
    assert sleeper.nice() == before


def test_the_niceness_is_ten_or_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BC_NICENESS", raising=False)
    assert niceness() == 10
    monkeypatch.setenv("BC_NICENESS", "0")
    assert niceness() == 0
    for said in ("20", "-5", "low", ""):
        monkeypatch.setenv("BC_NICENESS", said)
        with pytest.raises(SettingsError, match="BC_NICENESS must be a number from 0 to 19"):
            niceness()
