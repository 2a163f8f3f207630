"""Splits by the official fold files: `folds` as published, `folds-clean` without what leaks."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES, name_key, parse_name
from bc_model.data.dataset import Dataset
from bc_model.errors import DataError, SplitError

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
        One row a line, in the file's order: name, key (`bc_model.data.breakhis.name_key`), class,
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


MIN_LISTED = 0.9
"""Share of the pictures that a fold file must list: below, it is of another release or data set."""

logger = logging.getLogger("bc_model.data")


@dataclass(frozen=True)
class FoldMatch:
    """Which side of a fold file each picture stands on.

    Attributes
    ----------
    side : Series of str
        'train', 'test' or '' (not listed), with the index of the manifest's pictures.
    absent : int
        Names of the file without a picture in the data.
    both_sides : int
        Pictures that the file lists in training and, under another name, in test. They count
        once, as everywhere, and in test.
    """

    side: pd.Series
    absent: int
    both_sides: int

    @property
    def not_listed(self) -> int:
        """Pictures that the file does not list; no part of a split has them."""
        return int((self.side == "").sum())

    def checks(self) -> list[Check]:
        """Return the checks of what the fold file and the dataset do not share."""
        checks = []
        if self.not_listed:
            checks.append(make_check("BC261", n_unlisted=self.not_listed, n_images=len(self.side)))
        if self.absent:
            checks.append(make_check("BC262", n_missing=self.absent))
        if self.both_sides:
            checks.append(make_check("BC263", n_duplicates=self.both_sides))
        return checks


def match_folds(dataset: Dataset, folds: FoldFile) -> FoldMatch:
    """Find the side of each picture by its name.

    Parameters
    ----------
    manifest : Manifest
    folds : FoldFile

    Returns
    -------
    FoldMatch

    Raises
    ------
    SplitError
        Fewer than `MIN_LISTED` of the pictures are listed.

    Notes
    -----
    Names are compared by the fields of the grammar, whatever the suffix. In public extracts that
    number pictures anew, such as the squashed 200X one with 694 pictures, a name then stands for
    another field of the same section: it stands on the right side all the same, since the
    official files put each section wholly on one. Numbers beyond the official ones (19 of the
    694) are not listed.
    """
    by_key = folds.names.set_index("key")["side"]
    images = dataset.images
    key = images["path"].map(_key)
    side = key.map(by_key).fillna("").astype("str")
    duplicate_side = dataset.duplicates["path"].map(_key).map(by_key)
    by_path = side.set_axis(images["path"])
    both = 0
    for path, other in zip(dataset.duplicates["twin_of"], duplicate_side, strict=True):
        here = by_path.get(path)
        if here is None or not isinstance(other, str) or other == here:
            continue
        both += bool(here)
        by_path[path] = "test" if "test" in (here, other) else other
    side = by_path.set_axis(images.index)
    listed = int((side != "").sum())
    if listed < MIN_LISTED * len(side):
        raise SplitError(
            f"{folds.path} lists {listed} of the {len(side)} pictures under {dataset.root} and "
            f"must list {MIN_LISTED:.0%}; it is of another release or another data set."
        )
    present = set(key) | set(dataset.duplicates["path"].map(_key))
    return FoldMatch(side, int((~folds.names["key"].isin(present)).sum()), both)


def fold_subsets(
    dataset: Dataset, folds: FoldFile, *, clean: bool, n_folds: int, fold: int, seed: int
) -> pd.Series:
    """Divide a manifest by a fold file.

    Test is as the file gives it. Validation is a share of the cases that the file gives to
    training: one of `n_folds`, at least one of each class.

    Parameters
    ----------
    manifest : Manifest
    folds : FoldFile
    clean : bool
        Leave out of training and validation every picture of a case that the file puts in test,
        be it present in this data or not, and of every group that such a case belongs to. That
        takes away siblings and twins; test stays whole.
    n_folds, fold : int
        In how many shares the cases of training are dealt out, and which of them validates. A
        class with fewer cases than shares has as many shares as cases.
    seed : int

    Returns
    -------
    Series of str
        'train', 'validation', 'test' or '' (in no part), with the index of the pictures.

    Raises
    ------
    SplitError
        The file does not fit, no picture is in its test part, or training has fewer than two
        cases of a class.
    """
    images = dataset.images
    match = match_folds(dataset, folds)
    for check in match.checks():
        logger.info(check.message)
    subset = match.side.copy()
    in_test = subset == "test"
    if not in_test.any():
        raise SplitError(
            f"None of the {len(images)} pictures under {dataset.root} stands in the test part "
            f"of {folds.path}; choose another fold file."
        )
    if clean:
        names = folds.names
        tested = set(names.loc[names["side"] == "test", "case"])
        groups = set(images.loc[in_test | images["case"].isin(tested), "group"])
        subset[(subset == "train") & images["group"].isin(groups)] = ""
    rows = images[subset == "train"]
    validation = _choose_cases(rows, folds, clean=clean, n_folds=n_folds, fold=fold, seed=seed)
    subset[(subset == "train") & images["group"].isin(validation)] = "validation"
    return subset


def _choose_cases(
    rows: pd.DataFrame, folds: FoldFile, *, clean: bool, n_folds: int, fold: int, seed: int
) -> set[str]:
    """Choose the groups that validate, of each class its share."""
    class_of_group = rows.groupby("group")["class"].max()
    chosen: set[str] = set()
    for code, name in enumerate(CLASSES):
        groups = class_of_group.index[class_of_group == name].to_numpy()
        if len(groups) < 2:
            without = " once siblings and twins of test are left out" if clean else ""
            raise SplitError(
                f"{folds.path} leaves {len(groups)} {name} cases of this data for training and "
                f"validation{without}; at least 2 are needed. Choose another fold file or add "
                "pictures."
            )
        order = np.random.default_rng([seed, code]).permutation(len(groups))
        proportions = np.array_split(groups[order], min(n_folds, len(groups)))
        chosen |= set(proportions[fold % len(proportions)])
    return chosen


def _key(path: str) -> str | None:
    return name_key(path.rpartition("/")[2])


@dataclass(frozen=True)
class SiblingLeak:
    """How much of a test part has a sibling section in training.

    Attributes
    ----------
    test, benign_test : int
        Test pictures, and those of them that are benign.
    shared, benign_shared : int
        Those whose slide number has pictures in training, at any magnification.
    """

    test: int
    shared: int
    benign_test: int
    benign_shared: int

    @property
    def proportion(self) -> float | None:
        """Of the test pictures, 0 to 1; None when there are none."""
        return self.shared / self.test if self.test else None

    @property
    def benign_proportion(self) -> float | None:
        """Of the benign test pictures, 0 to 1; None when there are none."""
        return self.benign_shared / self.benign_test if self.benign_test else None


@dataclass(frozen=True)
class DuplicateLeakage:
    """How many test pictures stand in training under another name, pixel for pixel.

    Attributes
    ----------
    listed, not_listed : int
        Pictures of the data, each name counted, that the file lists and does not list.
    absent : int
        Names of the file without a picture in the data: of these nothing can be said.
    test, benign_test : int
        Listed pictures that stand in test.
    shared, benign_shared : int
        Those of them whose pixels stand in training too.
    """

    listed: int
    not_listed: int
    absent: int
    test: int
    shared: int
    benign_test: int
    benign_shared: int


def count_siblings(folds: FoldFile) -> dict[str, SiblingLeak]:
    """Count over all names of a fold file; no picture is needed.

    Returns
    -------
    dict
        'all', then each magnification such as '40X'.
    """
    names = folds.names
    in_training = set(names.loc[names["side"] == "train", "case"])
    test = names[names["side"] == "test"]
    leaks = {"all": _count(test, in_training)}
    for magnification in sorted(set(names["magnification"])):
        rows = test[test["magnification"] == magnification]
        leaks[f"{magnification}X"] = _count(rows, in_training)
    return leaks


def check_siblings(file: str, leak: SiblingLeak) -> tuple[Check, ...]:
    """Check that no section of a test slide is in the training subset of a fold file."""
    if not leak.shared:
        return ()
    return (
        make_check(
            "BC271",
            file=file,
            n_shared=leak.shared,
            n_test=leak.test,
            proportion=leak.proportion,
            n_benign=leak.benign_shared,
            n_benign_test=leak.benign_test,
        ),
    )


def _count(test: pd.DataFrame, in_training: set[str]) -> SiblingLeak:
    shared = test["case"].isin(in_training)
    benign = test["class"] == CLASSES[0]
    return SiblingLeak(
        test=len(test),
        shared=int(shared.sum()),
        benign_test=int(benign.sum()),
        benign_shared=int((shared & benign).sum()),
    )


def count_duplicates(folds: FoldFile, dataset: Dataset) -> DuplicateLeakage:
    """Count over the pictures that are present.

    Parameters
    ----------
    folds : FoldFile
    manifest : Manifest
        Both names of a twin count here: the manifest keeps the first and lists the others.

    Raises
    ------
    DataError
        None of the pictures is listed.
    """
    kept = dataset.images[["path", "sha256", "class"]]
    first = kept.set_index("path").loc[dataset.duplicates["twin_of"]].reset_index(drop=True)
    files = pd.concat([kept, first.assign(path=dataset.duplicates["path"])], ignore_index=True)
    keys = files["path"].map(lambda path: name_key(path.rpartition("/")[2]))
    side = keys.map(folds.names.set_index("key")["side"])
    listed = side.notna()
    if not listed.any():
        raise DataError(
            f"None of the {len(files)} pictures under {dataset.root} is listed in {folds.path}; "
            "it is the fold file of another data set."
        )
    test = files[side == "test"]
    shared = test["sha256"].isin(files.loc[side == "train", "sha256"])
    benign = test["class"] == CLASSES[0]
    return DuplicateLeakage(
        listed=int(listed.sum()),
        not_listed=int((~listed).sum()),
        absent=int((~folds.names["key"].isin(keys[listed])).sum()),
        test=len(test),
        shared=int(shared.sum()),
        benign_test=int(benign.sum()),
        benign_shared=int((shared & benign).sum()),
    )
