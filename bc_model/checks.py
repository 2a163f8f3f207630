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
        "The stated magnification is {magnification}X, but the model was trained at "
        "{supported_names:list}.",
    ),
    "BC102": Message(
        Severity.BLOCKING,
        "Synthetic image",
        "The file name marks a synthetic image, but the model was trained on tissue.",
    ),
    "BC103": Message(
        Severity.BLOCKING,
        "Blank image",
        "The image is blank or has nearly one color.",
    ),
    "BC104": Message(
        Severity.BLOCKING,
        "Grayscale image",
        "The image is grayscale, but the model was trained on stained tissue.",
    ),
    "BC105": Message(
        Severity.BLOCKING,
        "Image too small",
        "The image has {width_px} x {height_px} pixels and must be upsampled {factor:.1f} times. "
        "The model was trained on images of {training_sizes:list} pixels.",
    ),
    "BC110": Message(
        Severity.WARNING,
        "Training case",
        "The file name states case {case}, which is part of the training or validation data. "
        "The prediction does not show how the model performs on new cases.",
    ),
    "BC111": Message(
        Severity.WARNING,
        "Training image",
        "The image is part of the training or validation data. "
        "The prediction does not show how the model performs on new cases.",
    ),
    "BC112": Message(
        Severity.WARNING,
        "Near-duplicate",
        "The image is a near-duplicate of a training or validation image. "
        "The prediction does not show how the model performs on new cases.",
    ),
    "BC120": Message(
        Severity.WARNING,
        "Different staining",
        "The staining differs from the training images: {differences:list}. "
        "The image may come from another stain or laboratory, or contain no tissue.",
    ),
    "BC130": Message(
        Severity.INFO,
        "Unusual image size",
        "The image has {width_px} x {height_px} pixels, and the training images have "
        "{training_sizes:list} pixels. The scale or the aspect ratio may differ.",
    ),
    "BC131": Message(
        Severity.WARNING,
        "Ambiguous image size",
        "In training, only resized full BreakHis frames have {width_px} x {height_px} pixels. "
        "A field that was cropped to this size has another scale.",
    ),
    "BC140": Message(
        Severity.INFO,
        "Scale not stated",
        "The file does not state the magnification. "
        "The model was trained at {supported_names:list} ({objectives:list} objective).",
    ),
    "BC150": Message(
        Severity.WARNING,
        "Images too small",
        "{n_found:,} of {n_images:count image} must be upsampled at least {min_factor:.1f} times. "
        "The model was trained on images of {training_sizes:list} pixels.",
    ),
    "BC151": Message(
        Severity.WARNING,
        "Ambiguous image sizes",
        "{n_found:,} of {n_images:count image} have a size that only resized full BreakHis frames "
        "have in training. Fields that were cropped to this size have another scale.",
    ),
    "BC152": Message(
        Severity.INFO,
        "Unusual image sizes",
        "{n_found:,} of {n_images:count image} differ in size or aspect ratio from the training "
        "images ({training_sizes:list} pixels).",
    ),
    "BC401": Message(
        Severity.INFO,
        "Not calibrated",
        "The probabilities of this model are not calibrated.",
    ),
    "BC410": Message(
        Severity.WARNING,
        "Initialization leakage",
        "The training data of the initial weights include the cases of {n_seen:,} of "
        "{n_test:count test image}. All metrics of this run overestimate performance.",
    ),
    "BC411": Message(
        Severity.WARNING,
        "Initialization leakage",
        "The training data of the initial weights include near-duplicates of {n_seen:,} of "
        "{n_test:count test image}. All metrics of this run overestimate performance.",
    ),
}
"""Code to message. `BC1xx`: input, `BC2xx`: evaluation, `BC3xx`: domain shift, `BC4xx`: model."""

TERMS: dict[str, str] = {
    "blank": "blank image",
    "grayscale": "grayscale image",
    "hematoxylin_paler": "paler hematoxylin",
    "hematoxylin_stronger": "stronger hematoxylin",
    "hematoxylin_more_even": "more even hematoxylin",
    "hematoxylin_more_uneven": "more uneven hematoxylin",
    "eosin_paler": "paler eosin",
    "eosin_stronger": "stronger eosin",
    "eosin_more_even": "more even eosin",
    "eosin_more_uneven": "more uneven eosin",
    "residual_paler": "paler other colors",
    "residual_stronger": "stronger other colors",
    "residual_more_even": "more even other colors",
    "residual_more_uneven": "more uneven other colors",
}
"""Words for values in parameters that are codes themselves; the format `list` inserts them."""


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
    'The stated magnification is 40X, but the model was trained at 100X and 200X.'
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

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-safe values, with the message for readers of the JSON."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "params": dict(self.params),
            "message": self.message,
        }


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
    in the plural unless it is 1) and ``list`` (items joined with commas and 'and'; items that are
    keys of `TERMS` are replaced).

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
            items = [TERMS.get(item, str(item)) for item in value]
            return " and ".join([", ".join(items[:-1]), items[-1]] if items[1:] else items)
        return super().format_field(value, format_spec)
