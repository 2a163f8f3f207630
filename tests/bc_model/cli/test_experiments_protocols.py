"""`experiments protocols`: table, files, JSON, partial results and invalid input."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.checks import make_check
from bc_model.data.official_folds import store_fold_contents
from bc_model.experiments import experiment
from bc_model.experiments.protocols import PROTOCOL_LABELS, ProtocolComparison
from bc_model.training import run_queue
from bc_model.training.run import Run, list_runs
from bc_model.utils.serialization import read_record
from tests.bc_model.conftest import Command

TINY = [
    "--backbone", "tiny", "--weights", "none", "--image-size", "32x32", "--batch-size", 8,
    "--head-epochs", 1, "--finetune-epochs", 1, "--dense-units", 8,
]  # fmt: skip


@pytest.fixture
def command(
    command_line: Command, monkeypatch: pytest.MonkeyPatch, synthetic_dataset: Path, tmp_path: Path
) -> Command:
    """Run `experiments protocols`, by default on the synthetic dataset."""
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "registry"))

    def run(*arguments: object, data: Path = synthetic_dataset) -> tuple[int, str, str]:
        return command_line("experiments", "protocols", data, *TINY, *arguments)

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, end_at_random: Callable[[Run], None]) -> list[str]:
    """End each run at once; fail runs with seed 9."""
    names: list[str] = []

    def launch(run: Run) -> None:
        names.append(run.name)
        if run.read_config()["config"]["seed"] == 9:
            run.write_status("failed", message="The disk is full.")
        else:
            end_at_random(run)

    monkeypatch.setattr(run_queue, "launch_run", launch)
    monkeypatch.setattr(experiment, "_POLL_INTERVAL_S", 0.01)
    return names


def test_protocols_prints_a_table_and_writes_the_report(
    command: Command, trained: list[str], fold_files: list[Path], tmp_path: Path
) -> None:
    code, out, err = command(
        "--name",
        "rep",
        "--runs",
        tmp_path,
        "--fold-file",
        fold_files[0],
        "--fold-file",
        fold_files[1],
    )
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "protocol"
    for line, protocol in zip(lines[1:5], ("image", "folds", "folds-clean", "case"), strict=True):
        assert line.startswith(PROTOCOL_LABELS[protocol])
    # The two files test 3 cases of each class, with 3 images each.
    assert lines[2].split()[-3:] == ["18", "6", "0%"]
    assert ", files 0." in lines[2]
    assert ": accuracy 0.858 to 0.927" in out
    assert ": On 18 common test images" in out
    assert trained == [
        "rep-image-fold0", "rep-folds-dsfold1", "rep-folds-dsfold2",
        "rep-folds-clean-dsfold1", "rep-folds-clean-dsfold2", "rep-case-fold0",
    ]  # fmt: skip
    # Partial results appear when runs end.
    assert ": balanced accuracy 0." in err
    assert err.index(PROTOCOL_LABELS["image"]) < err.index("6 done")
    folder = tmp_path / "rep.report"
    assert out.splitlines()[-1] == f"Report written to {folder}"
    assert read_record(folder / "report.json", ProtocolComparison).is_complete is True
    assert (folder / "protocols.png").exists()


def test_protocols_without_a_fold_file_skips_its_protocols(
    command: Command, trained: list[str], tmp_path: Path
) -> None:
    code, out, err = command("--name", "rep", "--runs", tmp_path, "--out", tmp_path / "o")
    assert code == 0
    assert trained == ["rep-image-fold0", "rep-case-fold0"]
    message = make_check("BC246").message
    assert f"folds: {message}" in err
    assert f"info BC246: {PROTOCOL_LABELS['folds-clean']}: {message}" in out
    assert (tmp_path / "o/report.md").exists()


def test_protocols_by_default_uses_the_fold_files_of_the_registry(
    command: Command, trained: list[str], tmp_path: Path, fold_files: list[Path]
) -> None:
    for file in fold_files:
        store_fold_contents([(file.name, file.read_bytes())], tmp_path / "registry")
    code, _, err = command("--name", "rep", "--runs", tmp_path / "r", "--protocols", "folds,case")
    assert code == 0
    assert trained == ["rep-folds-dsfold1", "rep-folds-dsfold2", "rep-case-fold0"]
    assert "fold files of the dataset registry: dsfold1.txt, dsfold2.txt" in err


def test_protocols_with_json_prints_only_json(
    command: Command, trained: list[str], tmp_path: Path
) -> None:
    code, out, _ = command(
        "--name", "rep", "--runs", tmp_path, "--protocols", "case", "--test-folds", "all", "--json"
    )
    result = json.loads(out)
    assert code == 0
    (row,) = result["rows"]
    assert (row["n_images"], row["n_cases"], row["has_leakage"]) == (30, 10, False)
    assert row["runs"] == dict.fromkeys([f"rep-case-fold{n}" for n in range(5)], "done")
    assert result["config"]["backbone"] == "tiny"


def test_protocols_again_starts_only_unfinished_runs(
    command: Command, trained: list[str], tmp_path: Path, synthetic_dataset: Path
) -> None:
    code, out, err = command("--runs", tmp_path, "--seed", 9, "--protocols", "image,case")
    assert code == 1
    assert f"report-{synthetic_dataset.name}-case-fold0: failed: The disk is full." in err
    assert "2 runs ended without a result" in out
    again, _, _ = command("--runs", tmp_path, "--seed", 9, "--protocols", "image,case")
    assert again == 1
    assert trained == [f"report-{synthetic_dataset.name}-{label}" for label in ("image-fold0",
                       "case-fold0")] * 2  # fmt: skip


def test_command_with_detach_does_not_wait(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run_queue, "launch_run", lambda run: run.write_status("running"))
    code, out, _ = command("--name", "rep", "--runs", tmp_path, "--detach")
    assert code == 0
    assert "info BC242: Results are available for 0 of 2 runs" in out
    assert f"The runs continue. `runs list {tmp_path}` shows them." in out
    assert len(list_runs(tmp_path)) == 2
    assert read_record(tmp_path / "rep.report/report.json", ProtocolComparison).is_complete is False


def test_protocols_with_ctrl_c_prints_partial_results_and_exits_with_130(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_queue, "launch_run", lambda run: run.write_status("running"))
    monkeypatch.setattr(experiment.time, "sleep", interrupt)
    code, out, err = command("--name", "rep", "--runs", tmp_path)
    assert code == 130
    assert f"The runs continue. `runs list {tmp_path}` shows them" in err
    assert PROTOCOL_LABELS["case"] in out
    assert [run.requested_action() for run in list_runs(tmp_path)] == [None] * 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--protocols", "random"], "Unknown protocol 'random'"),
        (["--protocols", ","], "No protocol. Expected"),
        (["--protocols", "folds"], "supports none of the protocols"),
        (["--fold-file", "gone.txt"], "There is no fold file"),
        (["--test-folds", "some"], "Expected all, or numbers"),
        (["--test-folds", "5"], "Invalid test_fold 5"),
        (["--test-folds", "0,0"], "Repeated value 0 in the test folds"),
        (["--dropout", "2"], "--dropout"),
        (["--name", "my report"], "Invalid experiment name 'my report'"),
        (["--weights", "gone.h5"], "There is no weights file"),
        (["--n-folds", "9", "--protocols", "case"], "Too few benign cases for 9 folds"),
        (["--protocol", "case"], "No such option"),
    ],
)
def test_command_with_invalid_input_is_refused_and_starts_nothing(
    command: Command, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    runs = tmp_path / "runs"
    code, out, err = command("--runs", runs, *arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert not runs.exists()


def test_protocols_with_a_file_as_out_starts_nothing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "o").write_text("")
    code, _, err = command("--runs", tmp_path / "runs", "--out", tmp_path / "o")
    assert code == 2
    assert "Not a directory" in err
    assert not (tmp_path / "runs").exists()


def test_protocols_with_missing_data_is_refused(command: Command, tmp_path: Path) -> None:
    code, _, err = command("--runs", tmp_path / "runs", data=tmp_path / "gone")
    assert code == 2
    assert "There is no folder" in err
