"""The run directory: creation, settings, history, and how runs are found."""

import os
from pathlib import Path

import pytest

from bc_model.errors import RunError
from bc_model.jobs import STATES, cancel_job
from bc_model.training.run import Run, find_run, list_runs, new_run_id, runs_dir


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "a")


# Making and opening


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    assert Run.create(tmp_path / "x" / "y").path.is_dir()


def test_an_empty_folder_is_taken_over(tmp_path: Path) -> None:
    assert Run.create(tmp_path).path == tmp_path


@pytest.mark.parametrize("state", sorted(STATES))
def test_the_folder_of_a_run_is_taken(run: Run, state: str) -> None:
    run.write_status(state)
    with pytest.raises(RunError, match=r"already exists .* or delete that run first"):
        Run.create(run.path)


def test_a_folder_with_anything_in_it_is_taken_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="already exists") as caught:
        Run.create(tmp_path)
    assert "delete" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="already exists"):
        Run.create(tmp_path / "run")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="Cannot create the run directory"):
        Run.create(tmp_path / "file" / "run")


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run in"):
        Run.open(tmp_path)


def test_the_folder_of_all_runs_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_RUNS", "there")
    assert runs_dir() == Path("there")
    monkeypatch.delenv("BC_RUNS")
    assert runs_dir() == Path(__file__).parents[3] / "runs"


@pytest.mark.parametrize("name", ["my run", "-x", "ü"])
def test_a_name_that_could_not_be_opened_again_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="Invalid run name"):
        Run.create(tmp_path / name)


# Configuration and history


def test_a_configuration_comes_back(run: Run) -> None:
    run.write_config({"config": {"seed": 3}})
    assert run.read_config() == {"config": {"seed": 3}}


def test_a_missing_configuration_is_a_run_error(run: Run) -> None:
    with pytest.raises(RunError, match=r"no readable config\.json"):
        run.read_config()


def test_history_grows_by_a_line_an_epoch(run: Run) -> None:
    assert run.read_history() == []
    run.append_history({"epoch": 1, "loss": 0.5})
    run.append_history({"epoch": 2, "loss": 0.4})
    assert run.read_history() == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}]


def test_a_line_that_is_still_being_written_is_left_for_later(run: Run) -> None:
    run.append_history({"epoch": 1})
    with (run.path / "history.jsonl").open("a") as stream:
        stream.write('{"epoch": 2, "lo')
    assert run.read_history() == [{"epoch": 1}]


def test_a_history_damaged_in_the_middle_is_a_run_error(run: Run) -> None:
    (run.path / "history.jsonl").write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(RunError, match="history of Run 'a' is damaged"):
        run.read_history()


def test_a_figure_that_is_not_finite_is_not_written(run: Run) -> None:
    with pytest.raises(ValueError, match="JSON"):
        run.append_history({"loss": float("nan")})
    assert run.read_history() == []


def test_later_epochs_are_forgotten(run: Run) -> None:
    for epoch in (1, 2, 3):
        run.append_history({"epoch": epoch})
    with (run.path / "history.jsonl").open("a") as stream:
        stream.write('{"epoch": 4, "lo')
    run.truncate_history(2)
    run.append_history({"epoch": 3})
    assert [record["epoch"] for record in run.read_history()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("state", "can"), [("done", False), ("failed", True), ("canceled", True), ("running", False)]
)
def test_what_ended_before_it_was_done_can_be_resumed(run: Run, state: str, can: bool) -> None:
    run.write_config({"config": {}})
    run.write_status(state)
    assert run.can_resume is can


def test_a_run_that_does_not_know_its_settings_cannot_be_resumed(run: Run) -> None:
    run.write_status("failed")
    assert not run.can_resume


@pytest.mark.parametrize("phase", ["export", "evaluation"])
def test_a_run_whose_training_has_ended_is_not_canceled(run: Run, phase: str) -> None:
    run.write_status("running", phase=phase)
    with pytest.raises(RunError, match=r"Run 'a' is .* its model and can no longer be paused, st"):
        cancel_job(run)
    assert run.requested_action() is None


# Ids


def test_a_run_is_found_by_its_id(run: Run) -> None:
    run.write_status("running")
    assert find_run(run.path.parent, "a") == run


@pytest.mark.parametrize(
    "run_id",
    ["../a", "..", ".", "", "x/../a", "a/", "/etc", "a\n", "a\x00", ".hidden", "a" * 101, "\u00e4"],
)
def test_what_is_not_an_id_finds_nothing(run: Run, run_id: str) -> None:
    run.write_status("running")
    with pytest.raises(RunError, match="Invalid run name"):
        find_run(run.path.parent, run_id)


def test_an_unknown_id_finds_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run in"):
        find_run(tmp_path, "20261123-181500-resnet50")


def test_a_new_id_is_an_id(tmp_path: Path) -> None:
    run_id = new_run_id("resnet50")
    Run.create(tmp_path / run_id).write_status("queued")
    assert find_run(tmp_path, run_id).name == run_id


def test_runs_are_listed_newest_first_and_other_folders_passed_over(tmp_path: Path) -> None:
    for number, name in enumerate(["old", "new"]):
        run = Run.create(tmp_path / name)
        run.write_status("done")
        run.write_config({})
        os.utime(run.path / "config.json", (number * 1000, number * 1000))
    (tmp_path / "notes").mkdir()
    (tmp_path / "a.txt").write_text("x")
    assert [run.name for run in list_runs(tmp_path)] == ["new", "old"]


def test_no_folder_of_runs_is_no_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "gone") == []
