"""Time until the first page and the first prediction of the app, and memory of the server.

Each measurement starts a new server process and opens the first page in Chromium, which must be
installed.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.load import make_accepted_image
from benchmarks.model_card import dummy_model_card

ROOT = Path(__file__).parents[1]
STARTS = 5


def measure_startup() -> dict[str, float]:
    """Return medians over cold starts, s and MB; an empty dictionary without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = Path(folder) / "runs"
        _write_model(runs)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = [_measure_one_start(browser, runs) for _ in range(STARTS)]
        browser.close()
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def _write_model(runs: Path) -> None:
    from bc_model.inference import write_bundle
    from bc_model.model import build_model

    size = (224, 224)
    write_bundle(build_model("resnet50", image_size=size), runs / "b/model", dummy_model_card(size))


def _measure_one_start(browser: Browser, runs: Path) -> dict[str, float]:
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    page = browser.new_page()
    begin = time.perf_counter()
    server = subprocess.Popen(
        [
            Path(sys.executable).with_name("streamlit"),
            "run",
            "app/main.py",
            f"--server.port={port}",
        ],
        cwd=ROOT,
        env=os.environ | {"BC_RUNS": str(runs)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(url, server)
        healthy = time.perf_counter() - begin
        page.goto(url)
        page.get_by_role("heading", name="Classify").wait_for()
        page.locator("input[type=file]").wait_for(state="attached")
        first_page = time.perf_counter() - begin
        memory = psutil.Process(server.pid).memory_info().rss / 2**20
        first_prediction = _time_first_prediction(page)
        memory_after = psutil.Process(server.pid).memory_info().rss / 2**20
    finally:
        server.terminate()
        server.wait()
        page.close()
    return {
        "server_healthy_s": healthy,
        "first_page_s": first_page,
        "first_page_rss_mb": memory,
        "first_prediction_s": first_prediction,
        "first_prediction_rss_mb": memory_after,
    }


def _time_first_prediction(page: Page) -> float:
    """Return the time from the upload of an image to its map, with the model load, s."""
    data = make_accepted_image()
    begin = time.perf_counter()
    page.locator("input[type=file]").set_input_files(
        [{"name": "field_20x.png", "mimeType": "image/png", "buffer": data}]
    )
    page.get_by_role("img", name="Contribution map over the image").first.wait_for()
    return time.perf_counter() - begin


def _wait(url: str, server: subprocess.Popen) -> None:
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("The server ended before it responded.")
