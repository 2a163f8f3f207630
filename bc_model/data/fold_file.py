"""The official fold files of BreakHis: which name stands in training and which in test.

One line a picture: ``name|magnification|fold|train or test``. The five published files are five
repeated hold-outs of 66 to 34, not a partition. They deal out *folders*, and a folder is a section:
sections of one slide number stand on both sides, see `bc_model.data.fold_leaks`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bc_model.data.names import name_key, parse_name
from bc_model.errors import SplitError

MAX_FILE_MB = 32
SIDES = ("train", "test")

_FORM = "name|magnification|fold|train or test"


@dataclass(frozen=True)
class FoldFile:
    """One fold file.

    Attributes
    ----------
    path : Path
    fold : int
        The number that the file bears, 1 to 5 in the official ones.
    names : DataFrame
        One row a line, in the file's order: name, key (`bc_model.data.names.name_key`), class,
        case, section, magnification, side ('train' or 'test').
    """

    path: Path
    fold: int
    names: pd.DataFrame


def read_fold_file(path: Path) -> FoldFile:
    """Read a fold file and refuse it whole when one line is not as it must be.

    Parameters
    ----------
    path : Path
        Text, one picture a line; both kinds of line ends.

    Returns
    -------
    FoldFile

    Raises
    ------
    SplitError
        No such file, or not a fold file: the message names the line, what it says and the rule.
    """
    path = Path(path)
    lines = _read_lines(path)
    rows: list[tuple] = []
    first_line: dict[str, int] = {}
    fold = ""
    for number, line in enumerate(lines, start=1):
        fields = line.split("|")
        if len(fields) != 4:
            raise _wrong(path, number, line, f"it must read {_FORM}")
        name, magnification, of_fold, side = fields
        parsed, key = parse_name(name), name_key(name)
        if parsed is None or key is None:
            raise _wrong(path, number, line, "the name must follow the BreakHis grammar")
        if magnification != str(parsed.magnification):
            raise _wrong(
                path, number, line, f"the magnification must be the name's, {parsed.magnification}"
            )
        if not re.fullmatch("[0-9]{1,3}", of_fold, re.ASCII):
            raise _wrong(path, number, line, "the fold must be a whole number")
        if (fold := fold or of_fold) != of_fold:
            raise _wrong(path, number, line, f"a file is of one fold, and line 1 says {fold}")
        if side not in SIDES:
            raise _wrong(path, number, line, "the last word must be train or test")
        if key in first_line:
            raise _wrong(
                path, number, line, f"a name stands once, and this one is on line {first_line[key]}"
            )
        first_line[key] = number
        rows.append(
            (name, key, parsed.class_name, parsed.case, parsed.section, parsed.magnification, side)
        )
    columns = ["name", "key", "class", "case", "section", "magnification", "side"]
    names = pd.DataFrame(rows, columns=columns)
    for side in SIDES:
        if not (names["side"] == side).any():
            raise SplitError(f"{path} is not a fold file: none of its lines says {side}.")
    return FoldFile(path, int(fold), names)


def _read_lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_FILE_MB * 2**20:
            raise SplitError(
                f"{path} is not a fold file: it has more than {MAX_FILE_MB} MB; "
                "the official ones, dsfold1.txt to dsfold5.txt, have half of one."
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SplitError(f"There is no fold file {path}; check the path.") from error
    except UnicodeDecodeError as error:
        raise SplitError(f"{path} is not a fold file: it is not text.") from error
    except OSError as error:
        raise SplitError(f"The fold file {path} cannot be read: {error.strerror}.") from error
    lines = text.rstrip("\n").split("\n")  # `read_text` has made every line end this one
    if lines == [""]:
        raise SplitError(f"{path} is not a fold file: it is empty.")
    return lines


def _wrong(path: Path, number: int, line: str, rule: str) -> SplitError:
    shown = line if len(line) <= 80 else line[:77] + "..."
    return SplitError(f"{path} is not a fold file: line {number} says {shown!r}; {rule}.")
