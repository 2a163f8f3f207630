"""What a person does with a widget, in the words of the page."""

from playwright.sync_api import Error, Page, expect


def see_images(page: Page) -> None:
    """Wait until every picture of the page has come and is drawn."""
    page.wait_for_function(
        "document.images.length && "
        "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    )


def choose(page: Page, label: str, option: str) -> None:
    """Open a select box and click one of its options.

    A list that is open while the page is drawn anew may shut; a person would open it again. Where
    the fields moved, the old ones stand beside the new ones until the page is drawn to its end.
    """
    field = page.get_by_label(label, exact=True)
    found = page.get_by_role("option", name=option, exact=True)
    for _ in range(26):
        expect(field).to_have_count(1, timeout=60_000)
        try:
            field.click()
            found.click(timeout=2000)
            return
        except Error:  # too late, or drawn anew between the two lines above
            page.keyboard.press("Escape")
    found.click(timeout=5000)
