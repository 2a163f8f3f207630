"""Show checks: one block, grouped by severity, with one line per check."""

from collections.abc import Iterable

import streamlit as st

from app.components.layout import escape
from bc_model.checks import Check, Severity, by_severity

_BOXES = {
    Severity.BLOCKING: (st.error, ":material/block:"),
    Severity.WARNING: (st.warning, ":material/warning:"),
    Severity.INFO: (st.info, ":material/info:"),
}


def show_checks(checks: Iterable[Check]) -> None:
    """Show each check as its title and sentence, with codes and parameters on demand.

    Nothing is shown if there are no checks.

    Parameters
    ----------
    checks : iterable of Check
    """
    groups = by_severity(checks)
    if not groups:
        return
    with st.container(gap="small"):
        for severity, group in groups.items():
            show_box, icon = _BOXES[severity]
            lines = (f"**{escape(check.title)}.** {escape(check.message)}" for check in group)
            show_box("  \n".join(lines), icon=icon)
        with st.popover("Details", type="tertiary", help="Codes and measured values."):
            for group in groups.values():
                for check in group:
                    st.caption(_details(check))


def _details(check: Check) -> str:
    values = [
        f"{name} = {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in check.params.items()
    ]
    return escape("; ".join([f"{check.code} ({check.severity})", *values]))
