"""Splits of a data set into training, validation and test, and the proof of what they share.

By which rules: see `bc_model.data.splits`.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES
from bc_model.data.dataset import Dataset
from bc_model.data.official_folds import fold_subsets, read_fold_file
from bc_model.errors import DataError, SplitError
from bc_model.utils.io import write_text_atomic

PROTOCOLS = ("case", "folds-clean", "folds", "folder", "image")
PROTOCOLS_WITH_LEAKAGE = frozenset({"image", "folder", "folds"})
FOLDS_PROTOCOLS = frozenset({"folds", "folds-clean"})
"""These need an official fold file."""


def require_protocol(protocol: str, folds_file: str | Path = "") -> None:
    """Raise `SplitError` for a protocol that is none, or without the file it needs."""
    if protocol not in PROTOCOLS:
        raise SplitError(
            f"There is no split protocol '{protocol}'; choose one of {', '.join(PROTOCOLS)}."
        )
    named = str(folds_file) != ""
    if protocol in FOLDS_PROTOCOLS and not named:
        raise SplitError(f"The protocol '{protocol}' needs an official fold file; choose one.")
    if named and protocol not in FOLDS_PROTOCOLS:
        raise SplitError(
            f"The protocol '{protocol}' takes no fold file; ask for 'folds' or 'folds-clean', or "
            f"leave {folds_file} out."
        )


SUBSETS = ("train", "validation", "test")
MIN_CASES_IN_SUBSET = 3
"""Cases of each class, below which the choice of the epoch depends on very few patients."""

_COLUMNS = ["path", "sha256", "class", "case", "group", "magnification", "subset", "protocol"]


@dataclass(frozen=True)
class Leak:
    """What two sides of a split share.

    Attributes
    ----------
    cases : int
        Cases with pictures both in training and in test.
    test_images : int
        Test pictures whose case has pictures in training.
    benign_test_images : int
        Those of them that are benign, the smaller class that leaks most.
    n_test, n_benign_test : int
        The pictures they are counted from.
    pixels : int
        Test pictures that stand in training pixel for pixel.
    """

    cases: int
    test_images: int
    benign_test_images: int
    n_test: int
    n_benign_test: int
    pixels: int


def make_split(
    dataset: Dataset,
    protocol: str = "case",
    *,
    n_folds: int = 5,
    fold: int = 0,
    seed: int = 0,
    folds_file: str | Path = "",
) -> pd.DataFrame:
    """Divide a manifest into training, validation and test.

    Parameters
    ----------
    manifest : Manifest
    protocol : {'case', 'folds-clean', 'folds', 'folder', 'image'}
        See `bc_model.data.splits`. Stratified by class.
    n_folds : int
        At least 3. `case`, `folder`, `image`: the data is dealt out in so many folds, one for test,
        the next for validation, the rest for training; at most the number of cases (folders,
        pictures) of each class. `folds`, `folds-clean`: so many shares of the file's training
        cases, one of which validates.
    fold : int
        0 to ``n_folds - 1``. `case`, `folder`, `image`: which fold is test; over all values each
        picture is in test exactly once. `folds`, `folds-clean`: which share validates; which fold
        is test, the file says.
    seed : int
    folds_file : path
        An official fold file, for `folds` and `folds-clean` alone.

    Returns
    -------
    DataFrame
        path, sha256, class, case, group, magnification, part, protocol; sorted by path. Pictures
        that a fold file does not list, or that `folds-clean` keeps out, are not in it.

    Raises
    ------
    SplitError
        Unknown protocol, one class only, cases unknown, fewer cases than folds, or a fold file
        that is missing, not one, or of other data.
    """
    require_protocol(protocol, folds_file)
    if n_folds < 3 or not 0 <= fold < n_folds:
        raise SplitError(
            f"Fold {fold} of {n_folds} was asked for; a split needs at least 3 folds, numbered "
            "from 0, one each for test and validation and the rest for training."
        )
    if not 0 <= seed < 2**31:
        raise SplitError(f"The seed of a split lies from 0 to 2147483647; asked for {seed}.")
    require_both_classes(dataset)
    images = dataset.images
    if protocol in FOLDS_PROTOCOLS:
        folds = read_fold_file(Path(folds_file))
        clean = protocol == "folds-clean"
        subset = fold_subsets(dataset, folds, clean=clean, n_folds=n_folds, fold=fold, seed=seed)
    else:
        subset = _deal_out(dataset, protocol, n_folds, fold, seed)
    split = images.assign(subset=subset, protocol=protocol)[_COLUMNS]
    return split[split["subset"] != ""].reset_index(drop=True)


def _deal_out(dataset: Dataset, protocol: str, n_folds: int, fold: int, seed: int) -> pd.Series:
    """Deal out units, whole cases, folders or single pictures, stratified by class.

    Each fold then holds as many units of each class as the others, whatever the number of pictures
    in them.
    """
    images = dataset.images
    if protocol != "image" and (images["case"] == "").any():
        raise SplitError(
            f"The pictures under {dataset.root} carry no case in their names, so a split by "
            f"{protocol} cannot be made; name them by the BreakHis grammar, or ask for the "
            "protocol 'image' and read its figures as leaky."
        )
    word, unit = {
        "case": ("cases", images["group"]),
        "folder": ("folders", images["case"] + images["section"]),
        "image": ("images", images["path"]),
    }[protocol]
    units = images.groupby(unit)["class"].max()
    for name in CLASSES:
        count = int((units == name).sum())
        if count < n_folds:
            raise SplitError(
                f"A split into {n_folds} folds needs at least {n_folds} {name} {word}, one a fold; "
                f"this data has {count}. Add {word} or ask for fewer folds (--n-folds)."
            )
    from sklearn.model_selection import StratifiedKFold  # two seconds that the app need not wait

    fold_of_unit = pd.Series(-1, index=units.index)
    splitter = StratifiedKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    for number, (_, members) in enumerate(splitter.split(units, units)):
        fold_of_unit.iloc[members] = number
    folds = unit.map(fold_of_unit)
    subset = pd.Series("train", index=images.index)
    subset[folds == fold] = "test"
    subset[folds == (fold + 1) % n_folds] = "validation"
    return subset


def require_both_classes(dataset: Dataset) -> None:
    """Raise `SplitError` when a data set holds one class only."""
    present = set(dataset.images["class"])
    if present != set(CLASSES):
        raise SplitError(
            f"All {len(dataset.images)} pictures under {dataset.root} are {present.pop()}; "
            "a classifier needs benign and malignant pictures."
        )


def summarize_subsets(split: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count pictures and cases of each part, by class.

    Returns
    -------
    dict
        For each of `SUBSETS`: pictures, benign, malignant, cases, benign_cases, malignant_cases.
    """
    summary = {}
    for subset in SUBSETS:
        rows = split[split["subset"] == subset]
        known = rows[rows["case"] != ""]
        summary[subset] = {"images": len(rows), "cases": int(known["case"].nunique())}
        for name in CLASSES:
            summary[subset][name] = int((rows["class"] == name).sum())
            summary[subset][f"{name}_cases"] = int(
                known.loc[known["class"] == name, "case"].nunique()
            )
    return summary


