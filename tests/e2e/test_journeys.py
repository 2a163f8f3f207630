"""User journeys: classify, train, monitor, set a threshold, and export."""

import dataclasses
import re
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from bc_model.data.synthetic import example_png
from bc_model.inference.bundle import open_bundle
from bc_model.jobs import FINAL_STATES
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run, list_runs
from bc_model.training.run_queue import queue_run
from bc_model.utils import to_json
from tests.e2e.steps import choose, find_badge, wait_for_images

pytestmark = pytest.mark.e2e

PATIENT_MS = 120_000


def test_classify_with_an_upload_shows_probability_and_layers(page: Page):
    page.locator("input[type=file]").set_input_files(
        {"name": "field.png", "mimeType": "image/png", "buffer": example_png(malignant=True)}
    )

    # The file states no scale, so that the image is blocked. At a known scale, it is blocked
    # because it is a drawing.
    expect(page.get_by_text("Scale unknown.", exact=True)).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_text("Estimated probability of malignancy")).to_have_count(0)
    page.get_by_text("20x", exact=True).first.click()
    expect(page.get_by_text("Scale unknown.", exact=True)).to_have_count(0, timeout=PATIENT_MS)
    expect(page.get_by_text("Texture unlike tissue.", exact=True)).to_be_visible()
    page.get_by_text(re.compile("Show predictions of 1 blocked image anyway")).click()
    expect(page.get_by_text("Estimated probability of malignancy")).to_be_visible(
        timeout=PATIENT_MS
    )
    expect(page.get_by_text("Blocked, shown anyway").first).to_be_visible()
    values = page.get_by_test_id("stMetricValue")
    expect(values.first).to_have_text(re.compile("Benign|Malignant|Uncertain"))
    expect(values.last).to_have_text(re.compile(r"^((above|below) )?0\.\d\d+$"))
    expect(page.get_by_text("Research use only, not a diagnosis.").first).to_be_visible()
    overlay = page.get_by_role("img", name=re.compile("^Contribution map over the image"))
    expect(overlay).to_be_visible()
    # A visible image is not necessarily loaded and decoded.
    page.wait_for_function("image => image.naturalWidth > 0", arg=overlay.element_handle())

    before = overlay.get_attribute("src")
    page.get_by_role("slider").first.press("ArrowRight")
    expect(overlay).not_to_have_attribute("src", before or "", timeout=PATIENT_MS)

    area = page.locator(".area")
    page.get_by_text("What if", exact=True).first.click()
    expect(area).to_be_visible(timeout=PATIENT_MS)
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150, steps=4)
    page.mouse.up()
    difference = page.get_by_test_id("stMetricDelta")
    expect(difference).not_to_have_text("0.000", timeout=PATIENT_MS)

    page.get_by_role("button", name="Test this map").click()
    expect(page.get_by_text("Random maps beaten")).to_be_visible(timeout=PATIENT_MS)

    page.get_by_text("Unknown", exact=True).first.click()
    expect(page.get_by_text("Scale unknown.", exact=True)).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_text("Blocked, shown anyway").first).to_be_visible(timeout=PATIENT_MS)
    page.get_by_text(re.compile("Show predictions of 1 blocked image anyway")).click()
    expect(page.get_by_text("Blocked, shown anyway")).to_have_count(0, timeout=PATIENT_MS)
    page.get_by_text(re.compile("Show predictions of 1 blocked image anyway")).click()
    expect(page.get_by_text("Blocked, shown anyway").first).to_be_visible(timeout=PATIENT_MS)

    page.get_by_text("Grad-CAM malignant", exact=True).first.click()
    expect(overlay).to_have_count(0, timeout=PATIENT_MS)
    expect(page.get_by_text("Strongest", exact=True)).to_be_visible()


def test_classify_with_a_text_file_shows_one_error(page: Page):
    page.locator("input[type=file]").set_input_files(
        {"name": "notes.png", "mimeType": "image/png", "buffer": b"no pixels here"}
    )

    expect(page.get_by_text("notes.png is not an image. Expected PNG, JPEG or TIFF")).to_be_visible(
        timeout=PATIENT_MS
    )
    expect(page.get_by_text("Traceback")).to_have_count(0)


