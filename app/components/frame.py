"""What every page has: the mark, the words on use, and errors told as sentences."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import streamlit as st

from app.places import ASSETS
from bc_model import __version__
from bc_model.errors import BcModelError

logger = logging.getLogger("app")

RESEARCH_USE = "Research use only, not a diagnosis."


def draw_frame() -> None:
    """Draw the mark and the standing words of the sidebar."""
    st.logo(str(ASSETS / "logo.png"), icon_image=str(ASSETS / "icon.png"), size="large")
    with st.sidebar:
        st.caption(
            f"{RESEARCH_USE} Everything stays on this machine.\n\nVersion {__version__}",
        )


@contextmanager
def explain_errors() -> Iterator[None]:
    """Show an error as a sentence; what nobody foresaw goes to the log."""
    try:
        yield
    except BcModelError as error:
        show_error(error)
    except Exception:
        logger.exception("A page failed")
        st.error(
            "The program made a mistake on this page. The details are in the server's log; "
            "reload the page to go on.",
            title="Something went wrong",
        )


def show_error(error: Exception, title: str = "This did not work") -> None:
    """Show an error of the library in a box. Its message is plain text, never Markdown."""
    st.error(escape(str(error)), title=title)


def tell_again(key: str, options: list[str]) -> None:
    """Have the browser told of what a page chose in a box, in every run of the page.

    Told once, it is lost when a click cuts that run short; the browser would then show the box
    empty, and answer with that. What is no longer among the options is let go.
    """
    told = st.session_state.get(key)
    if isinstance(told, list):
        st.session_state[key] = [one for one in told if one in options]
    elif told in options:
        st.session_state[key] = told


def listed(sentences: Iterable[str]) -> str:
    """Return sentences as a list in Markdown, or as a paragraph where there is but one."""
    escaped = [escape(sentence) for sentence in sentences]
    mark = "- " if len(escaped) > 1 else ""
    return "\n".join(mark + sentence for sentence in escaped)


def escape(text: str) -> str:
    """Keep a name or a message from being read as Markdown."""
    return "".join("\\" + c if c in r"\`*_{}[]<>()#+-!|$:~" else c for c in text)
