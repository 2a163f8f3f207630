"""Before a start on a cluster: whether each worker sees, has and locks what the runs need."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import secrets
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

import bc_model
from bc_model.errors import RunError
from bc_model.files import write_text_atomic
from bc_model.jobs import LOCK_FILE, locked
from bc_model.model import NAMED_WEIGHTS
from bc_model.training.describe import git_commit
from bc_model.training.settings import TrainingConfig

if TYPE_CHECKING:
    from distributed import Client

_PACKAGES = ("keras", "numpy", "openvino", "opencv-python-headless", "pillow")
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu")
"""One of them is installed; the version counts."""

logger = logging.getLogger("bc_model.training")


def check_workers(client: Client, runs: Path, settings: Iterable[TrainingConfig]) -> None:
    """Make sure that every worker sees, has and locks what the runs need.

    Processors of two kinds are told by a warning: each can train.

    Parameters
    ----------
    client : distributed.Client
    runs : Path
        Folder of all runs; made when missing.
    settings : iterable of TrainingConfig
        Of the runs.

    Raises
    ------
    RunError
        The sentence names the worker and what it lacks.
    """
    runs = Path(runs).resolve()
    is_new = not runs.exists()
    runs.mkdir(parents=True, exist_ok=True)
    settings = list(settings)
    token = secrets.token_hex(8)
    probe = runs / f".probe-{token}"
    data = {str(Path(one.data).resolve()) for one in settings}
    files = {one.weights for one in settings} - set(NAMED_WEIGHTS)
    files |= {one.official_fold_file for one in settings} - {""}
    needs = {
        "probe": str(probe),
        "token": token,
        "folders": {folder: listing(folder) for folder in sorted(data)},
        "files": sorted(str(Path(file).resolve()) for file in files),
        "program": program(),
        "versions": versions(),
    }
    try:
        write_text_atomic(probe, token)
        _require_none(_ask(client, look_around, needs))
    except RunError:
        probe.unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):
                runs.rmdir()
        raise
    finally:
        probe.unlink(missing_ok=True)
    with locked(runs):
        _require_none(_ask(client, lock_in_vain, str(runs / LOCK_FILE)))
    _warn_of_mixture(_ask(client, has_bfloat16))


def program() -> tuple[str, str | None]:
    """Return the version of this program and its commit, where git knows it."""
    return bc_model.__version__, git_commit()


def versions() -> dict[str, str | None]:
    """Return the versions without which a run is not resumed as the same run; None: not there."""
    found = {name: _version(name) for name in _PACKAGES}
    tensorflow = next(filter(None, map(_version, _TENSORFLOWS)), None)
    return {"python": platform.python_version(), "tensorflow": tensorflow, **found}


def has_bfloat16() -> bool:
    """Return whether this machine's processor has what 'auto' arithmetic takes where it can."""
    from bc_model.serving.precision import supported_precisions

    return "bf16" in supported_precisions()


def listing(folder: str) -> str:
    """Return a hash of the names in a folder; empty when it cannot be read."""
    try:
        names = sorted(path.name for path in Path(folder).iterdir())
    except OSError:
        return ""
    return hashlib.sha256("\n".join(names).encode(errors="replace")).hexdigest()


def look_around(needs: dict[str, Any]) -> str:
    """Say what this worker lacks of what runs need; empty when nothing.

    Parameters
    ----------
    needs : dict
        ``probe`` and ``token``, a file in the folder of runs and its content; ``folders`` with
        their `listing`; ``files``; ``program`` and ``versions`` as these functions return them.
    """
    probe = Path(needs["probe"])
    try:
        shared = probe.read_text(encoding="utf-8") == needs["token"]
    except OSError:
        shared = False
    if not shared:
        return f"does not see the folder of runs {probe.parent}; mount it there"
    beside = probe.with_name(f"{probe.name}-{os.getpid()}")
    try:
        beside.touch()
        beside.unlink()
    except OSError as error:
        return f"cannot write into the folder of runs {probe.parent} ({error.strerror})"
    for folder, names in needs["folders"].items():
        if listing(folder) != names:
            return f"does not see the data set {folder} as it is here; mount it there"
    for file in needs["files"]:
        if not Path(file).is_file():
            return f"does not see the file {file}; put it where all machines see it"
    for name, mine, wanted in zip(("version", "commit"), program(), needs["program"], strict=True):
        if mine and wanted and mine != wanted:
            return f"has another {name} of this program ({mine}; here {wanted})"
    here = versions()
    for name, wanted in needs["versions"].items():
        if here[name] != wanted:
            return (
                f"has {name} {here[name] or 'not at all'}, and this machine {wanted or 'none'}: a "
                "run could not go on as the same run; install the same packages on all machines"
            )
    return ""


def lock_in_vain(path: str) -> str:
    """Try a lock that the caller's machine holds; say what is wrong when this worker gets it."""
    folder = Path(path).parent
    try:
        with filelock.FileLock(path, timeout=0):
            return (
                f"gets the lock of the folder of runs {folder} while another machine holds it, so "
                "two could train one run; mount it so that locks reach across machines"
            )
    except filelock.Timeout:
        return ""
    except (OSError, NotImplementedError) as error:
        return f"cannot lock the folder of runs {folder} ({error}); mount it with locks"


def _ask(client: Client, question: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Return what each worker answers; one that cannot is an error."""
    answers = client.run(question, *arguments, on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, Exception):
            raise RunError(
                f"The worker {address} cannot run this program ({answer}); start it in the "
                "project's folder with python -m dask worker."
            )
    return dict(answers)


def _require_none(lacks: dict[str, str]) -> None:
    for address, lack in lacks.items():
        if lack:
            raise RunError(f"The worker {address} {lack}.")


def _warn_of_mixture(bfloat16: dict[str, bool]) -> None:
    address_of = {able: address for address, able in bfloat16.items()}
    if len(address_of) > 1:
        logger.warning(
            "The worker %s computes in bfloat16 and the worker %s does not: a run that loses its "
            "worker may not move between such, since its arithmetic would change.",
            address_of[True], address_of[False],
        )  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
