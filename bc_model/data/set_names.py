"""What a data set may be called, and a name made from whatever it comes from."""

import re

from bc_model.errors import DataError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def is_name(name: str) -> bool:
    """Tell whether this can be a data set's name, on every system."""
    reserved = name.endswith(".") or _WINDOWS_DEVICES.fullmatch(name)
    return bool(_NAME.fullmatch(name)) and not reserved


def check_name(name: str) -> str:
    """Return a name that can be a data set's, on every system.

    Raises
    ------
    DataError
        It cannot.
    """
    if not is_name(name):
        raise DataError(
            f"'{name}' cannot be the name of a data set: it may hold up to 80 letters, digits, "
            "'.', '_' and '-', begins with a letter or digit and is no reserved word."
        )
    return name


def suggest_name(source: str) -> str:
    """Make a name from the name of a folder or an archive.

    Parameters
    ----------
    source : str
        A file name or a path, of either kind of slash.

    Returns
    -------
    str
        Empty when nothing of it can be a name.

    Examples
    --------
    >>> suggest_name("/data/My pictures (new).tar.gz"), suggest_name("..")
    ('My-pictures-new', '')
    """
    last = re.split(r"[/\\]", source.strip().rstrip("/\\"))[-1]
    stem = re.sub(r"(?i)\.(zip|tgz|tar\.gz)$", "", last)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:80].rstrip("-._")
    return name if is_name(name) else ""
