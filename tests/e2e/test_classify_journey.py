"""Page Classify: what is shown and what is held agree, and every download arrives."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from bc_model.data.registry import link_folder
from bc_model.data.synthetic import example_png

pytestmark = pytest.mark.e2e

PATIENT_MS = 120_000
N_CLICKS = 10


def upload(page: Page, *names: str) -> None:
    """Upload the synthetic image of a malignant tumor under one or more names."""
    page.locator("input[type=file]").set_input_files(
        [
            {"name": name, "mimeType": "image/png", "buffer": example_png(malignant=True)}
            for name in names
        ]
    )


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    """Use long timeouts, because other tests may use the processor."""
    expect.set_options(timeout=PATIENT_MS)
    yield
    expect.set_options(timeout=5000)


def test_images_survive_a_visit_of_another_page_until_they_are_removed(page: Page):
    heading = page.get_by_role("heading", name="field.png")
    upload(page, "field.png")
    expect(heading).to_be_visible()
    page.get_by_role("link", name="Data", exact=True).click()
    expect(page.get_by_role("heading", name="Data", exact=True)).to_be_visible()
    page.get_by_role("link", name="Classify", exact=True).click()

    expect(heading).to_be_visible()
    expect(page.get_by_test_id("stFileUploader").get_by_text("field.png")).to_have_count(0)
    page.get_by_role("button", name="1 image").click()
    page.get_by_test_id("stPopoverBody").get_by_role("button", name="field.png").click()
    expect(heading).to_have_count(0)


def test_images_that_a_restart_lost_are_reported_and_new_ones_are_shown(browser: Browser, app):
    # Not the fixture `page`: the console contains errors while the server is away.
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(app.url)
    upload(page, "lost.png")
    expect(page.get_by_role("heading", name="lost.png")).to_be_visible()
    app.restart()

    expect(page.get_by_text("no longer holds 1 uploaded image")).to_be_visible(timeout=30_000)
    upload(page, "new.png")
    expect(page.get_by_role("heading", name="new.png")).to_be_visible()
    expect(page.get_by_text("lost.png")).to_have_count(0)
    page.context.close()


@pytest.mark.slow
def test_every_click_on_a_download_saves_a_file(page: Page, app, synthetic_dataset):
    upload(page, "field.png")
    heatmap = page.get_by_role("button", name="Download heatmap").first
    expect(heatmap).to_be_visible()
    for _ in range(N_CLICKS):
        with page.expect_download() as saved:
            heatmap.click()
        assert saved.value.path().read_bytes().startswith(b"\x89PNG")
        page.wait_for_timeout(1000)

    link_folder(synthetic_dataset, "synthetic", app.registry)
    page.goto(f"{app.url}/data?dataset=synthetic&view=Split")
    split = page.get_by_role("button", name="Save split.csv")
    expect(split).to_be_visible()
    for _ in range(N_CLICKS):
        with page.expect_download() as saved:
            split.click()
        assert saved.value.path().read_bytes().startswith(b"path,")
        page.wait_for_timeout(1000)
