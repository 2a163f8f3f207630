"""Start button for a run, or for the runs of a cross-validation."""

import streamlit as st

from app.components.layout import show_error
from bc_model.data import FOLDS_PROTOCOLS
from bc_model.errors import BcModelError
from bc_model.experiments import plan_experiment, start_experiment
from bc_model.training import TrainingConfig, new_run_id, runs_dir
from bc_model.utils import format_duration_estimate


def draw_start(config: TrainingConfig | None, seconds: float | None) -> str | None:
    """Draw the cross-validation switch, the estimated duration and the start button.

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
    of_file = config is not None and config.protocol in FOLDS_PROTOCOLS
    every = st.toggle(
        "All folds (cross-validation)",
        key="all_folds",
        disabled=of_file,
        help="Train one run for each test fold and pool the results. Not for official folds.",
    )
    n_runs = config.n_folds if config and every and not of_file else 1
    if seconds is not None:
        each = f" for each of {n_runs} runs" if n_runs > 1 else ""
        st.caption(
            f":material/schedule: Estimated duration: {format_duration_estimate(seconds)}{each}. "
            "The true duration can be half or twice as long."
        )
    pressed = st.button(
        "Start the run" if n_runs == 1 else f"Start {n_runs} runs",
        type="primary",
        key="start",
        disabled=config is None,
        icon=":material/play_arrow:",
    )
    if not pressed or config is None:
        return None
    try:
        if n_runs == 1:
            from bc_model.training import start_run

            return start_run(config, runs_dir()).name
        name = f"cv-{new_run_id(config.backbone)}"
        experiment = start_experiment(name, plan_experiment(config), runs_dir())
    except (BcModelError, OSError) as error:
        show_error(error, title="The run was not started")
        return None
    st.page_link(
        "views/studies.py",
        label=f"{name}: its runs and their pooled figures",
        icon=":material/balance:",
        query_params={"experiment": name},
    )
    return experiment.runs[0].name
