"""Exact resume: a run that is killed at any moment ends like an uninterrupted run."""

import dataclasses
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from bc_model.data.synthetic import generate_dataset
from bc_model.errors import RunChangedError, RunError
from bc_model.model import build_model, load_keras, weights_fingerprint
from bc_model.training import callbacks, checkpoint, trainer
from bc_model.training.checkpoint import (
    TrainState,
    load_weights,
    read_state,
    restore_state,
    save_state,
    save_weights,
)
from bc_model.training.config import TrainingConfig
from bc_model.training.resume import list_changes
from bc_model.training.run import Run
from bc_model.training.trainer import train
from bc_model.utils.serialization import to_json
from tests.bc_model.training.conftest import eager_training

PATIENCE_S = 120


class Killed(BaseException):
    """Simulates the end of the process."""


@pytest.fixture
def config(tiny_config: TrainingConfig) -> TrainingConfig:
    # Two epochs without a lower loss reduce the learning rate, four end a phase.
    return dataclasses.replace(
        tiny_config, head_epochs=3, finetune_epochs=4, patience=4, deterministic=True
    )


@pytest.fixture(scope="module")
def uninterrupted(tiny_config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory):
    """Train once without an interruption."""
    run = Run.create(tmp_path_factory.mktemp("uninterrupted") / "run")
    train(
        dataclasses.replace(
            tiny_config, head_epochs=3, finetune_epochs=4, patience=4, deterministic=True
        ),
        run,
    )
    return run


def fingerprint(run: Run) -> str:
    return weights_fingerprint(load_keras(run.model_dir / "model.keras"))


def metrics(run: Run) -> list[dict]:
    times = ("seconds", "time")
    return [{k: v for k, v in epoch.items() if k not in times} for epoch in run.read_history()]


