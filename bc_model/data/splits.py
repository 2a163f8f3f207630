"""Splits of a dataset into training, validation and test, and their leakage reports.

The protocols 'case' and 'folds-clean' keep all images of a slide in one subset. The protocols
'image', 'folder' (one section) and 'folds' have leakage, and exist to quantify it.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES
from bc_model.data.dataset import Dataset
from bc_model.data.official_folds import assign_subsets, read_fold_file
from bc_model.errors import DataError, SplitError
from bc_model.utils.csv_table import read_table, table_to_csv
from bc_model.utils.io import write_text_atomic

PROTOCOLS = ("case", "folds-clean", "folds", "folder", "image")
PROTOCOLS_WITH_LEAKAGE = frozenset({"image", "folder", "folds"})
FOLDS_PROTOCOLS = frozenset({"folds", "folds-clean"})
"""Protocols that need an official fold file."""

SUBSETS = ("train", "validation", "test")
MIN_CASES_IN_SUBSET = 3
"""With fewer cases per class, the choice of the epoch depends on very few patients."""

_COLUMNS = ["path", "sha256", "class", "case", "group", "magnification", "subset", "protocol"]


@dataclass(frozen=True)
class Leakage:
    """Leakage report: overlap of the test subset with training and validation.

    Attributes
    ----------
    n_cases : int
        Number of cases on both sides.
    n_test_images, n_benign_test_images : int
        Number of test images, and of benign ones, whose case is on both sides.
    n_duplicates : int
        Number of test images with a duplicate on the other side.
    total_test_images, total_benign_test_images : int
        Number of all test images, and of all benign ones.
    """

    n_cases: int
    n_test_images: int
    n_benign_test_images: int
    n_duplicates: int
    total_test_images: int
    total_benign_test_images: int


def make_split(
    dataset: Dataset,
    protocol: str = "case",
    *,
    n_folds: int = 5,
    test_fold: int = 0,
    seed: int = 0,
    official_fold_file: str | Path = "",
) -> pd.DataFrame:
    """Return a split of a dataset into training, validation and test subsets.

    Parameters
    ----------
    dataset : Dataset
        Index of the dataset.
    protocol : {'case', 'folds-clean', 'folds', 'folder', 'image'}, default='case'
        Unit that is not divided (case, section folder or image), stratified by class; or the
        official fold file, as it is ('folds') or without leakage ('folds-clean').
    n_folds : int, default=5
        Number of folds, at least 3 and at most the number of units of each class. One fold is for
        test, the next one for validation, the others for training. With a fold file, only its
        training cases are divided.
    test_fold : int, default=0
        Index of the test fold, 0 to ``n_folds - 1``. With a fold file, index of the validation
        fold.
    seed : int, default=0
        Random seed for shuffling the units.
    official_fold_file : str or Path, optional
        Fold file for the protocols 'folds' and 'folds-clean'.

    Returns
    -------
    DataFrame
        path, sha256, class, case, group, magnification, subset and protocol, sorted by path. With
        a fold file, images without a subset are left out.

    Raises
    ------
    SplitError
        An argument is invalid, the dataset has too few cases or one class only, or the fold file
        does not fit.

    Examples
    --------
    >>> split = make_split(load_dataset("BreaKHis_v1"), test_fold=1)  # doctest: +SKIP
    """
    require_protocol(protocol, official_fold_file)
    if n_folds < 3 or not 0 <= test_fold < n_folds:
        raise SplitError(
            f"Invalid test fold {test_fold} of {n_folds} folds. Expected at least 3 folds and "
            "0 <= test fold < number of folds. Change one of them."
        )
    if not 0 <= seed < 2**31:
        raise SplitError(f"Invalid seed {seed}. Expected 0 <= seed < 2147483648. Change the seed.")
    images = dataset.images
    classes = set(images["class"])
    if classes != set(CLASSES):
        raise SplitError(
            f"The dataset {dataset.root} has one class only. Expected benign and malignant images, "
            f"got {len(images)} {classes.pop()} images. Add images of the other class."
        )
    if protocol in FOLDS_PROTOCOLS:
        subset = assign_subsets(
            dataset,
            read_fold_file(Path(official_fold_file)),
            clean=protocol == "folds-clean",
            n_folds=n_folds,
            validation_fold=test_fold,
            seed=seed,
        )
    else:
        subset = _assign_folds(dataset, protocol, n_folds, test_fold, seed)
    split = images.assign(subset=subset, protocol=protocol)[_COLUMNS]
    return split[split["subset"] != ""].reset_index(drop=True)


def require_protocol(protocol: str, official_fold_file: str | Path = "") -> None:
    """Raise `SplitError` if a protocol is unknown or does not fit the fold file."""
    if protocol not in PROTOCOLS:
        raise SplitError(
            f"Unknown split protocol '{protocol}'. Expected one of {', '.join(PROTOCOLS)}. Choose "
            "one of them."
        )
    has_file = str(official_fold_file) != ""
    if protocol in FOLDS_PROTOCOLS and not has_file:
        raise SplitError(f"The protocol '{protocol}' needs an official fold file. Choose one.")
    if has_file and protocol not in FOLDS_PROTOCOLS:
        raise SplitError(
            f"The protocol '{protocol}' does not use a fold file. Expected 'folds' or "
            f"'folds-clean' with {official_fold_file}. Change the protocol or omit the file."
        )


def count_leakage(split: pd.DataFrame) -> Leakage:
    """Return the leakage report of a split.

    Validation counts as training, because it selects the epoch. Images without a case count as
    duplicates only.

    Parameters
    ----------
    split : DataFrame
        Result of `make_split`.

    Examples
    --------
    >>> columns = ["subset", "case", "group", "class", "sha256"]
    >>> rows = [["train", "A", "A", "benign", "1"], ["test", "A", "A", "benign", "2"]]
    >>> count_leakage(pd.DataFrame(rows, columns=columns)).n_test_images
    1
    """
    test = split[split["subset"] == "test"]
    other = split[split["subset"] != "test"]
    is_shared = (test["case"] != "") & test["group"].isin(other["group"])
    is_benign = test["class"] == CLASSES[0]
    return Leakage(
        n_cases=int(test.loc[is_shared, "case"].nunique()),
        n_test_images=int(is_shared.sum()),
        n_benign_test_images=int((is_shared & is_benign).sum()),
        n_duplicates=int(test["sha256"].isin(other["sha256"]).sum()),
        total_test_images=len(test),
        total_benign_test_images=int(is_benign.sum()),
    )


def check_leakage(split: pd.DataFrame, protocol: str) -> tuple[Check, ...]:
    """Return the leakage of a split as checks; see `count_leakage`."""
    leakage = count_leakage(split)
    checks = []
    if leakage.n_test_images:
        checks.append(
            make_check(
                "BC266",
                n_cases=leakage.n_cases,
                n_shared=leakage.n_test_images,
                n_test=leakage.total_test_images,
                proportion=leakage.n_test_images / leakage.total_test_images,
                n_benign=leakage.n_benign_test_images,
                n_benign_test=leakage.total_benign_test_images,
            )
        )
    if leakage.n_duplicates:
        checks.append(make_check("BC267", n_duplicates=leakage.n_duplicates))
    if not checks and protocol in PROTOCOLS_WITH_LEAKAGE:
        checks.append(make_check("BC268" if (split["case"] != "").all() else "BC269"))
    return tuple(checks) or (make_check("BC270", n_test=leakage.total_test_images),)


def summarize_subsets(split: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return the number of images and cases of each subset, by class.

    For each of `SUBSETS`: images, benign, malignant, cases, benign_cases and malignant_cases.
    """
    summary = {}
    for subset in SUBSETS:
        rows = split[split["subset"] == subset]
        with_case = rows[rows["case"] != ""]
        counts = {"images": len(rows), "cases": int(with_case["case"].nunique())}
        for name in CLASSES:
            counts[name] = int((rows["class"] == name).sum())
            counts[f"{name}_cases"] = with_case.loc[with_case["class"] == name, "case"].nunique()
        summary[subset] = counts
    return summary


