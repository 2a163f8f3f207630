"""Retake the screenshots in docs/ with the app in headless Chromium.

Run it with ``make screenshots``; it takes a few minutes. It trains small networks on a synthetic
dataset. *Classify* shows the bundled model on a synthetic image, and *Evaluate* its
cross-validation. No image of a patient is used.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PORT = "8590"  # Another port than that of `make run`.
URL = f"http://127.0.0.1:{PORT}"
VIEWPORT = {"width": 1440, "height": 1100}
TIMEOUT_MS = 60_000
SETTLE_MS = 2500
"""Time for charts and fonts to appear after the last element."""

DATASET, EXPERIMENT = "synthetic", "protocols"
BUNDLED = quote("breakhis-scratch (bundled)")
RUNS = tuple(f"{EXPERIMENT}-{protocol}-fold0" for protocol in ("case", "image"))
CONFIG = (
    "--name", EXPERIMENT, "--protocols", "image,case", "--backbone", "tiny", "--weights", "none",
    "--image-size", "128x128", "--head-epochs", "4", "--finetune-epochs", "7", "--n-folds", "3",
)  # fmt: skip
PAGES = {
    "data": (f"data?dataset={DATASET}", 3),
    "train": (f"train?run={RUNS[0]}", 3),
    "evaluate": (f"evaluate?evaluated={BUNDLED}", 1),
    "experiments": (f"experiments?experiment={EXPERIMENT}", 1),
    "compare": (f"compare?compared={RUNS[0]}&compared={RUNS[1]}", 1),
}
"""Address of each page, and the number of charts to wait for."""


def main() -> None:
    """Generate data, train, and take a screenshot of every page in both themes."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        images, runs = work / "images", work / "runs"
        environment = os.environ | {
            "BC_DATASETS": str(work / "registry"), "BC_RUNS": str(runs), "BC_NICENESS": "0",
        }  # fmt: skip
        for arguments in (
            ("data", "generate", images, "--cases", "66", "--images-per-case", "4"),
            ("data", "add", images, "--name", DATASET),
            ("experiments", "protocols", images, "--runs", runs, *CONFIG),
        ):
            _run_command(arguments, environment)
        with _start_app(environment) as server:
            try:
                _wait_for_app(server)
                _take_screenshots(images)
            finally:
                server.terminate()


def _run_command(arguments: tuple[str | Path, ...], environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "bc_model", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, env=environment)


def _start_app(environment: dict[str, str]) -> subprocess.Popen:
    streamlit = Path(sys.executable).with_name("streamlit")
    return subprocess.Popen(
        [streamlit, "run", "app/main.py", f"--server.port={PORT}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for_app(server: subprocess.Popen) -> None:
    for _ in range(200):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{URL}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("The app did not start.")


def _take_screenshots(images: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from bc_model.data import generate_image

    # The bundled model does not classify files with the name of a synthetic case. The drawing with
    # this seed is not blocked.
    field = images.parent / "field_20x.png"
    Image.fromarray(generate_image(malignant=True, seed=2, case_seed=2)).save(field)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme, suffix in (("light", ""), ("dark", "-dark")):
            context = browser.new_context(
                color_scheme=scheme, viewport=VIEWPORT, device_scale_factor=1
            )
            page = context.new_page()
            _classify(page, field)
            page.screenshot(path=DOCS / f"classify{suffix}.png")
            _show_blocked(page, field)
            page.screenshot(path=DOCS / f"classify-blocked{suffix}.png")
            _show_demo(page)
            page.screenshot(path=DOCS / f"demo{suffix}.png")
            for name, (address, n_charts) in PAGES.items():
                _open(page, address, n_charts)
                _hide_temporary_path(page, images.parent)
                page.screenshot(path=DOCS / f"{name}{suffix}.png")
            context.close()
        browser.close()


def _classify(page: Page, image: Path) -> None:
    """Classify an image with the default model, which is the bundled one."""
    page.goto(URL)
    page.locator("input[type=file]").set_input_files(image)
    layer = page.get_by_role("img", name="Contribution map").first
    expect(layer).to_be_visible(timeout=TIMEOUT_MS)
    page.wait_for_timeout(SETTLE_MS)


def _show_blocked(page: Page, image: Path) -> None:
    """Upload an image whose file does not state its scale."""
    page.goto(URL)
    page.locator("input[type=file]").set_input_files(
        {"name": "field.png", "mimeType": "image/png", "buffer": image.read_bytes()}
    )
    expect(page.get_by_text("Scale unknown.", exact=True)).to_be_visible(timeout=TIMEOUT_MS)
    page.wait_for_timeout(SETTLE_MS)


def _show_demo(page: Page) -> None:
    page.goto(f"{URL}/?demo=1")
    expect(page.get_by_text("Pointing score")).to_be_visible(timeout=TIMEOUT_MS)
    page.wait_for_timeout(SETTLE_MS)


def _open(page: Page, address: str, n_charts: int) -> None:
    page.goto(f"{URL}/{address}")
    chart = page.get_by_test_id("stVegaLiteChart").nth(n_charts - 1)
    expect(chart).to_be_visible(timeout=TIMEOUT_MS)
    page.wait_for_timeout(SETTLE_MS)


def _hide_temporary_path(page: Page, folder: Path) -> None:
    """Show /data instead of the temporary folder of the images."""
    page.evaluate(
        """([from, to]) => {
            const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (texts.nextNode())
                texts.currentNode.data = texts.currentNode.data.replaceAll(from, to);
        }""",
        [str(folder.resolve()), "/data"],
    )


if __name__ == "__main__":
    main()
