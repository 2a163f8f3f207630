"""The audit of a data set: what is in it, what was left out, what a split of it would share."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from bc_model.checks import Check, check_to_json, make_check
from bc_model.data.counts import count_pictures, size_clues
from bc_model.data.fold_file import FoldFile
from bc_model.data.fold_leaks import check_siblings, count_siblings, count_twins
from bc_model.data.manifest import Manifest
from bc_model.data.names import CLASSES
from bc_model.data.near_twins import NearTwins, find_near_twins
from bc_model.data.pictures import FIELD_PX, FRAME_PX
from bc_model.errors import DataError
from bc_model.utils.serialization import to_json
from bc_model.words import many

MAX_FILES = 100_000
_SHOWN = 3
_FEW_CASES = 10


def audit_manifest(manifest: Manifest) -> dict:
    """Count a manifest in plain numbers.

    Parameters
    ----------
    manifest : Manifest

    Returns
    -------
    dict
        JSON-safe: pictures, cases, benign_cases, malignant_cases, by_class, by_magnification,
        by_subtype, by_size, rejected (count by reason), rejected_files, checks.
        `cases` counts slide numbers; pictures without one are counted in `pictures_without_case`.
        `sizes` holds a record for each size and class: size, class, pictures, cases.
        `near_twins` holds pairs by relation and `near_twin_pairs` the first of them, see
        `bc_model.data.near_twins`.
    """
    pictures = manifest.pictures
    known = pictures[pictures["case"] != ""]
    cases = {name: int(known.loc[known["class"] == name, "case"].nunique()) for name in CLASSES}
    sizes = count_pictures(pictures, "size", "class")
    near = find_near_twins(pictures)
    return {
        "root": Path(manifest.root).as_posix(),
        "pictures": len(pictures),
        "cases": int(known["case"].nunique()),
        "benign_cases": cases["benign"],
        "malignant_cases": cases["malignant"],
        "sections": int((known["case"] + known["section"]).nunique()),
        "pictures_without_case": len(pictures) - len(known),
        "by_class": _counts(pictures["class"]),
        "by_magnification": _counts(pictures["magnification"].dropna().astype(str) + "X"),
        "by_subtype": _counts(pictures["subtype"]),
        "by_size": {
            str(size): int(count) for size, count in sizes.groupby("size")["pictures"].sum().items()
        },
        "sizes": sizes.to_dict("records"),
        "rejected": _counts(manifest.rejected["reason"]),
        "rejected_files": manifest.rejected.to_dict("records"),
        "near_twins": near.counts,
        "near_twin_pairs": near.pairs.to_dict("records"),
        "checks": [check_to_json(check) for check in _check(manifest, cases, near)],
    }


def audit_folds(folds: FoldFile, manifest: Manifest | None = None) -> dict:
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
        share, benign_test, benign_shared, benign_share), checks, twins (None without a manifest;
        else see `bc_model.data.fold_leaks.TwinLeak`).

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
            key: to_json(leak) | {"share": leak.share, "benign_share": leak.benign_share}
            for key, leak in siblings.items()
        },
        "checks": [
            check_to_json(check) for check in check_siblings(folds.path.name, siblings["all"])
        ],
        "twins": asdict(count_twins(folds, manifest)) if manifest else None,
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


def _check(manifest: Manifest, cases: dict[str, int], near: NearTwins) -> Iterator[Check]:
    pictures = manifest.pictures
    for name, n_cases in cases.items():
        if 0 < n_cases < _FEW_CASES:
            yield make_check("BC207", class_name=name, n_cases=n_cases, min_cases=_FEW_CASES)
    if n_unknown := int((pictures["case"] == "").sum()):
        yield make_check("BC251", n_unknown=n_unknown, n=len(pictures))
    heights = pictures.loc[pictures["width_px"] == FRAME_PX[0]].groupby("height_px")["case"]
    if heights.ngroups > 1 and FIELD_PX[1] in heights.groups:
        low = heights.get_group(FIELD_PX[1])
        yield make_check(
            "BC252",
            n=len(low),
            n_cases=int(low.nunique()),
            height_px=FIELD_PX[1],
            frame_height_px=FRAME_PX[1],
        )
    for class_name, rows in size_clues(pictures).groupby("class"):
        records = rows[["size", "pictures", "cases"]].itertuples(index=False)
        sizes = [
            f"{size} ({many(n, 'image')}, {many(n_cases, 'case')})" for size, n, n_cases in records
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
