"""A document as PDF: A4 pages with text that can be searched, and charts as images.

The fonts are embedded, so that Latin, Greek and Cyrillic letters look the same everywhere.
"""

import importlib.util
from datetime import datetime
from io import BytesIO
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import TableBordersLayout, VAlign
from fpdf.fonts import FontFace

from bc_model.reporting.document import (
    Block,
    Charts,
    Document,
    Facts,
    Heading,
    KeyMetrics,
    Notice,
    Table,
    Text,
)

MARGIN_MM, WIDTH_MM, FOOT_MM = 18.0, 174.0, 20.0

_FONT = "DejaVu"
_INK, _QUIET, _ACCENT = "#1b2a30", "#5b6b73", "#0b6e75"
_GUTTER_MM = 8.0
_LINE_MM = 4.7
_RULE, _SOFT = "#d7e0e3", "#f3f6f7"
_GRAVE, _GRAVE_SOFT = "#9a3b00", "#fdf3ec"
_TOGETHER = 10
"""Rows of a table that is not torn over two pages."""


def to_pdf(document: Document) -> bytes:
    """Return a document as the bytes of a PDF; equal documents give equal bytes."""
    sheet = Sheet(document)
    sheet.add_page()
    _title(sheet, document)
    for block, following in zip(document.blocks, (*document.blocks[1:], None), strict=True):
        if isinstance(block, Heading):
            # A heading does not stand alone at the foot of a page.
            sheet.keep(14 + _least_height(following))
        _block(sheet, block)
    return bytes(sheet.output())


class Sheet(FPDF):
    """A4 pages with a footer."""

    def __init__(self, document: Document) -> None:
        super().__init__(format="A4")
        self._footer = document.footer
        fonts = _font_folder()
        self.add_font(_FONT, "", fonts / "DejaVuSans.ttf")
        self.add_font(_FONT, "B", fonts / "DejaVuSans-Bold.ttf")
        self.set_margins(MARGIN_MM, 16, MARGIN_MM)
        self.set_auto_page_break(True, FOOT_MM)
        self.set_title(document.title)
        self.set_subject(document.subtitle)
        self.set_lang("en")
        self.set_creator("bc_model")
        self.set_creation_date(datetime.fromisoformat(document.created))

    def footer(self) -> None:
        """Write the foot of a page; FPDF calls this."""
        self.set_y(-13)
        self.ink(_QUIET, 7.5)
        self.cell(WIDTH_MM - 20, 4, self._footer)
        self.cell(20, 4, f"{self.page_no()}", align="R")

    def file_id(self) -> str:
        """Return no identifier: FPDF's own holds the time of writing."""
        return ""

    def ink(self, color: str, size_pt: float, *, bold: bool = False) -> None:
        """Set font, size and color at once."""
        self.set_font(_FONT, "B" if bold else "", size_pt)
        self.set_text_color(color)

    def write_text(
        self, text: str, color: str = _INK, size_pt: float = 9, *, bold: bool = False,
        width_mm: float = WIDTH_MM, gap_mm: float = 1.6,
    ) -> None:  # fmt: skip
        """Write a paragraph and go below it."""
        self.ink(color, size_pt, bold=bold)
        self.multi_cell(width_mm, size_pt * 0.52, text, align="L", new_x="LEFT", new_y="NEXT")
        self.ln(gap_mm)

    def keep(self, height_mm: float) -> None:
        """Go to the next page unless there is so much room left on this one."""
        if self.get_y() + height_mm > self.h - FOOT_MM:
            self.add_page()


