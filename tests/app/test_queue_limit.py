"""Limits of unfinished runs and downloads."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from app.components import queue_limit
from app.components.queue_limit import limit_downloads, limit_runs, max_runs_queued
from bc_model.errors import BusyError, ConfigError, RunError
from bc_model.training import Run


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Replace the state of the session, and allow eight runs."""
    state: dict[str, set[str]] = {}
    monkeypatch.setattr(queue_limit.st, "session_state", state)
    monkeypatch.setenv("BC_MAX_QUEUED", "8")
    return state


def queue(runs: Path, *names: str) -> None:
    for name in names:
        Run.create(runs / name).write_status("queued")


def test_runs_of_a_session_are_limited(runs: Path, session: dict[str, set[str]]) -> None:
    with limit_runs(3):
        queue(runs, "a", "b", "c")
    with pytest.raises(BusyError, match=r"of this session. Expected at most 4 \(BC_MAX_QUEUED\)"):
        limit_runs(2).__enter__()
    Run(runs / "a").write_status("done")
    with limit_runs(2):
        pass
    session.clear()  # Another session.
    with limit_runs(4):
        queue(runs, "d", "e", "f", "g")


def test_runs_of_all_sessions_are_limited(runs: Path, session: dict[str, set[str]]) -> None:
    queue(runs, *"abcdef")
    with pytest.raises(BusyError, match=r"on this server. Expected at most 8 .*, got 6 and 3 more"):
        limit_runs(3).__enter__()
    with limit_runs(2):
        queue(runs, "g", "h")
    with pytest.raises(BusyError, match="on this server"):
        limit_runs(1).__enter__()


def test_runs_that_started_before_an_error_count(runs: Path, session: dict[str, set[str]]) -> None:
    def start() -> None:
        with limit_runs(4):
            queue(runs, "a", "b", "c")
            raise RunError("The fourth run could not start.")

    with pytest.raises(RunError, match="fourth"):
        start()
    with pytest.raises(BusyError, match="of this session"):
        limit_runs(2).__enter__()


def test_clicks_at_the_same_time_do_not_exceed_the_limit(
    runs: Path, session: dict[str, set[str]]
) -> None:
    def start(name: str) -> None:
        with suppress(BusyError), limit_runs(3):
            time.sleep(0.02)
            queue(runs, *(f"{name}{number}" for number in range(3)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, "abcd"))
    assert len(list(runs.glob("*/status.json"))) == 3


def test_damaged_and_ended_runs_do_not_count(runs: Path, session: dict[str, set[str]]) -> None:
    queue(runs, *"abcdefghi")
    for name in "abcdefgh":
        Run(runs / name).write_status("failed")
    (runs / "i/status.json").write_text("{")
    with limit_runs(4):
        pass


@pytest.mark.parametrize("value", ["0", "-1", "many", "", "1e3"])
def test_invalid_limit_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_MAX_QUEUED", value)
    with pytest.raises(ConfigError, match="BC_MAX_QUEUED"):
        max_runs_queued()


def test_downloads_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    running = type("Download", (), {"is_running": True})
    ended = type("Download", (), {"is_running": False})
    monkeypatch.setattr(queue_limit, "list_downloads", lambda: [running, ended, ended])
    with limit_downloads():
        pass
    monkeypatch.setattr(queue_limit, "list_downloads", lambda: [running, running])
    with pytest.raises(BusyError, match="Too many downloads"):
        limit_downloads().__enter__()


def test_train_page_shows_the_limit(runs, synthetic, open_page, monkeypatch) -> None:
    monkeypatch.setenv("BC_MAX_QUEUED", "1")
    queue(runs, "other")
    app = open_page("train", dataset="synthetic")
    app.selectbox(key="config-weights").set_value("none").run()
    app.button(key="start").click().run()
    assert "Too many unfinished runs on this server" in app.error[0].value
    assert [path.name for path in runs.iterdir() if path.is_dir()] == ["other"]
