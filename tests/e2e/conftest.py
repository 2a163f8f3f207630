"""Fixtures of the browser tests: one server of the app for all tests, and headless Chromium."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from bc_model.jobs import ENDED_STATES
from bc_model.training.run import Run, list_runs

ROOT = Path(__file__).parents[2]
BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium; skip the tests without it, or fail if BC_REQUIRE_BROWSER is set."""
    executable = next((path for name in BROWSER_NAMES if (path := shutil.which(name))), None)
    if executable is None:
        reason = f"no browser: none of {', '.join(BROWSER_NAMES)} is installed"
        if os.environ.get("BC_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()


@dataclass
class App:
    """A running server of the app.

    Attributes
    ----------
    url : str
        Address of the server.
    runs, registry : Path
        Directories of the runs and of the datasets.
    log : file
        Output of the server.
    """

    url: str
    runs: Path
    registry: Path
    log: BinaryIO = field(repr=False)
    process: subprocess.Popen = field(init=False, repr=False)

    def start(self) -> None:
        """Start the server and wait until it responds."""
        command = Path(sys.executable).with_name("streamlit")
        self.process = subprocess.Popen(
            [command, "run", "app/main.py", "--server.port", str(urlsplit(self.url).port)],
            cwd=ROOT,
            env=os.environ
            | {"BC_RUNS": str(self.runs), "BC_DATASETS": str(self.registry)}
            | {"BC_ROOTS": self.runs.anchor}
            # As in normal use; otherwise, a small run ends before a busy page has shown it.
            | {"BC_NICENESS": "10"},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        _wait_until_healthy(self.url, self.process)

    def stop(self) -> None:
        """Stop the server."""
        self.process.terminate()
        self.process.wait(timeout=20)

    def restart(self) -> None:
        """Restart the server on the same port."""
        self.stop()
        self.start()


@pytest.fixture(scope="session")
def app_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Start the app on a free port, without runs."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with (folder / "server.log").open("wb") as log:  # An unread pipe would block the server.
        server = App(f"http://127.0.0.1:{port}", folder / "runs", folder / "datasets", log)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture
def app(app_server: App, tiny_run: Run) -> Iterator[App]:
    """Return the running app with one finished run; afterwards, delete its runs and datasets."""
    shutil.copytree(tiny_run.path, app_server.runs / "finished")
    yield app_server
    for run in list_runs(app_server.runs):
        with contextlib.suppress(psutil.Error, KeyError):
            if run.read_status()["state"] not in ENDED_STATES:
                process = psutil.Process(run.read_status()["pid"])
                process.kill()
                process.wait(timeout=20)
    for folder in (app_server.runs, app_server.registry):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def page(browser: Browser, app: App) -> Iterator[Page]:
    """Open the first page; fail on console errors and on requests to other hosts."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    errors: list[str] = []
    hosts: set[str] = set()
    opened.on("console", lambda message: errors.extend(_list_errors(message)))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    opened.goto(app.url)
    yield opened
    context.close()
    assert hosts - {""} == {urlsplit(app.url).netloc}
    assert errors == []


def _list_errors(message: ConsoleMessage) -> list[str]:
    if message.type != "error":
        return []
    # A page below the root first looks for the server under its own path.
    place = urlsplit(message.location["url"]).path
    if re.fullmatch(r"/\w+/_stcore/(health|host-config)", place):
        return []
    # The server drops the images of a page that is left, so late requests fail. The tests check
    # the images that stay, see `steps.wait_for_images`.
    if "/media/" in f"{place} {message.text}":
        return []
    return [f"{message.text} ({place})"]


def _wait_until_healthy(url: str, process: subprocess.Popen) -> None:
    for _ in range(300):
        assert process.poll() is None, "the server ended before it responded"
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as response:
                if response.read() == b"ok":
                    return
        except OSError:
            time.sleep(0.1)
    pytest.fail("The server did not respond within 30 s.")
