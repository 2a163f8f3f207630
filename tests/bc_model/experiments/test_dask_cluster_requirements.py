"""The requirements that each worker must meet, checked without a cluster."""

import logging
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from bc_model.errors import RunError
from bc_model.experiments import dask_cluster
from bc_model.experiments.dask_cluster import check_workers, find_lock_problem
from bc_model.jobs import locked
from bc_model.training.config import TrainingConfig


@pytest.fixture
def requirements(tmp_path: Path) -> dict:
    probe = tmp_path / ".probe"
    probe.write_text("token")
    (tmp_path / "set").mkdir()
    return {
        "probe": str(probe), "token": "token", "files": [__file__],
        "directories": {str(tmp_path / "set"): dask_cluster.hash_listing(str(tmp_path / "set"))},
        "program": dask_cluster.program_version(), "versions": dask_cluster.package_versions(),
    }  # fmt: skip


def test_find_problem_all_requirements_met_returns_empty(
    requirements: dict, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    assert dask_cluster.find_problem(requirements) == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probe": "/gone/.probe"}, "cannot read the directory of runs /gone. Mount it"),
        ({"token": "another"}, "cannot read the directory of runs "),
        ({"directories": {"/gone/set": "0"}}, "has different files in the dataset /gone/set"),
        ({"files": ["/gone/w.h5"]}, "cannot read the file /gone/w.h5"),
        ({"program": ("9.9", None)}, "has another version of this program. Expected 9.9, got 0"),
        (
            {"versions": {"keras": "9.9"}},
            f"cannot resume a run exactly: expected keras 9.9, got {version('keras')}",
        ),
        (
            {"versions": {"openvino": None}},
            "cannot resume a run exactly: expected openvino not installed, got",
        ),
    ],
)
def test_find_problem_unmet_requirement_is_named(
    requirements: dict, change: dict, message: str
) -> None:
    assert dask_cluster.find_problem(requirements | change).startswith(message)


@pytest.mark.parametrize(
    ("own", "required", "message"),
    [("abc", "abc", ""), ("abc", None, ""), (None, "abc", ""), ("abc", "abd", "another commit")],
)
def test_find_problem_compares_commits_if_both_are_available(
    requirements: dict,
    monkeypatch: pytest.MonkeyPatch,
    own: str | None,
    required: str | None,
    message: str,
) -> None:
    monkeypatch.setattr(dask_cluster, "git_commit", lambda: own)
    version, _ = dask_cluster.program_version()
    problem = dask_cluster.find_problem(requirements | {"program": (version, required)})
    assert (message in problem) if message else (problem == "")


def test_find_problem_other_file_names_in_the_dataset(requirements: dict, tmp_path: Path) -> None:
    (tmp_path / "set" / "new.png").touch()
    assert "has different files" in dask_cluster.find_problem(requirements)


def test_find_problem_missing_package(requirements: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "_installed_version", lambda name: None)
    assert dask_cluster.find_problem(requirements).startswith("cannot resume a run exactly")


def test_package_versions_are_those_of_the_loaded_packages() -> None:
    import numpy as np

    versions = dask_cluster.package_versions()
    assert (versions["python"], versions["numpy"]) == (platform.python_version(), np.__version__)
    assert versions["tensorflow"] is not None


# The lock


def test_find_lock_problem_lock_of_another_process_has_effect(tmp_path: Path) -> None:
    script = """
import sys
from bc_model.experiments.dask_cluster import find_lock_problem
print(find_lock_problem(sys.argv[1]))
"""

    def find_in_subprocess() -> str:
        return subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / ".lock")],
            cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    with locked(tmp_path):
        assert find_in_subprocess() == ""
    assert find_in_subprocess().startswith(
        f"acquires the lock of the directory of runs {tmp_path} while another mach"
    )


def test_find_lock_problem_directory_without_locks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    problem = find_lock_problem(str(tmp_path / "file" / ".lock"))
    assert problem.startswith(f"cannot lock the directory of runs {tmp_path / 'file'} (")


# All workers


class Workers:
    """A client with two workers; `other` are the results of the second one, by function name."""

    def __init__(self, **other: object) -> None:
        self.other = other

    def run(
        self, function: Callable[..., object], *arguments: object, on_error: str
    ) -> dict[str, object]:
        result = function(*arguments)
        return {"tcp://a:1": result, "tcp://b:1": self.other.get(function.__name__, result)}


def test_check_workers_all_requirements_met(
    requirements: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = tmp_path / "runs"
    check_workers(Workers(), runs, [TrainingConfig(str(tmp_path / "set"))])  # type: ignore[arg-type]
    assert [path.name for path in runs.iterdir()] == [".lock"]
    assert caplog.messages == []


def test_check_workers_lock_without_effect_raises(requirements: dict, tmp_path: Path) -> None:
    workers = Workers(find_lock_problem="acquires the lock")
    with pytest.raises(RunError, match=r"^The worker tcp://b:1 acquires the lock\.$"):
        check_workers(workers, tmp_path, [TrainingConfig(str(tmp_path / "set"))])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["weights", "official_fold_file"])
def test_check_workers_missing_file_of_a_config_raises(
    requirements: dict, tmp_path: Path, name: str
) -> None:
    gone = {name: str(tmp_path / "gone")} | ({"protocol": "folds"} if name != "weights" else {})
    config = TrainingConfig(str(tmp_path / "set"), **gone)
    with pytest.raises(RunError, match=r"worker tcp://a:1 cannot read the file .*gone\. Move it"):
        check_workers(Workers(), tmp_path / "runs", [config])  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_check_workers_mixed_bfloat16_support_warns(
    requirements: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(
        "bc_model.inference.precision.supported_precisions", lambda: {"f32", "bf16", "int8"}
    )
    with caplog.at_level(logging.WARNING):
        check_workers(
            Workers(has_bfloat16=False),
            tmp_path,
            [TrainingConfig(str(tmp_path / "set"))],  # type: ignore[arg-type]
        )
    assert caplog.messages == [
        "The worker tcp://a:1 supports bfloat16 and the worker tcp://b:1 does not. A run that "
        "loses its worker cannot move between them, because its compute dtype would change."
    ]
