"""One configuration under two protocols, from a dataset to the metrics: the page Experiments."""

import csv
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bc_model.data.registry import link_folder
from bc_model.experiments.plan import list_experiments, read_experiment
from tests.e2e.steps import choose

pytestmark = pytest.mark.e2e

PATIENT_MS = 240_000


def test_protocol_comparison_survives_a_refresh_and_exports(
    page: Page, app, synthetic_dataset: Path
):
    link_folder(synthetic_dataset, "synthetic", app.registry)
    page.goto(f"{app.url}/experiments?dataset=synthetic")
    for protocol in ("Official folds, leakage-free", "Official folds, with leakage"):
        page.get_by_role("button", name=f"Remove {protocol}").click(timeout=PATIENT_MS)
    choose(page, "Backbone", "tiny (tests only)")
    choose(page, "Initial weights", "None (from scratch)")
    page.get_by_role("radio", name="Quick look").click()
    page.get_by_role("button", name="Start 2 runs").click(timeout=PATIENT_MS)

    expect(page).to_have_url(re.compile("experiment=report-"), timeout=PATIENT_MS)
    page.reload()
    expect(page.get_by_role("heading", name="Leakage effect")).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(3)
    expect(page.get_by_text("Traceback")).to_have_count(0)

    with page.expect_download(timeout=PATIENT_MS) as download:
        page.get_by_role("button", name="Save metrics.csv").click()
    with download.value.path().open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["protocol"] for row in rows} == {"image", "case"}
    (name,) = list_experiments(app.runs)
    experiment = read_experiment(app.runs, name)
    assert [member.label for member in experiment.runs] == ["image-fold0", "case-fold0"]
