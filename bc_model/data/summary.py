"""Summaries of a dataset: counts of images and cases, class-revealing sizes, and checks.

The counts are plain numbers for JSON output; sentences are in the checks.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from bc_model.checks import Check, check_to_json, make_check
from bc_model.data.breakhis import CLASSES, OFFICIAL_COUNTS, parse_name
from bc_model.data.dataset import Dataset
from bc_model.data.duplicates import NearDuplicates, find_near_duplicates
from bc_model.data.images import FIELD_PX, FRAME_PX
from bc_model.data.official_folds import (
    FoldFile,
    check_section_leakage,
    count_duplicate_leakage,
    count_section_leakage,
)
from bc_model.errors import DataError
from bc_model.utils.formatting import format_count
from bc_model.utils.serialization import to_json

MAX_FILES = 100_000
_MAX_SIZES_SHOWN = 3
_FEW_CASES = 10


def summarize_dataset(dataset: Dataset) -> dict:
    """Return the counts of a dataset as plain numbers.

    Parameters
    ----------
    dataset : Dataset
        Index of the dataset.

    Returns
    -------
    dict
        JSON-safe. `root`, `images`, `cases`, `benign_cases`, `malignant_cases`, `sections` and
        `images_without_case`; `by_class`, `by_magnification`, `by_subtype` and `by_size`; `sizes`
        (records of `count_images`); `excluded` (number by reason) and `excluded_files`;
        `near_duplicates` (number by relation) and `near_duplicate_pairs`; `checks`.
    """
    images = dataset.images
    with_case = images[images["case"] != ""]
    n_cases = {
        name: int(with_case.loc[with_case["class"] == name, "case"].nunique()) for name in CLASSES
    }
    sizes = count_images(images, "size", "class")
    near = find_near_duplicates(images)
    return {
        "root": Path(dataset.root).as_posix(),
        "images": len(images),
        "cases": int(with_case["case"].nunique()),
        "benign_cases": n_cases["benign"],
        "malignant_cases": n_cases["malignant"],
        "sections": int((with_case["case"] + with_case["section"]).nunique()),
        "images_without_case": len(images) - len(with_case),
        "by_class": _count_values(images["class"]),
        "by_magnification": _count_values(images["magnification"].dropna().astype(str) + "X"),
        "by_subtype": _count_values(images["subtype"]),
        "by_size": {
            str(size): int(count) for size, count in sizes.groupby("size")["images"].sum().items()
        },
        "sizes": sizes.to_dict("records"),
        "excluded": _count_values(dataset.excluded["reason"]),
        "excluded_files": dataset.excluded.to_dict("records"),
        "near_duplicates": near.counts,
        "near_duplicate_pairs": near.pairs.to_dict("records"),
        "checks": [check_to_json(check) for check in _check_dataset(dataset, n_cases, near)],
    }


def summarize_fold_file(folds: FoldFile, dataset: Dataset | None = None) -> dict:
    """Return the leakage of an official fold file between training and test.

    Duplicates are counted in the dataset, if given. `DataError` is raised if the file lists none of
    its images.

    Returns
    -------
    dict
        JSON-safe. `file`, `fold`, `names` (number of names); `section_leakage` by magnification
        (the fields and proportions of `bc_model.data.official_folds.SectionLeakage`); `checks`;
        `duplicates` (the fields of `DuplicateLeakage`, or None without a dataset).
    """
    sections = count_section_leakage(folds)
    checks = check_section_leakage(folds.path.name, sections["all"])
    return {
        "file": folds.path.as_posix(),
        "fold": folds.fold,
        "names": len(folds.names),
        "section_leakage": {
            key: to_json(leakage)
            | {"proportion": leakage.proportion, "benign_proportion": leakage.benign_proportion}
            for key, leakage in sections.items()
        },
        "checks": [check_to_json(check) for check in checks],
        "duplicates": to_json(count_duplicate_leakage(folds, dataset)) if dataset else None,
    }


def count_images(images: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the number of images and cases of each combination of values, sorted.

    `columns` are columns of the images of a `Dataset`, or 'size' (width x height, px). Missing
    values have their own row. Images without a case belong to no case.
    """
    table = add_sizes(images) if "size" in columns else images
    table = table.assign(case=table["case"].where(table["case"] != ""))
    groups = table.groupby(list(columns), dropna=False)
    return groups.agg(images=("path", "size"), cases=("case", "nunique")).reset_index()


