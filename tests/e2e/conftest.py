"""The real app in a real headless Chromium."""

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
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium, or skip with the reason; where BC_REQUIRE_BROWSER is set, fail instead."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = f"no browser: none of {', '.join(NAMES)} is installed"
        if os.environ.get("BC_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()


@dataclass
class App:
    """One running server.

    Attributes
    ----------
    url : str
    runs, shelf : Path
        Its folders of runs and of data sets.
    """

    url: str
    runs: Path
    registry: Path
    log: BinaryIO = field(repr=False)
    process: subprocess.Popen = field(init=False, repr=False)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = Path(sys.executable).with_name("streamlit")
        self.process = subprocess.Popen(
            [command, "run", "app/main.py", "--server.port", str(urlsplit(self.url).port)],
            cwd=ROOT,
            env=os.environ
            | {"BC_RUNS": str(self.runs), "BC_DATASETS": str(self.registry)}
            # As for a person: otherwise a small run is over before a busy page has shown it.
            | {"BC_NICENESS": "10"},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        _wait_until_healthy(self.url, self.process)

    def stop(self) -> None:
        """End the server as Ctrl-C does."""
        self.process.terminate()
        self.process.wait(timeout=20)

    def restart(self) -> None:
        """Stop and start, on the same port."""
        self.stop()
        self.start()


@pytest.fixture
def app(tmp_path: Path, tiny_run: Run) -> Iterator[App]:
    """Start the app as a person would, on a free port, with one finished run."""
    runs = tmp_path / "runs"
    shutil.copytree(tiny_run.path, runs / "finished")
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        port = proxy.getsockname()[1]
    with (tmp_path / "server.log").open("wb") as log:  # a pipe that nobody reads would block
        server = App(f"http://127.0.0.1:{port}", runs, tmp_path / "shelf", log)
        try:
            server.start()
            yield server
        finally:
            server.stop()
            for run in list_runs(runs):
                with contextlib.suppress(psutil.Error, KeyError):
                    if run.read_status()["state"] not in ENDED_STATES:
                        psutil.Process(run.read_status()["pid"]).kill()


@pytest.fixture
def page(browser: Browser, app: App) -> Iterator[Page]:
    """Open the app's first page; afterwards, no console error and no foreign request is allowed."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    errors: list[str] = []
    hosts: set[str] = set()
    opened.on("console", lambda message: errors.extend(_told_error(message)))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    opened.goto(app.url)
    yield opened
    context.close()
    assert hosts - {""} == {urlsplit(app.url).netloc}
    assert errors == []


def _told_error(message: ConsoleMessage) -> list[str]:
    if message.type != "error":
        return []
    # Opened below its root, Streamlit's page first asks for its server under the page's own path.
    place = urlsplit(message.location["url"]).path
    if re.fullmatch(r"/\w+/_stcore/(health|host-config)", place):
        return []
    # The server lets go of a view's pictures when another one is asked for: those that had not
    # come yet are complained of. The tests look at the pictures that stay (`steps.see_pictures`).
    if "/media/" in f"{place} {message.text}":
        return []
    return [f"{message.text} ({place})"]


def _wait_until_healthy(url: str, process: subprocess.Popen) -> None:
    for _ in range(300):
        assert process.poll() is None, "the server ended before it answered"
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.read() == b"ok":
                    return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the server did not answer within 30 s")
