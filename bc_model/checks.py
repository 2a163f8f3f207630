"""Findings about an image, an evaluation, a dataset or a model, as data.

A `Check` carries a code and its parameters. The sentences for people are in one table, `MESSAGES`,
so that the app can group, rank and translate them, and tests can assert codes.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Severity(StrEnum):
    """How a check affects the answer, from the most to the least serious.

    BLOCKING
        The model cannot interpret the input: no class, no probability and no heatmap are shown.
    WARNING
        The answer is shown, but must not be relied on without further review.
    INFO
        Context that a reader needs to interpret the answer.
    """

    BLOCKING = "blocking"
    WARNING = "warning"
    INFO = "info"


class Message(NamedTuple):
    """How a code is presented.

    Attributes
    ----------
    severity : Severity
        The severity of a check with this code, unless the check states another one.
    title : str
        One to four words for a list of checks.
    text : str
        One or two sentences. Fields in braces are filled from the parameters of the check; see
        `render` for the format specifications.
    """

    severity: Severity
    title: str
    text: str


MESSAGES: dict[str, Message] = {
    "BC101": Message(
        Severity.BLOCKING,
        "Unsupported magnification",
        "The file name states {magnification}X, but the model was trained at "
        "{supported_names:list}.",
    ),
}
"""Code to message. `BC1xx`: input, `BC2xx`: evaluation, `BC3xx`: domain shift, `BC4xx`: model."""


@dataclass(frozen=True)
class Check:
    """One finding.

    Parameters
    ----------
    code : str
        A key of `MESSAGES`, such as 'BC101'.
    severity : Severity
    params : mapping of str to value
        JSON-safe values that the message needs; the names carry units.

    Examples
    --------
    >>> check = make_check("BC101", magnification=40, supported_names=["100X", "200X"])
    >>> check.severity
    <Severity.BLOCKING: 'blocking'>
    >>> check.message
    'The file name states 40X, but the model was trained at 100X and 200X.'
    """

    code: str
    severity: Severity
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The short title from the message table."""
        return MESSAGES[self.code].title

    @property
    def message(self) -> str:
        """The sentence for a person, with the parameters filled in."""
        return render(MESSAGES[self.code].text, self.params)


def make_check(code: str, severity: Severity | None = None, **params: Any) -> Check:
    """Return a check with the severity of its code, unless another one is given.

    Raises
    ------
    KeyError
        The code is not in `MESSAGES`.
    """
    return Check(code, severity or MESSAGES[code].severity, params)


def is_blocked(checks: Iterable[Check]) -> bool:
    """Return whether at least one check is blocking."""
    return any(check.severity == Severity.BLOCKING for check in checks)


def by_severity(checks: Iterable[Check]) -> dict[Severity, list[Check]]:
    """Group checks by severity, the most serious first; severities without a check are omitted."""
    checks = list(checks)
    groups = {severity: [c for c in checks if c.severity == severity] for severity in Severity}
    return {severity: group for severity, group in groups.items() if group}


def render(text: str, params: Mapping[str, Any]) -> str:
    """Fill the fields of a message.

    Beside Python's format specifications, a field accepts ``count NOUN`` (a number with its noun,
    in the plural unless it is 1) and ``list`` (items joined with commas and 'and').

    Examples
    --------
    >>> render("{n:count case} at {at:list}", {"n": 2, "at": ["100X", "200X"]})
    '2 cases at 100X and 200X'
    """
    return _Formatter().vformat(text, (), params)


class _Formatter(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec.startswith("count "):
            noun = format_spec.removeprefix("count ")
            return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"
        if format_spec == "list":
            items = [str(item) for item in value]
            return " and ".join([", ".join(items[:-1]), items[-1]] if items[1:] else items)
        return super().format_field(value, format_spec)
