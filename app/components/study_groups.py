"""The figures of a study by its groups of settings, the folds of each pooled."""

from pathlib import Path

import streamlit as st

from app.components.labeled_checks import show_labeled_checks
from app.places import runs_folder
from bc_model.evaluation.study_figures import GroupFigures, check_selection, summarise_study
from bc_model.training.study_file import read_study

SHOWN = {
    "balanced_accuracy": "Balanced accuracy",
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}


@st.cache_data(max_entries=16, show_spinner="Computing the figures")
def groups_of(runs: str, name: str, stamp: tuple) -> list[GroupFigures]:
    """Compute the figures of each group; `stamp` is what changes when they do."""
    return summarise_study(read_study(Path(runs), name), Path(runs))


def draw_groups(name: str, groups: list[GroupFigures]) -> None:
    """Draw a line for each group of settings, and what must be known of it.

    Parameters
    ----------
    name : str
        Of the study, for a group that nothing sets apart.
    groups : list of GroupFigures
    """
    checks = {one.group or name: one.checks for one in groups}
    if selection := check_selection(read_study(runs_folder(), name)):
        checks = {"all settings": selection} | checks
    show_labeled_checks(checks)
    st.dataframe(
        [
            {
                "Settings": one.group or name,
                "Folds": f"{len(one.folds)} of {one.n_runs}",
                "No result": one.n_failed,
                **{
                    words: one.report.figures[key].brief() if one.report else "-"
                    for key, words in SHOWN.items()
                },
                "Always malignant": f"{one.report.base_rate:.3f}" if one.report else "-",
                "Pictures": str(one.report.n) if one.report else "-",
                "Cases": str(one.report.n_cases or "unknown") if one.report else "-",
            }
            for one in groups
        ],
        hide_index=True,
        column_config={"Settings": st.column_config.TextColumn(pinned=True)},
        alt="Pooled figures of each group of settings with intervals, pictures and cases",
    )
    st.caption(
        "The test predictions of all folds of the same settings, judged as one. In brackets: 95 % "
        "intervals over cases."
    )