def check_subsets(summary: dict[str, dict[str, int]]) -> tuple[Check, ...]:
    """Check the number of cases per class in validation and test; see `summarize_subsets`."""
    fewest = min(
        summary[subset][f"{name}_cases"] for subset in ("validation", "test") for name in CLASSES
    )
    return (make_check("BC265", n_cases=fewest),) if 0 < fewest < MIN_CASES_IN_SUBSET else ()


def write_split(split: pd.DataFrame, path: Path) -> None:
    """Write a split to a CSV file, atomically."""
    write_text_atomic(path, format_split(split))


def format_split(split: pd.DataFrame) -> str:
    """Return a split as the text of a CSV file."""
    return table_to_csv(split)


def read_split(path: Path) -> pd.DataFrame:
    """Return a split from a CSV file of `write_split`; raise `SplitError` for other files."""
    try:
        split = read_table(
            path,
            dtype=dict.fromkeys(("path", "sha256", "case", "group"), "str")
            | {"magnification": "Int64"},
            keep_default_na=False,
            na_values={"magnification": [""]},
        )
    except FileNotFoundError as error:
        raise SplitError(f"There is no split file {path}. Create a split.") from error
    except OSError as error:
        raise _not_a_split(path, f"It cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise _not_a_split(path, "It cannot be read as CSV") from error
    if missing := [column for column in _COLUMNS if column not in split]:
        raise _not_a_split(path, f"Missing columns: {', '.join(missing)}")
    for column, allowed in (("subset", SUBSETS), ("class", CLASSES), ("protocol", PROTOCOLS)):
        if unknown := set(split[column]) - set(allowed):
            raise _not_a_split(path, f"Unknown {column} '{str(min(unknown))[:200]}'")
    if (repeated := split["path"].duplicated()).any():
        raise _not_a_split(path, f"{split.loc[repeated, 'path'].iloc[0][:200]} is listed twice")
    return split


def require_matching_split(split: pd.DataFrame, dataset: Dataset) -> None:
    """Raise `DataError` unless a dataset contains the same images as a split.

    Images may not differ in pixels, class, case or group. The dataset may contain more images.
    """
    images = dataset.images.set_index("path")
    is_missing = ~split["path"].isin(images.index)
    if is_missing.any():
        raise DataError(
            f"The dataset {dataset.root} lacks {int(is_missing.sum())} of {len(split)} images of "
            f"the split. The first is {split.loc[is_missing, 'path'].iloc[0]}. Use the dataset of "
            "the split, or create a new split."
        )
    images = images.loc[split["path"]]
    for column, name in (
        ("sha256", "pixels"), ("class", "class"), ("case", "case"), ("group", "group of cases"),
    ):  # fmt: skip
        differs = images[column].to_numpy() != split[column].to_numpy()
        if differs.any():
            raise DataError(
                f"The {name} of {int(differs.sum())} of {len(split)} images has changed since the "
                f"split was created. The first is {split.loc[differs, 'path'].iloc[0]}. Create a "
                "new split."
            )


def _stratify(images: pd.DataFrame, unit: pd.Series, n_folds: int) -> pd.Series:
    """Return the stratum of each unit: its class, or 'both' if its images have both classes.

    Strata of fewer units than folds cannot be divided: 'both' is then 'malignant', and a class of
    few units is 'both'.
    """
    by_unit = images.groupby(unit)["class"]
    stratum = by_unit.max()
    is_mixed = by_unit.nunique() > 1
    if is_mixed.sum() < n_folds:
        return stratum
    stratum[is_mixed] = "both"
    counts = stratum.value_counts()
    return stratum.where(stratum.map(counts) >= n_folds, "both")


def _assign_folds(
    dataset: Dataset, protocol: str, n_folds: int, test_fold: int, seed: int
) -> pd.Series:
    """Return the subset of each image; folds contain equally many units of each class."""
    images = dataset.images
    if protocol != "image" and (images["case"] == "").any():
        raise SplitError(
            f"The protocol '{protocol}' needs cases. Expected BreakHis file names in "
            f"{dataset.root}. Rename the images, or use the protocol 'image', which overestimates "
            "performance."
        )
    noun, unit = {
        "case": ("cases", images["group"]),
        "folder": ("section folders", images["case"] + images["section"]),
        "image": ("images", images["path"]),
    }[protocol]
    class_of_unit = _stratify(images, unit, n_folds)
    for name in CLASSES:
        if (count := unit[images["class"] == name].nunique()) < n_folds:
            raise SplitError(
                f"Too few {name} {noun} for {n_folds} folds. Expected at least {n_folds}, got "
                f"{count}. Use fewer folds, or add {noun}."
            )
    from sklearn.model_selection import StratifiedKFold  # Importing it takes two seconds.

    fold_of_unit = pd.Series(-1, index=class_of_unit.index)
    splitter = StratifiedKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    for fold, (_, members) in enumerate(splitter.split(class_of_unit, class_of_unit)):
        fold_of_unit.iloc[members] = fold
    folds = unit.map(fold_of_unit)
    subset = pd.Series("train", index=images.index)
    subset[folds == test_fold] = "test"
    subset[folds == (test_fold + 1) % n_folds] = "validation"
    return subset


def _not_a_split(path: Path, reason: str) -> SplitError:
    return SplitError(f"{path} is not a split file. {reason}. Create a split.")
