"""Documents as self-contained HTML files or as Markdown, by the templates of this package."""

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from bc_model.reporting.document import Document

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKDOWN_SYNTAX = re.compile(r"([\\`*_{}\[\]<>|#])")
_GROUP_ID = re.compile(r'<g id="[^"]*"')


def to_html(document: Document) -> str:
    """Return a document as one HTML file without scripts and external resources."""
    return render("document.html.j2", document=document)


def to_markdown(document: Document) -> str:
    """Return a document as GitHub Markdown, with the alternative text of each chart."""
    return render("document.md.j2", document=document)


def render(template: str, **values: Any) -> str:
    """Return the text of a template; values are escaped in HTML only."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bc_model.reporting"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["md"] = _escape_markdown
    environment.filters["svg"] = _inline_svg
    return environment


def _escape_markdown(text: str) -> str:
    """Escape the syntax of Markdown and HTML in a text, and put it on one line."""
    return _MARKDOWN_SYNTAX.sub(r"\\\1", " ".join(text.split()))


def _inline_svg(figure: "Figure") -> Markup:
    """Return a figure as an ``<svg>`` element with texts that matplotlib escapes."""
    from bc_model.reporting.plots import figure_to_svg

    text = figure_to_svg(figure).decode("utf-8")
    # Group identifiers would not be unique on a page with several figures.
    return Markup(_GROUP_ID.sub("<g", text[text.index("<svg") :].rstrip()))
