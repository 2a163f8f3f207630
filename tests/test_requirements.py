"""The pinned requirements have hashes, and their licenses are listed and allowed."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path.name for path in ROOT.glob("requirements*.txt"))
licenses = SimpleNamespace(**runpy.run_path(str(ROOT / "docs/list_licenses.py")))
LISTED = licenses.LICENSES_FILE.read_text(encoding="utf-8")


def read_entries(name: str) -> list[str]:
    """Return the requirements of a file without comments, each with its continuation lines."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.M)
    return text.replace("\\\n", "").splitlines()


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_a_pinned_package_with_hashes(name: str) -> None:
    entries = read_entries(name)
    assert len(entries) > 50
    pattern = r"[a-z0-9-]+(\[[a-z, ]+\])?==[\w.+]+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+"
    assert [entry for entry in entries if not re.fullmatch(pattern, entry)] == []


@pytest.mark.parametrize("name", FILES)
def test_requirements_name_no_package_index(name: str) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links", (ROOT / name).read_text())


def test_all_files_pin_the_same_versions_and_hashes() -> None:
    runtime = set(read_entries("requirements.txt"))
    assert [name for name in FILES if not runtime <= set(read_entries(name))] == []


def test_licenses_lists_every_pinned_package_with_an_allowed_license() -> None:
    rows = licenses.read_table(LISTED)
    packages = licenses.read_packages((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert [(name, version) for name, version, _, _ in rows] == [
        (name, ", ".join(versions)) for name, versions in packages.items()
    ]
    assert [name for name, _, found, _ in rows if not licenses.is_allowed(found)] == []


def test_licenses_introduction_names_every_copyleft_package() -> None:
    copyleft = [row for row in licenses.read_table(LISTED) if row[2] in licenses.COPYLEFT]
    assert copyleft
    assert [row for row in copyleft if f"{row[0]} ({row[2]})" not in LISTED] == []


@pytest.mark.parametrize(
    ("found", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-2-Clause", True),
        ("GPL-3.0", False),
        ("MIT AND GPL-3.0", False),
        ("", False),
    ],
)
def test_is_allowed_checks_every_part(found: str, allowed: bool) -> None:
    assert licenses.is_allowed(found) is allowed
