"""Keras callbacks that speak through the run folder. Importing this module loads TensorFlow."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import keras

from bc_model.training.run_folder import RunFolder
from bc_model.words import duration_in_words

logger = logging.getLogger("bc_model.training")

HEARTBEAT_S = 1.0


@dataclass(frozen=True)
class Phase:
    """One phase of a run, as the callbacks need it.

    Attributes
    ----------
    name : {'head', 'finetune'}
    title : str
    first_epoch, last_epoch : int
        Counted over the whole run; `last_epoch` is not included.
    total_epochs : int
        Of the run.
    later_epoch_cost : float
        Epochs of later phases, in units of one epoch of this phase; for the time left.
    """

    name: str
    title: str
    first_epoch: int
    last_epoch: int
    total_epochs: int
    later_epoch_cost: float


class StopRequested(Exception):
    """Raised between two batches when a stop was asked for, so that no validation follows."""


class RunReporter(keras.callbacks.Callback):
    """Write heartbeat and history into the run folder and a line an epoch to the log.

    Raises `StopRequested` after the batch in which a stop is asked for.
    """

    def __init__(self, run: RunFolder, phase: Phase) -> None:
        super().__init__()
        self.run = run
        self.phase = phase
        self._last_beat = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._phase_began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        self._epoch_began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._beat(batch + 1)
        if self.run.stop_requested():
            raise StopRequested

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._beat(None)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        if not all(math.isfinite(value) for value in figures.values()):
            logger.warning("epoch %d: the loss is not finite; this phase ends here", epoch + 1)
            return
        seconds = time.monotonic() - self._epoch_began
        record: dict[str, Any] = {
            "epoch": epoch + 1,
            "phase": self.phase.name,
            **figures,
            "learning_rate": float(self.model.optimizer.learning_rate.numpy()),
            "seconds": round(seconds, 2),
            "time": time.time(),
        }
        self.run.append_history(record)
        left = self._seconds_left(1.0)
        logger.info(
            "epoch %d/%d %s  loss %.3f acc %.3f | val loss %.3f acc %.3f | rate %.1e | %s, %s left",
            epoch + 1, self.phase.total_epochs, self.phase.title,
            figures.get("loss", math.nan), figures.get("accuracy", math.nan),
            figures.get("val_loss", math.nan), figures.get("val_accuracy", math.nan),
            record["learning_rate"], duration_in_words(seconds), duration_in_words(left),
        )  # fmt: skip

    def _beat(self, step: int | None) -> None:
        now = time.monotonic()
        if now - self._last_beat < HEARTBEAT_S:
            return
        self._last_beat = now
        steps = (self.params or {}).get("steps") or 0
        done = min(1.0, step / steps) if step and steps else 1.0
        state = "cancelling" if self.run.stop_requested() else "running"
        try:
            self._write(state, step, steps, done)
        except OSError as error:  # a full disk, or a reader that holds the file on Windows
            logger.warning("the status could not be written: %s", error)

    def _write(self, state: str, step: int | None, steps: int, done: float) -> None:
        self.run.write_status(
            state,
            phase=self.phase.name,
            epoch=self._epoch + 1,
            epochs=self.phase.total_epochs,
            step=step or steps,
            steps=steps,
            seconds_left=round(self._seconds_left(done)),
        )

    def _seconds_left(self, share_of_epoch: float) -> float:
        done = self._epoch - self.phase.first_epoch + share_of_epoch
        per_epoch = (time.monotonic() - self._phase_began) / max(done, 0.01)
        here = self.phase.last_epoch - self._epoch - share_of_epoch
        return per_epoch * (here + self.phase.later_epoch_cost)
