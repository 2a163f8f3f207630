"""The runs of an experiment: their states, links, and the buttons for all of them."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.components.frame import escape
from app.components.runs import STATE_WORDS, Colour
from app.places import runs_folder
from bc_model.errors import BcModelError, RunError
from bc_model.jobs import cancel_job
from bc_model.training.run_folder import ENDED_STATES, RunFolder
from bc_model.training.study import MISSING, start_study
from bc_model.training.study_file import Study
from bc_model.words import duration_in_words

PER_PAGE = 10

_WORDS: dict[str, tuple[str, Colour, str]] = {
    **STATE_WORDS,
    MISSING: ("Deleted", "gray", "folder_off"),
}


def draw_runs(study: Study, statuses: dict[str, dict[str, Any]]) -> None:
    """Draw a line for each run, ten per page, and the buttons for unfinished runs.

    Parameters
    ----------
    study : Study
    statuses : dict of str to dict
        The result of `member_states`.
    """
    members = study.members
    n_done = sum(statuses[member.run]["state"] == "done" for member in members)
    st.progress(n_done / len(members), f"{n_done} of {len(members)} runs finished")
    pages = -(-len(members) // PER_PAGE)
    page = st.pagination(pages, key=f"runs-page-{study.name}") if pages > 1 else 1
    for member in members[(page - 1) * PER_PAGE : page * PER_PAGE]:
        status = statuses[member.run]
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            words, colour, icon = _WORDS[status["state"]]
            st.badge(words, color=colour, icon=f":material/{icon}:")
            if status["state"] == MISSING:
                st.markdown(escape(member.label))
            else:
                st.page_link("views/train.py", label=member.label, query_params={"run": member.run})
            if detail := _describe(status):
                st.caption(escape(detail))
    _draw_buttons(study, {str(status["state"]) for status in statuses.values()})


def _describe(status: dict[str, Any]) -> str:
    if status["state"] in ENDED_STATES - {"done"}:
        return str(status.get("message", ""))
    if status["state"] == "running" and status.get("epochs"):
        left = status.get("seconds_left")
        epochs = f"epoch {status['epoch']} of {status['epochs']}"
        return epochs + (f", about {duration_in_words(left)} left" if left else "")
    return ""


def _draw_buttons(study: Study, states: set[str]) -> None:
    with st.container(horizontal=True):
        if states & (ENDED_STATES | {MISSING}) - {"done"}:
            _button(study, "Resume runs", "play_arrow",
                    "Queues the runs that ended before they finished.", _resume)  # fmt: skip
        if states - ENDED_STATES - {MISSING}:
            _button(study, "Cancel runs", "close",
                    "Ends unfinished runs without a model; they can be resumed.",
                    _cancel)  # fmt: skip


def _button(
    study: Study, label: str, icon: str, words: str, action: Callable[[Study], None]
) -> None:
    def act() -> None:
        try:
            action(study)
        except (BcModelError, OSError) as error:
            st.session_state["study-error"] = str(error)

    st.button(
        label, key=f"{icon}-{study.name}", icon=f":material/{icon}:", help=words, on_click=act
    )


def _resume(study: Study) -> None:
    plan = [(member.label, member.settings) for member in study.members]
    start_study(study.name, plan, runs_folder())


def _cancel(study: Study) -> None:
    refused = []
    for member in study.members:
        run = RunFolder(runs_folder() / member.run)
        if run.path.is_dir() and run.read_status()["state"] not in ENDED_STATES:
            try:
                cancel_job(run)
            except RunError as error:
                # This run is exporting its model; the others are canceled nevertheless.
                refused.append(str(error))
    if refused:
        raise RunError(" ".join(refused))
