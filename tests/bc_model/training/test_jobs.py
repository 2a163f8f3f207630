"""Runs as processes: the settings reach the child, one at a time, and a stop ends it."""

import dataclasses
import gc
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bc_model import cli
from bc_model.errors import BcModelError, RunError
from bc_model.training import jobs
from bc_model.training.run_folder import FINAL_STATES, RunFolder, list_runs
from bc_model.training.settings import TrainSettings

PATIENCE_S = 90


@pytest.fixture(autouse=True)
def _no_child_is_left_behind() -> Iterator[None]:
    yield
    for child in list(jobs._children):
        child.kill()
        child.wait()
    jobs.reap_children()


def wait_for(holds: Callable[[], bool], run: RunFolder) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {PATIENCE_S} s; {run.read_status()}; {run.read_log()}")
        time.sleep(0.1)


def has_ended(run: RunFolder) -> bool:
    return run.read_status()["state"] in FINAL_STATES


# From settings to arguments


class Caught(BcModelError):
    """Ends the command once its settings are made."""


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(data="set"),
        TrainSettings(
            data="a folder/with spaces",
            weights="my weights.h5",
            backbone="efficientnetb0",
            protocol="image",
            n_folds=3,
            fold=2,
            head_epochs=0,
            finetune_epochs=7,
            image_size=(96, 144),
            batch_size=4,
            head_learning_rate=1e-5,
            finetune_learning_rate=3e-7,
            unfreeze_from="block4",
            dense_units=(512, 64),
            dropout=0.0,
            patience=1,
            seed=2**31 - 1,
        ),
        TrainSettings(data="set", dense_units=()),
    ],
    ids=["defaults", "nothing default", "no dense layer"],
)
def test_the_child_reads_from_its_arguments_the_settings_of_the_parent(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def catch(**values: object) -> TrainSettings:
        made.append(TrainSettings(**values))
        raise Caught

    monkeypatch.setattr("bc_model.training.settings.TrainSettings", catch)
    arguments = ["train", "--run", str(tmp_path / "run"), *settings.as_arguments()]
    with pytest.raises(Caught):
        cli.commands(arguments, standalone_mode=False)
    assert made == [settings]


class FakeProcess:
    """Takes the place of a child and keeps how it was started."""

    def __init__(self, command: list[str], **options: object) -> None:
        self.command = command
        self.options = options
        self.pid = 2**22 + 1

    def poll(self) -> None:
        return None

    def kill(self) -> None:
        pass

    def wait(self) -> None:
        jobs._children.remove(self)


@pytest.fixture
def fake_popen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.subprocess, "Popen", FakeProcess)


@pytest.mark.usefixtures("fake_popen")
def test_a_run_is_queued_with_its_settings_before_its_process_speaks(
    tiny_settings: TrainSettings, tmp_path: Path
) -> None:
    run = jobs.start_run(tiny_settings, tmp_path / "runs")
    assert run.read_status()["state"] == "queued"
    assert TrainSettings.from_dict(run.read_config()["settings"]) == tiny_settings
    child = jobs._children[-1]
    assert child.command[:5] == [sys.executable, "-m", "bc_model", "train", "--run"]
    assert child.command[5] == str(run.path)


@pytest.mark.usefixtures("fake_popen")
@pytest.mark.parametrize("field", ["data", "weights"])
def test_a_relative_path_means_the_same_to_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    settings = dataclasses.replace(TrainSettings(data=str(tmp_path)), **{field: "mine"})
    jobs.start_run(settings, Path("runs"))
    child = jobs._children[-1]
    told = [part for part in child.command if part.endswith("mine")]
    assert (Path(child.options["cwd"]) / told[0]).resolve() == (tmp_path / "mine").resolve()


# One at a time


@pytest.mark.parametrize("state", ["queued", "starting", "running", "cancelling"])
@pytest.mark.usefixtures("fake_popen")
def test_a_second_run_is_refused_while_one_is_going(
    tiny_settings: TrainSettings, tmp_path: Path, state: str
) -> None:
    RunFolder.create(tmp_path / "first").write_status(state)
    with pytest.raises(RunError, match="The run first is still going on"):
        jobs.start_run(tiny_settings, tmp_path)
    assert [run.name for run in list_runs(tmp_path)] == ["first"]


@pytest.mark.parametrize("status", ['{"state": "done"}', "damaged", '{"state": "running"}'])
@pytest.mark.usefixtures("fake_popen")
def test_an_ended_damaged_or_dead_run_is_not_in_the_way(
    tiny_settings: TrainSettings, tmp_path: Path, status: str
) -> None:
    first = RunFolder.create(tmp_path / "first")
    (first.path / "status.json").write_text(status)
    assert jobs.start_run(tiny_settings, tmp_path).path.parent == tmp_path


# Real processes


def test_a_started_run_ends_done_with_a_model_and_its_figures(
    tiny_settings: TrainSettings, tmp_path: Path
) -> None:
    run = jobs.start_run(tiny_settings, tmp_path)
    wait_for(lambda: has_ended(run), run)
    assert run.read_status()["state"] == "done", run.read_log()
    assert (run.model_folder / "passport.json").is_file()
    assert (run.evaluation_folder / "report.json").is_file()
    assert [record["epoch"] for record in run.read_history()] == [1, 2]
    assert jobs._children[-1].wait(PATIENCE_S) == 0


def test_a_run_whose_process_ends_before_it_speaks_has_its_last_words_in_its_status(
    tiny_settings: TrainSettings, tmp_path: Path
) -> None:
    # Otherwise it would stay 'queued' while the app lives, and no other run could be started.
    run = jobs.start_run(dataclasses.replace(tiny_settings, data="gone"), tmp_path)
    assert jobs._children[-1].wait(PATIENCE_S) == 2
    jobs.reap_children()
    status = run.read_status()
    assert status["state"] == "failed"
    assert "gone" in status["message"]


# A stop, here without a second process: it reaches the trainer through the folder either way


def test_a_stop_ends_a_run_and_keeps_its_best_model(
    tiny_settings: TrainSettings, tmp_path: Path
) -> None:
    from bc_model.training.fit import train

    run = RunFolder.create(tmp_path / "run")

    def stop_after_the_first_epoch() -> None:
        wait_for(lambda: bool(run.read_history()), run)
        run.request_stop()

    watcher = threading.Thread(target=stop_after_the_first_epoch)
    watcher.start()
    train(dataclasses.replace(tiny_settings, head_epochs=1000, patience=1000), run)
    watcher.join()
    status = run.read_status()
    assert (status["state"], status["message"][:18]) == ("done", "Stopped on request")
    assert 1 <= len(run.read_history()) < 1000
    assert (run.model_folder / "passport.json").is_file()
    assert (run.evaluation_folder / "report.json").is_file()


def test_a_stop_before_the_first_epoch_has_ended_leaves_no_model_and_no_open_file(
    tiny_settings: TrainSettings, tmp_path: Path
) -> None:
    from bc_model.training.fit import train

    run = RunFolder.create(tmp_path / "run")
    run.request_stop()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert train(tiny_settings, run) is None
        gc.collect()
    left_open = [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]
    assert [text for text in left_open if str(run.path) in text] == []
    assert run.read_status()["state"] == "cancelled"
    assert not run.model_folder.exists()
