"""HTML, PDF and Markdown: whole, self-contained, the same each time, and safe with any text."""

import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bc_model.errors import RunError, SettingsError
from bc_model.evaluation.by_case import case_table
from bc_model.evaluation.intervals import Figure
from bc_model.export import charts
from bc_model.export.document import Chart, Charts, Document, Facts, Heading, Notice, Table, Text
from bc_model.export.drawing import Box, Drawing, Label, Line
from bc_model.export.html import to_html
from bc_model.export.markdown import to_markdown
from bc_model.export.pdf import to_pdf
from bc_model.export.report_document import report_document
from bc_model.export.report_files import save_report
from bc_model.export.svg import to_svg
from tests.bc_model.export.examples import MARKUP, model_card, predictions, report


class Reader(HTMLParser):
    """Collect tags and what they point to; complain of tags that are not closed."""

    VOID = frozenset({"meta", "rect", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("href", "src", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def hostile() -> Document:
    drawing = Drawing(100, 50, (Label(5, 20, MARKUP), Box(1, 2, 3, 4, "#ffffff")), MARKUP)
    return Document(
        title=MARKUP,
        subtitle=MARKUP,
        created="2026-01-01T00:00:00+00:00",
        footer=MARKUP,
        blocks=(
            Heading(MARKUP),
            Text(MARKUP),
            Notice(MARKUP, (MARKUP, MARKUP)),
            Facts(((MARKUP, MARKUP),)),
            Table(("a", "b"), ((MARKUP, "x/" * 60), ("1", "2")), numeric=(1,)),
            Charts((Chart(MARKUP, drawing, MARKUP),)),
        ),
    )


def test_html_stands_alone() -> None:
    page = to_html(report_document(report(), model_card()))
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert reader.addresses == []
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@import|url\(", page)
    # Every drawing is well-formed XML of its own.
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) >= 6
    for one in drawings:
        assert ElementTree.fromstring(one).get("aria-label")


def test_html_shows_any_text_as_text() -> None:
    reader = Reader()
    reader.feed(to_html(hostile()))
    assert "b" not in reader.tags
    assert "".join(reader.text).count(MARKUP) >= 8


def test_the_same_report_gives_the_same_bytes() -> None:
    one, two = (report_document(report(), model_card()) for _ in range(2))
    assert to_html(one) == to_html(two)
    assert to_pdf(one) == to_pdf(two)
    assert to_markdown(one) == to_markdown(two)


def test_a_pdf_is_whole_and_says_what_it_is() -> None:
    data = to_pdf(report_document(report(), model_card()))
    assert data.startswith(b"%PDF-1.")
    assert data.rstrip().endswith(b"%%EOF")
    pages = len(re.findall(rb"/Type /Page\b", data))
    assert 3 <= pages <= 9
    assert b"/Lang (en)" in data
    assert b"http" not in data.replace(b"http://www.w3.org", b"").replace(
        b"http://ns.adobe.com", b""
    )
    # Fonts are inside; nothing is left to the reader's machine.
    assert data.count(b"/FontFile2") == 2


def test_a_pdf_takes_any_text() -> None:
    assert to_pdf(hostile()).startswith(b"%PDF-1.")
    long = replace(hostile(), blocks=(Notice("a", tuple(["word " * 60] * 40)),))
    assert len(re.findall(rb"/Type /Page\b", to_pdf(long))) >= 2


def test_markdown_escapes_and_keeps_tables_whole() -> None:
    text = to_markdown(hostile())
    (row,) = [line for line in text.splitlines() if line.startswith("| \\<b")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "| --- | ---: |" in text
    assert "<b" not in text.replace("\\<b", "")
    assert text.startswith("# \\<b")


def test_drawings_by_hand() -> None:
    drawing = charts.confusion_drawing(((3, 1), (0, 0)), "cases")
    texts = [shape.text for shape in drawing.shapes if isinstance(shape, Label)]
    assert {"3", "75.0 %", "1", "25.0 %", "no cases"} <= set(texts)
    assert drawing.alt.startswith("Of the 4 benign cases 3 are called benign and 1 malignant")
    svg = to_svg(Drawing(10, 20, (Line(((0, 1.5), (2, 3)), "#000000", 2, (4, 3)),), "a & b"))
    assert svg == (
        '<svg viewBox="0 0 10 20" role="img" aria-label="a &amp; b"><polyline points="0,1.5 2,3" '
        'fill="none" stroke="#000000" stroke-width="2" stroke-linejoin="round" '
        'stroke-dasharray="4 3"/></svg>'
    )


def test_the_working_point_lies_on_its_curve() -> None:
    found = report()
    assert found.roc is not None
    assert found.pr is not None
    (tn, fp), (fn, tp) = found.confusion
    left, top, width, height = charts._FIELD
    roc = charts.roc_drawing(found.roc, found.confusion, found.figures["roc_auc"])
    dot = next(shape for shape in roc.shapes if type(shape).__name__ == "Dot")
    assert dot.x == pytest.approx(left + width * fp / (tn + fp))
    assert dot.y == pytest.approx(top + height * (1 - tp / (fn + tp)))
    pr = charts.pr_drawing(
        found.pr, found.confusion, found.base_rate, found.figures["average_precision"]
    )
    dot = next(shape for shape in pr.shapes if type(shape).__name__ == "Dot")
    assert dot.y == pytest.approx(top + height * (1 - tp / (tp + fp)))


def test_dots_of_a_lane_do_not_cover_each_other() -> None:
    cases = case_table(report().predictions, 0.5)  # type: ignore[arg-type]
    drawing = charts.cases_drawing(cases, 0.5)
    dots = [shape for shape in drawing.shapes if type(shape).__name__ == "Dot"]
    assert len(dots) == len(cases)
    assert len({(round(dot.x), dot.y) for dot in dots}) == len(dots)


def test_files_by_suffix(tmp_path: Path) -> None:
    found = report()
    for name, start in (("a/r.html", b"<!DOCTYPE html>"), ("r.PDF", b"%PDF")):
        save_report(found, model_card(), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(SettingsError, match=r"asked for 'r\.docx'"):
        save_report(found, model_card(), tmp_path / "r.docx")
    with pytest.raises(RunError, match="can be written"):
        save_report(found, model_card(), tmp_path / "r.PDF" / "r.html")
    assert not (tmp_path / "r.docx").exists()


def test_eight_thousand_predictions_have_a_report_in_seconds() -> None:
    frame = predictions(8000)
    start = time.perf_counter()
    document = report_document(report(frame, n_resamples=2000), model_card())
    to_html(document)
    to_pdf(document)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("n_cases", "said"), [(0, "14 pictures, cases unknown"), (1, "14 pictures, 1 case")]
)
def test_an_interval_says_what_it_rests_on(n_cases: int, said: str) -> None:
    drawing = charts.intervals_drawing([("papillary", Figure(0.5, 0.4, 0.6, 14, n_cases, ""))])
    assert said in [shape.text for shape in drawing.shapes if isinstance(shape, Label)]