def die_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int) -> None:
    """Let a call of a function, counted from 1, raise `Killed` at its start."""
    original, calls = getattr(owner, name), [0]

    def counted(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


slow = pytest.mark.slow
MOMENTS = [
    # Before the first state; between history and state; between best weights and state; in
    # fine-tuning; between the phases; at the export.
    pytest.param("bc_model.training.callbacks.save_state", 1, id="first epoch"),
    pytest.param("bc_model.training.callbacks.save_state", 2, id="head"),
    pytest.param("bc_model.training.callbacks.save_weights", 2, id="best weights"),
    pytest.param("bc_model.training.callbacks.save_state", 5, id="fine-tuning"),
    # `build_model` makes the first call.
    pytest.param("bc_model.training.trainer.unfreeze_from", 2, id="boundary"),
    pytest.param("bc_model.training.trainer.write_bundle", 1, id="export"),
]


@slow
@pytest.mark.parametrize(("function", "call"), MOMENTS)
def test_resumed_run_has_the_weights_of_an_uninterrupted_run(
    config: TrainingConfig,
    uninterrupted: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    call: int,
) -> None:
    run = Run.create(tmp_path / "run")
    with monkeypatch.context() as patch:
        module, _, name = function.rpartition(".")
        die_at(patch, sys.modules[module], name, call)
        with pytest.raises(Killed):
            train(config, run)
    assert not run.model_dir.exists()

    train(config, run, resume=True)

    assert run.read_status()["state"] == "done"
    assert metrics(run) == metrics(uninterrupted)
    assert fingerprint(run) == fingerprint(uninterrupted)


@pytest.fixture(scope="module")
def cached_config(
    tiny_config: TrainingConfig, tiny_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> TrainingConfig:
    """Return a configuration in which both phases use cached features."""
    weights = tmp_path_factory.mktemp("weights") / "start.keras"
    shutil.copy(tiny_run.model_dir / "model.keras", weights)
    return dataclasses.replace(
        tiny_config, head_epochs=3, finetune_epochs=4, patience=4, deterministic=True,
        weights=str(weights),
    )  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted_cached(
    cached_config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    with eager_training():
        return train(cached_config, tmp_path_factory.mktemp("uninterrupted-cached") / "run")


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        pytest.param(callbacks, "save_state", 2, id="head", marks=slow),
        pytest.param(trainer, "unfreeze_from", 2, id="boundary"),
        pytest.param(callbacks, "save_state", 6, id="fine-tuning"),
    ],
)
def test_resumed_run_with_cached_features_has_the_same_weights(
    cached_config: TrainingConfig,
    uninterrupted_cached: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    call: int,
) -> None:
    run = Run.create(tmp_path / "run")
    with monkeypatch.context() as patch:
        die_at(patch, owner, name, call)
        with pytest.raises(Killed):
            train(cached_config, run)
    assert run.cache_dir.is_dir()

    train(cached_config, run, resume=True)

    assert metrics(run) == metrics(uninterrupted_cached)
    assert fingerprint(run) == fingerprint(uninterrupted_cached)


@slow
def test_resume_with_another_weights_file_raises(
    config: TrainingConfig, tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "start.keras"
    shutil.copy(tiny_run.model_dir / "model.keras", weights)
    config = dataclasses.replace(config, weights=str(weights))
    run = Run.create(tmp_path / "run")
    with monkeypatch.context() as patch:
        die_at(patch, callbacks, "save_state", 2)
        with pytest.raises(Killed):
            train(config, run)
    build_model("tiny", image_size=(32, 32), dense_units=(8,)).save(weights)

    with pytest.raises(RunChangedError, match="file of initial weights"):
        train(config, run, resume=True)


def test_resume_after_sigkill_has_the_weights_of_an_uninterrupted_run(
    config: TrainingConfig, uninterrupted: Run, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": to_json(config)})
    run.write_status("queued")
    command = [sys.executable, "-m", "bc_model", "train", "--run", str(run.path), "--resume"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE_S
    while len(run.read_history()) < 2:
        assert child.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(random.random() / 10)
    child.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    child.wait()
    assert run.read_status()["state"] == "interrupted"

    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)

    assert metrics(run) == metrics(uninterrupted)
    assert fingerprint(run) == fingerprint(uninterrupted)


@slow
def test_full_disk_fails_the_run_which_can_be_resumed(
    config: TrainingConfig,
    uninterrupted: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run.create(tmp_path / "run")
    write, calls = checkpoint.write_bytes_atomic, [0]

    def full(path: Path, data: bytes) -> None:
        calls[0] += 1
        if calls[0] == 4:
            raise OSError(28, "No space left on device")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_bytes_atomic", full)
        with pytest.raises(RunError, match=r"No space left on device\. Free disk space"):
            train(config, run)
    assert run.read_status()["state"] == "failed"
    train(config, run, resume=True)
    assert fingerprint(run) == fingerprint(uninterrupted)


# Changes


@slow
def test_resume_with_changed_images_raises_unless_accepted(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "set"
    generate_dataset(data, n_cases=10, images_per_case=3, size=(64, 96))
    config = dataclasses.replace(config, data=str(data))
    run = Run.create(tmp_path / "run")
    with monkeypatch.context() as patch:
        die_at(patch, callbacks, "save_state", 2)
        with pytest.raises(Killed):
            train(config, run)
    next(data.rglob("*.png")).unlink()

    with pytest.raises(RunChangedError, match="changes: images of the dataset, split"):
        train(config, run, resume=True)
    assert run.has_changed
    train(config, run, resume=True, accept_changes=True)
    assert run.read_status()["state"] == "done"


def test_list_changes_names_each_change() -> None:
    before = {
        "data_sha256": "a", "split_sha256": "b", "git_commit": "c", "compute_dtype": "float32",
        "feature_extractor": "openvino-f32", "devices": 1,
        "versions": {"keras": "3.1", "numpy": "2.0"},
    }  # fmt: skip
    assert list_changes(before, before) == []
    now = before | {"git_commit": "d", "versions": {"keras": "3.2", "numpy": "2.0"}}
    assert list_changes(before, now) == ["keras (was 3.1, is 3.2)", "code"]
    now = before | {"compute_dtype": "bfloat16"}
    assert list_changes(before, now) == ["compute dtype (was float32, is bfloat16)"]
    now = before | {"feature_extractor": "openvino-bf16", "devices": 2}
    assert list_changes(before, now) == [
        "feature extractor (was openvino-f32, is openvino-bf16)",
        "number of devices (was 1, is 2)",
    ]


def test_list_changes_before_the_data_was_read_is_empty() -> None:
    now = {
        "data_sha256": "a",
        "split_sha256": "b",
        "git_commit": "c",
        "compute_dtype": "float32",
        "versions": {},
    }
    assert list_changes({"config": {}}, now) == []


# Checkpoint files


@pytest.fixture(scope="module")
def model() -> keras.Model:
    model = build_model("tiny", image_size=(32, 32), dense_units=(4,))
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", run_eagerly=True)
    rng = np.random.default_rng(0)
    x = rng.random((8, 32, 32, 3), np.float32) * 255
    model.fit(x, np.eye(2)[rng.integers(2, size=8)], epochs=1, verbose=0)
    return model


def test_restore_state_restores_all_variables(model: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    state = TrainState("finetune", 7, 3, False, 0.25, {"plateau": {"best": 0.25, "wait": 2.0}})
    save_state(path, state, model)
    model_before = [v.numpy().copy() for v in model.variables]
    optimizer_before = [v.numpy().copy() for v in model.optimizer.variables]

    other = build_model("tiny", image_size=(32, 32), dense_units=(4,))
    other.compile(optimizer=keras.optimizers.Adam(0.5), loss="categorical_crossentropy")
    restore_state(path, other)

    assert read_state(path) == state
    for before, variable in zip(model_before, other.variables, strict=True):
        np.testing.assert_array_equal(before, variable.numpy())
    for before, variable in zip(optimizer_before, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(before, variable.numpy())
    assert float(other.optimizer.learning_rate.numpy()) == pytest.approx(0.01)
    # The seed of the dropout layers is part of the state.
    assert any("seed" in variable.path for variable in model.variables)


def test_read_state_without_a_file_is_none(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state.npz") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_read_state_of_a_damaged_file_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.npz").write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        read_state(tmp_path / "state.npz")


def test_load_weights_of_another_model_raises(model: keras.Model, tmp_path: Path) -> None:
    save_weights(tmp_path / "best.npz", model)
    with pytest.raises(RunError, match="belongs to another model"):
        load_weights(tmp_path / "best.npz", build_model("tiny", dense_units=(5,)))


def test_save_weights_leaves_no_temporary_file(model: keras.Model, tmp_path: Path) -> None:
    save_weights(tmp_path / "best.npz", model)
    assert [path.name for path in tmp_path.iterdir()] == ["best.npz"]
