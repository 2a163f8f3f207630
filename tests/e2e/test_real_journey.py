"""The complete journey on real images: add, split, train, evaluate, export."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bc_model.data.splits import count_leakage, read_split
from tests.e2e.steps import choose

pytestmark = [pytest.mark.e2e, pytest.mark.real, pytest.mark.slow]

PATIENT_MS = 180_000


def test_real_dataset_from_folder_to_pdf(page: Page, app, real_data: Path, tmp_path: Path):
    page.set_default_timeout(PATIENT_MS)
    expect.set_options(timeout=PATIENT_MS)
    page.get_by_role("link", name="Data", exact=True).click()
    folder = page.get_by_label("Folder or archive", exact=True)
    folder.fill(str(real_data / "breakhis_200x_224"))
    folder.press("Enter")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_test_id("stMetricValue").first).to_have_text("694")
    expect(page.get_by_test_id("stMetricValue").nth(1)).to_have_text("36")
    page.get_by_role("tab", name="Split").click()
    expect(page.get_by_test_id("stAlertContentSuccess")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save split.csv").click()
    split = read_split(download.value.path())
    assert (len(split), count_leakage(split).n_test_images) == (694, 0)

    page.get_by_role("button", name="Train on dataset").click()
    expect(page.get_by_role("button", name="Start run")).to_be_enabled()
    choose(page, "Backbone", "tiny (tests only)")
    choose(page, "Initial weights", "None (from scratch)")
    page.get_by_role("radio", name="Quick look").click()
    page.get_by_role("button", name="Start run").click()
    # The finished run of the fixture has the same link.
    expect(page.get_by_role("link", name="Evaluate run")).to_have_count(2)
    page.get_by_role("link", name="Evaluate run").first.click()

    expect(page.get_by_role("heading", name="Confusion by case")).to_be_visible()
    page.get_by_role("radio", name="Calibration and threshold").click()
    choose(page, "Criterion", "Youden index")
    expect(
        page.get_by_text(re.compile(r"^Selected threshold: [01]\.\d{3}\.")).first
    ).to_be_visible()
    page.get_by_label("Reason", exact=True).fill("Both errors have the same weight")
    page.get_by_role("button", name="Set threshold").click()
    expect(page.get_by_text("is stored in the model card")).to_be_visible()
    page.get_by_role("radio", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PDF").click()
    pdf = tmp_path / "report.pdf"
    download.value.save_as(pdf)
    assert pdf.read_bytes().startswith(b"%PDF-")
    expect.set_options(timeout=5000)