def _font_folder() -> Path:
    """Return where Matplotlib, which this program needs anyway, has its fonts."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


def _title(sheet: Sheet, document: Document) -> None:
    sheet.write_text(document.title, size_pt=18, bold=True, gap_mm=0.5)
    sheet.write_text(document.subtitle, _QUIET, gap_mm=1.5)
    sheet.set_draw_color(_ACCENT)
    sheet.set_line_width(0.8)
    sheet.line(MARGIN_MM, sheet.get_y(), MARGIN_MM + WIDTH_MM, sheet.get_y())
    sheet.ln(4)


def _block(sheet: Sheet, block: Block) -> None:
    match block:
        case Heading():
            sheet.ln(4)
            sheet.write_text(block.text, size_pt=12.5, bold=True, gap_mm=1.5)
        case Text():
            if block.quiet:
                sheet.write_text(block.text, _QUIET, 8)
            else:
                sheet.write_text(block.text)
        case Notice():
            _notice(sheet, block)
        case KeyMetrics():
            _key_metrics(sheet, block)
        case Facts():
            _facts(sheet, block)
        case Table():
            _table(sheet, block)
        case Charts():
            _charts(sheet, block)


def _least_height(block: Block | None) -> float:
    """Return how much room a block needs to begin, mm."""
    if isinstance(block, Charts):
        return max(_chart_heights(block)[: _columns(block)]) + 12
    return 28.0 if isinstance(block, Table | Facts | KeyMetrics) else 12.0


def _columns(block: Charts) -> int:
    return 1 if block.wide else 2


def _chart_heights(block: Charts) -> list[float]:
    width = (WIDTH_MM - _GUTTER_MM * (_columns(block) - 1)) / _columns(block)
    return [chart.aspect * width for chart in block.charts]


def _notice(sheet: Sheet, notice: Notice) -> None:
    color, paper = (_GRAVE, _GRAVE_SOFT) if notice.grave else (_ACCENT, _SOFT)
    several = len(notice.sentences) > 1
    lines = [(notice.title, color if notice.grave else _INK, True)]
    lines += [(f"- {s}" if several else s, _INK, False) for s in notice.sentences]
    width, step = WIDTH_MM - 10, 4.5
    count = 0
    for text, ink, bold in lines:
        sheet.ink(ink, 8.5, bold=bold)
        count += len(sheet.multi_cell(width, step, text, dry_run=True, output="LINES", align="L"))  # type: ignore[arg-type]
    height = count * step + 5
    # Longer ones than half a page run on to the next, without their box.
    if height < 130:
        sheet.keep(height)
        top = sheet.get_y()
        for shade, breadth in ((paper, WIDTH_MM), (color, 1.1)):
            sheet.set_fill_color(shade)
            sheet.rect(MARGIN_MM, top, breadth, height, style="F")
        sheet.set_y(top + 2.5)
    for text, ink, bold in lines:
        sheet.ink(ink, 8.5, bold=bold)
        sheet.set_x(MARGIN_MM + 5)
        sheet.multi_cell(width, step, text, align="L", new_x="LEFT", new_y="NEXT")
    sheet.set_x(MARGIN_MM)
    sheet.ln(5)


def _key_metrics(sheet: Sheet, block: KeyMetrics) -> None:
    sheet.keep(28)
    width = (WIDTH_MM - 4 * (len(block.metrics) - 1)) / len(block.metrics)
    top = sheet.get_y()
    for k, one in enumerate(block.metrics):
        left = MARGIN_MM + k * (width + 4)
        sheet.set_draw_color(_RULE)
        sheet.set_line_width(0.3)
        sheet.rect(left, top, width, 25, style="D", round_corners=True, corner_radius=1.6)
        for offset, text, color, size, bold in (
            (2.2, one.name, _QUIET, 8, False),
            (7.0, one.value, _ACCENT, 17 if len(one.value) < 6 else 11, True),
            (15.2, one.interval, _QUIET, 7.5, False),
            (19.4, one.support, _QUIET, 7.5, False),
        ):
            sheet.set_xy(left + 3, top + offset)
            sheet.ink(color, size, bold=bold)
            # Long words such as 'cases unknown' are written smaller, so that they stay in the box.
            fitting = size * min(1.0, (width - 6) / (sheet.get_string_width(text) or 1.0))
            sheet.ink(color, fitting, bold=bold)
            sheet.cell(width - 6, size * 0.45, text)
    sheet.set_xy(MARGIN_MM, top + 29)


def _facts(sheet: Sheet, block: Facts) -> None:
    _table(sheet, Table(("", ""), block.pairs, widths=(1, 4.2)), head=False)


def _table(sheet: Sheet, table: Table, *, head: bool = True) -> None:
    if len(table.rows) <= _TOGETHER:
        sheet.keep(6.6 * (len(table.rows) + 1))
    sheet.ink(_INK, 7.6)
    sheet.set_draw_color(_RULE)
    sheet.set_fill_color("#ffffff")
    sheet.set_line_width(0.25)
    aligned = ["RIGHT" if k in table.numeric else "LEFT" for k in range(len(table.columns))]
    style = FontFace(emphasis="BOLD", color=_QUIET)
    with sheet.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        col_widths=table.widths or tuple(1.0 for _ in table.columns),
        text_align=aligned,
        headings_style=style,
        line_height=_LINE_MM,
        padding=(0.7, 1.6),
        v_align=VAlign.T,
        first_row_as_headings=head,
        width=WIDTH_MM,
    ) as synthetic:
        for row in [table.columns, *table.rows] if head else table.rows:
            line = synthetic.row()
            for cell in row:
                line.cell(_breakable(cell))
    sheet.ln(3)


def _breakable(text: str) -> str:
    """Let long paths break at their slashes: without a blank they would run out of their cell."""
    return text.replace("/", "/\u200b") if len(text) > 40 else text


def _charts(sheet: Sheet, block: Charts) -> None:
    from bc_model.reporting.plots import figure_to_png

    columns = _columns(block)
    width = (WIDTH_MM - _GUTTER_MM * (columns - 1)) / columns
    for start in range(0, len(block.charts), columns):
        row = block.charts[start : start + columns]
        heights = _chart_heights(block)[start : start + columns]
        sheet.keep(max(heights) + 12)
        top = sheet.get_y()
        for k, chart in enumerate(row):
            left = MARGIN_MM + k * (width + _GUTTER_MM)
            sheet.set_xy(left, top)
            sheet.ink(_QUIET, 8.5, bold=True)
            sheet.cell(width, 5, chart.title)
            image = BytesIO(figure_to_png(chart.figure))
            sheet.image(image, left, top + 6, w=width, alt_text=chart.alt_text)
        sheet.set_xy(MARGIN_MM, top + max(heights) + 8)
