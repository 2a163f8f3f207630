"""The metrics of an experiment by configuration, with pooled out-of-fold predictions."""

from pathlib import Path

import streamlit as st

from app.components.figures import METRIC_COLUMNS, make_frame
from app.components.labeled_checks import show_labeled_checks
from app.components.report_charts import majority_baseline
from app.places import runs_folder
from bc_model.evaluation.report import Report
from bc_model.evaluation.study_figures import GroupFigures, check_selection, summarise_study
from bc_model.training.study_file import read_study

SHOWN = {
    "balanced_accuracy": "Balanced accuracy",
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
_BASELINE = "Majority baseline"
_NUMBERS = (
    *(f"{words}{end}" for words in SHOWN.values() for end in ("", " CI low", " CI high")),
    _BASELINE,
)


@st.cache_data(max_entries=16, show_spinner="Computing metrics")
def groups_of(runs: str, name: str, stamp: tuple) -> list[GroupFigures]:
    """Compute the metrics of each group; `stamp` changes whenever they change."""
    return summarise_study(read_study(Path(runs), name), Path(runs))


def draw_groups(name: str, groups: list[GroupFigures]) -> None:
    """Draw a table row for each configuration, and its notes.

    Parameters
    ----------
    name : str
        Name of the experiment, for a group without its own name.
    groups : list of GroupFigures
    """
    checks = {one.group or name: one.checks for one in groups}
    if selection := check_selection(read_study(runs_folder(), name)):
        checks = {"all settings": selection} | checks
    show_labeled_checks(checks)
    st.dataframe(
        make_frame(
            [
                {
                    "Configuration": one.group or name,
                    "Runs": one.n_runs,
                    "Finished": len(one.folds),
                    "Failed": one.n_failed,
                }
                | _metric_cells(one.report)
                for one in groups
            ]
        ),
        hide_index=True,
        placeholder="-",
        column_config={
            "Configuration": st.column_config.TextColumn(pinned=True),
            **{name: METRIC_COLUMNS[name] for name in ("Images", "Cases")},
            **dict.fromkeys(_NUMBERS, st.column_config.NumberColumn(format="%.3f")),
        },
        alt="Pooled metrics of each configuration with intervals, images and cases",
    )
    st.caption(
        "Metrics of the pooled out-of-fold predictions, with 95 % bootstrap intervals that "
        "resample cases."
    )


def _metric_cells(report: Report | None) -> dict[str, float | None]:
    if report is None:
        return dict.fromkeys((*_NUMBERS, "Images", "Cases"))
    cells: dict[str, float | None] = {}
    for key, words in SHOWN.items():
        figure = report.figures[key]
        cells |= {
            words: figure.value,
            f"{words} CI low": figure.low,
            f"{words} CI high": figure.high,
        }
    _, baseline = majority_baseline(report.base_rate)
    return cells | {_BASELINE: baseline, "Images": report.n, "Cases": report.n_cases or None}
