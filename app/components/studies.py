"""One study, watched: its runs, and its figures as they come in."""

from typing import Any

import streamlit as st

from app.components.frame import escape, show_error
from app.components.protocols import draw_report, report_of
from app.components.study_groups import draw_groups, groups_of
from app.components.study_runs import draw_runs
from app.places import runs_folder
from bc_model.errors import BcModelError, RunError
from bc_model.evaluation.protocol_report import is_one_recipe
from bc_model.training.jobs import advance_queue
from bc_model.training.report_study import read_note
from bc_model.training.run_folder import ENDED_STATES, RunFolder
from bc_model.training.study import MISSING, member_states
from bc_model.training.study_file import Study, read_study

Statuses = dict[str, dict[str, Any]]


def watch_study(name: str) -> None:
    """Draw a study; while it goes on, redraw it every two seconds without touching the rest."""
    try:
        study = read_study(runs_folder(), name)
        over = _is_over(member_states(study, runs_folder()))
    except RunError as error:
        show_error(error, title="This study cannot be shown")
        return
    started = study.created[:16].replace("T", " ")
    st.caption(f"{len(study.members)} runs, started {escape(started)} UTC.")
    # The period belongs to the decorator, so it is applied anew: none once the study is over.
    st.fragment(_draw, run_every=None if over else "2s")(study, over)


def _draw(study: Study, was_over: bool) -> None:
    folder = runs_folder()
    try:
        advance_queue(folder)
        statuses = member_states(study, folder)
        if was_over != _is_over(statuses):
            st.rerun()
        with st.expander("Runs", expanded=not was_over, icon=":material/list:"):
            draw_runs(study, statuses)
        stamp = _stamp(study, statuses)
        # Kept from one look to the next, since a look every two seconds finds mostly the same.
        if _is_report(study):
            draw_report(report_of(str(folder), study.name, stamp))
        else:
            draw_groups(study.name, groups_of(str(folder), study.name, stamp))
    except (BcModelError, OSError) as error:
        show_error(error, title="This study cannot be shown")


def _is_over(statuses: Statuses) -> bool:
    return {str(one["state"]) for one in statuses.values()} <= ENDED_STATES | {MISSING}


def _is_report(study: Study) -> bool:
    if not is_one_recipe(study):
        return False
    protocols = {member.settings.protocol for member in study.members}
    return len(protocols) > 1 or read_note(runs_folder(), study.name) is not None


def _stamp(study: Study, statuses: Statuses) -> tuple[str, ...]:
    """Return what changes when figures do: who has ended, and when it was evaluated."""
    stamp = [study.created]
    for run, status in statuses.items():
        state = str(status["state"])
        file = RunFolder(runs_folder() / run).evaluation_folder / "report.json"
        evaluated = file.stat().st_mtime_ns if file.exists() else ""
        stamp.append(f"{run} {state if state in ENDED_STATES | {MISSING} else ''} {evaluated}")
    return tuple(stamp)
