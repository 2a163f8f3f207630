"""The manifest of a data set: every usable picture once, and every file left out with its reason.

Reads the official BreakHis tree at any depth, or a plain folder per class. Nothing that is wrong
with one file stops the reading of the others.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import PIL
from PIL import features

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES, UNKNOWN_SUBTYPE, parse_name
from bc_model.data.hashing import dhash, pixel_sha256
from bc_model.data.images import image_files, read_image
from bc_model.errors import ConfigError, DataError, ImageError
from bc_model.utils.io import write_text_atomic

_FRESH_NS = 2_000_000_000
"""A file younger than this may change once more within one tick of its clock: it is not kept."""

logger = logging.getLogger("bc_model.data")


class PixelFacts(NamedTuple):
    """What a manifest keeps of a picture's pixels; see `bc_model.data.dataset`."""

    sha256: str
    width_px: int
    height_px: int
    dhash: int


class PixelCache:
    """Facts of the pictures under one folder, by path, size and time of change.

    Parameters
    ----------
    folder : Path
        Where caches are kept; made when something is saved.
    root : Path
        The folder of pictures.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()
        self.path = folder / f"manifest-{digest[:16]}.json"
        self._old = _load(self.path)
        self._new: dict[str, tuple[int, int, PixelFacts]] = {}

    def get(self, relative: str, stat: os.stat_result) -> PixelFacts | None:
        """Return what is known of a file, None when it is new or changed."""
        known = self._old.get(relative)
        if known is None or known[:2] != (stat.st_size, stat.st_mtime_ns):
            return None
        self._new[relative] = known
        return known[2]

    def put(self, relative: str, stat: os.stat_result, facts: PixelFacts) -> None:
        """Remember a file as it was when `stat` was taken, before it was read."""
        self._new[relative] = (stat.st_size, stat.st_mtime_ns, facts)

    def save(self, *, whole: bool) -> None:
        """Write what was got and put since the cache was opened.

        A disk that is full or read-only costs the next look its speed, and nothing else.

        Parameters
        ----------
        whole : bool
            All files were looked at: those that were not met are gone, and forgotten.
        """
        new = self._new if whole else self._old | self._new
        if new == self._old:
            return
        settled_ns = time.time_ns() - _FRESH_NS
        files = {
            relative: [size, mtime_ns, *facts]
            for relative, (size, mtime_ns, facts) in sorted(new.items())
            if mtime_ns <= settled_ns
        }
        text = json.dumps({"decoder": _decoder(), "files": files}, separators=(",", ":"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(self.path, text)
        except OSError as error:
            logger.warning("The cache %s cannot be written: %s.", self.path, error.strerror)


def _decoder() -> str:
    """Name what turns bytes into pixels: another JPEG library gives other pixels."""
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return f"1, Pillow {PIL.__version__}, JPEG {jpeg}"


def _load(path: Path) -> dict[str, tuple[int, int, PixelFacts]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["decoder"] != _decoder():
            return {}
        return {str(name): _entry(*values) for name, values in content["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _entry(
    size: int, mtime_ns: int, sha256: str, width_px: int, height_px: int, dhash: int
) -> tuple[int, int, PixelFacts]:
    numbers = (size, mtime_ns, width_px, height_px, dhash)
    if not all(type(number) is int and 0 <= number < 2**64 for number in numbers):
        raise ValueError("a number is not one")
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError("a hash is not one")
    return size, mtime_ns, PixelFacts(sha256, width_px, height_px, dhash)


COLUMNS = [
    "path", "sha256", "class", "subtype", "year", "case", "section", "magnification",
    "width_px", "height_px", "dhash", "group",
]  # fmt: skip

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Dataset:
    """What a folder holds.

    Attributes
    ----------
    root : Path
        The folder that was read; paths in the frames are relative to it.
    pictures : DataFrame
        One row a picture, sorted by path, columns `COLUMNS`. `sha256` is of the pixels, `dhash`
        of their coarse gradients (`bc_model.data.duplicates`). `case`, `section` are empty
        strings and `year`, `magnification` are NA where names do not say them. `group` is what a
        split must keep whole: the case, joined with every other case that holds one of its
        pictures, pixel for pixel.
    rejected : DataFrame
        One row a file left out: path, reason (misnamed, misfiled, empty, unreadable, too large,
        too small, unsupported, duplicate, contradiction), detail (a sentence).
    twins : DataFrame
        One row a duplicate: path, duplicate_of (the path of the picture that was kept).
    """

    root: Path
    images: pd.DataFrame
    excluded: pd.DataFrame
    duplicates: pd.DataFrame = field(default_factory=lambda: _duplicates_frame([]))


def read_dataset(
    root: Path, *, progress: Progress | None = None, cache: Path | None = None
) -> Dataset:
    """Read, decode and hash every picture under a folder.

    Parameters
    ----------
    root : Path
        The official tree at any depth (the archive's top, one magnification, one slide), or a
        folder that holds a folder named ``benign`` and one named ``malignant``.
    progress : callable, optional
        Called with (files done, files in all). What it raises ends the reading; what has been
        read is remembered in `cache`.
    cache : Path, optional
        A folder where pixels that were read once are remembered (`bc_model.data.dataset`).
        For looking at data again and again; training reads every picture.

    Returns
    -------
    Manifest

    Raises
    ------
    FolderNotFoundError
        `root` does not exist or is not a folder.
    DataError
        No picture file lies under it, or none can be used.
    """
    root = Path(root)
    files = image_files(root)
    # One stray official name does not turn a plain folder per class into a broken official tree.
    official = 2 * sum(parse_name(path.name) is not None for path in files) >= len(files)
    rows: list[dict] = []
    excluded: list[dict] = []
    known = PixelCache(cache, root) if cache else None
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        described = pool.map(lambda path: _describe(path, root, official, known), files)
        try:
            for done, (row, reason, detail) in enumerate(described, start=1):
                if reason:
                    excluded.append({"path": row["path"], "reason": reason, "detail": detail})
                else:
                    rows.append(row)
                if progress:
                    progress(done, len(files))
        finally:  # who stops the reading does not wait for the rest, and the next one goes on
            pool.shutdown(cancel_futures=True)
            if known:
                known.save(whole=len(rows) + len(excluded) == len(files))
    return settle(root, rows, excluded)


def settle(root: Path, rows: list[dict], excluded: list[dict]) -> Dataset:
    """Make a manifest of rows with all of `COLUMNS` but the group, and of files left out.

    Raises
    ------
    DataError
        No picture can be used.
    """
    images = pd.DataFrame(rows, columns=COLUMNS[:-1])
    images, dropped, duplicates = _drop_duplicates(images)
    excluded_frame = pd.DataFrame([*excluded, *dropped], columns=["path", "reason", "detail"])
    excluded_frame = excluded_frame.sort_values("path", ignore_index=True)
    if images.empty:
        raise DataError(_nothing_usable(root, excluded_frame))
    return Dataset(root, _settle_types(images), excluded_frame, _duplicates_frame(duplicates))


def check_excluded(excluded: pd.DataFrame) -> tuple[Check, ...]:
    """Return the number of excluded files by reason as a check, if there are any.

    Parameters
    ----------
    rejected : DataFrame
        See `Dataset`.
    """
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


def _class_of_folder(relative: Path) -> str | None:
    classes = {subset.lower() for subset in relative.parts[:-1]} & set(CLASSES)
    return classes.pop() if len(classes) == 1 else None


def _describe(
    path: Path, root: Path, official: bool, known: PixelCache | None
) -> tuple[dict, str, str]:
    """Return the row of one file and, when it must be left out, the reason and a sentence."""
    relative = path.relative_to(root)
    row: dict = {"path": spelled(relative)}
    # The folder above may be the class itself when someone points at ".../benign".
    folder_class = _class_of_folder(Path(root.resolve().name) / relative)
    name = parse_name(path.name)
    if official:
        if name is None:
            return row, "misnamed", "The name does not follow the BreakHis grammar."
        if folder_class and folder_class != name.class_name:
            return (
                row,
                "misfiled",
                f"The name says {name.class_name}, the folder says {folder_class}.",
            )
        row |= {
            "class": name.class_name, "subtype": name.subtype, "year": name.year,
            "case": name.case, "section": name.section, "magnification": name.magnification,
        }  # fmt: skip
    elif folder_class:
        row |= {
            "class": folder_class, "subtype": UNKNOWN_SUBTYPE, "year": None,
            "case": "", "section": "", "magnification": None,
        }  # fmt: skip
    else:
        return (
            row,
            "misnamed",
            "Neither its name nor a folder named benign or malignant says what it is.",
        )
    try:
        facts = read_facts(path, root, known)
    except ImageError as error:
        return row, error.reason, str(error)
    return row | facts._asdict(), "", ""


def spelled(path: Path) -> str:
    """Return a path as text that can be printed and stored, also where a name is not UTF-8."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def read_facts(path: Path, root: Path, known: PixelCache | None) -> PixelFacts:
    """Read what a manifest says of a picture's pixels, or remember it; raises `ImageError`."""
    relative = path.relative_to(root).as_posix()
    if (shown := spelled(path.relative_to(root))) != relative:
        raise ImageError(f"{shown} has a name that is not UTF-8; rename it.", "misnamed")
    try:
        stat = path.stat() if known else None
    except OSError:
        stat = None  # `read_image` says what is wrong
    if known and stat and (facts := known.get(relative, stat)):
        return facts
    rgb = read_image(path)
    facts = PixelFacts(pixel_sha256(rgb), rgb.shape[1], rgb.shape[0], dhash(rgb))
    if known and stat:
        known.put(relative, stat, facts)
    return facts


def _drop_duplicates(
    images: pd.DataFrame,
) -> tuple[pd.DataFrame, list[dict], list[tuple[str, str]]]:
    """Keep the first of each set of identical pictures and join the cases that share one.

    Returns the pictures, the rows of `excluded`, and (path, path kept) of each duplicate.
    """
    parent = {case: case for case in images["case"].unique()}

    def find(case: str) -> str:
        while parent[case] != case:
            case = parent[case]
        return case

    keep: list[int] = []
    dropped: list[dict] = []
    pairs: list[tuple[str, str]] = []
    for _, duplicates in images.groupby("sha256", sort=False):
        first = duplicates.iloc[0]
        for other in duplicates["case"].iloc[1:]:
            low, high = sorted((find(first["case"]), find(other)))
            parent[high] = low
        if duplicates["class"].nunique() > 1:
            shown = duplicates.drop_duplicates("class")["path"]
            more = (
                f" and {len(duplicates) - len(shown)} more" if len(duplicates) > len(shown) else ""
            )
            detail = (
                "The same pixels are filed as benign and as malignant: " + ", ".join(shown) + more
            )
            dropped += [
                {"path": path, "reason": "contradiction", "detail": detail}
                for path in duplicates["path"]
            ]
            continue
        keep.append(duplicates.index[0])
        dropped += [
            {"path": path, "reason": "duplicate", "detail": f"Same pixels as {first['path']}."}
            for path in duplicates["path"].iloc[1:]
        ]
        pairs += [(path, first["path"]) for path in duplicates["path"].iloc[1:]]
    kept = images.loc[sorted(keep)].reset_index(drop=True)
    kept["group"] = [find(case) for case in kept["case"]]
    return kept, dropped, pairs


def _duplicates_frame(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(pairs, columns=["path", "twin_of"], dtype="str")
    return frame.sort_values("path", ignore_index=True)


def _settle_types(images: pd.DataFrame) -> pd.DataFrame:
    # Two sections of a slide may have two diagnoses; one section has one.
    subtypes = images.groupby(["case", "section"])["subtype"].transform("nunique")
    two_subtypes = (subtypes > 1) & (images["case"] != "")
    images.loc[two_subtypes, "subtype"] = UNKNOWN_SUBTYPE
    types = {"year": "Int64", "magnification": "Int64", "dhash": "uint64"}
    return images.astype(types)[COLUMNS]


def _nothing_usable(root: Path, excluded: pd.DataFrame) -> str:
    counts = ", ".join(f"{n} {reason}" for reason, n in excluded["reason"].value_counts().items())
    return (
        f"None of the {len(excluded)} picture files under {root} can be used ({counts}); expected "
        "BreakHis names, or two folders named benign and malignant. A set with labels of its own "
        "can be evaluated, with a mapping of them (page Evaluate, or evaluate --unseen --map). "
        f"First: {excluded['path'].iloc[0]}: {excluded['detail'].iloc[0]}"
    )


def parse_mapping(text: str) -> dict[str, str]:
    """Read a mapping such as ``0=benign,1=malignant``.

    Raises
    ------
    ConfigError
        It is not of that form, names a label twice, or not just the two classes.

    Examples
    --------
    >>> parse_mapping("0=benign, 1=malignant")
    {'0': 'benign', '1': 'malignant'}
    """
    mapping: dict[str, str] = {}
    for subset in text.split(","):
        label, equals, name = (word.strip() for word in subset.partition("="))
        name = name.lower()
        if not (label and equals) or name not in CLASSES or label in mapping:
            raise ConfigError(
                "A mapping names each label once and says benign or malignant, such as "
                f"0=benign,1=malignant; '{subset.strip()}' in '{text}' does not fit."
            )
        mapping[label] = name
    missing = [name for name in CLASSES if name not in mapping.values()]
    if missing:
        raise ConfigError(
            "A mapping names labels of both classes, such as 0=benign,1=malignant; "
            f"'{text}' names none that is {missing[0]}, and most figures need both: map one to it."
        )
    return mapping


def read_mapped(
    root: Path,
    mapping: dict[str, str],
    *,
    case_above: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Read a set whose pictures lie in folders that are named by their labels.

    Parameters
    ----------
    root : Path
    mapping : dict of str to {'benign', 'malignant'}
        From the name of a picture's folder to its class.
    case_above : bool, default=False
        The folder above the label's names the case. Otherwise no case is known.
    progress : callable, optional
        Called with (files done, files in all).

    Returns
    -------
    Manifest
        Subtype, year, section and magnification are not known.

    Raises
    ------
    FolderNotFoundError
        `root` does not exist or is not a folder.
    DataError
        No picture file lies under it, none can be used, a folder's name is outside the mapping, or
        there is no folder above a label's.
    """
    root = Path(root)
    files = image_files(root)
    _check_labels(files, root, mapping, case_above)
    rows, excluded = [], []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        described = pool.map(lambda path: _describe_mapped(path, root, mapping, case_above), files)
        try:
            for done, (row, error) in enumerate(described, start=1):
                if error is None:
                    rows.append(row)
                else:
                    detail = str(error)
                    excluded.append({"path": row["path"], "reason": error.reason, "detail": detail})
                if progress:
                    progress(done, len(files))
        finally:  # who stops the reading does not wait for the rest
            pool.shutdown(cancel_futures=True)
    return settle(root, rows, excluded)


def _check_labels(files: list[Path], root: Path, mapping: dict[str, str], case_above: bool) -> None:
    """Refuse the whole set for one label outside the mapping: half a set is another set."""
    outside = [path for path in files if path.parent.name not in mapping]
    if outside:
        listed = ", ".join(f"{label}={name}" for label, name in mapping.items())
        raise DataError(
            f"The labels of {len(outside)} of {len(files)} pictures under {root} are outside the "
            f"mapping {listed}, first '{spelled(Path(outside[0].parent.name))}' of "
            f"{spelled(outside[0].relative_to(root))}; map them too, or point to a folder "
            "without them."
        )
    flat = [path for path in files if case_above and len(path.relative_to(root).parts) < 3]
    if flat:
        raise DataError(
            "The folder above the label should name the case, but "
            f"{spelled(flat[0].relative_to(root))} under {root} has none; point to a folder "
            "further up, or do without cases."
        )


def _describe_mapped(
    path: Path, root: Path, mapping: dict[str, str], case_above: bool
) -> tuple[dict, ImageError | None]:
    row: dict = {
        "path": spelled(path.relative_to(root)),
        "class": mapping[path.parent.name],
        "subtype": UNKNOWN_SUBTYPE, "year": None, "section": "", "magnification": None,
        "case": path.parent.parent.name if case_above else "",
    }  # fmt: skip
    try:
        return row | read_facts(path, root, None)._asdict(), None
    except ImageError as error:
        return row, error
