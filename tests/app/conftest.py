"""The pages of the app in the test harness of Streamlit, without a browser."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.scriptrunner import script_runner
from streamlit.testing.v1 import AppTest

from bc_model.data.registry import link_folder
from bc_model.training import devices
from bc_model.training.run import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def _cache_slow_calls() -> Iterator[None]:
    """Scan the installed packages and measure the speed of the machine once per session.

    For each page, the harness would read the metadata of every package, and clear Keras.
    """
    packages = cache(getattr(manifest_scanner, "scan_component_manifests", list))
    speed = cache(devices.measure_gflops)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", packages, raising=False)
        patch.setattr(devices, "measure_gflops", speed)
        patch.setattr(script_runner, "_clean_problem_modules", lambda: None, raising=False)
        yield


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory of runs that the app uses; its dataset registry is empty, too."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("BC_RUNS", str(folder))
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("BC_ROOTS", tmp_path.anchor)
    monkeypatch.setattr("app.components.model_picker.BUNDLED_MODELS_DIR", tmp_path / "no-models")
    return folder


@pytest.fixture
def finished_run(runs: Path, tiny_run: Run) -> Run:
    """Return a finished run that a test may change."""
    shutil.copytree(tiny_run.path, runs / "finished")
    return Run(runs / "finished")


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Return a function that opens a page of the app and fails on any exception."""
    monkeypatch.setattr("app.server.settings._is_checked", True)  # As after app/main.py.
    monkeypatch.chdir(ROOT)  # Streamlit reads .streamlit/config.toml here.
    st.cache_data.clear()
    st.cache_resource.clear()

    def open_named(name: str, **query: str) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app/router.py"), default_timeout=30)
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
    """Return the directory of the dataset registry, which is empty."""
    return tmp_path / "datasets"


@pytest.fixture
def synthetic(synthetic_dataset: Path, registry: Path) -> Path:
    """Register the synthetic dataset: 30 images of 10 cases."""
    link_folder(synthetic_dataset, "synthetic", registry)
    return synthetic_dataset
