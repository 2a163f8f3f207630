"""The monitor of an experiment: its runs, and its metrics so far."""

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
    """Draw an experiment, and refresh it every two seconds while it is running."""
    try:
        study = read_study(runs_folder(), name)
        over = _is_over(member_states(study, runs_folder()))
    except RunError as error:
        show_error(error, title="Experiment not available")
        return
    started = study.created[:16].replace("T", " ")
    st.caption(f"{len(study.members)} runs, started {escape(started)} UTC.")
    # The period belongs to the decorator, so it is applied in each run of the page.
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
        # Cached, because most refreshes find no change.
        if _is_report(study):
            draw_report(report_of(str(folder), study.name, stamp))
        else:
            draw_groups(study.name, groups_of(str(folder), study.name, stamp))
    except (BcModelError, OSError) as error:
        show_error(error, title="Experiment not available")


def _is_over(statuses: Statuses) -> bool:
    return {str(one["state"]) for one in statuses.values()} <= ENDED_STATES | {MISSING}


def _is_report(study: Study) -> bool:
    if not is_one_recipe(study):
        return False
    protocols = {member.settings.protocol for member in study.members}
    return len(protocols) > 1 or read_note(runs_folder(), study.name) is not None


def _stamp(study: Study, statuses: Statuses) -> tuple[str, ...]:
    """Return a value that changes with the metrics: states and evaluation times of the runs."""
    stamp = [study.created]
    for run, status in statuses.items():
        state = str(status["state"])
        file = RunFolder(runs_folder() / run).evaluation_folder / "report.json"
        evaluated = file.stat().st_mtime_ns if file.exists() else ""
        stamp.append(f"{run} {state if state in ENDED_STATES | {MISSING} else ''} {evaluated}")
    return tuple(stamp)
