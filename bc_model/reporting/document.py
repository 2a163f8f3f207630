"""The content of a document as plain blocks, independent of the file format.

Every text is plain text. The writers escape it as their format requires.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bc_model.checks import Check, Severity, by_severity
from bc_model.evaluation.metrics import majority_baseline
from bc_model.reporting.labels import format_case_count, format_interval, format_value
from bc_model.utils.measurement import Metric

if TYPE_CHECKING:
    # Model cards have no charts, and matplotlib takes a second to load.
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph, or a caption in smaller letters."""

    text: str
    is_caption: bool = False


@dataclass(frozen=True)
class Notice:
    """A highlighted box of sentences, in the color of a warning if it is one."""

    title: str
    sentences: tuple[str, ...]
    is_warning: bool = False


@dataclass(frozen=True)
class KeyMetric:
    """One large number with its interval, images and cases, all as text."""

    name: str
    value: str
    interval: str
    support: str


@dataclass(frozen=True)
class KeyMetrics:
    """The few metrics at the top of a report."""

    metrics: tuple[KeyMetric, ...]


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and its value."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows of text, with the indices of right-aligned columns and relative column widths."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    widths: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A figure with a title, and a sentence for readers who cannot see it."""

    title: str
    figure: "Figure"
    alt_text: str

    @property
    def aspect(self) -> float:
        """Height divided by width."""
        width, height = self.figure.get_size_inches()
        return float(height / width)


@dataclass(frozen=True)
class Charts:
    """One wide chart, or several narrow ones side by side."""

    charts: tuple[Chart, ...]
    is_wide: bool = False

    @property
    def n_columns(self) -> int:
        """Number of charts side by side."""
        return 1 if self.is_wide else 2


Block = Heading | Text | Notice | KeyMetrics | Facts | Table | Charts


@dataclass(frozen=True)
class Document:
    """A complete document.

    `created` is the ISO date and time of the model, or ''. The time of writing is not part of a
    document, so that the same content gives the same bytes.
    """

    title: str
    subtitle: str
    created: str
    footer: str
    blocks: tuple[Block, ...]


def check_notices(checks: Iterable[Check]) -> Iterator[Notice]:
    """Yield one notice per severity, the most serious first."""
    for severity, group in by_severity(checks).items():
        sentences = tuple(check.message for check in group)
        yield Notice(severity.capitalize(), sentences, is_warning=severity != Severity.INFO)


def metric_table(
    metrics: dict[str, Metric], labels: dict[str, tuple[str, str]], malignant_proportion: float
) -> Table:
    """Return a table of metrics with interval, images, cases and meaning.

    The rows are in the order of the labels. `malignant_proportion` is that of the images or cases.
    """
    _, accuracy = majority_baseline(malignant_proportion)
    baseline = {"accuracy": f"; majority baseline: {accuracy:.3f}"}
    rows = tuple(
        (title, *metric_cells(metrics[name]), meaning + baseline.get(name, ""))
        for name, (title, meaning) in labels.items()
        if name in metrics
    )
    columns = ("Metric", "Value", "95 % CI", "Images", "Cases", "Meaning")
    widths = (1.75, 0.9, 1.35, 0.95, 1.05, 3.3)
    return Table(columns, rows, numeric=(1, 2, 3, 4), widths=widths)


def metric_cells(metric: Metric) -> tuple[str, str, str, str]:
    """Return value, interval, images and cases as the cells of a table."""
    support = (f"{metric.n_images:,}", format_case_count(metric.n_cases))
    return (format_value(metric), format_interval(metric), *support)
