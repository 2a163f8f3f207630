"""Take the pictures in docs/ anew: the app in headless Chromium, on pictures that are drawn here.

Run it by ``make screenshots``; it takes a few minutes. Nobody's tissue is shown: the set is drawn,
and the small network that is shown learned from it in the same minutes, by this very script.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PORT = "8590"  # not the one that `make run` uses
URL = f"http://127.0.0.1:{PORT}"
SET, EXPERIMENT = "drawn", "protocols"
RUN = f"{EXPERIMENT}-case-fold0"
PATIENT_MS = 60_000
CONFIG = (
    "--study", EXPERIMENT, "--protocols", "image,case", "--backbone", "tiny", "--weights", "none",
    "--image-size", "128x128", "--head-epochs", "4", "--finetune-epochs", "16",
)  # fmt: skip


def main() -> None:
    """Draw a set, train on it, walk through the app's pages."""
    sys.path.insert(0, str(ROOT))
    from bc_model.data import link_folder

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data, runs, registry = (place / subset for subset in ("data/drawn", "runs", "shelf"))
        _command("data", "synthetic", data, "--cases", "30", "--pictures-per-case", "8")
        _command("report", data, "--runs", runs, *CONFIG)
        link_folder(data, SET, registry)
        _walk(data, os.environ | {"BC_DATASETS": str(registry), "BC_RUNS": str(runs)})


def _command(*arguments: str | Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "bc_model", *map(str, arguments)],
        cwd=ROOT,
        check=True,
        env=os.environ | {"BC_NICENESS": "0"},
    )


def _walk(data: Path, environment: dict[str, str]) -> None:
    from bc_model.data import read_split

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    server = subprocess.Popen(
        [
            Path(sys.executable).with_name("streamlit"),
            "run",
            "app/main.py",
            f"--server.port={PORT}",
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    split = read_split(Path(environment["BC_RUNS"]) / RUN / "split.csv")
    external = split[(split["subset"] == "test") & (split["class"] == "malignant")]
    image = data / external["path"].iloc[0]
    try:
        _wait()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for scheme, suffix in (("light", ""), ("dark", "-dark")):
                context = browser.new_context(color_scheme=scheme)
                page = context.new_page()
                _diagnose(page, image, DOCS / f"diagnose{suffix}.png")
                for name, query, charts in (
                    ("data", f"data?set={SET}", 3),
                    ("train", f"train?run={RUN}", 3),
                    ("evaluate", f"evaluate?evaluated={RUN}", 6),
                    ("studies", f"experiments?study={EXPERIMENT}", 3),
                ):
                    _open(page, query, charts)
                    _hide_place(page, data.parent)
                    page.screenshot(path=DOCS / f"{name}{suffix}.png")
                context.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()


def _diagnose(page: Page, image: Path, out: Path) -> None:
    page.set_viewport_size({"width": 1280, "height": 1520})  # the whole card
    page.goto(f"{URL}/?model={RUN}")
    page.locator("input[type=file]").set_input_files(image)
    expect(page.get_by_text("Estimated probability")).to_be_visible(timeout=PATIENT_MS)
    page.wait_for_timeout(2500)
    page.screenshot(path=out)


def _open(page: Page, path: str, charts: int) -> None:
    page.set_viewport_size({"width": 1280, "height": 1180})
    page.goto(f"{URL}/{path}")
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(charts, timeout=PATIENT_MS)
    page.wait_for_timeout(2500)


def _hide_place(page: Page, folder: Path) -> None:
    """Show the pictures as lying in /data: where they lie here is nobody's concern."""
    page.evaluate(
        """([from, to]) => {
            const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (texts.nextNode())
                texts.currentNode.data = texts.currentNode.data.replaceAll(from, to);
        }""",
        [str(folder.resolve()), "/data"],
    )


def _wait() -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{URL}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("The app did not start.")


if __name__ == "__main__":
    main()
