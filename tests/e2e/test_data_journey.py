"""Page Data: from a zip upload to a training run."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, TimeoutError, expect

from bc_model.data.dataset import load_dataset
from bc_model.data.registry import open_dataset
from bc_model.data.splits import count_leakage, make_split, read_split, require_matching_split
from tests.app.helpers import zip_images
from tests.e2e.steps import wait_for_images

pytestmark = pytest.mark.e2e

PATIENT_MS = 120_000


@pytest.fixture(autouse=True)
def _patience(page: Page) -> Iterator[None]:
    """Use long timeouts, because other tests may use the processor."""
    page.set_default_timeout(PATIENT_MS)
    expect.set_options(timeout=PATIENT_MS)
    yield
    expect.set_options(timeout=5000)


def test_zip_upload_is_added_split_exported_and_trained_on(
    page: Page, app, synthetic_dataset: Path, tmp_path: Path
):
    page.get_by_role("link", name="Data", exact=True).click()
    page.get_by_role("radio", name="Zip upload").click()
    page.locator("input[type=file]").first.set_input_files(
        {
            "name": "my set.zip",
            "mimeType": "application/zip",
            "buffer": zip_images(synthetic_dataset),
        }
    )
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("Dataset my-set with 30 images was added.")).to_be_visible()

    # The overview, the duplicates, and the decoded thumbnails.
    expect(page).to_have_url(re.compile(r"dataset=my-set"))
    expect(page.get_by_test_id("stMetricValue").first).to_have_text("30")
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(3)
    page.get_by_role("tab", name="Duplicates").click()
    expect(page.get_by_text("No duplicates or near-duplicates were found.")).to_be_visible()
    page.get_by_role("tab", name="Gallery").click()
    images = page.get_by_test_id("stImage").get_by_role("img")
    expect(images).to_have_count(24)
    for image in (images.first, images.last):
        page.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())

    # A refresh shows the same dataset and tab; then a case-level split is exported.
    page.get_by_role("tab", name="Split").click()
    expect(page).to_have_url(re.compile(r"view=Split"))
    page.reload()
    expect(page.get_by_test_id("stAlertContentSuccess")).to_be_visible()
    fold = page.get_by_label("Test fold", exact=True)
    fold.fill("2")
    fold.press("Enter")
    _save(page, "Save split.csv", "my-set-case-2-split.csv", tmp_path / "split.csv")
    split = read_split(tmp_path / "split.csv")
    dataset = load_dataset(open_dataset("my-set", app.registry).images_dir)
    require_matching_split(split, dataset)
    assert count_leakage(split).n_test_images == 0
    assert list(split["subset"]) == list(make_split(dataset, "case", test_fold=2)["subset"])

    # Train uses the same dataset and split, also after a refresh.
    page.get_by_role("button", name="Train on dataset").click()
    expect(page.get_by_role("button", name="Start run")).to_be_enabled()
    expect(page.get_by_role("combobox", name="Dataset")).to_have_value("my-set")
    expect(page.get_by_label("Test fold", exact=True)).to_have_value("2")
    page.reload()
    expect(page.get_by_role("combobox", name="Dataset")).to_have_value("my-set")


def test_gallery_image_opens_in_classify_and_closes(page: Page, app, synthetic_dataset: Path):
    page.get_by_role("link", name="Data", exact=True).click()
    folder = page.get_by_label("Folder or archive", exact=True)
    folder.fill(str(synthetic_dataset))
    folder.press("Enter")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("tab", name="Gallery").click()
    opening = page.get_by_role("button", name="Case 90001, 200X").first
    expect(opening).to_be_visible()
    wait_for_images(page)
    opening.click()

    # The bundled model does not classify an image of 96 x 64 pixels.
    expect(page.get_by_text("Not classified.")).to_be_visible()
    page.get_by_role("button", name="Close image", exact=True).click()
    expect(page.get_by_text("Not classified.")).to_have_count(0)


def _save(page: Page, button: str, name: str, path: Path) -> None:
    """Save a file after the page has applied the last input."""
    for _ in range(12):
        # A click during a rerun of the page is lost, so it is repeated.
        page.wait_for_timeout(1500)
        try:
            with page.expect_download(timeout=5000) as saved:
                page.get_by_role("button", name=button).click()
        except TimeoutError:
            continue
        if saved.value.suggested_filename == name:
            saved.value.save_as(path)
            return
    pytest.fail(f"The page did not offer {name}.")
