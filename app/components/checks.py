"""Checks grouped by severity: warnings in one block, context in an expander."""

from collections.abc import Iterable

import streamlit as st

from app.components.frame import escape
from bc_model.checks import Check, Severity, by_severity


def show_checks(checks: Iterable[Check]) -> None:
    """Show the blocking checks and warnings in one block each, and the others in an expander."""
    for severity, group in by_severity(checks).items():
        lines = "\n".join(f"- **{escape(c.title)}.** {escape(c.message)}" for c in group)
        if severity == Severity.BLOCKING:
            st.error(lines)
        elif severity == Severity.WARNING:
            st.warning(lines)
        else:
            with st.expander("Details", icon=":material/info:"):
                st.markdown(lines)
