"""Checks of several runs or protocols: each check once, with the labels of those it applies to."""

from collections.abc import Iterable, Mapping

import streamlit as st

from app.components.layout import escape
from bc_model.checks import Check, Severity, by_severity


def show_labeled_checks(groups: Mapping[str, Iterable[Check]]) -> None:
    """Show the checks of several groups, the warnings above an expander with the others.

    Parameters
    ----------
    groups : mapping of str to iterable of Check
        Label to its checks.
    """
    labels: dict[str, list[str]] = {}
    checks: dict[str, Check] = {}
    for label, group in groups.items():
        for check in group:
            checks.setdefault(check.message, check)
            labels.setdefault(check.message, []).append(label)
    for severity, shown in by_severity(checks.values()).items():
        lines = "\n".join(
            f"- **{escape(check.title)}** ({escape(', '.join(labels[check.message]))}). "
            f"{escape(check.message)}"
            for check in shown
        )
        if severity == Severity.INFO:
            with st.expander("Details", icon=":material/info:"):
                st.markdown(lines)
        else:
            st.warning(lines)
