"""What a leak is worth: a leaky protocol against the honest one beside it, paired where it can be.

Paired means on the same pictures: then a difference cannot come from the choice of the pictures.
"""

from dataclasses import dataclass
from typing import Any

from bc_model.checks import Check, make_check
from bc_model.errors import DataError
from bc_model.evaluation.hold_outs import mean_differences
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.protocol_row import FIGURES, ProtocolRow

PAIRS = (("image", "case"), ("folder", "case"), ("folds", "folds-clean"))
"""A leaky protocol and the honest one that differs from it by the leak alone."""

INTERVAL_SCOPE = make_check("BC237")
"""What the intervals of the differences do not cover."""

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
    check : Check
        The leakage effect on the balanced accuracy.
    """

    leaky: str
    honest: str
    differences: dict[str, Figure]
    check: Check

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
    reason = "their test images differ"
    try:
        found = mean_differences(pairs, COMPARED, n_resamples=n_resamples, seed=seed)
    except DataError as error:
        found, reason = {}, str(error)
    check = _check(leaky, honest, found.get(FIGURE), reason)
    return Gap(leaky.protocol, honest.protocol, found, check)


def _check(leaky: ProtocolRow, honest: ProtocolRow, found: Figure | None, reason: str) -> Check:
    params: dict[str, Any] = {
        "leaky_protocol": f"'{leaky.words}'",
        "clean_protocol": f"'{honest.words}'",
        "metric": FIGURES[FIGURE],
    }
    if found is None:
        values = (row.figures[FIGURE].brief() for row in (leaky, honest))
        params |= dict(zip(("leaky_value", "clean_value"), values, strict=True))
        return make_check("BC236", reason=reason, **params)
    params |= {"n": found.n, "n_cases": found.n_cases}
    if found.value is None:
        return make_check("BC235", reason=found.note, **params)
    params["difference"] = found.value
    if found.low is None or found.high is None:
        return make_check("BC234", reason=found.note or "the predictions never differ", **params)
    code = "BC231" if found.low > 0 else "BC232" if found.high < 0 else "BC233"
    return make_check(code, ci=[found.low, found.high], **params)
