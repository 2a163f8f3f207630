"""Sheets of paper for `pdf`: page size, fonts, footer, paragraphs, and drawings as lines.

The fonts are embedded, so that names in Latin, Greek and Cyrillic letters are shown as they are.
"""

import importlib.util
from datetime import datetime
from pathlib import Path

from fpdf import FPDF

from bc_model.export.document import Document
from bc_model.export.drawing import INK, QUIET, Box, Dot, Drawing, Label, Line, Shape

MARGIN_MM, WIDTH_MM = 18.0, 174.0
FOOT_MM = 20.0

_FONT = "DejaVu"
_PT_PER_MM = 72 / 25.4


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
        self.ink(QUIET, 7.5)
        self.cell(WIDTH_MM - 20, 4, self._footer)
        self.cell(20, 4, f"{self.page_no()}", align="R")

    def file_id(self) -> str:
        """Return no identifier: FPDF's own holds the time of writing."""
        return ""

    def ink(self, colour: str, size_pt: float, *, bold: bool = False) -> None:
        """Set font, size and colour at once."""
        self.set_font(_FONT, "B" if bold else "", size_pt)
        self.set_text_color(colour)

    def write_text(
        self, text: str, colour: str = INK, size_pt: float = 9, *, bold: bool = False,
        width_mm: float = WIDTH_MM, gap_mm: float = 1.6,
    ) -> None:  # fmt: skip
        """Write a paragraph and go below it."""
        self.ink(colour, size_pt, bold=bold)
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


def draw(sheet: Sheet, drawing: Drawing, left: float, top: float, mm_per_px: float) -> None:
    """Draw a drawing with its upper left corner at a place on the page, mm."""
    for shape in drawing.shapes:
        _shape(sheet, shape, left, top, mm_per_px)
    sheet.set_dash_pattern()


def _shape(sheet: Sheet, shape: Shape, left: float, top: float, scale: float) -> None:
    match shape:
        case Line():
            sheet.set_draw_color(shape.colour)
            sheet.set_line_width(shape.width * scale)
            dash = shape.dash or (0, 0)
            sheet.set_dash_pattern(dash[0] * scale, dash[1] * scale)
            points = [(left + x * scale, top + y * scale) for x, y in shape.points]
            sheet.polyline(points)
        case Box():
            sheet.set_fill_color(shape.colour)
            sheet.rect(
                left + shape.x * scale, top + shape.y * scale,
                shape.width * scale, shape.height * scale,
                style="F", round_corners=shape.radius > 0, corner_radius=shape.radius * scale,
            )  # fmt: skip
        case Dot():
            sheet.set_fill_color(shape.colour)
            sheet.set_draw_color("#ffffff")
            sheet.set_line_width(scale)
            sheet.set_dash_pattern()
            sheet.circle(
                left + shape.x * scale, top + shape.y * scale, shape.radius * scale, style="DF"
            )
        case Label():
            _label(sheet, shape, left + shape.x * scale, top + shape.y * scale, scale)


def _label(sheet: Sheet, label: Label, x: float, y: float, scale: float) -> None:
    sheet.ink(label.colour, label.size * scale * _PT_PER_MM, bold=label.bold)
    width = sheet.get_string_width(label.text)
    shift = {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
    if label.upwards:
        with sheet.rotation(90, x, y):
            sheet.text(x - shift, y, label.text)
    else:
        sheet.text(x - shift, y, label.text)
