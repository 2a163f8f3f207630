"""Rules for classes and cases: texts, patterns, and paths."""

from pathlib import Path

import pytest

from bc_model.data.dataset_rules import (
    NO_RULES,
    format_labels,
    parse_case_rule,
    parse_labels,
    parse_rules,
)
from bc_model.errors import ConfigError, ImageError


@pytest.mark.parametrize(
    "text", ["0", "0=", "=benign", "0=cancer", "0=benign,0=malignant", "A=benign,a=malignant", ","]
)
def test_invalid_labels_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="0=benign,1=malignant"):
        parse_labels(text)


@pytest.mark.parametrize(
    ("text", "missing"),
    [("0=benign,1=benign", "malignant"), ("1=malignant", "benign"), ("a=exclude", "benign")],
)
def test_each_class_needs_a_label(text: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"'{text}' has no label for the class {missing}"):
        parse_labels(text)


def test_labels_ignore_spaces_and_case() -> None:
    labels = parse_labels("Gutartig = Benign , 1=MALIGNANT, In situ=Exclude")
    assert format_labels(labels) == "gutartig=benign,1=malignant,in situ=exclude"
    assert parse_labels(format_labels(labels)) == labels


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("8863/0/8863_idx5_class0.png", "benign"),
        ("8863/1/8863_idx5_class1.png", "malignant"),
        ("set/NORMAL/b001.TIF", "benign"),
        ("set/Invasive/10/iv.png", "malignant"),
        ("flat/normal_07.png", "benign"),
        ("set/InSitu/is001.png", "excluded label"),
        ("set/InSitu/normal_07.png", "excluded label"),
        ("set/normal/invasive_3.png", "benign"),  # Folders come first.
        ("set/normal/1/x.png", "label mismatch"),
        ("set/2/0.png", "no label"),  # A serial number is no label.
        ("set/other/x.png", "no label"),
        # A label is a whole component: the digit 1 in 10 is none.
        ("set/10/x.png", "no label"),
    ],
)
def test_the_class_of_a_path(path: str, expected: str) -> None:
    rules = parse_rules("0=benign,1=malignant,normal*=benign,invasive*=malignant,insitu=exclude")
    try:
        found = rules.find_class(Path(path))
    except ImageError as error:
        found = error.reason
    assert found == expected


@pytest.mark.parametrize(
    ("rule", "path", "expected"),
    [
        ("folder:1", "data/P7/x.png", "P7"),
        ("folder:2", "data/P7/1/x.png", "P7"),
        ("folder:3", "P7/1/x.png", "no case"),
        ("breakhis", "a/SOB_B_A-14-22549AB-100-001.png", "22549"),
        ("breakhis", "a/x.png", "no case"),
        ("regex:^([^_]+)_idx", "8863_idx5.png", "8863"),
        ("regex:slide-(?P<case>[0-9]+)-(a|b)", "x/slide-12-b.png", "12"),
        ("regex:P[0-9]+", "x/P12/y.png", "P12"),
        ("regex:P[0-9]+", "x/Q12/y.png", "no case"),
        ("regex:(a)|b", "b.png", "no case"),
    ],
)
def test_the_case_of_a_path(rule: str, path: str, expected: str) -> None:
    try:
        found = parse_case_rule(rule).find_case(Path(path))
    except ImageError as error:
        found = error.reason
    assert found == expected


@pytest.mark.parametrize(
    "text", ["folder", "folder:0", "folder:x", "folder:21", "regex:", "regex:(", "breakhis:1", "P1"]
)
def test_invalid_case_rules_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected breakhis, folder:N with N from 1"):
        parse_case_rule(text)


def test_without_rules_there_is_no_case() -> None:
    assert parse_rules() == NO_RULES
    assert NO_RULES.find_case(Path("a/b.png")) == ""