def count_leaks(split: pd.DataFrame) -> Leak:
    """Count what test shares with training (validation counts as training: it chooses the model).

    Parameters
    ----------
    split : DataFrame
        As `make_split` returns it.

    Returns
    -------
    Leak
        Pictures without a case count only by their pixels.
    """
    test = split[split["subset"] == "test"]
    seen = split[split["subset"] != "test"]
    known = (test["case"] != "") & test["group"].isin(seen["group"])
    benign = test["class"] == CLASSES[0]
    return Leak(
        cases=int(test.loc[known, "case"].nunique()),
        test_images=int(known.sum()),
        benign_test_images=int((known & benign).sum()),
        n_test=len(test),
        n_benign_test=int(benign.sum()),
        pixels=int(test["sha256"].isin(seen["sha256"]).sum()),
    )


def check_leakage(split: pd.DataFrame, protocol: str) -> tuple[Check, ...]:
    """Check what the test subset shares with the training and validation subsets."""
    leak = count_leaks(split)
    checks = []
    if leak.test_images:
        checks.append(
            make_check(
                "BC266",
                n_cases=leak.cases,
                n_shared=leak.test_images,
                n_test=leak.n_test,
                proportion=leak.test_images / leak.n_test,
                n_benign=leak.benign_test_images,
                n_benign_test=leak.n_benign_test,
            )
        )
    if leak.pixels:
        checks.append(make_check("BC267", n_duplicates=leak.pixels))
    if not checks and protocol in PROTOCOLS_WITH_LEAKAGE:
        checks.append(make_check("BC268" if (split["case"] != "").all() else "BC269"))
    return tuple(checks) or (make_check("BC270", n_test=leak.n_test),)


