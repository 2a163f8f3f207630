"""Actions on widgets, by the labels of the page."""

import re

from playwright.sync_api import Error, Locator, Page, expect


def wait_for_images(page: Page) -> None:
    """Wait until every image of the page is loaded and decoded."""
    page.wait_for_function(
        "document.images.length && "
        "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    )


def find_badge(page: Page, state: str | re.Pattern[str]) -> Locator:
    """Return the badge of a run; the log can contain the same words."""
    return page.locator(".stMarkdownBadge", has_text=state)


def choose(page: Page, label: str, option: str) -> None:
    """Open a select box and click one of its options.

    A rerun of the page can close an open list, so the click is repeated. During a rerun, old and
    new fields can coexist.
    """
    field = page.get_by_label(label, exact=True)
    found = page.get_by_role("option", name=option, exact=True)
    for _ in range(26):
        expect(field).to_have_count(1, timeout=60_000)
        try:
            field.click()
            found.click(timeout=2000)
            return
        except Error:  # A rerun closed the list.
            page.keyboard.press("Escape")
    found.click(timeout=5000)
