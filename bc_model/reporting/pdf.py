"""A document as PDF: A4 pages with searchable text, charts as images and embedded fonts."""

from datetime import datetime
from io import BytesIO
from pathlib import Path

import matplotlib
from fpdf import FPDF
from fpdf.enums import TableBordersLayout, VAlign
from fpdf.fonts import FontFace

from bc_model.reporting import document as doc

MARGIN_MM, WIDTH_MM, FOOT_MM = 18.0, 174.0, 20.0

_FONT = "DejaVu"
_INK, _QUIET, _ACCENT = "#1b2a30", "#5b6b73", "#0b6e75"
_GUTTER_MM = 8.0
_LINE_MM = 4.7
_RULE, _SOFT = "#d7e0e3", "#f3f6f7"
_WARNING, _WARNING_SOFT = "#9a3b00", "#fdf3ec"
_UNBROKEN_ROWS = 10
"""Tables with at most this number of rows are not split over two pages."""


def to_pdf(document: doc.Document) -> bytes:
    """Return a document as the bytes of a PDF; equal documents give equal bytes."""
    sheet = Sheet(document)
    sheet.add_page()
    _title(sheet, document)
    for block, following in zip(document.blocks, (*document.blocks[1:], None), strict=True):
        if isinstance(block, doc.Heading):
            # A heading is on the same page as the start of the next block.
            sheet.reserve(14 + _min_height(following))
        _block(sheet, block)
    return bytes(sheet.output())


class Sheet(FPDF):
    """A4 pages with a footer."""

    def __init__(self, document: doc.Document) -> None:
        super().__init__(format="A4")
        self._footer = document.footer
        # The DejaVu fonts are part of Matplotlib.
        fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
        self.add_font(_FONT, "", fonts / "DejaVuSans.ttf")
        self.add_font(_FONT, "B", fonts / "DejaVuSans-Bold.ttf")
        self.set_margins(MARGIN_MM, 16, MARGIN_MM)
        self.set_auto_page_break(True, FOOT_MM)
        self.set_title(document.title)
        self.set_subject(document.subtitle)
        self.set_lang("en")
        self.set_creator("bc_model")
        # Without a date, FPDF would write the current time.
        self.set_creation_date(datetime.fromisoformat(document.created or "1970-01-01T00:00+00:00"))

    def footer(self) -> None:
        """Write the footer of a page; FPDF calls this method."""
        self.set_y(-13)
        self.ink(_QUIET, 7.5)
        self.cell(WIDTH_MM - 20, 4, self._footer)
        self.cell(20, 4, f"{self.page_no()}", align="R")

    def file_id(self) -> str:
        """Return no identifier, because that of FPDF depends on the time of writing."""
        return ""

    def ink(self, color: str, size_pt: float, *, bold: bool = False) -> None:
        """Set font, size and color."""
        self.set_font(_FONT, "B" if bold else "", size_pt)
        self.set_text_color(color)

    def write_text(
        self, text: str, color: str = _INK, size_pt: float = 9, *, bold: bool = False,
        gap_mm: float = 1.6,
    ) -> None:  # fmt: skip
        """Write a paragraph and move below it."""
        self.ink(color, size_pt, bold=bold)
        self.multi_cell(WIDTH_MM, size_pt * 0.52, text, align="L", new_x="LEFT", new_y="NEXT")
        self.ln(gap_mm)

    def reserve(self, height_mm: float) -> None:
        """Start a new page if this one has less than a height left."""
        if self.get_y() + height_mm > self.h - FOOT_MM:
            self.add_page()


def _title(sheet: Sheet, document: doc.Document) -> None:
    sheet.write_text(document.title, size_pt=18, bold=True, gap_mm=0.5)
    sheet.write_text(document.subtitle, _QUIET, gap_mm=1.5)
    sheet.set_draw_color(_ACCENT)
    sheet.set_line_width(0.8)
    sheet.line(MARGIN_MM, sheet.get_y(), MARGIN_MM + WIDTH_MM, sheet.get_y())
    sheet.ln(4)


def _block(sheet: Sheet, block: doc.Block) -> None:
    match block:
        case doc.Heading():
            sheet.ln(4)
            sheet.write_text(block.text, size_pt=12.5, bold=True, gap_mm=1.5)
        case doc.Text():
            sheet.write_text(block.text, *((_QUIET, 8) if block.is_caption else ()))
        case doc.Notice():
            _notice(sheet, block)
        case doc.KeyMetrics():
            _key_metrics(sheet, block)
        case doc.Facts():
            _table(sheet, doc.Table(("", ""), block.pairs, widths=(1, 4.2)), has_header=False)
        case doc.Table():
            _table(sheet, block)
        case doc.Charts():
            _charts(sheet, block)


