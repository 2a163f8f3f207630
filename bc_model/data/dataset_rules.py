"""Rules that give each image file of a dataset its class and its case.

Without rules, both come from official BreakHis names, or the class from folders named ``benign``
and ``malignant``. Rules apply to each file by itself and never to the majority of files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bc_model.data.breakhis import CLASSES, parse_name
from bc_model.errors import ConfigError, ImageError

EXCLUDE = "exclude"
"""Instead of a class: files with this label are not used."""
_CASE_KINDS = ("breakhis", "folder", "regex")
_MAX_FOLDER = 20


@dataclass(frozen=True)
class LabelRule:
    """A label and its class.

    Attributes
    ----------
    pattern : str
        Label in lower case, which may contain the wildcards ``*``, ``?`` and ``[...]``.
    class_name : {'benign', 'malignant', 'exclude'}
        The class, or that files with this label are excluded.
    """

    pattern: str
    class_name: str

    def matches_folder(self, path: Path) -> bool:
        """Return whether a folder of a path has this label."""
        return any(fnmatchcase(folder.lower(), self.pattern) for folder in path.parts[:-1])

    def matches_name(self, path: Path) -> bool:
        """Return whether the label has a wildcard and matches the file name without its suffix.

        Without a wildcard, it would match a serial number such as that of ``2/0.png``.
        """
        has_wildcard = any(character in self.pattern for character in "*?[")
        return has_wildcard and fnmatchcase(path.stem.lower(), self.pattern)


@dataclass(frozen=True)
class CaseRule:
    """Where the case of a file comes from.

    Attributes
    ----------
    kind : {'breakhis', 'folder', 'regex'}
        An official name, a folder above the file, or a part of the path.
    value : str
        For 'folder', the number of the folder: 1 contains the file, 2 is the one above. For
        'regex', a pattern; the case is its group named ``case``, else its first group, else the
        whole match.
    """

    kind: str
    value: str = ""

    def find_case(self, path: Path) -> str:
        """Return the case of a file by its path relative to the dataset.

        Raises
        ------
        ImageError
            The rule finds no case.
        """
        if self.kind == "breakhis":
            name = parse_name(path.name)
            case = name.case if name else ""
        elif self.kind == "folder":
            folders = path.parts[:-1][::-1]
            case = folders[int(self.value) - 1] if len(folders) >= int(self.value) else ""
        else:
            case = _first_group(re.search(self.value, path.as_posix()))
        if not case:
            raise ImageError(
                f"The rule {self} finds no case in this path. Change the rule, or exclude the file "
                "with a label.",
                "no case",
            )
        return case

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind


@dataclass(frozen=True)
class DatasetRules:
    """The rules of a dataset.

    Attributes
    ----------
    labels : tuple of LabelRule
        Empty if the names or folders state the classes.
    case_from : CaseRule or None
        None if only official BreakHis names state a case.

    Examples
    --------
    >>> rules = parse_rules("0=benign, 1=malignant, InSitu=exclude", "folder:2")
    >>> path = Path("patient 7/1/patch.png")
    >>> rules.find_class(path), rules.find_case(path)
    ('malignant', 'patient 7')
    """

    labels: tuple[LabelRule, ...] = ()
    case_from: CaseRule | None = None

    def __str__(self) -> str:
        return f"labels {format_labels(self.labels)}, case from {self.case_from or 'names'}"

    def find_class(self, path: Path) -> str:
        """Return the class of a file by its path relative to the dataset.

        Raises
        ------
        ImageError
            No label matches, a label excludes the file, or labels of both classes match.
        """
        found = self.match_labels(path)
        if excluding := [rule for rule in found if rule.class_name == EXCLUDE]:
            raise ImageError(f"The label {excluding[0].pattern} is excluded.", "excluded label")
        classes = {rule.class_name for rule in found}
        if not classes:
            raise ImageError(
                f"No label of {format_labels(self.labels)} matches a folder or the name.",
                "no label",
            )
        if len(classes) > 1:
            patterns = " and ".join(rule.pattern for rule in found)
            raise ImageError(f"The labels {patterns} have different classes.", "label mismatch")
        return classes.pop()

    def match_labels(self, path: Path) -> list[LabelRule]:
        """Return the labels of the folders of a file; without any, those of its name."""
        return [rule for rule in self.labels if rule.matches_folder(path)] or [
            rule for rule in self.labels if rule.matches_name(path)
        ]

    def find_case(self, path: Path) -> str:
        """Return the case of a file, or an empty text without a rule; see `CaseRule.find_case`."""
        return self.case_from.find_case(path) if self.case_from else ""


NO_RULES = DatasetRules()


def parse_rules(labels: str = "", case_from: str = "") -> DatasetRules:
    """Return the rules for the texts of the options ``--labels`` and ``--case-from``.

    Raises
    ------
    ConfigError
        A text is invalid; see `parse_labels` and `parse_case_rule`.
    """
    return DatasetRules(
        parse_labels(labels) if labels else (), parse_case_rule(case_from) if case_from else None
    )


def parse_labels(text: str) -> tuple[LabelRule, ...]:
    """Return the labels of a text such as ``0=benign,1=malignant,InSitu=exclude``.

    Raises
    ------
    ConfigError
        An item is invalid, a label occurs twice, or a class has no label.

    Examples
    --------
    >>> [(rule.pattern, rule.class_name) for rule in parse_labels("IDC*=Malignant, No=benign")]
    [('idc*', 'malignant'), ('no', 'benign')]
    """
    rules: list[LabelRule] = []
    for item in text.split(","):
        label, equals, name = (word.strip().lower() for word in item.partition("="))
        known = {rule.pattern for rule in rules}
        if not (label and equals) or name not in (*CLASSES, EXCLUDE) or label in known:
            raise ConfigError(
                f"Invalid item '{item.strip()}' in the label mapping '{text}'. Expected each label "
                "once, with the class benign, malignant or exclude, such as "
                "0=benign,1=malignant."
            )
        rules.append(LabelRule(label, name))
    mapped = {rule.class_name for rule in rules}
    if missing := [name for name in CLASSES if name not in mapped]:
        raise ConfigError(
            f"The label mapping '{text}' has no label for the class {missing[0]}. Expected labels "
            "for both classes, such as 0=benign,1=malignant."
        )
    return tuple(rules)


def parse_case_rule(text: str) -> CaseRule:
    """Return the rule of a text: ``breakhis``, ``folder:N`` or ``regex:PATTERN``.

    Raises
    ------
    ConfigError
        The text is none of these, the number is not 1 to 20, or the pattern is invalid.

    Examples
    --------
    >>> parse_case_rule(r"regex:patient_([0-9]+)").find_case(Path("a/patient_07_x.png"))
    '07'
    """
    kind, _, value = (part.strip() for part in text.partition(":"))
    kind = kind.lower()
    is_number = value.isdecimal() and 1 <= int(value) <= _MAX_FOLDER
    is_valid = {
        "breakhis": not value,
        "folder": is_number,
        "regex": bool(value) and _is_pattern(value),
    }
    if not is_valid.get(kind, False):
        raise ConfigError(
            f"Invalid rule '{text}' for the case. Expected breakhis, folder:N with N from 1 (the "
            f"folder of the image) to {_MAX_FOLDER}, or regex:PATTERN with a valid regular "
            "expression."
        )
    return CaseRule(kind, value)


def format_labels(labels: tuple[LabelRule, ...]) -> str:
    """Return labels as text that `parse_labels` reads.

    Examples
    --------
    >>> format_labels(parse_labels("A=benign,b=malignant"))
    'a=benign,b=malignant'
    """
    return ",".join(f"{rule.pattern}={rule.class_name}" for rule in labels)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _first_group(match: re.Match[str] | None) -> str:
    if match is None:
        return ""
    if "case" in match.re.groupindex:
        return match["case"] or ""
    return match[1] or "" if match.re.groups else match[0]
