"""Other sets of pictures: a folder for each label, and a word on which class a label is.

Nothing but the folders is read: names of such files mean nothing here. Whether the labels ask the
same question as the model's classes is for people to say.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bc_model.data.manifest import Manifest, Progress, read_facts, settle, spelled
from bc_model.data.names import CLASSES, UNKNOWN_SUBTYPE
from bc_model.data.picture_files import picture_files
from bc_model.errors import DataError, PictureError, SettingsError


def parse_mapping(text: str) -> dict[str, str]:
    """Read a mapping such as ``0=benign,1=malignant``.

    Raises
    ------
    SettingsError
        It is not of that form, names a label twice, or not just the two classes.

    Examples
    --------
    >>> parse_mapping("0=benign, 1=malignant")
    {'0': 'benign', '1': 'malignant'}
    """
    mapping: dict[str, str] = {}
    for part in text.split(","):
        label, equals, name = (word.strip() for word in part.partition("="))
        name = name.lower()
        if not (label and equals) or name not in CLASSES or label in mapping:
            raise SettingsError(
                "A mapping names each label once and says benign or malignant, such as "
                f"0=benign,1=malignant; '{part.strip()}' in '{text}' does not fit."
            )
        mapping[label] = name
    missing = [name for name in CLASSES if name not in mapping.values()]
    if missing:
        raise SettingsError(
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
) -> Manifest:
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
    FolderNotFound
        `root` does not exist or is not a folder.
    DataError
        No picture file lies under it, none can be used, a folder's name is outside the mapping, or
        there is no folder above a label's.
    """
    root = Path(root)
    files = picture_files(root)
    _check_labels(files, root, mapping, case_above)
    rows, rejected = [], []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        described = pool.map(lambda path: _describe(path, root, mapping, case_above), files)
        try:
            for done, (row, error) in enumerate(described, start=1):
                if error is None:
                    rows.append(row)
                else:
                    detail = str(error)
                    rejected.append({"path": row["path"], "reason": error.reason, "detail": detail})
                if progress:
                    progress(done, len(files))
        finally:  # who stops the reading does not wait for the rest
            pool.shutdown(cancel_futures=True)
    return settle(root, rows, rejected)


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


def _describe(
    path: Path, root: Path, mapping: dict[str, str], case_above: bool
) -> tuple[dict, PictureError | None]:
    row: dict = {
        "path": spelled(path.relative_to(root)),
        "class": mapping[path.parent.name],
        "subtype": UNKNOWN_SUBTYPE, "year": None, "section": "", "magnification": None,
        "case": path.parent.parent.name if case_above else "",
    }  # fmt: skip
    try:
        return row | read_facts(path, root, None)._asdict(), None
    except PictureError as error:
        return row, error
