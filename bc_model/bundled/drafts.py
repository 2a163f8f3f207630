"""A learning that is cut off goes on where it was. Importing this loads Keras."""

from __future__ import annotations

import logging
import time
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

logger = logging.getLogger("bc_model.bundled")

KEPT_EVERY_S = 300.0
"""What a cut costs at most; ResNet50 and its optimiser take 400 MB and a second to write."""


class Draft(keras.callbacks.Callback):
    """Keeps weights, optimiser and random states of a model that learns, every few minutes.

    TensorFlow alone: with JAX the variables are elsewhere while they learn, and on the accelerators
    that it is for a learning takes minutes.

    Parameters
    ----------
    model : keras.Model
        Compiled.
    file : Path
        Ending in ``.npz``. One of another model is left aside.

    Attributes
    ----------
    done : int
        Steps that the model has taken; those of the file to begin with.
    """

    def __init__(self, model: keras.Model, file: Path) -> None:
        super().__init__()
        model.optimizer.build(model.trainable_variables)
        self._variables = [*model.variables, *model.optimizer.variables]
        self._file, self._kept = file, time.monotonic()
        self.done = self._restored()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count the step, and keep all when it is time."""
        self.done += 1
        is_last = batch + 1 == self.params["steps"]  # which cannot be gone on from
        if not is_last and time.monotonic() - self._kept >= KEPT_EVERY_S:
            self._keep()
            self._kept = time.monotonic()

    def remove(self) -> None:
        """Remove the file: the learning is over."""
        self._file.unlink(missing_ok=True)

    def _keep(self) -> None:
        arrays: dict[str, Any] = {str(i): np.asarray(v) for i, v in enumerate(self._variables)}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        written = self._file.with_name(f".{self._file.name}")
        with written.open("wb") as stream:
            np.savez(stream, done=self.done, **arrays)
        written.replace(self._file)

    def _restored(self) -> int:
        if not self._file.exists():
            return 0
        try:
            # Opened here: NumPy leaves half a file open.
            with self._file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                arrays = [kept[str(i)] for i in range(len(self._variables))]
                done = int(kept["done"])
        except (KeyError, OSError, ValueError, zipfile.BadZipFile):
            return 0
        if any(a.shape != tuple(v.shape) for a, v in zip(arrays, self._variables, strict=True)):
            return 0
        for array, variable in zip(arrays, self._variables, strict=True):
            variable.assign(array)
        logger.info("goes on after step %d", done)
        return done
