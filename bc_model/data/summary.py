"""The audit of a data set: what is in it, what was left out, what a split of it would share."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from bc_model.checks import Check, check_to_json, make_check
from bc_model.data.breakhis import CLASSES, OFFICIAL_COUNTS, parse_name
from bc_model.data.dataset import Dataset
from bc_model.data.duplicates import NearDuplicates, find_near_duplicates
from bc_model.data.images import FIELD_PX, FRAME_PX
from bc_model.data.official_folds import FoldFile, check_siblings, count_duplicates, count_siblings
from bc_model.errors import DataError
from bc_model.utils.formatting import format_count
from bc_model.utils.serialization import to_json


def count_images(images: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Count pictures and cases of each combination of values.

    Parameters
    ----------
    pictures : DataFrame
        Of a manifest, or rows of it.
    *columns : str
        Columns of the manifest, or 'size' (width x height, px). Missing values are a row of
        their own.

    Returns
    -------
    DataFrame
        The columns asked for, then pictures and cases; sorted by the columns. Pictures without a
        case count towards no case.
    """
    frame = with_sizes(images) if "size" in columns else images
    frame = frame.assign(case=frame["case"].where(frame["case"] != ""))
    groups = frame.groupby(list(columns), dropna=False)
    counts = groups.agg(images=("path", "size"), cases=("case", "nunique"))
    return counts.reset_index()


def case_table(images: pd.DataFrame) -> pd.DataFrame:
    """Describe each case in a row.

    Returns
    -------
    DataFrame
        case, group, class, subtype, sections (how many), pictures, then one column for each
        magnification that occurs ('40X', ...) with its pictures. Sorted by class and case.
        Pictures without a case are not in it.
    """
    known = images[images["case"] != ""]
    table = known.groupby(["class", "case"]).agg(
        group=("group", "first"),
        subtype=("subtype", "first"),
        sections=("section", "nunique"),
        images=("path", "size"),
    )
    by_magnification = (
        known.groupby(["class", "case", "magnification"]).size().unstack(fill_value=0)
    )
    by_magnification.columns = [f"{magnification}X" for magnification in by_magnification.columns]
    table = table.join(by_magnification).fillna(0)
    table = table.astype(dict.fromkeys(by_magnification.columns, "int64")).reset_index()
    first = ["case", "group", "class"]
    return table[[*first, *(column for column in table if column not in first)]]


def with_sizes(images: pd.DataFrame) -> pd.DataFrame:
    """Add the column 'size', such as '700x460': width and height, px."""
    sizes = images["width_px"].astype(str) + "x" + images["height_px"].astype(str)
    return images.assign(size=sizes)


def size_clues(images: pd.DataFrame) -> pd.DataFrame:
    """List the picture sizes that occur in one class only, where the other class has other sizes.

    From such a size alone a class could be guessed. `bc_model.data.images.model_input` brings
    every picture to one size, and trims official frames to their common field.

    Returns
    -------
    DataFrame
        size, class, pictures, cases; empty when there is one size or one class.
    """
    table = count_images(images, "size", "class")
    alone = ~table["size"].duplicated(keep=False)
    if table["size"].nunique() < 2 or table["class"].nunique() < 2:
        alone &= False
    return table[alone].reset_index(drop=True)


