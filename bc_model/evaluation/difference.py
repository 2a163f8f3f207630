"""The comparison of two models as data; `compare` computes it."""

from dataclasses import dataclass, field
from enum import StrEnum

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.evaluation.intervals import Figure

COMPARED = (
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "roc_auc",
    "accuracy",
    "brier",
)

# Differences of means that are equal on paper differ in the last bits.
_ROUNDING = 1e-12


class Conclusion(StrEnum):
    """What the interval of a difference supports."""

    FIRST_HIGHER = "first higher"
    SECOND_HIGHER = "second higher"
    NO_EVIDENCE = "no evidence of a difference"
    NO_INTERVAL = "no interval"
    UNDEFINED = "undefined"


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
    conclusion : Conclusion
        Without an interval or a value, the note of `difference` states the reason.
    """

    first: float | None
    second: float | None
    difference: Figure
    conclusion: Conclusion

    @property
    def has_evidence(self) -> bool:
        """True when the interval leaves out 0."""
        return _excludes_zero(self.difference)

    def text(self, digits: int = 3) -> str:
        """Return the difference in one line, with signs.

        Examples
        --------
        >>> figure = Figure(0.1, 0.02, 0.2, 60, 9, "")
        >>> print(Difference(0.8, 0.9, figure, Conclusion.SECOND_HIGHER).text(2))
        0.80 and 0.90, +0.10 (95 % +0.02 to +0.20; 60 pictures, 9 cases): second higher
        """
        found = self.difference
        if self.first is None or self.second is None or found.value is None:
            return f"{self.conclusion}: {found.note}"
        why = f", {found.note}" if self.conclusion == Conclusion.NO_INTERVAL else ""
        interval = "no interval"
        if found.low is not None and found.high is not None:
            interval = f"95 % {found.low:+.{digits}f} to {found.high:+.{digits}f}"
        return (
            f"{self.first:.{digits}f} and {self.second:.{digits}f}, {found.value:+.{digits}f} "
            f"({interval}; {found.n:,} pictures, {found.n_cases or 'unknown'} cases): "
            f"{self.conclusion}{why}"
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
    checks : tuple of Check
        Checks of the comparison, the most serious first.
    """

    first: str
    second: str
    n: int
    n_cases: int
    n_left_out: tuple[int, int]
    differences: dict[str, Difference]
    checks: tuple[Check, ...]


def conclusion_of(difference: Figure) -> Conclusion:
    """Return what a difference (second minus first) supports, and no more."""
    if difference.value is None:
        return Conclusion.UNDEFINED
    # Equal predictions for every image have no spread for an interval, and need none.
    if abs(difference.value) <= _ROUNDING and difference.low is None:
        return Conclusion.NO_EVIDENCE
    if difference.low is None:
        return Conclusion.NO_INTERVAL
    if not _excludes_zero(difference):
        return Conclusion.NO_EVIDENCE
    return Conclusion.SECOND_HIGHER if difference.value > 0 else Conclusion.FIRST_HIGHER


def check_multiplicity(n_comparisons: int) -> Check:
    """Return the reminder that the intervals are not corrected for multiple comparisons."""
    return make_check("BC224", n_intervals=n_comparisons * len(COMPARED))


def _excludes_zero(figure: Figure) -> bool:
    if figure.low is None or figure.high is None:
        return False
    return figure.low > _ROUNDING or figure.high < -_ROUNDING
