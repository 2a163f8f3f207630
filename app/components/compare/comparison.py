"""Runs side by side: their settings, their metrics, and the paired differences."""

from pathlib import Path

import streamlit as st

from app.components.checks import show_checks
from app.components.layout import escape, show_error
from app.components.metric_table import METRIC_COLUMNS, make_frame, stamp_of
from bc_model.errors import BcModelError
from bc_model.evaluation import (
    Comparison,
    Conclusion,
    Difference,
    EvaluationReport,
    check_multiplicity,
)
from bc_model.experiments import ConfigRow, compare_runs
from bc_model.training import Run

_LOWER = " (lower is better)"
METRIC_LABELS = {
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "log_loss": "Loss" + _LOWER,
    "brier": "Brier score" + _LOWER,
}


def show_config_form(rows: list[ConfigRow], columns: list[str], *, show_all: bool) -> None:
    """Draw the settings that differ, or all of them."""
    shown = rows if show_all else [row for row in rows if row.differs]
    if not shown:
        st.caption("All settings are equal.")
        return
    st.dataframe(
        [
            {"Setting": row.name.capitalize(), **dict(zip(columns, row.values, strict=True))}
            for row in shown
        ],
        hide_index=True,
        placeholder="-",
        alt="Settings of the runs side by side",
    )


def show_metrics(reports: dict[str, EvaluationReport]) -> None:
    """Draw the metrics of each run on its own test subset.

    Parameters
    ----------
    reports : dict of str to Report
        Letter of the run to its report.
    """
    st.dataframe(
        [
            {
                "Run": letter,
                "Images": report.n_images,
                "Benign images": report.metrics["specificity"].n_images,
                "Malignant images": report.metrics["sensitivity"].n_images,
                "Cases": report.n_cases or None,
            }
            for letter, report in reports.items()
        ],
        hide_index=True,
        placeholder="-",
        column_config={"Images": METRIC_COLUMNS["Images"], "Cases": METRIC_COLUMNS["Cases"]},
        alt="Images and cases in the test subset of each run",
    )
    rows = []
    for name, words in METRIC_LABELS.items():
        row: dict[str, str | float | None] = {"Metric": words}
        for letter, report in reports.items():
            # An older report may lack a newer metric.
            metric = report.metrics.get(name)
            row |= {
                letter: metric.value if metric else None,
                f"{letter} CI low": metric.ci_low if metric else None,
                f"{letter} CI high": metric.ci_high if metric else None,
            }
        rows.append(row)
    numbers = [column for column in rows[0] if column != "Metric"]
    st.dataframe(
        make_frame(rows),
        hide_index=True,
        placeholder="-",
        column_config=dict.fromkeys(numbers, METRIC_COLUMNS["Value"]),
        alt="Metrics of the runs side by side, with 95 % intervals",
    )
    st.caption(
        "95 % bootstrap intervals that resample cases. Use the table of differences to compare "
        "runs, not the overlap of these intervals."
    )


def draw_differences(runs: dict[str, Run]) -> None:
    """Draw the paired differences between the first finished run and each other one.

    Parameters
    ----------
    runs : dict of str to Run
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
            show_error(error, title=f"Comparison of {first} and {other} failed")
    if found:
        # Checks of the first run or of a common test subset come with every pair.
        checks = {check.message: check for pair in found for check in pair.checks}
        show_checks([*checks.values(), check_multiplicity(len(found))])
    for pair in found:
        _draw_pair(pair)
    if found:
        st.caption(
            "Each run uses its own threshold; the bootstrap resamples the same cases for both. No "
            "evidence of a difference does not mean that two runs are equal."
        )


def _draw_pair(found: Comparison) -> None:
    st.markdown(_summary(found))
    difference = f"{found.second} - {found.first}"
    signed = st.column_config.NumberColumn(format="%+.3f")
    plain = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        make_frame(
            [
                {
                    "Metric": METRIC_LABELS[name].removesuffix(_LOWER),
                    found.first: one.first,
                    found.second: one.second,
                    difference: one.difference.value,
                    "CI low": one.difference.ci_low,
                    "CI high": one.difference.ci_high,
                    "Images": one.difference.n_images,
                    "Cases": one.difference.n_cases or None,
                    "Result": _conclusion(name, one, found),
                }
                for name, one in found.differences.items()
            ]
        ),
        hide_index=True,
        placeholder="-",
        column_config=METRIC_COLUMNS
        | dict.fromkeys((found.first, found.second), plain)
        | dict.fromkeys((difference, "CI low", "CI high"), signed),
        alt=f"Differences between {found.first} and {found.second} with 95 % intervals",
    )
    reasons: dict[str, list[str]] = {}
    for name, one in found.differences.items():
        if one.conclusion in (Conclusion.NO_INTERVAL, Conclusion.UNDEFINED):
            words = METRIC_LABELS[name].removesuffix(_LOWER)
            reasons.setdefault(f"{one.conclusion}: {one.difference.note}", []).append(words)
    for reason, metrics in reasons.items():
        st.caption(f"{escape(', '.join(metrics))}: {escape(reason)}.")


@st.cache_data(max_entries=32, show_spinner="Comparing")
def _compare(first: str, second: str, names: tuple[str, str], stamp: tuple[int, ...]) -> Comparison:
    return compare_runs(Run(Path(first)), Run(Path(second)), names=names)


def _summary(found: Comparison) -> str:
    differing = [
        METRIC_LABELS[name].removesuffix(_LOWER)
        for name, one in found.differences.items()
        if one.has_evidence
    ]
    where = (
        f"**{found.second} against {found.first}**, on {found.n_images:,} images of "
        f"{found.n_cases or 'unknown'} cases that both runs predicted: "
    )
    if not differing:
        conclusions = {one.conclusion for one in found.differences.values()}
        judged = " with an interval" if Conclusion.NO_INTERVAL in conclusions else ""
        return f"{where}**{Conclusion.NO_EVIDENCE}** in any metric{judged}."
    return f"{where}**evidence of a difference** in {', '.join(differing)}."


def _conclusion(name: str, one: Difference, found: Comparison) -> str:
    higher = {Conclusion.FIRST_HIGHER: found.first, Conclusion.SECOND_HIGHER: found.second}
    if one.conclusion not in higher:
        return one.conclusion.capitalize()
    return f"{higher[one.conclusion]} is higher" + (", which is worse" if name == "brier" else "")
