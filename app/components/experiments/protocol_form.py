"""The form of a protocol comparison: one configuration under several split protocols."""

from pathlib import Path
from typing import Any

import streamlit as st

from app.components.dataset_cache import load_folder
from app.components.dataset_picker import select_folder
from app.components.layout import show_error
from app.components.queue_limit import limit_runs
from app.components.split_form import PROTOCOL_LABELS, select_fold_files
from app.components.train.config_form import show_config_form
from bc_model.data import FOLDS_PROTOCOLS, parse_rules
from bc_model.errors import BcModelError
from bc_model.experiments import DEFAULT_PROTOCOLS, plan_comparison, start_comparison
from bc_model.training import OPTIONS, TrainingConfig, new_run_id, runs_dir


def show_protocol_form() -> str | None:
    """Show the form, and return the name of the experiment if one was started."""
    st.markdown("Train one configuration under each split protocol to measure the leakage effect.")
    folder = select_folder()
    protocols, files = _show_protocols()
    try:
        chosen = show_config_form(_show_folds)
    except BcModelError as error:
        show_error(error, title="Invalid configuration")
        return None
    if chosen["weights"] == "bundled":
        st.info(
            "The bundled model was trained on all BreakHis cases, so the leakage effect appears "
            "smaller than it is.",
            icon=":material/info:",
        )
    test_folds = "all" if st.session_state.get("protocols_all_folds") else [0]
    n_runs = _count_runs(protocols, len(files), chosen["n_folds"], test_folds)
    ready = folder is not None and n_runs > 0
    pressed = st.button(
        "Start runs" if n_runs == 0 else f"Start {n_runs} runs",
        type="primary",
        key="protocols_start",
        disabled=not ready,
        icon=":material/play_arrow:",
    )
    st.caption("Runs are trained one after another, also when this page is closed.")
    if not pressed or folder is None:
        return None
    try:
        data = folder.resolve()
        rules = parse_rules(chosen["labels"], chosen["case_from"])
        plan = plan_comparison(
            TrainingConfig(data=str(data), **chosen),
            dataset=lambda: load_folder(data, rules).dataset,
            protocols=protocols,
            fold_files=files,
            test_folds=test_folds,
        )
        with limit_runs(len(plan.runs)):
            experiment, _ = start_comparison(
                f"report-{new_run_id(chosen['backbone'])}", plan, runs_dir()
            )
    except (BcModelError, OSError) as error:
        show_error(error, title="Experiment not started")
        return None
    return experiment.name


def _show_protocols() -> tuple[list[str], list[Path]]:
    protocols = st.multiselect(
        "Protocols",
        list(PROTOCOL_LABELS)[::-1],
        default=DEFAULT_PROTOCOLS,
        format_func=PROTOCOL_LABELS.__getitem__,
        key="protocols",
        help="With leakage, images of one case are in training and test.",
    )
    if not FOLDS_PROTOCOLS & set(protocols):
        return protocols, []
    files = select_fold_files("protocols-folds")
    if not files:
        st.caption(
            ":material/info: The official folds are skipped without a fold file, dsfold1.txt to "
            "dsfold5.txt."
        )
    return protocols, files


def _show_folds() -> dict[str, Any]:
    n_folds = st.number_input(
        OPTIONS["n_folds"].label,
        OPTIONS["n_folds"].ge,
        OPTIONS["n_folds"].le,
        OPTIONS["n_folds"].default,
        key="n_folds",
        help=OPTIONS["n_folds"].help,
    )
    st.toggle(
        "All folds",
        key="protocols_all_folds",
        help="One run per fold instead of the first fold only.",
    )
    return {"n_folds": int(n_folds)}


def _count_runs(
    protocols: list[str], n_files: int, n_folds: int, test_folds: list[int] | str
) -> int:
    n_each = n_folds if test_folds == "all" else len(test_folds)
    return sum(n_files if name in FOLDS_PROTOCOLS else n_each for name in protocols)
