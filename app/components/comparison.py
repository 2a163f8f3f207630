"""Runs side by side: their settings, their figures, and the paired difference of two."""

from pathlib import Path

import streamlit as st

from app.components.checks import show_checks
from app.components.frame import escape, show_error
from app.components.reports import stamp_of
from bc_model.errors import BcModelError
from bc_model.evaluation.compare_runs import SettingRow, compare_runs
from bc_model.evaluation.difference import (
    Comparison,
    Conclusion,
    Difference,
    check_multiplicity,
)
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.report import Report
from bc_model.reporting.labels import support_words
from bc_model.training.run_folder import RunFolder

_LOWER = " (lower is better)"
FIGURE_WORDS = {
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "log_loss": "Loss" + _LOWER,
    "brier": "Brier score" + _LOWER,
}


def draw_settings(rows: list[SettingRow], columns: list[str], *, show_all: bool) -> None:
    """Draw the settings that differ, or all of them."""
    shown = rows if show_all else [row for row in rows if row.differs]
    if not shown:
        st.caption("No setting differs.")
        return
    st.dataframe(
        [
            {"Setting": row.name.capitalize(), **dict(zip(columns, row.values, strict=True))}
            for row in shown
        ],
        hide_index=True,
        alt="Settings of the runs side by side",
    )


def draw_figures(reports: dict[str, Report]) -> None:
    """Draw the figures of each run on its own test part.

    Parameters
    ----------
    reports : dict of str to Report
        Column heading to the report.
    """
    rows = [
        {"Figure": words, **{head: _support(one, name) for head, one in reports.items()}}
        for name, words in (
            ("accuracy", "Test part"),
            ("specificity", "Benign in it"),
            ("sensitivity", "Malignant in it"),
        )
    ]
    for name, words in FIGURE_WORDS.items():
        figures = {head: one.figures.get(name) for head, one in reports.items()}
        # A report holds the figures of its time; not every one has every figure.
        if any(figures.values()):
            rows.append(
                {"Figure": words, **{head: _in_words(figure) for head, figure in figures.items()}}
            )
    st.dataframe(rows, hide_index=True, alt="Figures of the runs side by side")
    st.caption(
        "In brackets the 95 % interval by bootstrap over cases. Two overlapping intervals do not "
        "say whether two runs differ; the table of differences does."
    )


def draw_differences(runs: dict[str, RunFolder]) -> None:
    """Draw the paired differences of finished runs against the first of them.

    Parameters
    ----------
    runs : dict of str to RunFolder
        Letter to run, at least two.
    """
    first, *others = runs
    found = []
    for other in others:
        one, two = runs[first], runs[other]
        stamp = stamp_of(one) + stamp_of(two)
        try:
            found.append(_compare(str(one.path), str(two.path), (first, other), stamp))
        except BcModelError as error:
            show_error(error, title=f"{first} and {other} cannot be compared")
    if found:
        # Checks of the first run or of a common test subset come with every pair.
        checks = {check.message: check for pair in found for check in pair.checks}
        show_checks([*checks.values(), check_multiplicity(len(found))])
    for pair in found:
        _draw_pair(pair)
    if found:
        st.caption(
            "Each run at its own cut-off; the bootstrap draws the same whole cases for both. No "
            "evidence of a difference does not mean that two runs are equal."
        )


def _draw_pair(found: Comparison) -> None:
    st.markdown(_summary(found))
    st.dataframe(
        [
            {
                "Figure": FIGURE_WORDS[name].removesuffix(_LOWER),
                found.first: _number(one.first),
                found.second: _number(one.second),
                f"{found.second} - {found.first}": _number(one.difference.value, "+.3f"),
                "95 % interval": _interval(one.difference),
                "Pictures": one.difference.n,
                "Cases": str(one.difference.n_cases or "unknown"),
                "Conclusion": _conclusion(name, one, found),
            }
            for name, one in found.differences.items()
        ],
        hide_index=True,
        column_config={"95 % interval": st.column_config.TextColumn(width=135)},
        alt=f"Differences between {found.first} and {found.second} with conclusions",
    )
    reasons: dict[str, list[str]] = {}
    for name, one in found.differences.items():
        if one.conclusion in (Conclusion.NO_INTERVAL, Conclusion.UNDEFINED):
            words = FIGURE_WORDS[name].removesuffix(_LOWER)
            reasons.setdefault(f"{one.conclusion}: {one.difference.note}", []).append(words)
    for reason, figures in reasons.items():
        st.caption(f"{escape(', '.join(figures))}: {escape(reason)}.")


@st.cache_data(max_entries=32, show_spinner="Comparing")
def _compare(first: str, second: str, names: tuple[str, str], stamp: tuple[int, ...]) -> Comparison:
    return compare_runs(RunFolder(Path(first)), RunFolder(Path(second)), names=names)


def _summary(found: Comparison) -> str:
    told = [
        FIGURE_WORDS[name].removesuffix(_LOWER)
        for name, one in found.differences.items()
        if one.has_evidence
    ]
    where = (
        f"**{found.second} against {found.first}**, on {found.n} pictures of "
        f"{found.n_cases or 'unknown'} cases that both predicted: "
    )
    if not told:
        conclusions = {one.conclusion for one in found.differences.values()}
        judged = " with an interval" if Conclusion.NO_INTERVAL in conclusions else ""
        return f"{where}**{Conclusion.NO_EVIDENCE}** in any metric{judged}."
    return f"{where}**evidence of a difference** in {', '.join(told)}."


def _conclusion(name: str, one: Difference, found: Comparison) -> str:
    higher = {Conclusion.FIRST_HIGHER: found.first, Conclusion.SECOND_HIGHER: found.second}
    if one.conclusion not in higher:
        return one.conclusion.capitalize()
    return f"{higher[one.conclusion]} is higher" + (", which is worse" if name == "brier" else "")


def _support(report: Report, name: str) -> str:
    figure = report.figures[name]
    return support_words(figure.n, figure.n_cases)


def _in_words(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "not defined"
    if figure.low is None:
        return f"{figure.value:.2f} (no interval)"
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def _number(value: float | None, form: str = ".3f") -> str:
    return "not defined" if value is None else format(value, form)


def _interval(figure: Figure) -> str:
    return "-" if figure.low is None else f"{figure.low:+.3f} to {figure.high:+.3f}"
