"""What comparing two models found, as data, and the words for it; computing it is in `compare`."""

from dataclasses import dataclass, field

import pandas as pd

from bc_model.evaluation.intervals import Figure

COMPARED = (
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "roc_auc",
    "accuracy",
    "brier",
)
NO_EVIDENCE = "no evidence of a difference"
NOT_JUDGED, NOT_DEFINED = "cannot be judged", "not defined"

# Differences of means that are equal on paper differ in the last bits.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Side:
    """One of two models: what it predicted, and what speaks against its figures.

    Parameters
    ----------
    name : str
        As it is to stand in sentences.
    predictions : pandas.DataFrame
        As `check_predictions` describes it.
    threshold : float
        A picture is called malignant at this probability or above.
    leaky : bool
        Whether its protocol lets pictures of one case stand in training and test.
    seen_cases : frozenset of str
        Cases that the model learned from or was chosen by.
    """

    name: str
    predictions: pd.DataFrame = field(repr=False)
    threshold: float = 0.5
    leaky: bool = False
    seen_cases: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True)
class Difference:
    """One figure of both models on the common pictures, and their difference.

    Parameters
    ----------
    first, second : float or None
        None where the figure is not defined.
    difference : Figure
        Second minus first, with its paired interval.
    verdict : str
        What may be said of it; where that is nothing, the note of `difference` says why.
    """

    first: float | None
    second: float | None
    difference: Figure
    verdict: str

    @property
    def has_evidence(self) -> bool:
        """True when the interval leaves out 0."""
        return _excludes_zero(self.difference)

    def text(self, digits: int = 3) -> str:
        """Return the difference in one line, with signs.

        Examples
        --------
        >>> print(Difference(0.8, 0.9, Figure(0.1, 0.02, 0.2, 60, 9, ""), "B is higher").text(2))
        0.80 and 0.90, +0.10 (95 % +0.02 to +0.20; 60 pictures, 9 cases): B is higher
        """
        found = self.difference
        if self.first is None or self.second is None or found.value is None:
            return f"{self.verdict}: {found.note}"
        why = f", {found.note}" if self.verdict == NOT_JUDGED else ""
        interval = "no interval"
        if found.low is not None and found.high is not None:
            interval = f"95 % {found.low:+.{digits}f} to {found.high:+.{digits}f}"
        return (
            f"{self.first:.{digits}f} and {self.second:.{digits}f}, {found.value:+.{digits}f} "
            f"({interval}; {found.n:,} pictures, {found.n_cases or 'unknown'} cases): "
            f"{self.verdict}{why}"
        )


@dataclass(frozen=True)
class Comparison:
    """What comparing two models found.

    Parameters
    ----------
    first, second : str
        Their names.
    n, n_cases : int
        Common pictures, and known cases among them.
    n_left_out : (int, int)
        Pictures of the first and of the second that the other did not predict.
    differences : dict of str to Difference
        Keys as in `COMPARED`.
    warnings : list of str
        To be shown above the differences, the gravest first.
    """

    first: str
    second: str
    n: int
    n_cases: int
    n_left_out: tuple[int, int]
    differences: dict[str, Difference]
    warnings: list[str]


def verdict_on(name: str, difference: Figure, first: str, second: str) -> str:
    """Say what one difference tells of two models, and no more.

    Parameters
    ----------
    name : str
        One of `COMPARED`.
    difference : Figure
        Second minus first.
    first, second : str
        Names of the models.
    """
    if difference.value is None:
        return NOT_DEFINED
    # Equal verdicts on every picture have no spread to draw an interval from, and need none.
    if abs(difference.value) <= _ROUNDING and difference.low is None:
        return NO_EVIDENCE
    if difference.low is None:
        return NOT_JUDGED
    if not _excludes_zero(difference):
        return NO_EVIDENCE
    worse = ", which is worse" if name == "brier" else ""
    return f"{second if difference.value > 0 else first} is higher{worse}"


def caution(n_comparisons: int) -> str:
    """Say what several looks at one test part are worth."""
    looks = n_comparisons * len(COMPARED)
    return (
        f"Exploratory: {looks} intervals are looked at and none is corrected for that, so one in "
        "twenty may leave out 0 by chance alone."
    )


def _excludes_zero(figure: Figure) -> bool:
    if figure.low is None or figure.high is None:
        return False
    return figure.low > _ROUNDING or figure.high < -_ROUNDING
