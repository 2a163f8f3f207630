"""A training state on disk: everything that the next epoch depends on, in one file.

Weights, optimizer, learning rate and the states of random layers are arrays; epoch, phase and the
callbacks' counters are JSON beside them. The data need no state: order and augmentation follow
from (seed, epoch, position). The file is replaced whole, so a run killed at any moment finds
either the state before the last epoch or the one after it.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from bc_model.errors import RunError
from bc_model.utils.io import write_bytes_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable

    import keras


@dataclass
class TrainState:
    """Where a run stands, between two epochs.

    Attributes
    ----------
    phase : {'head', 'finetune'}
    epoch : int
        Epochs done, counted over the whole run.
    phase_first_epoch : int
    phase_over : bool
        No further epoch of this phase: all done, or ended early.
    best_loss : float or None
        Lowest validation loss so far.
    counters : dict from callback name to dict from attribute to number
    """

    phase: str
    epoch: int
    phase_first_epoch: int
    phase_over: bool = False
    best_loss: float | None = None
    counters: dict[str, dict[str, float]] = field(default_factory=dict)


def save_state(path: Path, state: TrainState, model: keras.Model) -> None:
    """Write a compiled model's state, all of it or nothing.

    Raises
    ------
    RunError
        The disk is full or cannot be written; the state before is untouched.
    """
    arrays = {f"model_{i}": value for i, value in enumerate(_values(model.variables))}
    arrays |= {f"optimizer_{i}": v for i, v in enumerate(_values(model.optimizer.variables))}
    about = json.dumps(asdict(state), allow_nan=False).encode()
    _write(path, arrays | {"about": np.frombuffer(about, np.uint8)})


def read_state(path: Path) -> TrainState | None:
    """Read where a run stands, without its arrays; None when no epoch has ended yet.

    Raises
    ------
    RunError
        The file is damaged.
    """
    if not path.exists():
        return None
    about = _read(path, ["about"])["about"].tobytes()
    try:
        return TrainState(**json.loads(about))
    except (ValueError, TypeError) as error:
        raise _damaged(path) from error


def restore_state(path: Path, model: keras.Model) -> None:
    """Put what `save_state` wrote back into a model that was built and compiled the same way.

    Raises
    ------
    RunError
        The file is damaged, or is of another model.
    """
    model.optimizer.build(model.trainable_variables)
    for name, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        _assign(path, variables, name)


def save_weights(path: Path, model: keras.Model) -> None:
    """Write a model's weights, all of them or nothing; raises `RunError` as `save_state` does."""
    _write(path, {f"model_{i}": value for i, value in enumerate(_values(model.weights))})


def load_weights(path: Path, model: keras.Model) -> None:
    """Put what `save_weights` wrote back; raises `RunError` for a file that does not fit."""
    _assign(path, model.weights, "model")


def sweep(folder: Path) -> None:
    """Delete what a killed process left half-written; nobody else may work on the run."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def _values(variables: Iterable[Any]) -> list[np.ndarray]:
    return [variable.numpy() for variable in variables]


def _assign(path: Path, variables: list[Any], prefix: str) -> None:
    names = [f"{prefix}_{i}" for i in range(len(variables))]
    arrays = _read(path, names)
    if any(arrays[name].shape != v.shape for name, v in zip(names, variables, strict=True)):
        raise RunError(f"{path} is of another network; train again instead of resuming.")
    for name, variable in zip(names, variables, strict=True):
        variable.assign(arrays[name])


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    try:
        path.parent.mkdir(exist_ok=True)
        write_bytes_atomic(path, stream.getbuffer())
    except OSError as error:
        raise RunError(
            f"The state of the run could not be written to {path.parent}: {error.strerror}. "
            "Make room and resume the run: it goes on after its last whole epoch."
        ) from error


def _read(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    try:
        # Opened here: NumPy leaves the file of a damaged archive open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> RunError:
    return RunError(f"{path} is damaged or of another network; train again instead of resuming.")
