"""The app's pages in Streamlit's own test harness: no browser, no TensorFlow."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.scriptrunner import script_runner
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from bc_model.data.registry import link_folder
from bc_model.training import config as forecast
from bc_model.training.run import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def looked_at_once() -> Iterator[None]:
    """Look at the installed packages, and at the machine's speed, once and not for every page.

    Streamlit reads the metadata of every package whenever a page is opened in its harness, and
    clears Keras after every script where it is loaded: by other tests, since no page loads it.
    """
    packages = cache(getattr(manifest_scanner, "scan_component_manifests", list))
    speed = cache(forecast.measure_gflops)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", packages, raising=False)
        patch.setattr(forecast, "measure_gflops", speed)
        patch.setattr(script_runner, "_clean_problem_modules", lambda: None, raising=False)
        yield


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder of runs that the app uses instead of its own; its shelf is empty."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("BC_RUNS", str(folder))
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "shelf"))
    monkeypatch.setattr("app.components.model_picker.SHIPPED_MODELS", tmp_path / "no-models")
    return folder


@pytest.fixture
def finished_run(runs: Path, tiny_run: Run) -> Run:
    """Return a finished run that a test may alter."""
    shutil.copytree(tiny_run.path, runs / "finished")
    return Run(runs / "finished")


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Return a function that opens a page of the app and fails on any exception."""
    monkeypatch.chdir(ROOT)  # Streamlit reads .streamlit/config.toml from here
    st.cache_data.clear()
    st.cache_resource.clear()

    def open_named(name: str, **query: str) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app/main.py"), default_timeout=30)
        for key, value in query.items():
            app.query_params[key] = value
        if name != "classify":
            app.switch_page(f"views/{name}.py")
        app.run()
        assert not app.exception
        # The layout turns an unexpected exception into a message, which is a failure here.
        assert "This page failed" not in " ".join(str(error.value) for error in app.error)
        return app

    return open_named


@pytest.fixture
def registry(runs: Path, tmp_path: Path) -> Path:
    """Return the shelf of the page, which is empty."""
    return tmp_path / "shelf"


@pytest.fixture
def synthetic(drawn_set: Path, registry: Path) -> Path:
    """Put the drawn set on the shelf: 30 pictures of 10 cases."""
    link_folder(drawn_set, "drawn", registry)
    return drawn_set
