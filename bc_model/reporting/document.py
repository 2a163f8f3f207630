"""The content of a document as plain blocks, independent of the file format.

Every text is plain text. The writers escape it as their format requires.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bc_model.checks import Check, Severity, by_severity
from bc_model.reporting.labels import format_case_count, format_interval, format_value
from bc_model.utils.metric import Metric

if TYPE_CHECKING:
    # Model cards have no charts, and matplotlib takes a second to load.
    from matplotlib.figure import Figure as MplFigure

_METRIC_WIDTHS = (1.75, 0.9, 1.35, 0.95, 1.05, 3.3)


@dataclass(frozen=True)
class Heading:
    """The title of a section."""

    kind: ClassVar[str] = "heading"

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph. A quiet one is smaller, like a caption."""

    kind: ClassVar[str] = "text"

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Notice:
    """A highlighted box of sentences. A grave one has the color of a warning."""

    kind: ClassVar[str] = "notice"

    title: str
    sentences: tuple[str, ...]
    grave: bool = False


def check_notices(checks: Iterable[Check]) -> Iterator[Notice]:
    """Yield one notice per severity, the most serious first."""
    for severity, group in by_severity(checks).items():
        sentences = tuple(check.message for check in group)
        yield Notice(severity.capitalize(), sentences, grave=severity != Severity.INFO)


@dataclass(frozen=True)
class KeyMetric:
    """One large number with its interval, images and cases."""

    name: str
    value: str
    interval: str
    support: str


@dataclass(frozen=True)
class KeyMetrics:
    """The few metrics that readers see first."""

    kind: ClassVar[str] = "key_metrics"

    metrics: tuple[KeyMetric, ...]


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and its value."""

    kind: ClassVar[str] = "facts"

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes
    ----------
    columns : tuple of str
    rows : tuple of tuple of str
    numeric : tuple of int
        Indices of the right-aligned columns.
    widths : tuple of float
        Relative widths of the columns, if they are not equal.
    """

    kind: ClassVar[str] = "table"

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    widths: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A chart with a title.

    Attributes
    ----------
    title : str
    figure : matplotlib.figure.Figure
    alt_text : str
        The content of the chart as a sentence, for readers who cannot see it.
    """

    title: str
    figure: "MplFigure"
    alt_text: str

    @property
    def aspect(self) -> float:
        """Height divided by width."""
        width, height = self.figure.get_size_inches()
        return float(height / width)


@dataclass(frozen=True)
class Charts:
    """One wide chart, or several narrow ones side by side."""

    kind: ClassVar[str] = "charts"

    charts: tuple[Chart, ...]
    wide: bool = False


Block = Heading | Text | Notice | KeyMetrics | Facts | Table | Charts


@dataclass(frozen=True)
class Document:
    """A complete document.

    Attributes
    ----------
    title, subtitle : str
    created : str
        The ISO date and time of the content. The time of writing is not part of a document, so
        that the same content gives the same bytes.
    footer : str
        The text at the foot of every page.
    blocks : tuple of Block
    """

    title: str
    subtitle: str
    created: str
    footer: str
    blocks: tuple[Block, ...]


def metric_table(
    figures: dict[str, Metric], words: dict[str, tuple[str, str]], malignant_proportion: float
) -> Table:
    """Return a table of metrics with interval, images, cases and meaning.

    Parameters
    ----------
    figures : dict of str to Figure
    words : dict of str to (str, str)
        Title and meaning of each metric to show, in this order.
    malignant_proportion : float
        The accuracy of the majority baseline, which always predicts malignant.
    """
    baseline = {"accuracy": f"; majority baseline: {malignant_proportion:.3f}"}
    rows = tuple(
        (
            title,
            format_value(figures[name]),
            format_interval(figures[name]),
            f"{figures[name].n_images:,}",
            format_case_count(figures[name].n_cases),
            meaning + baseline.get(name, ""),
        )
        for name, (title, meaning) in words.items()
        if name in figures
    )
    columns = ("Metric", "Value", "95 % CI", "Images", "Cases", "Meaning")
    return Table(columns, rows, numeric=(1, 2, 3, 4), widths=_METRIC_WIDTHS)