def _min_height(block: doc.Block | None) -> float:
    """Return the height of the start of a block, mm."""
    if isinstance(block, doc.Charts):
        return max(c.aspect for c in block.charts[: block.n_columns]) * _chart_width(block) + 12
    return 28.0 if isinstance(block, doc.Table | doc.Facts | doc.KeyMetrics) else 12.0


def _chart_width(block: doc.Charts) -> float:
    return (WIDTH_MM - _GUTTER_MM * (block.n_columns - 1)) / block.n_columns


def _notice(sheet: Sheet, notice: doc.Notice) -> None:
    color, paper = (_WARNING, _WARNING_SOFT) if notice.is_warning else (_ACCENT, _SOFT)
    has_bullets = len(notice.sentences) > 1
    lines = [(notice.title, color if notice.is_warning else _INK, True)]
    lines += [(f"- {s}" if has_bullets else s, _INK, False) for s in notice.sentences]
    width, step = WIDTH_MM - 10, 4.5
    count = 0
    for text, ink, bold in lines:
        sheet.ink(ink, 8.5, bold=bold)
        count += len(sheet.multi_cell(width, step, text, dry_run=True, output="LINES", align="L"))  # type: ignore[arg-type]
    height = count * step + 5
    # A notice longer than half a page has no box and can continue on the next page.
    if height < 130:
        sheet.reserve(height)
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


def _key_metrics(sheet: Sheet, block: doc.KeyMetrics) -> None:
    sheet.reserve(28)
    width = (WIDTH_MM - 4 * (len(block.metrics) - 1)) / len(block.metrics)
    top = sheet.get_y()
    for k, metric in enumerate(block.metrics):
        left = MARGIN_MM + k * (width + 4)
        sheet.set_draw_color(_RULE)
        sheet.set_line_width(0.3)
        sheet.rect(left, top, width, 25, style="D", round_corners=True, corner_radius=1.6)
        for offset, text, color, size, bold in (
            (2.2, metric.name, _QUIET, 8, False),
            (7.0, metric.value, _ACCENT, 17 if len(metric.value) < 6 else 11, True),
            (15.2, metric.interval, _QUIET, 7.5, False),
            (19.4, metric.support, _QUIET, 7.5, False),
        ):
            sheet.set_xy(left + 3, top + offset)
            sheet.ink(color, size, bold=bold)
            # Long texts such as 'cases unknown' are smaller, so that they fit into the box.
            fitting_size = size * min(1.0, (width - 6) / (sheet.get_string_width(text) or 1.0))
            sheet.ink(color, fitting_size, bold=bold)
            sheet.cell(width - 6, size * 0.45, text)
    sheet.set_xy(MARGIN_MM, top + 29)


def _table(sheet: Sheet, table: doc.Table, *, has_header: bool = True) -> None:
    if len(table.rows) <= _UNBROKEN_ROWS:
        sheet.reserve(6.6 * (len(table.rows) + 1))
    sheet.ink(_INK, 7.6)
    sheet.set_draw_color(_RULE)
    sheet.set_fill_color("#ffffff")
    sheet.set_line_width(0.25)
    with sheet.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        col_widths=table.widths or tuple(1.0 for _ in table.columns),
        text_align=["RIGHT" if k in table.numeric else "LEFT" for k in range(len(table.columns))],
        headings_style=FontFace(emphasis="BOLD", color=_QUIET),
        line_height=_LINE_MM,
        padding=(0.7, 1.6),
        v_align=VAlign.T,
        first_row_as_headings=has_header,
        width=WIDTH_MM,
    ) as pdf_table:
        for row in [table.columns, *table.rows] if has_header else table.rows:
            pdf_row = pdf_table.row()
            for cell in row:
                pdf_row.cell(_breakable(cell))
    sheet.ln(3)


def _breakable(text: str) -> str:
    """Return a text whose long paths can break after each slash."""
    return text.replace("/", "/\u200b") if len(text) > 40 else text


def _charts(sheet: Sheet, block: doc.Charts) -> None:
    from bc_model.reporting.plots import figure_to_png

    width = _chart_width(block)
    for start in range(0, len(block.charts), block.n_columns):
        row = block.charts[start : start + block.n_columns]
        height = max(chart.aspect for chart in row) * width
        sheet.reserve(height + 12)
        top = sheet.get_y()
        for k, chart in enumerate(row):
            left = MARGIN_MM + k * (width + _GUTTER_MM)
            sheet.set_xy(left, top)
            sheet.ink(_QUIET, 8.5, bold=True)
            sheet.cell(width, 5, chart.title)
            image = BytesIO(figure_to_png(chart.figure))
            sheet.image(image, left, top + 6, w=width, alt_text=chart.alt_text)
        sheet.set_xy(MARGIN_MM, top + height + 8)
