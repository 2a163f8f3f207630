"""Published results on BreakHis by split protocol, for comparison with own results.

The list contains only results that were read in a public source. No result of a case-level split
(by slide number, with all sections of a case together) is published, so this protocol has no range.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedResult:
    """One published result."""

    protocol: str
    model: str
    accuracy: tuple[float, ...]
    roc_auc: tuple[float, ...]
    source: str

    def describe(self) -> str:
        """Return the result as a sentence with its source.

        Examples
        --------
        >>> PublishedResult("folder", "A net", (0.858,), (0.967,), "Author").describe()
        'Section-level split (with leakage): A net, accuracy 0.858, ROC AUC 0.967. Author.'
        """
        text = f"{_SPLITS[self.protocol].capitalize()} (with leakage): {self.model}"
        for label, values in (("accuracy", self.accuracy), ("ROC AUC", self.roc_auc)):
            if values:
                ends = sorted({min(values), max(values)})
                text += f", {label} " + " to ".join(f"{value:g}" for value in ends)
        return f"{text}. {self.source}."


@dataclass(frozen=True)
class PublishedRange:
    """The range of the published values of one metric for one protocol."""

    protocol: str
    metric: str
    lowest: float
    highest: float
    label: str


_UNNAMED = "Source: a public source that is not named here"

PUBLISHED_RESULTS = (
    PublishedResult(
        "image", "Inception-ResNet-v2 on parts of each image, random 80/20, four magnifications",
        (0.9669, 0.9831, 0.9851, 0.9975), (),
        "Fang and others, PLoS One 20(5), 2025, doi 10.1371/journal.pone.0311728",
    ),
    PublishedResult(
        "folder", "ResNet50, five-fold (standard deviation 0.044)", (0.927,), (),
        "Priyanka, Narendra and Rao, Frontiers in Digital Health, 2026",
    ),
    PublishedResult(
        "folder", "EfficientNet-b2, self-supervised", (0.9215,), (),
        "Magnification Prior Contrastive Similarity, arXiv 2203.07707",
    ),
    PublishedResult("folder", "Swin-T", (0.906,), (0.956,), _UNNAMED),
    PublishedResult("folder", "CTransPath, frozen", (0.858, 0.899), (0.967,), _UNNAMED),
)  # fmt: skip
"""In these sources, 'patient' means one of the 82 folders. A folder is a section, and sections of
one slide number can be in training and test, so this split has leakage."""

_SPLITS = {"image": "image-level split", "folder": "section-level split"}


def published_ranges(metric: str) -> list[PublishedRange]:
    """Return the published ranges of a metric, one for each protocol with published values.

    Examples
    --------
    >>> [(r.protocol, r.lowest, r.highest) for r in published_ranges("roc_auc")]
    [('folder', 0.956, 0.967)]
    """
    ranges = []
    for protocol, split in _SPLITS.items():
        values = [
            value
            for result in PUBLISHED_RESULTS
            if result.protocol == protocol
            for value in {"accuracy": result.accuracy, "roc_auc": result.roc_auc}.get(metric, ())
        ]
        if values:
            label = f"published, {split} (with leakage)"
            ranges.append(PublishedRange(protocol, metric, min(values), max(values), label))
    return ranges
