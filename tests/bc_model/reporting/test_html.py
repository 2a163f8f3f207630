"""HTML and Markdown files: self-contained, deterministic and safe for any text."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from bc_model.reporting.evaluation_report import report_document
from bc_model.reporting.html import to_html, to_markdown
from tests.bc_model.reporting.examples import MARKUP, hostile_document, model_card, report

ADDRESSES = ("href", "xlink:href", "src", "action", "data")


class Reader(HTMLParser):
    """Collect tags and addresses, and fail on tags that are not closed."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [v or "" for k, v in attrs if k in ADDRESSES]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [v or "" for k, v in attrs if k in ADDRESSES]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_to_html_is_self_contained() -> None:
    page = to_html(report_document(report(), model_card()))
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    # Charts contain references inside the page only.
    assert all(address.startswith("#") for address in reader.addresses)
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert "default-src 'none'" in page
    assert not re.search(
        r"https?://|@import|url\((?!#)", re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)
    )
    charts = re.findall(r'role="img" aria-label="[^"]+">(<svg.*?</svg>)', page, re.DOTALL)
    assert len(charts) >= 6
    for chart in charts:
        # The security policy blocks raster images, and names must be unique on a page.
        assert "<image" not in chart
        assert '<g id="' not in chart
        assert ElementTree.fromstring(chart).tag.endswith("svg")


def test_to_html_escapes_markup() -> None:
    reader = Reader()
    reader.feed(to_html(hostile_document()))
    assert "b" not in reader.tags
    assert "".join(reader.text).count(MARKUP) >= 8


def test_writers_same_report_gives_same_text() -> None:
    first, second = (report_document(report(), model_card()) for _ in range(2))
    assert to_html(first) == to_html(second)
    assert to_markdown(first) == to_markdown(second)


def test_to_markdown_escapes_markup_in_tables() -> None:
    text = to_markdown(hostile_document())
    (row,) = [line for line in text.splitlines() if line.startswith("| \\<b")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "| --- | ---: |" in text
    assert "<b" not in text.replace("\\<b", "")
    assert text.startswith("# \\<b")
    assert "\n\n\n" not in text
