"""The demonstration in the browser: open it with one click, refresh, and close it."""

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e

PATIENT_MS = 60_000


def test_demo_opens_survives_a_refresh_and_closes(page: Page):
    page.get_by_role("button", name="Show demo").click()
    sample = page.get_by_text("Grayscale", exact=True)
    expect(sample).to_be_visible(timeout=PATIENT_MS)
    expect(page.get_by_text("Not tissue.")).to_be_visible()
    expect(page.get_by_text("Pointing score:")).to_be_visible()

    page.reload()
    expect(sample).to_be_visible(timeout=PATIENT_MS)
    page.get_by_role("button", name="Close demo").click()
    expect(sample).to_have_count(0, timeout=PATIENT_MS)
    expect(page.get_by_role("button", name="Show demo")).to_be_visible()
