"""How a run is to be started, which no status of its trainer may wipe out."""

from pathlib import Path
from typing import Any

import pytest

from bc_model.errors import RunError
from bc_model.training import launch
from bc_model.training.jobs import put_in_queue
from bc_model.training.order import accepts_changes, read_order, write_order
from bc_model.training.run_folder import RunFolder

CLUSTER = {"scheduler": "tcp://there:1", "task": "mine"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder.create(tmp_path / "run")
    made.write_config({"settings": {}})
    return made


def test_an_order_outlives_the_statuses_of_its_trainer(run: RunFolder) -> None:
    put_in_queue(run, accept_changes=True, cluster=CLUSTER)
    for state in ("starting", "running", "failed"):
        run.write_status(state)
    order = read_order(run)
    assert {name: order[name] for name in CLUSTER} == CLUSTER
    assert accepts_changes(run)


def test_an_order_replaces_the_one_before(run: RunFolder) -> None:
    put_in_queue(run, accept_changes=True, cluster=CLUSTER)
    put_in_queue(run)
    assert read_order(run) == {}
    assert not accepts_changes(run)


def test_changes_after_the_accepted_ones_are_not_accepted(run: RunFolder) -> None:
    write_order(run, accept_changes=True)
    assert accepts_changes(run)
    run.write_config({"settings": {}, "data_sha256": "seen"})
    assert not accepts_changes(run)


def test_a_run_without_an_order_accepts_nothing(run: RunFolder) -> None:
    assert read_order(run) == {}
    assert not accepts_changes(run)
    (run.path / "config.json").unlink()
    assert not accepts_changes(run)


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_damaged_order_is_said(run: RunFolder, text: str) -> None:
    (run.path / "order.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=r"has no readable order\.json"):
        read_order(run)


def test_a_run_that_is_lost_before_it_saw_its_data_is_started_as_it_was_first(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    class Lost:
        pid = 2**22 + 1

        def __init__(self, command: list[str], **_: Any) -> None:
            commands.append(command)

    monkeypatch.setattr(launch.subprocess, "Popen", Lost)
    put_in_queue(run, accept_changes=True, cluster=CLUSTER)
    launch.launch(run)
    run.write_status("starting", message="Reading the data set")
    launch.launch(run)
    assert ["--accept-changes" in command for command in commands] == [True, True]
