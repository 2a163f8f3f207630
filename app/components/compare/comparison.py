"""Runs side by side: configuration, metrics, and paired differences."""

from pathlib import Path

import streamlit as st

from app.components.checks import show_checks
from app.components.layout import escape_markdown, show_error
from app.components.metric_table import (
    METRIC_COLUMNS,
    EvaluationStamp,
    make_frame,
    read_evaluation_stamp,
)
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

METRIC_LABELS = {
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "log_loss": "Log loss",
    "brier": "Brier score",
}
LOWER_IS_BETTER = frozenset({"log_loss", "brier"})


def show_config(rows: list[ConfigRow], columns: list[str], *, show_all: bool) -> None:
    """Show the options that differ, or all of them."""
    shown = rows if show_all else [row for row in rows if row.differs]
    if not shown:
        st.caption("The configurations are equal.")
        return
    st.dataframe(
        [
            {"Option": row.name.capitalize(), **dict(zip(columns, row.values, strict=True))}
            for row in shown
        ],
        hide_index=True,
        placeholder="-",
        alt="Configuration of the runs side by side",
    )


def show_metrics(reports: dict[str, EvaluationReport]) -> None:
    """Show the metrics of each run on its own test subset.

    Parameters
    ----------
    reports : dict of str to EvaluationReport
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
    for name, label in METRIC_LABELS.items():
        direction = " (lower is better)" if name in LOWER_IS_BETTER else ""
        row: dict[str, str | float | None] = {"Metric": label + direction}
        for letter, report in reports.items():
            metric = report.metrics[name]
            row |= {
                letter: metric.value,
                f"{letter} CI low": metric.ci_low,
                f"{letter} CI high": metric.ci_high,
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
        "95 % bootstrap intervals that resample cases; their overlap is no test of a difference."
    )


def show_differences(runs: dict[str, Run]) -> None:
    """Show the paired differences between the first finished run and each other one.

    Parameters
    ----------
    runs : dict of str to Run
        Letter to run, at least two.
    """
    first, *others = runs
    comparisons = []
    for other in others:
        pair = runs[first], runs[other]
        stamp = sum(map(read_evaluation_stamp, pair), ())
        try:
            paths = [str(run.path) for run in pair]
            comparisons.append(_compare(paths, (first, other), stamp))
        except BcModelError as error:
            show_error(error, title=f"Comparison of {first} and {other} failed")
    if not comparisons:
        return
    # Checks of the first run or of a common test subset are in every comparison.
    checks = {check.message: check for found in comparisons for check in found.checks}
    show_checks([*checks.values(), check_multiplicity(len(comparisons))])
    for comparison in comparisons:
        _show_comparison(comparison)
    st.caption(
        "Each run uses its own threshold; the bootstrap resamples the same cases for both runs."
    )
    st.caption("No evidence of a difference does not mean that two runs are equal.")


def _show_comparison(comparison: Comparison) -> None:
    st.markdown(_summarize(comparison))
    difference = f"{comparison.second} - {comparison.first}"
    signed = st.column_config.NumberColumn(format="%+.3f")
    plain = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        make_frame(
            [
                {
                    "Metric": METRIC_LABELS[name],
                    comparison.first: result.first,
                    comparison.second: result.second,
                    difference: result.difference.value,
                    "CI low": result.difference.ci_low,
                    "CI high": result.difference.ci_high,
                    "Images": result.difference.n_images,
                    "Cases": result.difference.n_cases or None,
                    "Result": _format_conclusion(name, result, comparison),
                }
                for name, result in comparison.differences.items()
            ]
        ),
        hide_index=True,
        placeholder="-",
        column_config=METRIC_COLUMNS
        | dict.fromkeys((comparison.first, comparison.second), plain)
        | dict.fromkeys((difference, "CI low", "CI high"), signed),
        alt=f"Differences between {comparison.first} and {comparison.second} with 95 % intervals",
    )
    reasons: dict[str, list[str]] = {}
    for name, result in comparison.differences.items():
        if result.conclusion in (Conclusion.NO_INTERVAL, Conclusion.UNDEFINED):
            label = METRIC_LABELS[name]
            reasons.setdefault(f"{result.conclusion}: {result.difference.note}", []).append(label)
    for reason, metrics in reasons.items():
        st.caption(f"{escape_markdown(', '.join(metrics))}: {escape_markdown(reason)}.")


@st.cache_data(max_entries=32, show_spinner="Comparing")
def _compare(paths: list[str], names: tuple[str, str], stamp: EvaluationStamp) -> Comparison:
    first, second = (Run(Path(path)) for path in paths)
    return compare_runs(first, second, names=names)


def _summarize(comparison: Comparison) -> str:
    differing = [
        METRIC_LABELS[name]
        for name, result in comparison.differences.items()
        if result.has_evidence
    ]
    subject = (
        f"**{comparison.second} against {comparison.first}**, on {comparison.n_images:,} images of "
        f"{comparison.n_cases or 'unknown'} cases that both runs predicted: "
    )
    if not differing:
        conclusions = {result.conclusion for result in comparison.differences.values()}
        restriction = " with an interval" if Conclusion.NO_INTERVAL in conclusions else ""
        return f"{subject}**{Conclusion.NO_EVIDENCE}** in any metric{restriction}."
    return f"{subject}**evidence of a difference** in {', '.join(differing)}."


def _format_conclusion(name: str, result: Difference, comparison: Comparison) -> str:
    higher = {
        Conclusion.FIRST_HIGHER: comparison.first,
        Conclusion.SECOND_HIGHER: comparison.second,
    }
    if result.conclusion not in higher:
        return result.conclusion.capitalize()
    return f"{higher[result.conclusion]} is higher" + (
        ", which is worse" if name in LOWER_IS_BETTER else ""
    )
