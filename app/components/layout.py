"""The layout that all pages share: the sidebar, the focus style, and error messages."""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from app.components.paths import ASSETS
from app.server.settings import is_shared
from bc_model import __version__
from bc_model.errors import BcModelError
from bc_model.utils import describe_error

logger = logging.getLogger("app")

RESEARCH_USE = "Research use only, not a diagnosis."
_ERROR_KEY = "action-error"

# The theme has one primary color for fills and for text, and no option for the focus outline. On
# the dark page no single color carries white text and is readable as text itself.
_STYLE = """
<style>
.stApp { --accent-text: light-dark(#0b6e75, #5cc1ca); }
[data-testid="stSliderThumbValue"],
[data-testid="stButtonGroup"] button:is([aria-checked="true"], [aria-pressed="true"]),
[role="tab"][aria-selected="true"],
.stApp :is(button[kind="secondary"], button[kind="tertiary"], summary):hover {
  color: var(--accent-text) !important;
}
:is(a, button, summary, [role="tab"], [tabindex="0"]):not(main):focus-visible {
  outline: 2px solid #2a8f98 !important;
  outline-offset: 2px !important;
}
/* The default leaves 5rem at both sides, which images and charts need. */
@media (min-width: 768px) { .stMainBlockContainer { padding-inline: 2.5rem; } }
label:has(input:focus-visible) { outline: 2px solid #2a8f98; outline-offset: 2px; }
[data-testid="stNumberInput"] button:focus-visible { outline-offset: -3px !important; }
[data-testid="stElementToolbar"]:focus-within { opacity: 1 !important; }
</style>
"""


def show_layout() -> None:
    """Show the logo and the notes of the sidebar, and apply the style."""
    st.html(_STYLE)
    st.logo(str(ASSETS / "logo.png"), icon_image=str(ASSETS / "icon.png"), size="large")
    with st.sidebar:
        place = (
            "Datasets and results are stored on the server. Uploaded images stay in its memory. "
            "Everyone who can open this page can see and delete its datasets and runs."
            if is_shared()
            else "Images and results stay on this machine."
        )
        st.caption(f"{RESEARCH_USE}\n\n{place}\n\nVersion {__version__}")


@contextmanager
def catch_errors() -> Iterator[None]:
    """Show a library error as a message, and write an unexpected error to the log."""
    try:
        yield
    except BcModelError as error:
        show_error(error)
    except Exception:
        logger.exception("A page failed")
        st.error(
            "This page failed. The server log contains the details. Reload the page to continue.",
            title="Unexpected error",
        )


def make_fragment(
    function: Callable[..., None], run_every: str | None = None
) -> Callable[..., None]:
    """Return a fragment that shows errors as a page does, rerun by itself after each period."""

    @functools.wraps(function)
    def show(*args: Any, **kwargs: Any) -> None:
        with catch_errors():
            function(*args, **kwargs)

    return st.fragment(show, run_every=run_every)


def show_error(error: Exception, title: str = "Action failed") -> None:
    """Show the message of an error as plain text, never as Markdown."""
    st.error(escape_markdown(describe_error(error)), title=title)


def show_action_button(
    label: str, icon: str, action: Callable[[], object], *, key: str, **options: Any
) -> None:
    """Show a button that performs an action; `show_action_error` shows the error of the action."""

    def perform() -> None:
        try:
            action()
        except (BcModelError, OSError) as error:
            st.session_state[_ERROR_KEY] = describe_error(error)

    st.button(label, key=key, icon=f":material/{icon}:", on_click=perform, **options)


def show_action_error() -> None:
    """Show the error of the last action, if it failed."""
    if message := st.session_state.pop(_ERROR_KEY, None):
        show_error(BcModelError(message))


def keep_selection(key: str, options: list[str]) -> None:
    """Send the selection of a widget to the browser in every run of the page.

    A selection that is sent only once is lost when a click interrupts that run. The browser would
    then show an empty widget and return an empty selection. Values that are no longer among the
    options are removed.
    """
    selected = st.session_state.get(key)
    if isinstance(selected, list):
        st.session_state[key] = [option for option in selected if option in options]
    elif selected in options:
        st.session_state[key] = selected


def format_list(sentences: Iterable[str]) -> str:
    """Return sentences as a Markdown list, or as a paragraph if there is only one."""
    escaped = [escape_markdown(sentence) for sentence in sentences]
    mark = "- " if len(escaped) > 1 else ""
    return "\n".join(mark + sentence for sentence in escaped)


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows literally."""
    return "".join("\\" + c if c in r"\`*_{}[]<>()#+-!|$:~" else c for c in text)