def compare_with_official(file_names: Iterable[str]) -> list[Check]:
    """Compare the number of images with the published BreakHis dataset.

    Parameters
    ----------
    file_names : iterable of str
        Names without folders.

    Returns
    -------
    list of Check
        One for each class and magnification with another number of images; empty if all 7,909
        are present.
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


MAX_FILES = 100_000
_SHOWN = 3
_FEW_CASES = 10


def summarize_dataset(dataset: Dataset) -> dict:
    """Count a manifest in plain numbers.

    Parameters
    ----------
    manifest : Manifest

    Returns
    -------
    dict
        JSON-safe: pictures, cases, benign_cases, malignant_cases, by_class, by_magnification,
        by_subtype, by_size, rejected (count by reason), rejected_files, checks.
        `cases` counts slide numbers; pictures without one are counted in `images_without_case`.
        `sizes` holds a record for each size and class: size, class, pictures, cases.
        `near_duplicates` holds pairs by relation and `near_duplicate_pairs` the first of them, see
        `bc_model.data.duplicates`.
    """
    images = dataset.images
    known = images[images["case"] != ""]
    cases = {name: int(known.loc[known["class"] == name, "case"].nunique()) for name in CLASSES}
    sizes = count_images(images, "size", "class")
    near = find_near_duplicates(images)
    return {
        "root": Path(dataset.root).as_posix(),
        "images": len(images),
        "cases": int(known["case"].nunique()),
        "benign_cases": cases["benign"],
        "malignant_cases": cases["malignant"],
        "sections": int((known["case"] + known["section"]).nunique()),
        "pictures_without_case": len(images) - len(known),
        "by_class": _counts(images["class"]),
        "by_magnification": _counts(images["magnification"].dropna().astype(str) + "X"),
        "by_subtype": _counts(images["subtype"]),
        "by_size": {
            str(size): int(count) for size, count in sizes.groupby("size")["images"].sum().items()
        },
        "sizes": sizes.to_dict("records"),
        "excluded": _counts(dataset.excluded["reason"]),
        "rejected_files": dataset.excluded.to_dict("records"),
        "near_duplicates": near.counts,
        "near_duplicate_pairs": near.pairs.to_dict("records"),
        "checks": [check_to_json(check) for check in _check(dataset, cases, near)],
    }


def audit_folds(folds: FoldFile, dataset: Dataset | None = None) -> dict:
    """Count what one official fold file shares between training and test.

    Parameters
    ----------
    folds : FoldFile
    manifest : Manifest, optional
        For the twins among its pictures; the siblings are counted from names alone.

    Returns
    -------
    dict
        JSON-safe: file, fold, names, siblings (for 'all' and each magnification: test, shared,
        share, benign_test, benign_shared, benign_proportion), checks, twins (None without a manifest;
        else see `bc_model.data.official_folds.TwinLeak`).

    Raises
    ------
    DataError
        The file lists none of the pictures.
    """
    siblings = count_siblings(folds)
    return {
        "file": folds.path.as_posix(),
        "fold": folds.fold,
        "names": len(folds.names),
        "siblings": {
            key: to_json(leak) | {"share": leak.proportion, "benign_share": leak.benign_proportion}
            for key, leak in siblings.items()
        },
        "checks": [
            check_to_json(check) for check in check_siblings(folds.path.name, siblings["all"])
        ],
        "duplicates": asdict(count_duplicates(folds, dataset)) if dataset else None,
    }


def folder_fingerprint(folder: Path) -> str:
    """Hash names, sizes and times of the files under a folder: it changes when the data does.

    Reads no file, so it is quick enough to be asked at each look at a page.

    Raises
    ------
    DataError
        There are more than `MAX_FILES` files: this is no folder of pictures.
    """
    digest = hashlib.sha256()
    count = 0
    for place, folders, names in os.walk(folder):
        folders.sort()
        count += len(names)
        if count > MAX_FILES:
            raise DataError(
                f"There are more than {MAX_FILES:,} files under {folder}; "
                "point to the folder that holds the pictures."
            )
        for name in sorted(names):
            try:
                stat = (Path(place) / name).stat()
            except OSError:
                continue
            # A name need not be UTF-8.
            digest.update(os.fsencode(f"{place}/{name} {stat.st_size} {stat.st_mtime_ns}\n"))
    return digest.hexdigest()


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(key): int(count) for key, count in values.value_counts().sort_index().items()}


def _check(dataset: Dataset, cases: dict[str, int], near: NearDuplicates) -> Iterator[Check]:
    images = dataset.images
    for name, n_cases in cases.items():
        if 0 < n_cases < _FEW_CASES:
            yield make_check("BC207", class_name=name, n_cases=n_cases, min_cases=_FEW_CASES)
    if n_unknown := int((images["case"] == "").sum()):
        yield make_check("BC251", n_unknown=n_unknown, n_images=len(images))
    heights = images.loc[images["width_px"] == FRAME_PX[0]].groupby("height_px")["case"]
    if heights.ngroups > 1 and FIELD_PX[1] in heights.groups:
        low = heights.get_group(FIELD_PX[1])
        yield make_check(
            "BC252",
            n_images=len(low),
            n_cases=int(low.nunique()),
            height_px=FIELD_PX[1],
            frame_height_px=FRAME_PX[1],
        )
    for class_name, rows in size_clues(images).groupby("class"):
        records = rows[["size", "images", "cases"]].itertuples(index=False)
        sizes = [
            f"{size} ({format_count(n, 'image')}, {format_count(n_cases, 'case')})"
            for size, n, n_cases in records
        ]
        if len(sizes) > _SHOWN:
            sizes[_SHOWN:] = [f"{len(sizes) - _SHOWN} more"]
        yield make_check("BC253", class_name=str(class_name), sizes=sizes)
    for relation, code in (("other class", "BC254"), ("other case", "BC255")):
        if n_pairs := near.counts[relation]:
            first = near.pairs[near.pairs["relation"] == relation].iloc[0]
            yield make_check(
                code, n_pairs=int(n_pairs), path=first["path"], other_path=first["other"]
            )
