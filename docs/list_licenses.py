"""Write docs/licenses.md: the license of each package in requirements.txt.

Run it with ``make licenses`` after ``make lock``. It reads the metadata of the installed packages,
and fails if a license is not in `ALLOWED`.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
LICENSES_FILE = ROOT / "docs/licenses.md"

PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "MIT", "MIT-CMU",
    "PSF-2.0", "Zlib",
}  # fmt: skip
COPYLEFT = {"LGPL-3.0-only", "MPL-2.0"}
ALLOWED = PERMISSIVE | COPYLEFT

# Names of licenses that packages use instead of SPDX identifiers.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PSFL": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# Packages without metadata of a license, or for another system than this one.
KNOWN = {
    "namex": "Apache-2.0",  # According to its file LICENSE.
    "tensorflow": "Apache-2.0",
    "tensorflow-cpu": "Apache-2.0",
}
_INTRODUCTION = """\
# Licenses of the dependencies

`make licenses` writes this file from the metadata of the packages in `requirements.txt`. The
program itself has the MIT license.

Two packages have a copyleft license: fpdf2 (LGPL-3.0-only) and certifi (MPL-2.0). The program
imports them unchanged. The wheels of OpenCV contain FFmpeg (LGPL-2.1), and those of NumPy, SciPy
and OpenCV contain libgfortran (GPL-3.0 with the GCC Runtime Library Exception). Their license files
are in the wheels. Streamlit and TensorFlow contain further components with notices of their own.

| package | version | license | direct |
|---|---|---|---|
"""


def read_packages(requirements: str) -> dict[str, list[str]]:
    """Return the versions of each package in a requirements file; several differ by system."""
    packages: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;*]+)", requirements, re.M):
        packages.setdefault(name, []).append(version)
    return packages


def find_license(name: str) -> str:
    """Return the license of an installed package, or '' if it is unknown."""
    if name in KNOWN:
        return KNOWN[name]
    try:
        fields = metadata(name)
    except PackageNotFoundError:
        return ""
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in fields.get_all("Classifier", [])
        if line.startswith("License ::")
    ]
    # An old field `License` may contain the complete text.
    texts = [fields.get("License-Expression"), *classifiers, fields.get("License")]
    found = next((text for text in texts if text and len(text) <= 60), "")
    return SPDX.get(found, found)


def is_allowed(license_: str) -> bool:
    """Return whether every part of a license expression is in `ALLOWED`."""
    return bool(license_) and set(re.split(r" AND | OR ", license_)) <= ALLOWED


def write_table() -> str:
    """Return the content of `LICENSES_FILE`."""
    direct = {
        re.split(r"[=\[; ]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    }
    packages = read_packages((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    rows = [
        f"| {name} | {', '.join(versions)} | {find_license(name)} | "
        f"{'yes' if name in direct else ''} |\n"
        for name, versions in packages.items()
    ]
    return _INTRODUCTION + "".join(rows)


def read_table(text: str) -> list[tuple[str, ...]]:
    """Return the rows of the table in `LICENSES_FILE`."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in row) for row in rows[1:]]


def main() -> None:
    """Write the file, or exit with the packages whose license is unknown or not allowed."""
    text = write_table()
    rows = read_table(text)
    if other := [f"{name}: {found}" for name, _, found, _ in rows if not is_allowed(found)]:
        sys.exit(f"Licenses that are unknown or not allowed: {', '.join(other)}.")
    LICENSES_FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
