"""What others report on BreakHis, by the protocol they split by: bands beside one's own figures.

Only figures that were read in a public source stand here. Nobody's figure is known for a split by
case as it is understood here (by slide number, all sections together), so that one has no band.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedResult:
    """One published result.

    Attributes
    ----------
    protocol : str
        The split it rests on, as a name of `bc_model.data.splits`.
    model : str
    accuracy, roc_auc : tuple of float
        In [0, 1]; several when several are reported, none when none is.
    source : str
    """

    protocol: str
    model: str
    accuracy: tuple[float, ...]
    roc_auc: tuple[float, ...]
    source: str

    def describe(self) -> str:
        """Return the result as a sentence with its source.

        Examples
        --------
        >>> Published("folder", "A net", (0.858, 0.899), (0.967,), "Somebody, 2026").in_words()
        'By folder (leaky): A net, accuracy 0.858 to 0.899, ROC AUC 0.967. Somebody, 2026.'
        """
        split = _WORDS[self.protocol].removeprefix("published, ")
        told = f"{split[:1].upper()}{split[1:]}: {self.model}"
        for words, values in (("accuracy", self.accuracy), ("ROC AUC", self.roc_auc)):
            if values:
                ends = sorted({min(values), max(values)})
                told += f", {words} " + " to ".join(f"{value:g}" for value in ends)
        return f"{told}. {self.source}."


@dataclass(frozen=True)
class PublishedRange:
    """The range of the published values of one figure under one protocol.

    Attributes
    ----------
    protocol, figure : str
    low, high : float
        In [0, 1].
    words : str
        For people: what lies in it.
    """

    protocol: str
    metric: str
    lowest: float
    highest: float
    label: str


_READ = "Read in a public source that is not named here"

PUBLISHED_RESULTS = (
    PublishedResult(
        "image", "Inception-ResNet-v2 on parts of each picture, random 80/20, four magnifications",
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
    PublishedResult("folder", "Swin-T", (0.906,), (0.956,), _READ),
    PublishedResult("folder", "CTransPath, frozen", (0.858, 0.899), (0.967,), _READ),
)  # fmt: skip
"""By 'patient' these sources mean the 82 folders. Folders are sections, and sections of one slide
number can part: such a split still leaks."""

_WORDS = {"image": "published, by picture (leaky)", "folder": "published, by folder (leaky)"}


def published_ranges(metric: str) -> list[PublishedRange]:
    """Return the published ranges of a figure; none for figures that nobody reports.

    Parameters
    ----------
    figure : str
        Such as 'accuracy'.

    Examples
    --------
    >>> [(band.protocol, band.low, band.high) for band in bands("roc_auc")]
    [('folder', 0.956, 0.967)]
    """
    found = []
    for protocol, words in _WORDS.items():
        values = [
            value
            for one in PUBLISHED_RESULTS
            if one.protocol == protocol
            for value in {"accuracy": one.accuracy, "roc_auc": one.roc_auc}.get(metric, ())
        ]
        if values:
            found.append(PublishedRange(protocol, metric, min(values), max(values), words))
    return found
