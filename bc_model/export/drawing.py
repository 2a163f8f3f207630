"""Charts as shapes: drawn once, written as SVG and into PDF alike.

Coordinates are pixels from the upper left corner, y downwards.
"""

from dataclasses import dataclass, field
from typing import Literal

INK, QUIET, FAINT, GRID = "#1b2a30", "#5b6b73", "#9fb0b6", "#e3eaec"
ACCENT, ACCENT_LIGHT = "#0b6e75", "#d5e8ea"
# Told apart with every common form of colour blindness (Okabe and Ito).
BENIGN, MALIGNANT = "#0072b2", "#d55e00"

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: tuple[tuple[float, float], ...]
    colour: str = INK
    width: float = 1.0
    dash: tuple[float, float] | None = None


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    radius: float = 0.0


@dataclass(frozen=True)
class Dot:
    """A filled circle with a white seam, so that neighbours stay apart."""

    x: float
    y: float
    radius: float
    colour: str
    opacity: float = 1.0


@dataclass(frozen=True)
class Label:
    """Text with its baseline at y; turned ones read upwards."""

    x: float
    y: float
    text: str
    size: float = 11.0
    colour: str = INK
    anchor: Anchor = "start"
    bold: bool = False
    upwards: bool = False


Shape = Line | Box | Dot | Label


@dataclass(frozen=True)
class Drawing:
    """Shapes in the order in which they are drawn.

    Attributes
    ----------
    width, height : float
        px.
    shapes : tuple of Shape
    alt : str
        The same in a sentence, for who cannot see it.
    """

    width: float
    height: float
    shapes: tuple[Shape, ...]
    alt: str


@dataclass
class Frame:
    """A pair of axes from 0 to 1 in a drawing, and the shapes drawn into it so far.

    Attributes
    ----------
    x, y, width, height : float
        Of the field between the axes, px.
    """

    x: float
    y: float
    width: float
    height: float
    shapes: list[Shape] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Turn values in [0, 1] into pixels."""
        return self.x + x * self.width, self.y + (1 - y) * self.height

    def draw_axes(self, x_title: str, y_title: str) -> None:
        """Draw grid, ticks and titles."""
        for k in range(6):
            share = k / 5
            left, level = self.at(0, share)
            place, bottom = self.at(share, 0)
            self.shapes += [
                Line(((left, level), (left + self.width, level)), GRID),
                Line(((place, self.y), (place, bottom)), GRID),
                Label(left - 8, level + 4, f"{share:.1f}", 10.5, QUIET, "end"),
                Label(place, bottom + 17, f"{share:.1f}", 10.5, QUIET, "middle"),
            ]
        middle = self.x + self.width / 2
        self.shapes += [
            Label(middle, self.y + self.height + 38, x_title, 11.5, QUIET, "middle"),
            Label(
                self.x - 38, self.y + self.height / 2, y_title, 11.5, QUIET, "middle", upwards=True
            ),
        ]

    def draw_curve(
        self,
        points: list[tuple[float, float]],
        colour: str = ACCENT,
        width: float = 2.2,
        dash: tuple[float, float] | None = None,
    ) -> None:
        """Draw a line through values."""
        self.shapes.append(Line(tuple(self.at(x, y) for x, y in points), colour, width, dash))
