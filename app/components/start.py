"""The button that starts a run, or with one switch the runs of a cross-validation."""

import streamlit as st

from app.components.frame import show_error
from app.places import runs_folder
from bc_model.data.protocols import FOLDS_PROTOCOLS
from bc_model.errors import BcModelError
from bc_model.training import jobs
from bc_model.training.run_folder import new_run_id
from bc_model.training.settings import TrainSettings
from bc_model.training.study import start_study
from bc_model.training.study_plan import plan_study
from bc_model.words import rough_duration_in_words


def draw_start(settings: TrainSettings | None, seconds: float | None) -> str | None:
    """Draw the switch, what it will take, and the button.

    Parameters
    ----------
    settings : TrainSettings or None
        None as long as nothing can be started.
    seconds : float or None
        What one run will take.

    Returns
    -------
    str or None
        The first run, when some were started just now.
    """
    of_file = settings is not None and settings.protocol in FOLDS_PROTOCOLS
    every = st.toggle(
        "All folds (cross-validation)",
        key="all_folds",
        disabled=of_file,
        help="One run for each test fold: together they test every picture once, and their figures "
        "are pooled. The test fold above does not count then. An official fold file has one test "
        "part, so it is not for those.",
    )
    n_runs = settings.n_folds if settings and every and not of_file else 1
    if seconds is not None:
        each = f" for each of {n_runs} runs" if n_runs > 1 else ""
        st.caption(
            f":material/schedule: About {rough_duration_in_words(seconds)}{each} on this machine "
            "if no phase ends early; give or take a factor of two."
        )
    pressed = st.button(
        "Start the run" if n_runs == 1 else f"Start {n_runs} runs",
        type="primary",
        key="start",
        disabled=settings is None,
        icon=":material/play_arrow:",
    )
    if not pressed or settings is None:
        return None
    try:
        if n_runs == 1:
            return jobs.start_run(settings, runs_folder()).name
        name = f"cv-{new_run_id(settings.backbone)}"
        study = start_study(name, plan_study(settings), runs_folder())
    except (BcModelError, OSError) as error:
        show_error(error, title="The run was not started")
        return None
    st.page_link(
        "views/studies.py",
        label=f"{name}: its runs and their pooled figures",
        icon=":material/balance:",
        query_params={"study": name},
    )
    return study.members[0].run
