"""What is asked of each worker before a start, without a cluster."""

import logging
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from bc_model.errors import RunError
from bc_model.experiments import dask_cluster as cluster_check
from bc_model.experiments.dask_cluster import check_workers, lock_in_vain
from bc_model.jobs import locked
from bc_model.training.config import TrainingConfig


@pytest.fixture
def needs(tmp_path: Path) -> dict:
    proxy = tmp_path / ".probe"
    proxy.write_text("token")
    (tmp_path / "set").mkdir()
    return {
        "probe": str(proxy), "token": "token", "files": [__file__],
        "folders": {str(tmp_path / "set"): cluster_check.listing(str(tmp_path / "set"))},
        "program": cluster_check.program(), "versions": cluster_check.versions(),
    }  # fmt: skip


def test_a_worker_that_sees_everything_lacks_nothing(needs: dict, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert cluster_check.look_around(needs) == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("lack", "said"),
    [
        ({"probe": "/gone/.probe"}, "does not see the folder of runs /gone; mount it there"),
        ({"token": "another"}, "does not see the folder of runs "),
        ({"folders": {"/gone/set": "0"}}, "does not see the data set /gone/set as it is here"),
        ({"files": ["/gone/w.h5"]}, "does not see the file /gone/w.h5"),
        ({"program": ("9.9", None)}, "has another version of this program (0"),
        ({"versions": {"keras": "9.9"}}, f"has keras {version('keras')}, and this machine 9.9: a"),
        (
            {"versions": {"openvino": None}},
            f"has openvino {version('openvino')}, and this machine n",
        ),
    ],
)
def test_what_a_worker_lacks_is_named(needs: dict, lack: dict, said: str) -> None:
    assert cluster_check.look_around(needs | lack).startswith(said)


@pytest.mark.parametrize(
    ("mine", "target", "said"),
    [("abc", "abc", ""), ("abc", None, ""), (None, "abc", ""), ("abc", "abd", "another commit")],
)
def test_commits_are_held_against_each_other_where_git_knows_both(
    needs: dict, monkeypatch: pytest.MonkeyPatch, mine: str | None, target: str | None, said: str
) -> None:
    monkeypatch.setattr(cluster_check, "git_commit", lambda: mine)
    version, _ = cluster_check.program()
    answer = cluster_check.look_around(needs | {"program": (version, target)})
    assert (said in answer) if said else (answer == "")


def test_other_names_in_the_data_set_are_noticed(needs: dict, tmp_path: Path) -> None:
    (tmp_path / "set" / "new.png").touch()
    assert "as it is here" in cluster_check.look_around(needs)


def test_a_package_that_is_not_there_is_said(needs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_check, "_version", lambda name: None)
    assert cluster_check.look_around(needs).startswith("has tensorflow not at all, and this mach")


def test_the_versions_are_those_of_what_is_loaded() -> None:
    import numpy as np

    found = cluster_check.versions()
    assert (found["python"], found["numpy"]) == (platform.python_version(), np.__version__)
    assert found["tensorflow"] is not None


# The lock


def test_a_lock_that_another_process_holds_is_tried_in_vain(tmp_path: Path) -> None:
    told = """
import sys
from bc_model.experiments.dask_cluster import lock_in_vain
print(lock_in_vain(sys.argv[1]))
"""

    def answer() -> str:
        return subprocess.run(
            [sys.executable, "-c", told, str(tmp_path / ".lock")],
            cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    with locked(tmp_path):
        assert answer() == ""
    assert answer().startswith(f"gets the lock of the folder of runs {tmp_path} while another mach")


def test_a_folder_that_knows_no_locks_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = lock_in_vain(str(tmp_path / "file" / ".lock"))
    assert said.startswith(f"cannot lock the folder of runs {tmp_path / 'file'} (")


# All workers, which are here two calls


class Workers:
    """Two workers on this machine; `other` is what the second answers, by the question's name."""

    def __init__(self, **other: object) -> None:
        self.other = other

    def run(
        self, question: Callable[..., object], *arguments: object, on_error: str
    ) -> dict[str, object]:
        mine = question(*arguments)
        return {"tcp://a:1": mine, "tcp://b:1": self.other.get(question.__name__, mine)}


def test_workers_that_lack_nothing_pass(
    needs: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = tmp_path / "runs"
    check_workers(Workers(), runs, [TrainingConfig(str(tmp_path / "set"))])  # type: ignore[arg-type]
    assert [path.name for path in runs.iterdir()] == [".lock"]
    assert caplog.messages == []


def test_a_worker_that_gets_the_lock_is_refused(needs: dict, tmp_path: Path) -> None:
    workers = Workers(lock_in_vain="gets the lock")
    with pytest.raises(RunError, match=r"^The worker tcp://b:1 gets the lock\.$"):
        check_workers(workers, tmp_path, [TrainingConfig(str(tmp_path / "set"))])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["weights", "official_fold_file"])
def test_the_files_of_the_settings_are_looked_for(needs: dict, tmp_path: Path, name: str) -> None:
    gone = {name: str(tmp_path / "gone")} | ({"protocol": "folds"} if name != "weights" else {})
    config = TrainingConfig(str(tmp_path / "set"), **gone)
    with pytest.raises(RunError, match=r"worker tcp://a:1 does not see the file .*gone; put it"):
        check_workers(Workers(), tmp_path / "runs", [config])  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_processors_of_two_kinds_are_told(
    needs: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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
        "The worker tcp://a:1 computes in bfloat16 and the worker tcp://b:1 does not: a run that "
        "loses its worker may not move between such, since its arithmetic would change."
    ]
