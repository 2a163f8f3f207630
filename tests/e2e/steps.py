"""What a person does with a widget, in the words of the page."""

from playwright.sync_api import Page


def choose(page: Page, label: str, option: str) -> None:
    """Open a select box and click one of its options."""
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()
