"""A document between what it says and how it is written: plain blocks, no markup.

Every text is plain text; writers escape it as their format asks.
"""

from dataclasses import dataclass

from bc_model.export.drawing import Drawing


@dataclass(frozen=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; a quiet one is set smaller, as a caption."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Notice:
    """Sentences that must not be overlooked; a grave one more than others."""

    title: str
    sentences: tuple[str, ...]
    grave: bool = False


@dataclass(frozen=True)
class KeyFigure:
    """One large number, its interval below it, and what it rests on."""

    name: str
    value: str
    interval: str
    support: str


@dataclass(frozen=True)
class KeyFigures:
    """The few numbers that are read first."""

    figures: tuple[KeyFigure, ...]


@dataclass(frozen=True)
class Facts:
    """Names with what they are."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes
    ----------
    columns : tuple of str
    rows : tuple of tuple of str
    numeric : tuple of int
        Columns set to the right.
    widths : tuple of float
        Shares of the width, where they are not equal.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    widths: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A drawing with a title, and a sentence below it."""

    title: str
    drawing: Drawing
    caption: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts side by side, as far as there is room."""

    charts: tuple[Chart, ...]


Block = Heading | Text | Notice | KeyFigures | Facts | Table | Charts


@dataclass(frozen=True)
class Document:
    """A whole document.

    Attributes
    ----------
    title, subtitle : str
    created : str
        ISO date and time of what it is about, never of the writing: the same content gives the same
        bytes.
    footer : str
        On every page.
    blocks : tuple of Block
    """

    title: str
    subtitle: str
    created: str
    footer: str
    blocks: tuple[Block, ...]
