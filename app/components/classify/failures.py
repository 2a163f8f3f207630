"""Failures of one image: reported, so that the other images of the page are shown."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from app.components.layout import escape_markdown, show_error
from bc_model.errors import BcModelError, BusyError, ImageError

logger = logging.getLogger("app")


MAX_LISTED = 10


class Failures:
    """The errors of several images, which are shown in one box."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, str]] = []

    @contextmanager
    def collect(self, name: str) -> Iterator[None]:
        """Keep the error of one image, and write an unexpected error to the log.

        Parameters
        ----------
        name : str
            Name of the image.
        """
        try:
            yield
        except BusyError:
            raise
        except ImageError as error:
            self._messages.append(("Image skipped", str(error)))
        except BcModelError as error:
            self._messages.append(("Prediction failed", str(error)))
        except Exception:
            logger.exception("The image %r failed", name)
            text = f"{name} could not be processed. The server log contains the details."
            self._messages.append(("Image skipped", text))

    def show(self) -> None:
        """Show one box with the message of each image; a long list continues on demand."""
        if not self._messages:
            return
        if len(self._messages) == 1:
            title, message = self._messages[0]
            st.error(escape_markdown(message), title=title)
            return
        lines = [f"- {escape_markdown(message)}" for _, message in self._messages]
        st.error("\n".join(lines[:MAX_LISTED]), title=f"{len(lines)} images skipped")
        if more := lines[MAX_LISTED:]:
            with st.expander(f"And {len(more)} more"):
                st.markdown("\n".join(more))


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
