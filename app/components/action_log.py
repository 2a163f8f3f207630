"""Actions that cannot be undone: each is confirmed, and written to the log of actions."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.components.layout import show_action_button
from bc_model.training import runs_dir

LOG_NAME = "actions.log"
"""A file of JSON lines in the runs directory. The app only appends to it."""

logger = logging.getLogger("app")


def show_confirmed_button(
    label: str,
    loss: str,
    confirm_label: str,
    action: Callable[[], object],
    *,
    target: str,
    key: str,
    icon: str = "delete",
    disabled: bool = False,
) -> None:
    """Show a button that opens a confirmation; the confirmed action is logged and performed.

    Parameters
    ----------
    label : str
        Label of the button that opens the confirmation.
    loss : str
        What the action deletes permanently, in Markdown.
    confirm_label : str
        Label of the button that performs the action, and the name of the action in the log.
    action : callable
        The destructive action. `show_action_error` shows its error.
    target : str
        Name of what is deleted. The confirmation closes when it changes.
    key : str
        Kind of the action. The keys of both buttons contain it and the target, so that a click
        never applies to another target than the one that its confirmation names.
    icon : str
        Material icon of both buttons.
    disabled : bool
        Whether nothing can be deleted.
    """

    def perform() -> None:
        perform_logged(confirm_label, target, action)

    with st.popover(
        label, icon=f":material/{icon}:", key=f"confirm:{key}:{target}", disabled=disabled
    ):
        st.markdown(loss)
        show_action_button(confirm_label, icon, perform, key=f"{key}:{target}", type="primary")


def perform_logged(name: str, target: str, action: Callable[[], object], **details: str) -> None:
    """Log an action and perform it; if it fails, its error is logged as well."""
    log_action(name, target, **details)
    try:
        action()
    except Exception as error:
        log_action(name, target, error=str(error), **details)
        raise


def log_action(action: str, target: str, **details: str) -> None:
    """Append one line to the log of actions: time, session, action and target.

    A log that cannot be written does not prevent the action, because deleting may be the remedy
    for a full disk. The server log then contains the line.
    """
    context = get_script_run_ctx()
    session = context.session_id if context else ""
    line = json.dumps(
        {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            # A hash, because the browser can return to a session by its identifier.
            "session": hashlib.sha256(session.encode()).hexdigest()[:12],
            "action": action,
            "target": target,
            **details,
        },
        ensure_ascii=True,
    )
    path = runs_dir() / LOG_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One write to a file that is opened for appending stays one line beside other processes.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)
    except OSError:
        logger.exception("The log of actions could not be written: %s", line)
