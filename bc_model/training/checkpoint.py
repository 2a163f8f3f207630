"""The training state in one file: everything that the next epoch depends on.

The file contains the weights, the optimizer and the states of random layers as arrays, and a
`TrainState` as JSON. Image order and augmentation need no state: they follow from seed, epoch and
position. The file is replaced atomically, so a killed run loses at most one epoch.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.errors import DataError, RecordError, RunError
from bc_model.utils.arrays import read_npz
from bc_model.utils.io import write_bytes_atomic
from bc_model.utils.serialization import dumps, loads

if TYPE_CHECKING:
    import keras


_MAX_STATE_BYTES = 2**20


@dataclass(frozen=True)
class TrainState:
    """Position of a run between two epochs.

    `epoch` is the number of completed epochs of the run, `best_loss` the lowest validation loss so
    far. `counters` contains attributes of callbacks by the name of the callback.
    """

    phase: str
    epoch: int
    phase_first_epoch: int
    phase_over: bool = False
    best_loss: float | None = None
    counters: dict[str, dict[str, float]] = field(default_factory=dict)


def save_state(path: Path, state: TrainState, model: keras.Model) -> None:
    """Write the state of a compiled model; raises `RunError` if the disk is full."""
    arrays = _to_arrays("model", model.variables)
    arrays |= _to_arrays("optimizer", model.optimizer.variables)
    _write(path, arrays | {"state": np.frombuffer(dumps(state).encode(), np.uint8)})


def read_state(path: Path) -> TrainState | None:
    """Return the state without its arrays, or None if no epoch has been completed."""
    if not path.exists():
        return None
    text = _read(path, ["state"], _MAX_STATE_BYTES)["state"].tobytes()
    try:
        return loads(TrainState, text)
    except RecordError as error:
        raise _damaged(path) from error


def restore_state(path: Path, model: keras.Model) -> None:
    """Restore a state into an equal compiled model; raises `RunError` if it does not fit."""
    model.optimizer.build(model.trainable_variables)
    _assign(path, "model", model.variables)
    _assign(path, "optimizer", model.optimizer.variables)


def save_weights(path: Path, model: keras.Model) -> None:
    """Write the weights of a model; raises `RunError` if the disk is full."""
    _write(path, _to_arrays("model", model.weights))


def load_weights(path: Path, model: keras.Model) -> None:
    """Load the weights that `save_weights` wrote; raises `RunError` if they do not fit."""
    _assign(path, "model", model.weights)


def delete_temporary_files(directory: Path) -> None:
    """Delete the incomplete files of a killed process; no other process may use the run."""
    for path in directory.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _to_arrays(prefix: str, variables: Iterable[Any]) -> dict[str, np.ndarray]:
    return {f"{prefix}_{i}": variable.numpy() for i, variable in enumerate(variables)}


def _assign(path: Path, prefix: str, variables: list[Any]) -> None:
    names = [f"{prefix}_{i}" for i in range(len(variables))]
    # The largest type has 8 bytes.
    arrays = _read(path, names, 8 * sum(math.prod(variable.shape) for variable in variables))
    if any(arrays[name].shape != v.shape for name, v in zip(names, variables, strict=True)):
        raise _damaged(path)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise RunError(
            f"{path} contains weights that are not finite. Start a new run with lower learning "
            "rates or other initial weights."
        )
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
            f"The training state cannot be written to {path.parent}: {error.strerror}. Free disk "
            "space, and resume the run after its last complete epoch."
        ) from error


def _read(path: Path, names: list[str], max_bytes: int) -> dict[str, np.ndarray]:
    try:
        return read_npz(path, names, max_bytes=max_bytes)
    except (OSError, DataError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> RunError:
    return RunError(f"{path} is damaged or belongs to another model. Start a new run.")
