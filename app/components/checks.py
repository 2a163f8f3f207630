"""Checks in one block: grouped by severity, one line each, with details on demand."""

from collections.abc import Iterable, Mapping

import streamlit as st

from app.components.layout import escape_markdown
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
        Checks of one result.
    """
    groups = by_severity(checks)
    if not groups:
        return
    with st.container(gap="xsmall"):
        for severity, group in groups.items():
            show_box, icon = _BOXES[severity]
            show_box("  \n".join(_format_check(check) for check in group), icon=icon)
        with st.popover("Details", type="tertiary", help="Codes and measured values."):
            for group in groups.values():
                for check in group:
                    st.caption(_format_params(check))


def show_labeled_checks(groups: Mapping[str, Iterable[Check]]) -> None:
    """Show the checks of several runs or protocols, each once with the labels it applies to.

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
            f"- {_format_check(check, ', '.join(labels[check.message]))}" for check in shown
        )
        if severity == Severity.INFO:
            with st.expander("Details", icon=":material/info:"):
                st.markdown(lines)
        else:
            st.warning(lines)


def _format_check(check: Check, labels: str = "") -> str:
    title, message = escape_markdown(check.title), escape_markdown(check.message)
    return (
        f"**{title}**, {escape_markdown(labels)}: {message}"
        if labels
        else f"**{title}.** {message}"
    )


def _format_params(check: Check) -> str:
    values = [
        f"{name} = {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in check.params.items()
    ]
    return escape_markdown("; ".join([f"{check.code} ({check.severity})", *values]))
