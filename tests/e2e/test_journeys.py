"""What a person does, from end to end."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bc_model.data.synthetic import example_png
from bc_model.training.run_folder import FINAL_STATES, RunFolder

pytestmark = pytest.mark.e2e

PATIENT_MS = 60_000


def test_a_pathologist_drops_in_a_picture_and_sees_the_verdict(page: Page):
    page.locator("input[type=file]").set_input_files(
        {"name": "field.png", "mimeType": "image/png", "buffer": example_png(malignant=True)}
    )

    expect(page.get_by_text("Estimated probability of malignancy")).to_be_visible(
        timeout=PATIENT_MS
    )
    expect(page.get_by_test_id("stMetricValue")).to_have_text(
        re.compile(r"^((above|below) )?0\.\d\d$")
    )
    expect(page.get_by_text("Research use only, not a diagnosis.").first).to_be_visible()
    overlay = page.get_by_role("img", name=re.compile("Heatmap of the evidence")).first
    expect(overlay).to_be_visible()
    # Visible is not drawn: the picture's bytes must have arrived and been decoded.
    page.wait_for_function("image => image.naturalWidth > 0", arg=overlay.element_handle())

    before = overlay.get_attribute("src")
    page.get_by_role("slider").first.press("ArrowRight")
    expect(overlay).not_to_have_attribute("src", before or "", timeout=PATIENT_MS)


def test_a_text_file_named_png_is_answered_with_one_sentence(page: Page):
    page.locator("input[type=file]").set_input_files(
        {"name": "notes.png", "mimeType": "image/png", "buffer": b"no pixels here"}
    )

    expect(page.get_by_text("notes.png is not a PNG, JPEG or TIFF picture")).to_be_visible(
        timeout=PATIENT_MS
    )
    expect(page.get_by_text("Traceback")).to_have_count(0)


def test_a_researcher_trains_refreshes_stops_and_reads_the_figures(
    page: Page, app, drawn_set: Path
):
    page.get_by_role("link", name="Train", exact=True).click()
    page.get_by_text("New run", exact=True).click()
    folder = page.get_by_label("Folder of the data set", exact=True)
    folder.fill(str(drawn_set))
    folder.press("Enter")
    expect(page.get_by_text("Benign cases")).to_be_visible(timeout=PATIENT_MS)
    _choose(page, "Backbone", "tiny (dry runs only)")
    _choose(page, "Initial weights", "None: from scratch")
    epochs = page.get_by_label("Epochs of fine-tuning", exact=True)
    epochs.fill("900")
    epochs.press("Enter")
    page.get_by_role("button", name="Start the run").click()

    # The process is on its own: a refresh finds it again by the name in the URL.
    stop = page.get_by_role("button", name="Stop, keep the best")
    expect(stop).to_be_visible(timeout=PATIENT_MS)
    expect(page).to_have_url(re.compile(r"run="))
    page.reload()
    expect(page.get_by_text(re.compile(r"Epoch \d+ of 910"))).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible(timeout=PATIENT_MS)

    stop.click()
    expect(page.get_by_text("Stopped on request").first).to_be_visible(timeout=PATIENT_MS)
    (run,) = [path for path in app.runs.iterdir() if path.name != "finished"]
    assert RunFolder(run).read_status()["state"] in FINAL_STATES

    page.get_by_role("link", name="Evaluate", exact=True).click()
    expect(page.get_by_role("heading", name="Confusion matrix")).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(2)


def _choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()
