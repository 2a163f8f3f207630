"""The official BreakHis fold files: reading, storing, splitting by them, and their leakage.

A fold file assigns each image to training or test, one line per image. The official files split
by section, so sections of one slide occur on both sides; `assign_subsets` can leave these out.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES, name_key, parse_name
from bc_model.data.dataset import Dataset
from bc_model.data.disk_space import explain_write_errors
from bc_model.data.registry import datasets_dir
from bc_model.errors import DataError, SplitError
from bc_model.utils.io import read_bytes, write_bytes_atomic

MIN_LISTED_PROPORTION = 0.9
"""A file that lists fewer of the images belongs to another release or another dataset."""

FOLD_FILES_FOLDER = ".folds"
MAX_FOLD_FILES = 50
MAX_FILE_MB = 4
"""Limit of a fold file. The official ones have 0.4 MB."""
_SUBSETS = ("train", "test")
_COLUMNS = ["name", "key", "class", "case", "section", "magnification", "subset"]
_HINT = "Choose an official fold file, such as dsfold1.txt."

logger = logging.getLogger("bc_model.data")


@dataclass(frozen=True)
class FoldFile:
    """The content of a fold file; official files have the folds 1 to 5.

    `names` has one row per line: name, key (`bc_model.data.breakhis.name_key`), class, case,
    section, magnification, and subset ('train' or 'test').
    """

    path: Path
    fold: int
    names: pd.DataFrame


@dataclass(frozen=True)
class FoldMatch:
    """The subset ('train', 'test' or '' if unlisted) of each image in a fold file.

    `n_missing` listed names have no image in the dataset. The file lists `n_in_both` images for
    training and, under another name, for test. They count once, and for test.
    """

    subset: pd.Series
    n_missing: int
    n_in_both: int

    @property
    def n_unlisted(self) -> int:
        """Number of images that the file does not list, and that no subset contains."""
        return int((self.subset == "").sum())

    def checks(self) -> list[Check]:
        """Return the differences between the fold file and the dataset as checks."""
        checks = []
        if self.n_unlisted:
            checks.append(
                make_check("BC261", n_unlisted=self.n_unlisted, n_images=len(self.subset))
            )
        if self.n_missing:
            checks.append(make_check("BC262", n_missing=self.n_missing))
        if self.n_in_both:
            checks.append(make_check("BC263", n_duplicates=self.n_in_both))
        return checks


@dataclass(frozen=True)
class SectionLeakage:
    """Number of test images with a related image in training, in total and benign.

    For section leakage, the related image is of the same case, at any magnification.
    """

    n_test: int
    n_shared: int
    n_benign_test: int
    n_benign_shared: int

    @property
    def proportion(self) -> float | None:
        """Proportion of the test images, 0 to 1; None if there are none."""
        return self.n_shared / self.n_test if self.n_test else None

    @property
    def benign_proportion(self) -> float | None:
        """Proportion of the benign test images, 0 to 1; None if there are none."""
        return self.n_benign_shared / self.n_benign_test if self.n_benign_test else None


@dataclass(frozen=True)
class DuplicateLeakage(SectionLeakage):
    """Leakage by duplicates under another name, counted in the images of a dataset.

    `n_missing` is the number of listed names that have no image in the dataset.
    """

    n_listed: int
    n_unlisted: int
    n_missing: int


def read_fold_file(path: Path) -> FoldFile:
    """Return the content of a fold file.

    Parameters
    ----------
    path : Path
        UTF-8 text with one image per line, ``name|magnification|fold|train or test``.

    Raises
    ------
    SplitError
        The file does not exist, or any line is invalid.
    """
    return FoldFile(Path(path), *_parse_fold_file(_read_content(Path(path)), str(path)))


def match_folds(dataset: Dataset, folds: FoldFile) -> FoldMatch:
    """Return the subset of each image by its name.

    Raises
    ------
    SplitError
        The file lists fewer than `MIN_LISTED_PROPORTION` of the images.

    Notes
    -----
    Names are compared without suffix. In a public extract that numbers the images differently, a
    name then refers to another field of the same section. The subset is still correct, because
    the official files assign each section to one subset.
    """
    subset_of_key = folds.names.set_index("key")["subset"]
    images, duplicates = dataset.images, dataset.duplicates
    keys, duplicate_keys = _name_keys(images["path"]), _name_keys(duplicates["path"])
    subset = keys.map(subset_of_key).fillna("").astype("str").set_axis(images["path"])
    n_in_both = 0
    for path, other in zip(
        duplicates["duplicate_of"], duplicate_keys.map(subset_of_key), strict=True
    ):
        own = subset.get(path)
        if own is None or not isinstance(other, str) or other == own:
            continue
        n_in_both += bool(own)
        subset[path] = "test" if "test" in (own, other) else other
    n_listed = int((subset != "").sum())
    if n_listed < MIN_LISTED_PROPORTION * len(subset):
        raise SplitError(
            f"The fold file {folds.path} does not fit the dataset {dataset.root}. Expected at "
            f"least {MIN_LISTED_PROPORTION:.0%} of the {len(subset)} images in it, got {n_listed}. "
            "Choose the fold file of this dataset and release."
        )
    is_missing = ~folds.names["key"].isin({*keys, *duplicate_keys})
    return FoldMatch(subset.set_axis(images.index), int(is_missing.sum()), n_in_both)


def assign_subsets(
    dataset: Dataset, folds: FoldFile, *, clean: bool, n_folds: int, validation_fold: int, seed: int
) -> pd.Series:
    """Return the subset of each image: 'train', 'validation', 'test' or '' (none).

    The test subset is that of the file. Its training cases are divided into `n_folds` folds, one of
    which is for validation. A class with fewer cases has as many folds as cases. If `clean`, images
    of cases with a listed test image, and of their groups, are left out of training and validation.

    Raises
    ------
    SplitError
        The file does not fit the dataset, the test subset is empty, or training has fewer than
        two cases of a class.
    """
    images = dataset.images
    match = match_folds(dataset, folds)
    for check in match.checks():
        logger.info(check.message)
    subset = match.subset.copy()
    is_test = subset == "test"
    if not is_test.any():
        raise SplitError(
            f"The fold file {folds.path} lists none of the {len(images)} images in {dataset.root} "
            "for test. Choose another fold file."
        )
    if clean:
        names = folds.names
        test_cases = names.loc[names["subset"] == "test", "case"]
        test_groups = images.loc[is_test | images["case"].isin(test_cases), "group"]
        subset[(subset == "train") & images["group"].isin(test_groups)] = ""
    class_of_group = images[subset == "train"].groupby("group")["class"].max()
    for code, name in enumerate(CLASSES):
        groups = class_of_group.index[class_of_group == name].to_numpy()
        if len(groups) < 2:
            reason = " after leaving out the cases of the test subset" if clean else ""
            raise SplitError(
                f"The fold file {folds.path} has too few training cases in {dataset.root}{reason}. "
                f"Expected at least 2 {name} cases, got {len(groups)}. Choose another fold file, "
                "or add images."
            )
        order = np.random.default_rng([seed, code]).permutation(len(groups))
        parts = np.array_split(groups[order], min(n_folds, len(groups)))
        chosen = parts[validation_fold % len(parts)]
        subset[(subset == "train") & images["group"].isin(chosen)] = "validation"
    return subset


def count_section_leakage(folds: FoldFile) -> dict[str, SectionLeakage]:
    """Return the section leakage for 'all' names, and each magnification such as '40X'."""
    names = folds.names
    test = names[names["subset"] == "test"]
    is_shared = test["case"].isin(names.loc[names["subset"] == "train", "case"])
    leakage = {"all": _count_shared(test, is_shared)}
    for magnification in sorted(set(names["magnification"])):
        is_row = test["magnification"] == magnification
        leakage[f"{magnification}X"] = _count_shared(test[is_row], is_shared[is_row])
    return leakage


def check_section_leakage(file_name: str, leakage: SectionLeakage) -> tuple[Check, ...]:
    """Check that no section of a test slide is in the training subset of a fold file."""
    if not leakage.n_shared:
        return ()
    return (
        make_check(
            "BC271",
            file=file_name,
            n_shared=leakage.n_shared,
            n_test=leakage.n_test,
            proportion=leakage.proportion,
            n_benign=leakage.n_benign_shared,
            n_benign_test=leakage.n_benign_test,
        ),
    )


def count_duplicate_leakage(folds: FoldFile, dataset: Dataset) -> DuplicateLeakage:
    """Return the duplicate leakage of a fold file in a dataset; raise `DataError`."""
    kept = dataset.images[["path", "sha256", "class"]]
    copies = kept.set_index("path").loc[dataset.duplicates["duplicate_of"]].reset_index(drop=True)
    files = pd.concat([kept, copies.assign(path=dataset.duplicates["path"])], ignore_index=True)
    keys = _name_keys(files["path"])
    subset = keys.map(folds.names.set_index("key")["subset"])
    is_listed = subset.notna()
    if not is_listed.any():
        raise DataError(
            f"The fold file {folds.path} lists none of the {len(files)} images in {dataset.root}. "
            "Choose the fold file of this dataset."
        )
    test = files[subset == "test"]
    is_shared = test["sha256"].isin(files.loc[subset == "train", "sha256"])
    return DuplicateLeakage(
        **asdict(_count_shared(test, is_shared)),
        n_listed=int(is_listed.sum()),
        n_unlisted=int((~is_listed).sum()),
        n_missing=int((~folds.names["key"].isin(keys[is_listed])).sum()),
    )


def list_fold_files(registry: Path | None = None) -> list[Path]:
    """Return the fold files that are stored in the dataset registry, by name."""
    folder = (registry or datasets_dir()) / FOLD_FILES_FOLDER
    files = folder.glob("*.txt") if folder.is_dir() else ()
    return sorted((path for path in files if not path.name.startswith(".")), key=_natural_key)


def store_fold_files(source: Path, registry: Path | None = None) -> list[Path]:
    """Copy a fold file, or all fold files (``*.txt``) of a folder, to the registry.

    Raises `SplitError` if there is none, or if one is invalid. In that case, none is stored.
    """
    source = Path(source)
    files = sorted(source.glob("*.txt"), key=_natural_key) if source.is_dir() else [source]
    if not 0 < len(files) <= MAX_FOLD_FILES:
        raise SplitError(
            f"Invalid number of text files in {source}. Expected 1 to {MAX_FOLD_FILES} fold files "
            f"such as dsfold1.txt, got {len(files)}. Select another folder."
        )
    return store_fold_contents([(file.name, _read_content(file)) for file in files], registry)


def store_fold_contents(
    contents: list[tuple[str, bytes]], registry: Path | None = None
) -> list[Path]:
    """Write the contents of fold files, (name, content), to the dataset registry.

    Returns all stored files. The new file is numbered if another content has its name. Raises
    `SplitError` if a content is invalid, and `DataError` if the disk is full. In both cases, none
    is stored.
    """
    folder = (registry or datasets_dir()) / FOLD_FILES_FOLDER
    for name, content in contents:
        _parse_fold_file(content, name)
    stored: list[Path] = []
    created: list[Path] = []
    with explain_write_errors("Storing the fold files", folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in contents:
                stem = re.sub(r"[^A-Za-z0-9_-]+", "-", re.sub(r"(?i)\.txt$", "", name))
                target = _find_free_file(folder, stem.strip("-")[:60] or "folds", content)
                stored.append(target)
                if not target.exists():
                    write_bytes_atomic(target, content)
                    created.append(target)
        except BaseException:
            remove_fold_files(created)
            raise
    return stored


def remove_fold_files(files: Iterable[Path]) -> None:
    """Remove fold files from the dataset registry; missing files are ignored."""
    for file in files:
        file.unlink(missing_ok=True)


def _read_content(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_FILE_MB * 2**20)
    except FileNotFoundError as error:
        raise SplitError(f"There is no fold file {path}. Check the path.") from error
    except OSError as error:
        raise SplitError(
            f"The fold file {path} cannot be read ({error.strerror}). {_HINT}"
        ) from error


def _parse_fold_file(content: bytes, source: str) -> tuple[int, pd.DataFrame]:
    """Return the fold and the names of a fold file; `source` is its name in messages."""
    rows: list[tuple] = []
    first_lines: dict[str, int] = {}
    first_fold = ""
    for number, line in enumerate(_split_lines(content, source), start=1):
        fields = line.split("|")
        if len(fields) != 4:
            raise _invalid_line(source, number, "name|magnification|fold|train or test")
        name, magnification, fold, subset = fields
        parsed, key = parse_name(name), name_key(name)
        if parsed is None or key is None:
            raise _invalid_line(source, number, "a name in the BreakHis grammar")
        if magnification != str(parsed.magnification):
            rule = f"the magnification of the name, {parsed.magnification}"
            raise _invalid_line(source, number, rule)
        if not re.fullmatch("[0-9]{1,3}", fold, re.ASCII):
            raise _invalid_line(source, number, "an integer as fold")
        first_fold = first_fold or fold
        if fold != first_fold:
            raise _invalid_line(source, number, f"the fold of line 1, {first_fold}")
        if subset not in _SUBSETS:
            raise _invalid_line(source, number, "the subset train or test")
        if key in first_lines:
            rule = f"each name once, and this name is on line {first_lines[key]}"
            raise _invalid_line(source, number, rule)
        first_lines[key] = number
        labels = (parsed.class_name, parsed.case, parsed.section, parsed.magnification)
        rows.append((name, key, *labels, subset))
    names = pd.DataFrame(rows, columns=_COLUMNS)
    for subset in _SUBSETS:
        if not (names["subset"] == subset).any():
            raise _not_a_fold_file(source, f"No line has the subset {subset}")
    return int(first_fold), names


def _split_lines(content: bytes, source: str) -> list[str]:
    if len(content) > MAX_FILE_MB * 2**20:
        raise _not_a_fold_file(source, f"It has more than {MAX_FILE_MB} MB")
    try:
        text = re.sub("\r\n?", "\n", content.decode("utf-8")).rstrip("\n")
    except UnicodeDecodeError as error:
        raise _not_a_fold_file(source, "It is not UTF-8 text") from error
    if not text:
        raise _not_a_fold_file(source, "It is empty")
    return text.split("\n")


def _not_a_fold_file(source: str, reason: str) -> SplitError:
    return SplitError(f"{source} is not a fold file. {reason}. {_HINT}")


def _invalid_line(source: str, number: int, rule: str) -> SplitError:
    # Without the line itself: the path may be of any text file, and others see the message.
    return _not_a_fold_file(source, f"Line {number}: expected {rule}")


def _name_keys(paths: pd.Series) -> pd.Series:
    return paths.map(lambda path: name_key(path.rpartition("/")[2]))


def _count_shared(test: pd.DataFrame, is_shared: pd.Series) -> SectionLeakage:
    is_benign = test["class"] == CLASSES[0]
    return SectionLeakage(
        n_test=len(test),
        n_shared=int(is_shared.sum()),
        n_benign_test=int(is_benign.sum()),
        n_benign_shared=int((is_shared & is_benign).sum()),
    )


def _find_free_file(folder: Path, stem: str, content: bytes) -> Path:
    for number in range(1, 1000):
        target = folder / f"{stem}{f'-{number}' if number > 1 else ''}.txt"
        if not target.exists() or _has_content(target, content):
            return target
    raise SplitError(f"Too many fold files named {stem} in {folder}. Remove some of them.")


def _has_content(path: Path, content: bytes) -> bool:
    try:
        return read_bytes(path, MAX_FILE_MB * 2**20) == content
    except OSError:
        return False


def _natural_key(path: Path) -> list[int | str]:
    """Sort dsfold10 after dsfold2."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
