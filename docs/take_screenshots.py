"""Take the pictures in docs/ anew: the app in headless Chromium, on real pictures.

Run it by ``make screenshots``. It needs the folder named by BC_DATA and the run ``runs/first``, as
the README's figures were made with. The pictures shown are from BreakHis (Spanhol et al., 2016).
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
PORT = "8599"
URL = f"http://127.0.0.1:{PORT}"
PICTURE = (
    "breakhis_originals/histology_slides/breast/malignant/SOB/mucinous_carcinoma/"
    "SOB_M_MC_14-18842D/200X/SOB_M_MC-14-18842D-200-016.png"
)
SET = "breakhis_200x_224"
PATIENT_MS = 60_000


def main() -> None:
    """Start the app with a shelf of its own, walk through its pages, end it."""
    data = Path(os.environ.get("BC_DATA") or ROOT.parent / "shared/data")
    if not (data / PICTURE).is_file() or not (ROOT / "runs/first/model").is_dir():
        sys.exit("The real pictures (BC_DATA) or the run runs/first are missing; see the module.")
    sys.path.insert(0, str(ROOT))
    from bc_model.data.fold_shelf import keep_fold_files
    from bc_model.data.sets import link_folder

    with tempfile.TemporaryDirectory() as shelf:
        link_folder(data / SET, SET, Path(shelf))
        keep_fold_files(data / "folds", Path(shelf))
        _walk(data, os.environ | {"BC_DATASETS": shelf})


def _walk(data: Path, environment: dict[str, str]) -> None:
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
    try:
        _wait()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for scheme, suffix in (("light", ""), ("dark", "-dark")):
                context = browser.new_context(
                    viewport={"width": 1280, "height": 1180}, color_scheme=scheme
                )
                page = context.new_page()
                _diagnose(page, data / PICTURE, DOCS / f"diagnose{suffix}.png")
                for name, query, charts in (("data", "", 3), ("folds", "&look=Official+folds", 1)):
                    _open(page, f"data?set={SET}{query}", charts, None)
                    _hide_place(page, data)
                    page.screenshot(path=DOCS / f"{name}{suffix}.png")
                _open(page, "train?run=first", 3, DOCS / f"train{suffix}.png")
                _open(page, "evaluate?evaluated=first", 6, DOCS / f"evaluate{suffix}.png")
                context.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()


def _diagnose(page: Page, picture: Path, out: Path) -> None:
    page.set_viewport_size({"width": 1280, "height": 1400})  # the whole card
    page.goto(f"{URL}/?model=first")
    page.locator("input[type=file]").set_input_files(picture)
    expect(page.get_by_text("Estimated probability")).to_be_visible(timeout=PATIENT_MS)
    page.wait_for_timeout(2500)
    page.screenshot(path=out)


def _open(page: Page, path: str, charts: int, out: Path | None) -> None:
    page.set_viewport_size({"width": 1280, "height": 1180})
    page.goto(f"{URL}/{path}")
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(charts, timeout=PATIENT_MS)
    page.wait_for_timeout(2500)
    if out:
        page.screenshot(path=out)


def _hide_place(page: Page, data: Path) -> None:
    """Show the folder of the pictures as /data: where it lies here is nobody's concern."""
    page.evaluate(
        """([from, to]) => {
            const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (texts.nextNode())
                texts.currentNode.data = texts.currentNode.data.replaceAll(from, to);
        }""",
        [str(data.resolve()), "/data"],
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
