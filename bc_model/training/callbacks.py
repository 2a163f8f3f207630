"""Keras callbacks that speak through the run folder. Importing this module loads TensorFlow."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from bc_model.training.checkpoint import TrainState, save_state, save_weights
from bc_model.training.run import Run
from bc_model.utils.formatting import duration_in_words

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
    later_seconds : float
        The same in seconds, where one kind of epoch says nothing of the other.
    """

    name: str
    title: str
    first_epoch: int
    last_epoch: int
    total_epochs: int
    later_epoch_cost: float = 0.0
    later_seconds: float = 0.0


class EndRequested(Exception):
    """Raised between two batches, so that no validation follows.

    Attributes
    ----------
    what : {'stop', 'cancel'}
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def follow_requests(run: Run, beat: Callable[[str], None]) -> None:
    """Do what the run was asked for: raise `EndRequested`, or wait while it is to be paused.

    A paused run keeps its process and its memory: it goes on at the very batch it stands at.
    Should the process die meanwhile, the run is resumed after its last whole epoch.

    Parameters
    ----------
    run : Run
    beat : callable
        Told 'paused' every second while waiting.
    """
    was_paused = False
    while (what := run.requested_action()) == "pause":
        if not was_paused:
            logger.info("Paused")
            was_paused = True
        beat("paused")
        time.sleep(HEARTBEAT_S)
    if was_paused and what is None:
        logger.info("Continued")
    if what is not None:
        raise EndRequested(what)


def make_progress_callback(run: Run, doing: str) -> Callable[[int, int], None]:
    """Return a callback that tells the run folder of a count, and ends it when asked to."""
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > HEARTBEAT_S:
            last = time.monotonic()
            message = f"{doing}: {done} of {total} pictures"
            follow_requests(run, lambda state: run.write_status(state, message=message))
            run.write_status("starting", message=message)

    return tell


class RunReporter(keras.callbacks.Callback):
    """Write heartbeat and history into the run folder and a line an epoch to the log.

    Raises `EndRequested` after the batch in which an end is asked for.
    """

    def __init__(self, run: Run, phase: Phase) -> None:
        super().__init__()
        self.run = run
        self.phase = phase
        self._last_beat = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._paused_s = 0.0
        self._paused_at: float | None = None
        # From when on epochs are timed, and how many of this phase had been done by then.
        self._timed_from: tuple[float, float] | None = None
        self._began_at: int | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        if self._began_at is None:
            self._began_at = epoch
        self._epoch_began = self._work_s()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._timed_from is None:  # the first batch has paid for the compiling
            self._timed_from = (self._work_s(), self._done(self._proportion(batch + 1)))
        self._beat(batch + 1)
        self._paused_at = time.monotonic()
        follow_requests(self.run, lambda state: self._write_or_warn(state, batch + 1))
        self._paused_s += time.monotonic() - self._paused_at
        self._paused_at = None

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._beat(None)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        if not all(math.isfinite(value) for value in metrics.values()):
            logger.warning("epoch %d: the loss is not finite; this phase ends here", epoch + 1)
            self.model.stop_training = True
            return
        seconds = self._work_s() - self._epoch_began
        if epoch == self._began_at:  # its validation has paid for compiling, too
            self._timed_from = (self._work_s(), self._done(1.0))
        record: dict[str, Any] = {
            "epoch": epoch + 1,
            "phase": self.phase.name,
            **metrics,
            "learning_rate": float(self.model.optimizer.learning_rate.numpy()),
            "seconds": round(seconds, 2),
            "time": time.time(),
        }
        self.run.append_history(record)
        left = self._seconds_left(1.0)
        logger.info(
            "epoch %d/%d %s  loss %.3f acc %.3f | val loss %.3f acc %.3f | rate %.1e | %s%s",
            epoch + 1, self.phase.total_epochs, self.phase.title,
            metrics.get("loss", math.nan), metrics.get("accuracy", math.nan),
            metrics.get("val_loss", math.nan), metrics.get("val_accuracy", math.nan),
            record["learning_rate"], duration_in_words(seconds),
            "" if left is None else f", {duration_in_words(left)} left",
        )  # fmt: skip

    def _beat(self, step: int | None) -> None:
        now = time.monotonic()
        if now - self._last_beat < HEARTBEAT_S:
            return
        self._last_beat = now
        state = {"pause": "pausing", "cancel": "canceling"}.get(self.run.requested_action() or "")
        self._write_or_warn(state or "running", step)

    def _write_or_warn(self, state: str, step: int | None) -> None:
        steps = (self.params or {}).get("steps") or 0
        try:
            self._write(state, step, steps)
        except OSError as error:  # a full disk, or a reader that holds the file on Windows
            logger.warning("the status could not be written: %s", error)

    def _write(self, state: str, step: int | None, steps: int) -> None:
        left = self._seconds_left(self._proportion(step))
        self.run.write_status(
            state,
            phase=self.phase.name,
            epoch=self._epoch + 1,
            epochs=self.phase.total_epochs,
            step=step or steps,
            steps=steps,
            seconds_left=None if left is None else round(left),
        )

    def _work_s(self) -> float:
        """Return a clock that stands while the run is paused, seconds."""
        now = time.monotonic() if self._paused_at is None else self._paused_at
        return now - self._paused_s

    def _proportion(self, step: int | None) -> float:
        """Return how much of the epoch is done after a step; None is behind the last one."""
        steps = (self.params or {}).get("steps") or 0
        return min(1.0, step / steps) if step and steps else 1.0

    def _done(self, proportion_of_epoch: float) -> float:
        """Return the epochs done in this phase by this process."""
        return self._epoch - (self._began_at or 0) + proportion_of_epoch

    def _seconds_left(self, proportion_of_epoch: float) -> float | None:
        """Return what is left at the pace so far; None before there is a pace."""
        if self._timed_from is None:
            return None
        since_s, since_done = self._timed_from
        done = self._done(proportion_of_epoch) - since_done
        if done <= 0.0:
            return None
        per_epoch = (self._work_s() - since_s) / done
        here = self.phase.last_epoch - self._epoch - proportion_of_epoch
        return per_epoch * (here + self.phase.later_epoch_cost) + self.phase.later_seconds


class StateKeeper(keras.callbacks.Callback):
    """Keep the best weights and, after every epoch, all that the next one depends on.

    The last of the callbacks: what the others count in an epoch is counted by then, and what they
    forget when training begins is put back after them.

    Parameters
    ----------
    run : Run
    phase : Phase
    whole : keras.Model
        The classifier, of which the fitted model may be a part.
    best_loss : float or None
        Of the phase before.
    counting : dict from name to callback
        Those whose counters belong to the state.
    resumed : TrainState, optional
        Where this phase goes on.
    """

    COUNTERS = ("best", "wait", "cooldown_counter")

    def __init__(
        self,
        run: Run,
        phase: Phase,
        whole: keras.Model,
        best_loss: float | None,
        counting: dict[str, keras.callbacks.Callback],
        resumed: TrainState | None = None,
    ) -> None:
        super().__init__()
        self.run, self.phase, self.whole = run, phase, whole
        self.best_loss = best_loss
        self._counting = counting
        self._resumed = resumed

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self._resumed is None:
            return
        for name, counters in self._resumed.counters.items():
            for counter, value in counters.items():
                setattr(self._counting[name], counter, value)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        loss = float((logs or {}).get("val_loss", math.nan))
        if math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            self.best_loss = loss
            save_weights(self.run.best_weights, self.whole)
        if not all(math.isfinite(value) for value in (logs or {}).values()):
            return  # the phase ends here, with its last good state
        state = TrainState(
            phase=self.phase.name,
            epoch=epoch + 1,
            phase_first_epoch=self.phase.first_epoch,
            phase_over=self.model.stop_training or epoch + 1 == self.phase.last_epoch,
            best_loss=self.best_loss,
            counters={name: self._counters(one) for name, one in self._counting.items()},
        )
        save_state(self.run.state_file, state, self.model)

    def _counters(self, callback: keras.callbacks.Callback) -> dict[str, float]:
        found = {name: getattr(callback, name, None) for name in self.COUNTERS}
        # Before the first better epoch, 'best' is infinite, and Keras sets it so by itself.
        return {k: float(v) for k, v in found.items() if v is not None and math.isfinite(v)}
