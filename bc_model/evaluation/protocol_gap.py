"""What a leak is worth: a leaky protocol against the honest one beside it, paired where it can be.

Paired means on the same pictures: then a difference cannot come from the choice of the pictures.
"""

from dataclasses import dataclass

from bc_model.errors import DataError
from bc_model.evaluation.difference import NO_EVIDENCE
from bc_model.evaluation.hold_outs import mean_differences
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.protocol_row import FIGURES, PROTOCOL_WORDS, ProtocolRow

PAIRS = (("image", "case"), ("folder", "case"), ("folds", "folds-clean"))
"""A leaky protocol and the honest one that differs from it by the leak alone."""

CAUTION = (
    "The intervals are of these very models on other cases: what another seed of training would "
    "have given is not in them, and none is corrected for the number of comparisons."
)

FIGURE = "balanced_accuracy"
COMPARED = (FIGURE, "sensitivity", "specificity", "accuracy", "roc_auc")


@dataclass(frozen=True)
class Gap:
    """A leaky protocol against an honest one.

    Attributes
    ----------
    leaky, honest : str
        Protocols.
    differences : dict of str to Figure
        Leaky minus honest on the pictures that both tested, keys as in `COMPARED`; empty when they
        share none.
    sentence : str
        What may be said of it, in balanced accuracy.
    """

    leaky: str
    honest: str
    differences: dict[str, Figure]
    sentence: str

    @property
    def is_paired(self) -> bool:
        """True when both were judged on the same pictures."""
        return bool(self.differences)


def find_gaps(rows: list[ProtocolRow], *, n_resamples: int = 2000, seed: int = 0) -> list[Gap]:
    """Compare the protocols of `PAIRS` of which both have figures.

    Parameters
    ----------
    rows : list of ProtocolRow
    n_resamples, seed : int
        Of the bootstrap.
    """
    by_name = {row.protocol: row for row in rows if row.reports}
    return [
        _gap(by_name[leaky], by_name[honest], n_resamples, seed)
        for leaky, honest in PAIRS
        # A model can know test cases by the weights it began with: then no split is honest.
        if leaky in by_name and honest in by_name and not by_name[honest].leaky
    ]


def _gap(leaky: ProtocolRow, honest: ProtocolRow, n_resamples: int, seed: int) -> Gap:
    # Pooled folds stand under one key, official files under their own: both meet their like.
    keys = [key for key in leaky.reports if key in honest.reports]
    pairs = [(honest.reports[key], leaky.reports[key]) for key in keys]
    why = "were tested on other pictures"
    try:
        found = mean_differences(pairs, COMPARED, n_resamples=n_resamples, seed=seed)
    except DataError as error:
        found, why = {}, f"cannot be paired ({error})"
    sentence = _sentence(leaky, honest, found.get(FIGURE), why)
    return Gap(leaky.protocol, honest.protocol, found, sentence)


def _sentence(leaky: ProtocolRow, honest: ProtocolRow, found: Figure | None, why: str) -> str:
    one, other = f"{_called(leaky.protocol)} (leaky)", _called(honest.protocol)
    if found is None:
        values = [row.figures[FIGURE].text(3) for row in (leaky, honest)]
        return (
            f"Not paired: {one} and {other} {why}. Their {FIGURES[FIGURE]}, {values[0]} and "
            f"{values[1]}, may differ for that reason alone."
        )
    on = f"On the {found.n:,} pictures of {found.n_cases or 'unknown'} cases that both tested"
    part = f" (of {leaky.n:,} and {honest.n:,})" if found.n < max(leaky.n, honest.n) else ""
    if found.value is None:
        return f"{on}{part}, {one} and {other} cannot be compared: {found.note}."
    side = "above" if found.value >= 0 else "below"
    told = (
        f"{on}{part}, {one} came to a {FIGURES[FIGURE]} {abs(found.value):.3f} {side} that of "
        f"{other}"
    )
    if found.low is None or found.high is None:
        return f"{told}; no interval, so it may be chance: {found.note or 'they never differ'}."
    interval = f"95 % {found.low:+.3f} to {found.high:+.3f}"
    if found.low > 0:
        return f"{told} ({interval}): the leak flatters."
    if found.high < 0:
        return f"{told} ({interval}), though it leaks."
    return f"{told} ({interval}): {NO_EVIDENCE}."


def _called(protocol: str) -> str:
    words = PROTOCOL_WORDS[protocol]
    return f"the split {words}" if words.startswith("by ") else f"the {words}"