def case_table(images: pd.DataFrame) -> pd.DataFrame:
    """Return a table with one row per case, sorted by class and case.

    The columns are case, group, class, subtype, sections (number), images (number), and the number
    of images at each magnification ('40X', ...).
    """
    with_case = images[images["case"] != ""]
    table = with_case.groupby(["class", "case"]).agg(
        group=("group", "first"),
        subtype=("subtype", "first"),
        sections=("section", "nunique"),
        images=("path", "size"),
    )
    by_magnification = (
        with_case.groupby(["class", "case", "magnification"]).size().unstack(fill_value=0)
    )
    by_magnification.columns = [f"{magnification}X" for magnification in by_magnification.columns]
    table = table.join(by_magnification).fillna(0)
    table = table.astype(dict.fromkeys(by_magnification.columns, "int64")).reset_index()
    first = ["case", "group", "class"]
    return table[[*first, *(column for column in table if column not in first)]]


def add_sizes(images: pd.DataFrame) -> pd.DataFrame:
    """Return the images with a column 'size', such as '700x460': width and height, px."""
    sizes = images["width_px"].astype(str) + "x" + images["height_px"].astype(str)
    return images.assign(size=sizes)


def class_revealing_sizes(images: pd.DataFrame) -> pd.DataFrame:
    """Return the image sizes (size, class, images, cases) that occur in one class only.

    A model could predict the class from such a size. `bc_model.data.images.preprocess_image`
    therefore crops official frames to one field of view and resizes all images to one size.
    """
    table = count_images(images, "size", "class")
    if table["size"].nunique() < 2 or table["class"].nunique() < 2:
        return table.iloc[:0]
    return table[~table["size"].duplicated(keep=False)].reset_index(drop=True)


def compare_with_official(file_names: Iterable[str]) -> list[Check]:
    """Return a check for each class and magnification that differs in number from BreakHis.

    `file_names` are names without folders. All 7,909 images give no check.
    """
    counts = Counter(
        (parsed.magnification, parsed.class_name)
        for parsed in filter(None, map(parse_name, file_names))
    )
    return [
        make_check(
            "BC257",
            magnification=magnification,
            class_name=name,
            n_images=counts[magnification, name],
            n_official=n_official,
        )
        for magnification, official in OFFICIAL_COUNTS.items()
        for name, n_official in zip(CLASSES, official, strict=True)
        if counts[magnification, name] != n_official
    ]


def fingerprint_folder(folder: Path) -> str:
    """Return a hash of the names, sizes and times of all files in a folder, without reading them.

    Raises `DataError` if the folder contains more than `MAX_FILES` files.
    """
    digest = hashlib.sha256()
    count = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        count += len(names)
        if count > MAX_FILES:
            raise DataError(
                f"Too many files in {folder}. Expected at most {MAX_FILES:,}. Select the folder "
                "that contains the images."
            )
        for name in sorted(names):
            try:
                stat = (Path(parent) / name).stat()
            except OSError:
                continue
            # Names may not be UTF-8.
            digest.update(os.fsencode(f"{parent}/{name} {stat.st_size} {stat.st_mtime_ns}\n"))
    return digest.hexdigest()


def _count_values(values: pd.Series) -> dict[str, int]:
    return {str(key): int(count) for key, count in values.value_counts().sort_index().items()}


def _check_dataset(
    dataset: Dataset, n_cases: dict[str, int], near: NearDuplicates
) -> Iterator[Check]:
    """Yield the checks of a summary."""
    images = dataset.images
    for name, n in n_cases.items():
        if 0 < n < _FEW_CASES:
            yield make_check("BC207", class_name=name, n_cases=n, min_cases=_FEW_CASES)
    if n_unknown := int((images["case"] == "").sum()):
        yield make_check("BC251", n_unknown=n_unknown, n_images=len(images))
    heights = images.loc[images["width_px"] == FRAME_PX[0]].groupby("height_px")["case"]
    if heights.ngroups > 1 and FIELD_PX[1] in heights.groups:
        cases = heights.get_group(FIELD_PX[1])
        yield make_check(
            "BC252",
            n_images=len(cases),
            n_cases=int(cases.nunique()),
            height_px=FIELD_PX[1],
            frame_height_px=FRAME_PX[1],
        )
    for class_name, rows in class_revealing_sizes(images).groupby("class"):
        sizes = [
            f"{size} ({format_count(n, 'image')}, {format_count(n_cases_of_size, 'case')})"
            for size, n, n_cases_of_size in rows[["size", "images", "cases"]].itertuples(
                index=False
            )
        ]
        if len(sizes) > _MAX_SIZES_SHOWN:
            sizes[_MAX_SIZES_SHOWN:] = [f"{len(sizes) - _MAX_SIZES_SHOWN} more"]
        yield make_check("BC253", class_name=str(class_name), sizes=sizes)
    for relation, code in (("other class", "BC254"), ("other case", "BC255")):
        if n_pairs := near.counts[relation]:
            first = near.pairs[near.pairs["relation"] == relation].iloc[0]
            yield make_check(
                code, n_pairs=int(n_pairs), path=first["path"], other_path=first["other"]
            )