def test_train_run_survives_a_refresh_and_shows_metrics(page: Page, app, synthetic_dataset: Path):
    page.get_by_role("link", name="Train", exact=True).click()
    page.get_by_text("New run", exact=True).click()
    folder = page.get_by_label("Dataset folder", exact=True)
    folder.fill(str(synthetic_dataset))
    folder.press("Enter")
    expect(page.get_by_text("Benign cases", exact=True)).to_be_visible(timeout=PATIENT_MS)
    choose(page, "Backbone", "tiny (tests only)")
    choose(page, "Initial weights", "None (from scratch)")
    # Long enough for a refresh and a stop; the patience prevents early stopping.
    for label in ("Fine-tuning epochs", "Patience (epochs)"):
        number = page.get_by_label(label, exact=True)
        number.fill("900")
        number.press("Enter")
        expect(number).to_have_value("900")
    page.get_by_role("button", name="Start run").click()

    # The run is a process of its own, and a refresh finds it by its name in the URL.
    stop = page.get_by_role("button", name="Stop training")
    expect(stop).to_be_visible(timeout=PATIENT_MS)
    (run,) = [run for run in list_runs(app.runs) if run.name != "finished"]
    expect(page).to_have_url(re.compile(rf"run={re.escape(run.name)}\b"), timeout=PATIENT_MS)
    page.reload()
    expect(page.get_by_text(re.compile(r"Epoch \d+ of 910"))).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible(timeout=PATIENT_MS)

    stop.click()
    page.get_by_role("button", name="Stop run").click()
    # The finished run of the fixture has the same badge.
    ended = find_badge(page, re.compile("Finished|Canceled"))
    expect(ended).to_have_count(2, timeout=PATIENT_MS)
    assert run.read_status()["state"] in FINAL_STATES

    page.get_by_role("link", name="Evaluate", exact=True).click()
    expect(page.get_by_role("heading", name="Confusion by case")).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(6)


def test_train_run_survives_tab_server_and_process(page: Page, app, tiny_config: TrainingConfig):
    """Pause, close the tab, restart the server, continue, kill the process, resume, stop."""
    run = Run.create(app.runs / "long")
    config = dataclasses.replace(tiny_config, head_epochs=900, patience=900)
    run.write_config({"config": to_json(config)})
    queue_run(run)
    page.goto(f"{app.url}/train?run=long")  # An open page starts queued runs.
    page.get_by_role("button", name="Pause").click(timeout=PATIENT_MS)
    expect(find_badge(page, "Paused")).to_be_visible(timeout=PATIENT_MS)
    trainer = psutil.Process(run.read_status()["pid"])
    epochs = len(run.read_history())

    page.goto("about:blank")
    app.restart()
    page.goto(f"{app.url}/train?run=long")
    expect(find_badge(page, "Paused")).to_be_visible(timeout=PATIENT_MS)
    assert trainer.is_running()
    assert len(run.read_history()) == epochs
    page.get_by_role("button", name="Continue").click()
    expect(find_badge(page, "Running")).to_be_visible(timeout=PATIENT_MS)

    trainer.kill()
    page.get_by_role("button", name="Resume").click(timeout=PATIENT_MS)
    expect(find_badge(page, "Running")).to_be_visible(timeout=PATIENT_MS)
    assert run.read_status()["pid"] != trainer.pid
    assert len(run.read_history()) >= epochs

    page.get_by_role("button", name="Stop training").click()
    page.get_by_role("button", name="Stop run").click()
    expect(find_badge(page, re.compile("Finished|Canceled")).first).to_be_visible(
        timeout=PATIENT_MS
    )
    assert [record["epoch"] for record in run.read_history()] == list(
        range(1, len(run.read_history()) + 1)
    )


def test_evaluate_sets_a_threshold_and_exports_the_report(page: Page, app):
    page.goto(f"{app.url}/evaluate?evaluated=finished")
    page.get_by_role("radio", name="Calibration and threshold").click(timeout=PATIENT_MS)
    choose(page, "Criterion", "Youden index")
    chosen = page.get_by_text(re.compile(r"^Selected threshold: 0\.\d{3}\. ")).first
    expect(chosen).to_contain_text("largest sum", timeout=PATIENT_MS)
    page.get_by_label("Reason", exact=True).fill("Both errors have the same weight")
    page.get_by_role("button", name="Set threshold").click()
    expect(page.get_by_text("is stored in the model card of finished")).to_be_visible(
        timeout=PATIENT_MS
    )
    threshold = open_bundle(app.runs / "finished").card.threshold
    assert threshold.reason == "Both errors have the same weight"

    page.get_by_role("radio", name="Export").click()
    with page.expect_download(timeout=PATIENT_MS) as download:
        page.get_by_role("button", name="Save PDF").click()
    pdf = download.value.path().read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 1

    page.get_by_role("radio", name="Errors").click()
    expect(page.get_by_text("Nearest training images of other cases").first).to_be_visible(
        timeout=PATIENT_MS
    )
    wait_for_images(page)
    page.get_by_role("radio", name="Most certain").click(timeout=PATIENT_MS)
    expect(page.get_by_text("Probabilities farthest from 0.5")).to_be_visible(timeout=PATIENT_MS)
    wait_for_images(page)
    page.get_by_role("link", name="Open in Classify").first.click(timeout=PATIENT_MS)
    expect(page.get_by_text(re.compile("From the test subset of run finished"))).to_be_visible(
        timeout=PATIENT_MS
    )
    expect(page.get_by_text(f"the threshold {threshold.value:.2f}").first).to_be_visible(
        timeout=PATIENT_MS
    )
