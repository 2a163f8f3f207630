"""The index of a dataset: each usable image once, and each excluded file with its reason.

Reads the official BreakHis tree at any depth, one folder per class, or folders with other labels
that are mapped to the classes. An unusable file never stops the reading of the others.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES, UNKNOWN_SUBTYPE, parse_name
from bc_model.data.dataset_rules import NO_RULES, DatasetRules
from bc_model.data.hashing import FingerprintCache, format_path, read_fingerprint
from bc_model.data.images import Decode, decode_image, find_unused_files, list_image_files
from bc_model.data.registry import find_images_dir
from bc_model.errors import DataError, ImageError
from bc_model.utils.processor import usable_cores

COLUMNS = [
    "path", "sha256", "class", "subtype", "year", "case", "section", "magnification",
    "width_px", "height_px", "dhash", "group",
]  # fmt: skip

Progress = Callable[[int, int], None]
"""Called with the number of finished items and the number of all items."""


@dataclass(frozen=True)
class Dataset:
    """The images of a folder, and the files that are excluded.

    Attributes
    ----------
    root : Path
        Folder of the images. All paths in the tables are relative to it.
    images : DataFrame
        One row per image, sorted by path, with the columns `COLUMNS`. `sha256` is the hash of the
        pixels and `dhash` the difference hash. If the names do not contain them, `case` and
        `section` are empty, and `year` and `magnification` are NA. `group` is the unit that a
        split must not divide: the case, joined with all cases that contain one of its images.
    excluded : DataFrame
        One row per excluded file: path, reason ('invalid name', 'label mismatch', 'empty',
        'unreadable', 'too large', 'too small', 'unsupported', 'duplicate', 'conflicting labels',
        'no label', 'excluded label', 'no case', 'other format' or 'linked folder') and detail (a
        sentence).
    duplicates : DataFrame
        One row per exact duplicate: path, and duplicate_of, the path of the image that is kept.
    rules : DatasetRules
        The rules that gave the classes and cases.
    """

    root: Path
    images: pd.DataFrame
    excluded: pd.DataFrame
    duplicates: pd.DataFrame = field(default_factory=lambda: _make_duplicate_table([]))
    rules: DatasetRules = NO_RULES


def load_dataset(
    source: str | Path,
    *,
    rules: DatasetRules = NO_RULES,
    progress: Progress | None = None,
    cache_dir: Path | None = None,
    decode: Decode = decode_image,
) -> Dataset:
    """Read, decode and hash every image of a dataset.

    Parameters
    ----------
    source : str or Path
        Folder of the images, or name of a registered dataset.
    rules : DatasetRules, optional
        Class and case of each file, see `bc_model.data.parse_rules`. By default, they come from
        BreakHis file names, or the classes from folders named ``benign`` and ``malignant``.
    progress : callable, optional
        Called with the number of finished files and of all files. An exception from it stops the
        reading; finished files stay in the cache.
    cache_dir : Path, optional
        Folder with the fingerprints of files that were read before.
    decode : callable, default=decode_image
        Returns the pixels for the content and the name of a file, such as `DecodePool.decode`. It
        is called by several threads.

    Returns
    -------
    Dataset

    Raises
    ------
    FolderNotFoundError
        `source` is neither a folder nor a registered dataset.
    DataError
        No image is usable, or a label matches no file while files have no label.

    Examples
    --------
    >>> dataset = load_dataset("BreaKHis_v1")  # doctest: +SKIP
    >>> from bc_model.data import parse_rules
    >>> rules = parse_rules("0=benign,1=malignant", "folder:2")
    >>> patches = load_dataset("patches", rules=rules)  # doctest: +SKIP
    """
    root = find_images_dir(source)
    files = list_image_files(root)
    is_official = _is_official(files)
    _require_used_labels(files, root, rules)
    cache = FingerprintCache(cache_dir, root) if cache_dir else None

    def read(path: Path) -> tuple[dict, ImageError | None]:
        row: dict = {"path": format_path(path.relative_to(root))}
        try:
            row |= _apply_rules(path, root, rules, is_official=is_official)
            return row | read_fingerprint(path, root, cache, decode=decode)._asdict(), None
        except ImageError as error:
            return row, error

    rows: list[dict] = []
    excluded: list[dict] = []
    unused = [
        {"path": format_path(path.relative_to(root)), "reason": reason, "detail": detail}
        for path, reason, detail in find_unused_files(root)
    ]
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        try:
            for n_done, (row, error) in enumerate(pool.map(read, files), start=1):
                if error is None:
                    rows.append(row)
                else:
                    reason, detail = error.reason, str(error)
                    excluded.append({"path": row["path"], "reason": reason, "detail": detail})
                if progress:
                    progress(n_done, len(files))
        finally:  # After an exception, the remaining files are not read.
            pool.shutdown(cancel_futures=True)
            if cache:
                cache.save(is_complete=len(rows) + len(excluded) == len(files))
    return _build_dataset(root, rows, [*excluded, *unused], rules)


def require_usable_paths(source: str | Path, rules: DatasetRules = NO_RULES) -> None:
    """Raise `DataError` if the paths alone show that no image of a dataset is usable.

    Parameters are those of `load_dataset`. No image is read, so that a mistake in the rules is
    found at once.
    """
    root = find_images_dir(source)
    files = list_image_files(root)
    _require_used_labels(files, root, rules)
    is_official = _is_official(files)
    excluded: list[dict] = []
    for path in files:
        try:
            _apply_rules(path, root, rules, is_official=is_official)
        except ImageError as error:
            name = format_path(path.relative_to(root))
            excluded.append({"path": name, "reason": error.reason, "detail": str(error)})
        else:
            return
    raise _none_usable(root, pd.DataFrame(excluded))


def check_excluded(excluded: pd.DataFrame) -> tuple[Check, ...]:
    """Return the number of excluded files by reason as a check, if there are any."""
    if excluded.empty:
        return ()
    reasons = [f"{n:,} {reason}" for reason, n in excluded["reason"].value_counts().items()]
    first = excluded.iloc[0]
    return (
        make_check(
            "BC256",
            n_excluded=len(excluded),
            reasons=reasons,
            path=first["path"],
            detail=first["detail"].rstrip("."),
        ),
    )


def _is_official(files: list[Path]) -> bool:
    # A single official name does not turn a folder per class into an official tree.
    return 2 * sum(parse_name(path.name) is not None for path in files) >= len(files)


def _require_used_labels(files: list[Path], root: Path, rules: DatasetRules) -> None:
    """Refuse a label that no file has while files have no label: it is a spelling mistake."""
    matches = [rules.match_labels(_place(path, root)) for path in files]
    used = {rule for found in matches for rule in found}
    unused = [rule for rule in rules.labels if rule not in used]
    if unused and (n_missing := sum(not found for found in matches)):
        raise DataError(
            f"The label '{unused[0].pattern}' matches no image in {root}, and {n_missing} of "
            f"{len(files)} images have no label. Expected the names of folders, or patterns with * "
            "for file names. Correct the label, or remove it from the mapping."
        )


def _place(path: Path, root: Path) -> Path:
    """Return a path that begins with the root, which may be the folder of a class itself."""
    return Path(root.resolve().name, path.relative_to(root))


def _apply_rules(path: Path, root: Path, rules: DatasetRules, *, is_official: bool) -> dict:
    """Return the columns that come from the path of a file and from rules."""
    place = _place(path, root)
    if rules.labels:
        described = _describe_class(rules.find_class(place))
    else:
        described = _describe(path, root, is_official=is_official)
    if rules.case_from:
        described["case"] = rules.find_case(place)
    return described


def _describe(path: Path, root: Path, *, is_official: bool) -> dict:
    """Return the columns that come from the name of a file and its folders."""
    # The root may be the folder of a class itself.
    folders = Path(root.resolve().name, path.relative_to(root)).parts[:-1]
    classes = {folder.lower() for folder in folders} & set(CLASSES)
    folder_class = classes.pop() if len(classes) == 1 else None
    if not is_official:
        if folder_class is None:
            raise ImageError(
                "The class is unknown. Expected a BreakHis name, or a folder named benign or "
                "malignant.",
                "invalid name",
            )
        return _describe_class(folder_class)
    name = parse_name(path.name)
    if name is None:
        raise ImageError("The name does not follow the BreakHis grammar.", "invalid name")
    if folder_class and folder_class != name.class_name:
        raise ImageError(
            f"The class is {name.class_name} in the name and {folder_class} in the folder.",
            "label mismatch",
        )
    return {
        "class": name.class_name, "subtype": name.subtype, "year": name.year,
        "case": name.case, "section": name.section, "magnification": name.magnification,
    }  # fmt: skip


def _describe_class(class_name: str) -> dict:
    return {
        "class": class_name, "subtype": UNKNOWN_SUBTYPE, "year": None,
        "case": "", "section": "", "magnification": None,
    }  # fmt: skip


def _build_dataset(
    root: Path, rows: list[dict], excluded: list[dict], rules: DatasetRules
) -> Dataset:
    """Return the dataset after excluding duplicates; raise `DataError` if no image is left."""
    images, dropped, duplicates = _drop_duplicates(pd.DataFrame(rows, columns=COLUMNS[:-1]))
    excluded_table = pd.DataFrame([*excluded, *dropped], columns=["path", "reason", "detail"])
    excluded_table = excluded_table.sort_values("path", ignore_index=True)
    if images.empty:
        raise _none_usable(root, excluded_table)
    # Two sections of a slide may have different diagnoses, but one section has only one.
    n_subtypes = images.groupby(["case", "section"])["subtype"].transform("nunique")
    images.loc[(n_subtypes > 1) & (images["case"] != ""), "subtype"] = UNKNOWN_SUBTYPE
    types = {"year": "Int64", "magnification": "Int64", "dhash": "uint64"}
    return Dataset(
        root,
        images.astype(types)[COLUMNS],
        excluded_table,
        _make_duplicate_table(duplicates),
        rules,
    )


def _none_usable(root: Path, excluded: pd.DataFrame) -> DataError:
    reasons = excluded["reason"].value_counts()
    first = excluded.iloc[0]
    return DataError(
        f"None of the {len(excluded)} image files in {root} is usable "
        f"({', '.join(f'{n} {reason}' for reason, n in reasons.items())}). Expected BreakHis "
        "names, folders named benign and malignant, or labels for the folders. First: "
        f"{first['path']}: {first['detail']}"
    )


def _drop_duplicates(
    images: pd.DataFrame,
) -> tuple[pd.DataFrame, list[dict], list[tuple[str, str]]]:
    """Return the first of each set of identical images, the excluded rows, and the duplicates.

    Cases that share an image are joined into one group.
    """
    parent = {case: case for case in images["case"].unique()}

    def find_group(case: str) -> str:
        while parent[case] != case:
            case = parent[case]
        return case

    kept_rows: list[int] = []
    dropped: list[dict] = []
    pairs: list[tuple[str, str]] = []
    for _, copies in images.groupby("sha256", sort=False):
        first, paths = copies.iloc[0], copies["path"].tolist()
        for case in copies["case"].iloc[1:]:
            smaller, larger = sorted((find_group(first["case"]), find_group(case)))
            parent[larger] = smaller
        if copies["class"].nunique() > 1:
            examples = copies.drop_duplicates("class")["path"].tolist()
            n_more = len(copies) - len(examples)
            listed = ", ".join(examples) + (f" and {n_more} more" if n_more else "")
            reason = "conflicting labels"
            detail = f"Images with the same pixels have different labels: {listed}."
        else:
            kept_rows.append(copies.index[0])
            reason, detail = "duplicate", f"Same pixels as {paths.pop(0)}."
            pairs += [(path, first["path"]) for path in paths]
        dropped += [{"path": path, "reason": reason, "detail": detail} for path in paths]
    kept = images.loc[sorted(kept_rows)].reset_index(drop=True)
    kept["group"] = [find_group(case) for case in kept["case"]]
    return kept, dropped, pairs


def _make_duplicate_table(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(pairs, columns=["path", "duplicate_of"], dtype="str")
    return table.sort_values("path", ignore_index=True)
