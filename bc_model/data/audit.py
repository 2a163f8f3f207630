"""The audit of a data set: what is in it, what was left out, what a split of it would share."""

import hashlib
import os
from pathlib import Path

import pandas as pd

from bc_model.data.manifest import Manifest
from bc_model.data.names import CLASSES
from bc_model.data.pictures import FIELD_PX, FRAME_PX
from bc_model.errors import DataError

MAX_FILES = 100_000


def audit_manifest(manifest: Manifest) -> dict:
    """Count a manifest in plain numbers.

    Parameters
    ----------
    manifest : Manifest

    Returns
    -------
    dict
        JSON-safe: pictures, cases, benign_cases, malignant_cases, by_class, by_magnification,
        by_subtype, by_size, rejected (count by reason), rejected_files, warnings (sentences).
        `cases` counts slide numbers; pictures without one are counted in `pictures_without_case`.
    """
    pictures = manifest.pictures
    known = pictures[pictures["case"] != ""]
    cases = {name: int(known.loc[known["class"] == name, "case"].nunique()) for name in CLASSES}
    sizes = pictures["width_px"].astype(str) + "x" + pictures["height_px"].astype(str)
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
        "by_size": _counts(sizes),
        "rejected": _counts(manifest.rejected["reason"]),
        "rejected_files": manifest.rejected.to_dict("records"),
        "warnings": _warnings(manifest, cases),
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
            digest.update(f"{place}/{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(key): int(count) for key, count in values.value_counts().sort_index().items()}


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def _warnings(manifest: Manifest, cases: dict[str, int]) -> list[str]:
    pictures = manifest.pictures
    found = []
    few = [name for name, count in cases.items() if 0 < count < 10]
    if few:
        found.append(
            f"Fewer than ten {' and '.join(few)} cases: figures from this data will have wide "
            "intervals."
        )
    if (pictures["case"] == "").any():
        found.append(
            "Some pictures carry no case in their name: a split by case cannot be made, and "
            "intervals will be too narrow."
        )
    heights = pictures.loc[pictures["width_px"] == FRAME_PX[0]].groupby("height_px")["case"]
    if heights.ngroups > 1 and FIELD_PX[1] in heights.groups:
        found.append(
            f"{len(heights.get_group(FIELD_PX[1]))} pictures are {FIELD_PX[1]} px high instead of "
            f"{FRAME_PX[1]}, from {_cases(heights.get_group(FIELD_PX[1]).nunique())}: the size is "
            "a clue to the slide, so all pictures are trimmed to the common field."
        )
    return found