def check_subsets(parts: dict[str, dict[str, int]]) -> tuple[Check, ...]:
    """Check that the validation and test subsets have enough cases of each class.

    Parameters
    ----------
    parts : dict
        The result of `summarize_subsets`.
    """
    few = min(
        parts[subset][f"{name}_cases"] for subset in ("validation", "test") for name in CLASSES
    )
    return (make_check("BC265", n_cases=few),) if 0 < few < MIN_CASES_IN_SUBSET else ()


def write_split(split: pd.DataFrame, path: Path) -> None:
    """Write a split as CSV, whole or not at all."""
    write_text_atomic(path, split_csv(split))


def split_csv(split: pd.DataFrame) -> str:
    """Return a split as the text of a CSV file, for `read_split`."""
    return split.to_csv(index=False, lineterminator="\n")


def read_split(path: Path) -> pd.DataFrame:
    """Read a split written by `write_split`.

    Raises
    ------
    SplitError
        No such file, or not a split.
    """
    try:
        split = pd.read_csv(
            path,
            dtype={"case": "str", "group": "str", "magnification": "Int64"},
            keep_default_na=False,
            na_values={"magnification": [""]},
        )
    except FileNotFoundError as error:
        raise SplitError(f"There is no split file {path}; make one with `split`.") from error
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise SplitError(f"{path} is not a split file: it cannot be read as CSV.") from error
    missing = [column for column in _COLUMNS if column not in split]
    wrong = f"columns {', '.join(missing)} are missing" if missing else ""
    for column, known in (("subset", SUBSETS), ("class", CLASSES), ("protocol", PROTOCOLS)):
        if not wrong and (unknown := set(split[column]) - set(known)):
            wrong = f"a {column} is called '{min(unknown)}'"
    if not wrong and (twice := split["path"].duplicated()).any():
        wrong = f"{split.loc[twice, 'path'].iloc[0]} is listed twice"
    if wrong:
        raise SplitError(f"{path} is not a split file: {wrong}; make one with `split`.")
    return split


def match_split(split: pd.DataFrame, dataset: Dataset) -> None:
    """Check that a split is of this data, picture by picture.

    Raises
    ------
    DataError
        Pictures of the split are missing from the data, or have other pixels, another class, case
        or group now.
    """
    now = dataset.images.set_index("path")
    missing = ~split["path"].isin(now.index)
    if missing.any():
        raise DataError(
            f"{int(missing.sum())} of {len(split)} pictures of the split are not under "
            f"{dataset.root}, first {split.loc[missing, 'path'].iloc[0]}; "
            "use the data set that the split was made from, or make a new split."
        )
    for column, words in (
        ("sha256", "other pixels"),
        ("class", "another class"),
        ("case", "another case"),
        ("group", "another group of cases"),
    ):
        other = now.loc[split["path"], column].to_numpy() != split[column].to_numpy()
        if other.any():
            raise DataError(
                f"{int(other.sum())} of {len(split)} pictures have {words} than when the split "
                f"was made, first {split.loc[other, 'path'].iloc[0]}; make a new split."
            )
