"""The remaining time of a run excludes compilation and pauses."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bc_model.training import callbacks
from bc_model.training.callbacks import Phase, RunReporter
from bc_model.training.run import Run

EPOCHS, STEPS = 10, 4
LOGS = dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy"), 1.0)


class Clock:
    """A clock that the test sets; a sleep takes 100 seconds."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.now_s = 1000.0
        self.left_while_paused: list[int | None] = []

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return time.time()

    def sleep(self, _: float) -> None:
        self.now_s += 100.0
        self.left_while_paused.append(self.run.read_status()["seconds_left"])
        if len(self.left_while_paused) == 3:
            self.run.request(None)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run")


@pytest.fixture
def clock(run: Run, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(run)
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


@pytest.fixture
def reporter(run: Run, clock: Clock) -> RunReporter:
    reporter = RunReporter(run, Phase("head", "head", 0, EPOCHS, EPOCHS))
    reporter.set_params({"steps": STEPS})
    rate = SimpleNamespace(numpy=lambda: 0.1)
    reporter.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=rate)))
    reporter.on_train_begin()
    return reporter


def train_epoch(
    reporter: RunReporter, clock: Clock, epoch: int, *, batch_s: float, first_s: float = 0.0
) -> None:
    reporter.on_epoch_begin(epoch)
    clock.now_s += first_s
    for batch in range(STEPS):
        clock.now_s += batch_s
        reporter.on_train_batch_end(batch)


def test_seconds_left_excludes_the_compilation_of_the_first_batch(
    reporter: RunReporter, clock: Clock, run: Run
) -> None:
    reporter.on_epoch_begin(0)
    clock.now_s += 30.0
    reporter.on_train_batch_end(0)
    assert run.read_status()["seconds_left"] is None
    clock.now_s += 2.0
    reporter.on_train_batch_end(1)
    # The other nine and a half epochs have four batches of two seconds each.
    assert run.read_status()["seconds_left"] == 76


def test_seconds_left_excludes_the_compilation_of_the_first_validation(
    reporter: RunReporter, clock: Clock, run: Run
) -> None:
    train_epoch(reporter, clock, 0, batch_s=2.0, first_s=30.0)
    clock.now_s += 50.0
    reporter.on_epoch_end(0, LOGS)
    train_epoch(reporter, clock, 1, batch_s=2.0)
    clock.now_s += 1.0
    reporter.on_test_batch_end(0)
    assert run.read_status()["seconds_left"] == 8 * 9
    assert [record["seconds"] for record in run.read_history()] == [88.0]


def test_seconds_left_and_history_exclude_pauses(
    reporter: RunReporter, clock: Clock, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bc_model.training")
    reporter.on_epoch_begin(0)
    for batch in range(2):
        clock.now_s += 2.0
        reporter.on_train_batch_end(batch)
    run.request("pause")
    clock.now_s += 2.0
    reporter.on_train_batch_end(2)
    assert clock.left_while_paused == [74, 74, 74]
    assert [line for line in caplog.messages if not line.startswith("epoch")] == [
        "Paused",
        "Continued",
    ]
    clock.now_s += 2.0
    reporter.on_train_batch_end(3)
    reporter.on_epoch_end(0, LOGS)
    assert [record["seconds"] for record in run.read_history()] == [8.0]
