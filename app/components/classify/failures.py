"""Failures of one image: reported, so that the other images of the page are shown."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from app.components.layout import escape_markdown, show_error
from bc_model.errors import BcModelError, ImageError

logger = logging.getLogger("app")


@contextmanager
def report_failure(name: str) -> Iterator[None]:
    """Show the error of one image, and write an unexpected error to the log.

    Parameters
    ----------
    name : str
        Name of the image.
    """
    try:
        yield
    except ImageError as error:
        show_error(error, title="Image skipped")
    except BcModelError as error:
        show_error(error, title="Prediction failed")
    except Exception:
        logger.exception("The image %r failed", name)
        st.error(
            f"{escape_markdown(name)} could not be processed. The server log contains the details.",
            title="Image skipped",
        )
