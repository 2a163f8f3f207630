"""Limits of what users can start: unfinished runs and downloads, in total and for each session."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from bc_model.data import list_downloads
from bc_model.errors import BusyError, ConfigError, RunError
from bc_model.jobs import ENDED_STATES
from bc_model.training import Run, list_runs, runs_dir

RUNS_VARIABLE = "BC_MAX_QUEUED"
DEFAULT_MAX_RUNS = 100
MAX_DOWNLOADS = 2
"""Limit for the server. A download is about 4 GB, and each takes a process."""
_KEY = "runs-of-this-session"
_lock = threading.Lock()
"""Held from the check to the start, so that sessions cannot exceed a limit together."""


@contextmanager
def limit_runs(n_new: int) -> Iterator[None]:
    """Start runs inside this context; raises `BusyError` before it if there are too many.

    Runs that are queued, running or paused count. A session can have half of the total.
    """
    with _lock:
        unfinished = _list_unfinished()
        limit = max_runs_queued()
        own = unfinished & st.session_state.get(_KEY, set())
        for names, scope, bound in ((own, "of this session", (limit + 1) // 2),
                                    (unfinished, "on this server", limit)):  # fmt: skip
            if len(names) + n_new > bound:
                raise BusyError(
                    f"Too many unfinished runs {scope}. Expected at most {bound} "
                    f"({RUNS_VARIABLE}), got {len(names)} and {n_new} more. Wait until some have "
                    "finished, or cancel some."
                )
        try:
            yield
        finally:  # Some runs may have started before an error.
            st.session_state[_KEY] = own | (_list_unfinished() - unfinished)


@contextmanager
def limit_downloads() -> Iterator[None]:
    """Start a download inside this context; raises `BusyError` before it if too many run."""
    with _lock:
        if (n := sum(download.is_running for download in list_downloads())) >= MAX_DOWNLOADS:
            raise BusyError(
                f"Too many downloads. Expected fewer than {MAX_DOWNLOADS} that are running, got "
                f"{n}. Wait until one has finished, or cancel one."
            )
        yield


def max_runs_queued() -> int:
    """Return the limit of unfinished runs: BC_MAX_QUEUED, or 100."""
    text = os.environ.get(RUNS_VARIABLE, str(DEFAULT_MAX_RUNS))
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise ConfigError(
            f"Invalid environment variable {RUNS_VARIABLE}. Expected 1 to 100,000, got '{text}'."
        )
    return int(text)


def _list_unfinished() -> set[str]:
    return {run.name for run in list_runs(runs_dir()) if _is_unfinished(run)}


def _is_unfinished(run: Run) -> bool:
    try:
        return run.read_status()["state"] not in ENDED_STATES
    except RunError:
        return False  # No process works on a damaged run.
