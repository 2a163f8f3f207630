"""Colors and focus in a real browser: readable text on the controls, a visible focus outline."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.e2e

PATIENT_MS = 120_000
LEAST_CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3 (AA) for text of normal size."""

# Composites every translucent background from the page to the element, then applies the WCAG
# definition of relative luminance.
_CONTRAST = """(element, surface) => {
    const parse = color => {
        const n = color.match(/[\\d.]+/g).map(Number);
        const unit = color.startsWith('color(') ? 255 : 1;
        return [n[0] * unit, n[1] * unit, n[2] * unit, n[3] ?? 1];
    };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
    const luminance = rgb => {
        const [r, g, b] = rgb.map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const layers = [];
    for (let one = element.closest(surface); one; one = one.parentElement)
        layers.unshift(parse(getComputedStyle(one).backgroundColor));
    const below = layers.reduce((page, layer) => over(layer, page), [255, 255, 255]);
    const text = over(parse(getComputedStyle(element).color), below);
    const [light, dark] = [luminance(text), luminance(below)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
}"""


@pytest.fixture(params=["light", "dark"])
def themed_page(request: pytest.FixtureRequest, browser: Browser, app) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 1000}, color_scheme=request.param
    )
    yield context.new_page()
    context.close()


def measure_contrast(locator: Locator, surface: str = "*") -> float:
    """Return the contrast ratio between the text of an element and its background.

    Parameters
    ----------
    locator : Locator
    surface : str
        Selector of the nearest ancestor that is visually behind the text.
    """
    expect(locator).to_be_visible(timeout=PATIENT_MS)
    return locator.evaluate(_CONTRAST, surface)


def read_focused_outline(page: Page, button: Locator) -> str:
    """Focus a button and return the style and width of its outline."""
    expect(button).to_be_attached(timeout=PATIENT_MS)
    outline = ""
    for _ in range(20):
        page.keyboard.press("Tab")  # Focus is visible only after the keyboard was used.
        button.focus()
        outline = button.evaluate(
            "one => `${getComputedStyle(one).outlineStyle} ${getComputedStyle(one).outlineWidth}`"
        )
        if outline.startswith("solid"):
            break
        page.wait_for_timeout(500)  # A rerun of the page may have replaced the button.
    return outline


def test_selected_controls_have_contrast_of_at_least_4_5(themed_page: Page, app):
    themed_page.goto(f"{app.url}/evaluate?evaluated=finished&section=Calibration+and+threshold")
    segment = themed_page.locator('[data-testid="stButtonGroup"] [aria-checked="true"] p').first
    slider = themed_page.locator('[data-testid="stSliderThumbValue"]')
    assert measure_contrast(segment) >= LEAST_CONTRAST
    for value in (slider.first, slider.last):  # The value is above the thumb, its parent.
        assert measure_contrast(value, '[data-testid="stSlider"]') >= LEAST_CONTRAST

    themed_page.goto(f"{app.url}/train?run=finished")
    tag = themed_page.locator("[data-tag] span").first
    assert measure_contrast(tag) >= LEAST_CONTRAST


def test_focused_buttons_have_a_visible_outline(themed_page: Page, app):
    # A named dataset opens the form; a mouse click would switch the focus outline off.
    themed_page.goto(f"{app.url}/train?run=finished&dataset=any")
    idle = themed_page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(idle).to_be_visible(timeout=PATIENT_MS)
    step_up = themed_page.get_by_test_id("stNumberInputStepUp").first
    fullscreen = themed_page.get_by_role("button", name="Fullscreen").first
    for button in (step_up, fullscreen):
        assert read_focused_outline(themed_page, button) == "solid 2px"
