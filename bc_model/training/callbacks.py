"""Keras callbacks that read and write the run directory during training.

Importing this module loads TensorFlow.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from bc_model.utils.processor import require_tensorflow

require_tensorflow()  # Before the import, which ends the process on other processors.

# isort: split
import keras

from bc_model.model import require_finite_weights
from bc_model.training.checkpoint import TrainState, save_state, save_weights
from bc_model.training.run import Run
from bc_model.utils.formatting import format_duration

logger = logging.getLogger("bc_model.training")

HEARTBEAT_S = 1.0


@dataclass(frozen=True)
class Phase:
    """One phase of a run, 'head' or 'finetune'.

    Epochs count from the start of the run; `last_epoch` is excluded. The last two fields estimate
    the cost of later phases, in epochs of this phase or in seconds.
    """

    name: str
    title: str
    first_epoch: int
    last_epoch: int
    total_epochs: int
    later_epoch_cost: float = 0.0
    later_seconds: float = 0.0


class EndRequested(Exception):  # noqa: N818 - ends the epoch, not an error
    """The user has requested the `action` 'stop' or 'cancel'; raised between two batches."""

    def __init__(self, action: str) -> None:
        super().__init__(action)
        self.action = action


def follow_requests(run: Run, write_state: Callable[[str], None], *, can_stop: bool = True) -> None:
    """Wait while a pause is requested, and raise `EndRequested` for a stop or cancel request.

    A paused run keeps its process and memory, and continues with the next batch. While waiting,
    `write_state` is called with 'paused' every second. If `can_stop` is False, a stop request is
    left for a later call.
    """
    was_paused = False
    while (action := run.requested_action()) == "pause":
        if not was_paused:
            logger.info("Paused")
            was_paused = True
        write_state("paused")
        time.sleep(HEARTBEAT_S)
    if was_paused and action is None:
        logger.info("Continued")
    if action == "cancel" or (action == "stop" and can_stop):
        raise EndRequested(action)


def make_progress_callback(
    run: Run, description: str, *, can_stop: bool = True
) -> Callable[[int, int], None]:
    """Return a function of (done, total) that writes the status and follows requests."""
    last_written = 0.0

    def report_progress(done: int, total: int) -> None:
        nonlocal last_written
        if time.monotonic() - last_written > HEARTBEAT_S:
            last_written = time.monotonic()
            message = f"{description}: {done} of {total} images"
            follow_requests(
                run, lambda state: run.write_status(state, message=message), can_stop=can_stop
            )
            run.write_status("starting", message=message)

    return report_progress


class RunReporter(keras.callbacks.Callback):
    """Write heartbeat, history and log, and raise `EndRequested` after a batch if requested.

    `diverged_epoch` is the epoch whose loss is not finite, if there is one.
    """

    def __init__(self, run: Run, phase: Phase) -> None:
        super().__init__()
        self.run = run
        self.phase = phase
        self.diverged_epoch: int | None = None
        self._last_heartbeat = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._paused_s = 0.0
        self._paused_at: float | None = None
        self._timed_from: tuple[float, float] | None = None  # Clock in s, and epochs until then.
        self._first_epoch: int | None = None  # Of this process.

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        if self._first_epoch is None:
            self._first_epoch = epoch
        self._epoch_start = self._working_time_s()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._timed_from is None:  # The first batch includes the compilation.
            n_epochs = self._n_epochs_done(self._epoch_proportion(batch + 1))
            self._timed_from = (self._working_time_s(), n_epochs)
        self._write_heartbeat(batch + 1)
        self._paused_at = time.monotonic()
        follow_requests(self.run, lambda state: self._try_write_status(state, batch + 1))
        self._paused_s += time.monotonic() - self._paused_at
        self._paused_at = None

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._write_heartbeat(None)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        if not all(math.isfinite(value) for value in metrics.values()):
            logger.warning("epoch %d: the loss is not finite, so this phase ends", epoch + 1)
            self.diverged_epoch = epoch + 1
            self.model.stop_training = True
            return
        seconds = self._working_time_s() - self._epoch_start
        if epoch == self._first_epoch:  # Its validation includes a compilation, too.
            self._timed_from = (self._working_time_s(), self._n_epochs_done(1.0))
        rate = float(self.model.optimizer.learning_rate.numpy())
        self.run.append_history({
            "epoch": epoch + 1, "phase": self.phase.name, **metrics, "learning_rate": rate,
            "seconds": round(seconds, 2), "time": time.time(),
        })  # fmt: skip
        left = self._seconds_left(1.0)
        logger.info(
            "epoch %d/%d %s  loss %.3f acc %.3f | val loss %.3f acc %.3f | rate %.1e | %s%s",
            epoch + 1, self.phase.total_epochs, self.phase.title,
            metrics.get("loss", math.nan), metrics.get("accuracy", math.nan),
            metrics.get("val_loss", math.nan), metrics.get("val_accuracy", math.nan),
            rate, format_duration(seconds),
            "" if left is None else f", {format_duration(left)} left",
        )  # fmt: skip

    def _write_heartbeat(self, step: int | None) -> None:
        now = time.monotonic()
        if now - self._last_heartbeat < HEARTBEAT_S:
            return
        self._last_heartbeat = now
        state = {"pause": "pausing", "cancel": "canceling"}.get(self.run.requested_action() or "")
        self._try_write_status(state or "running", step)

    def _try_write_status(self, state: str, step: int | None) -> None:
        steps = (self.params or {}).get("steps") or 0
        left = self._seconds_left(self._epoch_proportion(step))
        try:
            self.run.write_status(
                state, phase=self.phase.name, epoch=self._epoch + 1, epochs=self.phase.total_epochs,
                step=step or steps, steps=steps, seconds_left=None if left is None else round(left),
            )  # fmt: skip
        except OSError as error:  # A full disk, or a reader that locks the file on Windows.
            logger.warning("The status was not written: %s", error)

    def _working_time_s(self) -> float:
        """Return a clock that excludes pauses, in seconds."""
        now = time.monotonic() if self._paused_at is None else self._paused_at
        return now - self._paused_s

    def _epoch_proportion(self, step: int | None) -> float:
        """Return the completed proportion of an epoch; a step of None means all steps."""
        steps = (self.params or {}).get("steps") or 0
        return min(1.0, step / steps) if step and steps else 1.0

    def _n_epochs_done(self, epoch_proportion: float) -> float:
        """Return the number of epochs of this phase that this process has completed."""
        return self._epoch - (self._first_epoch or 0) + epoch_proportion

    def _seconds_left(self, epoch_proportion: float) -> float | None:
        """Return the estimated remaining time, or None before the first measurement."""
        if self._timed_from is None:
            return None
        start_s, n_epochs_before = self._timed_from
        n_epochs = self._n_epochs_done(epoch_proportion) - n_epochs_before
        if n_epochs <= 0.0:
            return None
        epoch_s = (self._working_time_s() - start_s) / n_epochs
        n_left = self.phase.last_epoch - self._epoch - epoch_proportion
        return epoch_s * (n_left + self.phase.later_epoch_cost) + self.phase.later_seconds


class StateWriter(keras.callbacks.Callback):
    """Write the best weights, and the training state after each epoch.

    This must be the last callback: it saves the counters that the callbacks in `counting` update at
    the end of an epoch, and restores those that they reset at the start of training. `best_loss` is
    that of earlier phases. The fitted model can be the tail of `classifier`.
    """

    COUNTERS = ("best", "wait", "cooldown_counter")

    def __init__(
        self, run: Run, phase: Phase, classifier: keras.Model, best_loss: float | None,
        counting: dict[str, keras.callbacks.Callback], resumed: TrainState | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.run, self.phase, self.classifier = run, phase, classifier
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
        if not all(math.isfinite(value) for value in (logs or {}).values()):
            return  # The phase ends, and its last finite state stays.
        # A ReLU hides NaN from the loss.
        require_finite_weights(self.classifier, f"The weights after epoch {epoch + 1}")
        loss = float((logs or {}).get("val_loss", math.nan))
        if math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            self.best_loss = loss
            save_weights(self.run.best_weights, self.classifier)
        state = TrainState(
            phase=self.phase.name,
            epoch=epoch + 1,
            phase_first_epoch=self.phase.first_epoch,
            phase_over=self.model.stop_training or epoch + 1 == self.phase.last_epoch,
            best_loss=self.best_loss,
            counters={name: self._counters(cb) for name, cb in self._counting.items()},
        )
        save_state(self.run.state_file, state, self.model)

    def _counters(self, callback: keras.callbacks.Callback) -> dict[str, float]:
        values = {name: getattr(callback, name, None) for name in self.COUNTERS}
        # 'best' is infinite before the first improvement; Keras restores that value itself.
        return {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}
