"""Splits by the official fold files: `folds` as published, `folds-clean` without what leaks."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.fold_file import FoldFile
from bc_model.data.manifest import Manifest
from bc_model.data.names import CLASSES, name_key
from bc_model.errors import SplitError

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
            checks.append(make_check("BC261", n_unlisted=self.not_listed, n=len(self.side)))
        if self.absent:
            checks.append(make_check("BC262", n_missing=self.absent))
        if self.both_sides:
            checks.append(make_check("BC263", n_duplicates=self.both_sides))
        return checks


def match_folds(manifest: Manifest, folds: FoldFile) -> FoldMatch:
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
    pictures = manifest.pictures
    key = pictures["path"].map(_key)
    side = key.map(by_key).fillna("").astype("str")
    twin_side = manifest.twins["path"].map(_key).map(by_key)
    by_path = side.set_axis(pictures["path"])
    both = 0
    for path, other in zip(manifest.twins["twin_of"], twin_side, strict=True):
        here = by_path.get(path)
        if here is None or not isinstance(other, str) or other == here:
            continue
        both += bool(here)
        by_path[path] = "test" if "test" in (here, other) else other
    side = by_path.set_axis(pictures.index)
    listed = int((side != "").sum())
    if listed < MIN_LISTED * len(side):
        raise SplitError(
            f"{folds.path} lists {listed} of the {len(side)} pictures under {manifest.root} and "
            f"must list {MIN_LISTED:.0%}; it is of another release or another data set."
        )
    present = set(key) | set(manifest.twins["path"].map(_key))
    return FoldMatch(side, int((~folds.names["key"].isin(present)).sum()), both)


def fold_parts(
    manifest: Manifest, folds: FoldFile, *, clean: bool, n_folds: int, fold: int, seed: int
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
    pictures = manifest.pictures
    match = match_folds(manifest, folds)
    for check in match.checks():
        logger.info(check.message)
    part = match.side.copy()
    in_test = part == "test"
    if not in_test.any():
        raise SplitError(
            f"None of the {len(pictures)} pictures under {manifest.root} stands in the test part "
            f"of {folds.path}; choose another fold file."
        )
    if clean:
        names = folds.names
        tested = set(names.loc[names["side"] == "test", "case"])
        groups = set(pictures.loc[in_test | pictures["case"].isin(tested), "group"])
        part[(part == "train") & pictures["group"].isin(groups)] = ""
    rows = pictures[part == "train"]
    validation = _choose_cases(rows, folds, clean=clean, n_folds=n_folds, fold=fold, seed=seed)
    part[(part == "train") & pictures["group"].isin(validation)] = "validation"
    return part


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
        shares = np.array_split(groups[order], min(n_folds, len(groups)))
        chosen |= set(shares[fold % len(shares)])
    return chosen


def _key(path: str) -> str | None:
    return name_key(path.rpartition("/")[2])
