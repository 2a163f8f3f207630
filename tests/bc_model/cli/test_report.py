"""`report`: table, files, JSON, partial results, how it ends, and bad input that starts nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.checks import make_check
from bc_model.data.registry import keep_fold_file
from bc_model.experiments import experiment as experiment
from bc_model.experiments.protocols import ProtocolReport
from bc_model.training import run_queue as jobs
from bc_model.training.run import Run, list_runs
from bc_model.utils.serialization import read_record
from tests.bc_model.conftest import Command

TINY = [
    "--backbone", "tiny", "--weights", "none", "--image-size", "32x32", "--batch-size", 8,
    "--head-epochs", 1, "--finetune-epochs", 1, "--dense-units", 8,
]  # fmt: skip


@pytest.fixture
def command(
    command_line: Command, monkeypatch: pytest.MonkeyPatch, drawn_set: Path, tmp_path: Path
) -> Command:
    """Run `report`, on the drawn set if no other is named."""
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "shelf"))

    def run(*arguments: object, data: Path = drawn_set) -> tuple[int, str, str]:
        return command_line("report", data, *TINY, *arguments)

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, end_at_random: Callable[[Run], None]) -> list[str]:
    """Let each run end at once; those with seed 9 fail."""
    names: list[str] = []

    def launch(run: Run) -> None:
        names.append(run.name)
        if run.read_config()["config"]["seed"] == 9:
            run.write_status("failed", message="The disk is full.")
        else:
            end_at_random(run)

    monkeypatch.setattr(jobs, "launch_run", launch)
    monkeypatch.setattr(experiment, "_LOOK_EVERY_S", 0.01)
    return names


def test_one_command_one_table_one_image(
    command: Command, trained: list[str], fold_files: list[Path], tmp_path: Path
) -> None:
    code, out, err = command(
        "--study", "rep", "--runs", tmp_path, "--folds", fold_files[0], "--folds", fold_files[1]
    )
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "protocol"
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "by picture (leaky)", "official folds (leaky)", "cleaned official folds", "by case",
    ]  # fmt: skip
    # Two files test 3 cases of each class in all, 3 pictures each.
    assert lines[2].split()[-3:] == ["18", "6", "0%"]
    assert ", files 0." in lines[2]
    assert "published, section-level split (with leakage): accuracy 0.858 to 0.927" in out
    assert "leakage effect: On 18 common test images" in out
    assert trained == [
        "rep-image-fold0", "rep-folds-dsfold1", "rep-folds-dsfold2",
        "rep-folds-clean-dsfold1", "rep-folds-clean-dsfold2", "rep-case-fold0",
    ]  # fmt: skip
    # Partial results come as the runs end.
    assert "by picture (leaky): balanced accuracy 0." in err
    assert err.index("by picture (leaky)") < err.index("6 done")
    folder = tmp_path / "rep.report"
    assert out.splitlines()[-1] == f"written to {folder}"
    assert read_record(folder / "report.json", ProtocolReport).is_whole is True
    assert (folder / "protocols.png").exists()


def test_a_protocol_without_its_file_is_told_and_the_others_go_on(
    command: Command, trained: list[str], tmp_path: Path
) -> None:
    code, out, err = command("--study", "rep", "--runs", tmp_path, "--out", tmp_path / "o")
    assert code == 0
    assert trained == ["rep-image-fold0", "rep-case-fold0"]
    message = make_check("BC246").message
    assert f"folds: {message}" in err
    assert f"info: cleaned official folds: {message}" in out
    assert (tmp_path / "o/report.md").exists()


def test_the_fold_files_of_the_registry_are_taken_when_none_is_named(
    command: Command, trained: list[str], tmp_path: Path, fold_files: list[Path]
) -> None:
    for file in fold_files:
        keep_fold_file(file.read_bytes(), file.name, tmp_path / "shelf")
    code, _, err = command("--study", "rep", "--runs", tmp_path / "r", "--protocols", "folds,case")
    assert code == 0
    assert trained == ["rep-folds-dsfold1", "rep-folds-dsfold2", "rep-case-fold0"]
    assert "fold files of the shelf: dsfold1.txt, dsfold2.txt" in err


def test_json_is_all_of_stdout(command: Command, trained: list[str], tmp_path: Path) -> None:
    code, out, _ = command(
        "--study", "rep", "--runs", tmp_path, "--protocols", "case", "--test-folds", "all", "--json"
    )
    told = json.loads(out)
    assert code == 0
    (row,) = told["rows"]
    assert (row["n"], row["n_cases"], row["has_leakage"]) == (30, 10, False)
    assert row["runs"] == dict.fromkeys([f"rep-case-fold{n}" for n in range(5)], "done")
    assert told["recipe"]["backbone"] == "tiny"


def test_the_same_command_goes_on_with_what_is_not_done(
    command: Command, trained: list[str], tmp_path: Path, drawn_set: Path
) -> None:
    code, out, err = command("--runs", tmp_path, "--seed", 9, "--protocols", "image,case")
    assert code == 1
    assert f"report-{drawn_set.name}-case-fold0: failed: The disk is full." in err
    assert "2 runs ended without a result" in out
    again, _, _ = command("--runs", tmp_path, "--seed", 9, "--protocols", "image,case")
    assert again == 1
    assert trained == [f"report-{drawn_set.name}-{label}" for label in ("image-fold0",
                       "case-fold0")] * 2  # fmt: skip


def test_detached_it_does_not_wait(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(jobs, "launch_run", lambda run: run.write_status("running"))
    code, out, _ = command("--study", "rep", "--runs", tmp_path, "--detach")
    assert code == 0
    assert "info: Results are available for 0 of 2 runs" in out
    assert f"The runs go on: `jobs list {tmp_path}` shows them." in out
    assert len(list_runs(tmp_path)) == 2
    assert read_record(tmp_path / "rep.report/report.json", ProtocolReport).is_whole is False


def test_ctrl_c_leaves_the_runs_and_shows_what_there_is(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "launch_run", lambda run: run.write_status("running"))
    monkeypatch.setattr(experiment.time, "sleep", interrupt)
    code, out, err = command("--study", "rep", "--runs", tmp_path)
    assert code == 130
    assert f"The runs go on: `jobs list {tmp_path}` shows them" in err
    assert "by case" in out
    assert [run.requested_action() for run in list_runs(tmp_path)] == [None] * 2


# Bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--protocols", "random"], "There is no split protocol 'random'"),
        (["--protocols", ","], "A report needs a protocol"),
        (["--protocols", "folds"], "None of the protocols can be made"),
        (["--folds", "gone.txt"], "There is no fold file"),
        (["--test-folds", "some"], "--test-folds must be all, or numbers"),
        (["--test-folds", "5"], "Invalid test_fold 5"),
        (["--test-folds", "0,0"], "In the list of test folds stands 0 twice"),
        (["--dropout", "2"], "--dropout"),
        (["--study", "my report"], "'my report' cannot be the name of a study"),
        (["--weights", "gone.h5"], "There is no weights file"),
        (["--n-folds", "9", "--protocols", "case"], "needs at least 9 benign cases"),
        (["--protocol", "case"], "No such option"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    command: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    runs = tmp_path / "runs"
    code, out, err = command("--runs", runs, *arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert said in err
    assert not runs.exists()


def test_a_file_in_the_way_of_the_report_is_said_before_a_start(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "o").write_text("")
    code, _, err = command("--runs", tmp_path / "runs", "--out", tmp_path / "o")
    assert code == 2
    assert "is a file; name another one" in err
    assert not (tmp_path / "runs").exists()


def test_data_that_is_not_there_is_said(command: Command, tmp_path: Path) -> None:
    code, _, err = command("--runs", tmp_path / "runs", data=tmp_path / "gone")
    assert code == 2
    assert "There is no folder" in err
