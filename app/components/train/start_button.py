"""Start button for a run, or for the runs of a cross-validation."""

import streamlit as st

from app.components.layout import show_error
from app.components.queue_limit import limit_runs
from bc_model.data import FOLDS_PROTOCOLS
from bc_model.errors import BcModelError
from bc_model.experiments import plan_experiment, start_experiment
from bc_model.training import TrainingConfig, new_run_id, runs_dir, start_run
from bc_model.utils import format_duration_estimate


def show_start_button(config: TrainingConfig | None, seconds: float | None) -> str | None:
    """Show the cross-validation switch, the estimated duration and the start button.

    Parameters
    ----------
    config : TrainingConfig or None
        None if the configuration or the dataset is not valid yet.
    seconds : float or None
        The estimated duration of one run.

    Returns
    -------
    str or None
        The name of the first run, if runs were started.
    """
    has_official_folds = config is not None and config.protocol in FOLDS_PROTOCOLS
    is_cross_validation = st.toggle(
        "Cross-validation",
        key="all_folds",
        disabled=has_official_folds,
        help="One run for each test fold, with pooled results; not for official folds.",
    )
    n_runs = config.n_folds if config and is_cross_validation and not has_official_folds else 1
    if seconds is not None:
        per_run = f" for each of {n_runs} runs" if n_runs > 1 else ""
        st.caption(
            f":material/schedule: Estimated duration: {format_duration_estimate(seconds)}"
            f"{per_run}; it can be half or twice as long."
        )
    is_pressed = st.button(
        "Start run" if n_runs == 1 else f"Start {n_runs} runs",
        type="primary",
        key="start",
        disabled=config is None,
        icon=":material/play_arrow:",
    )
    if not is_pressed or config is None:
        return None
    try:
        with limit_runs(n_runs):
            if n_runs == 1:
                return start_run(config, runs_dir()).name
            name = f"cv-{new_run_id(config.backbone)}"
            experiment = start_experiment(name, plan_experiment(config), runs_dir())
    except (BcModelError, OSError) as error:
        show_error(error, title="Run not started")
        return None
    st.page_link(
        "views/experiments.py",
        label=f"Open {name}",
        icon=":material/balance:",
        query_params={"experiment": name},
    )
    return experiment.runs[0].name
