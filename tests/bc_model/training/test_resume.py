"""A run that ends at any moment goes on exactly as if it had never ended."""

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
from bc_model.errors import RunError
from bc_model.model import build_model, load_keras, weights_fingerprint
from bc_model.training import callbacks, checkpoint
from bc_model.training.checkpoint import (
    TrainState,
    load_weights,
    read_state,
    restore_state,
    save_state,
    save_weights,
)
from bc_model.training.config import TrainingConfig
from bc_model.training.resume import changes_since
from bc_model.training.run import Run
from bc_model.training.trainer import train

PATIENCE_S = 120


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours catches it on purpose."""


@pytest.fixture
def config(tiny_config: TrainingConfig) -> TrainingConfig:
    # Two epochs without a better loss lower the rate, four end a phase: the counters matter.
    return dataclasses.replace(
        tiny_config, head_epochs=3, finetune_epochs=4, patience=4, deterministic=True
    )


@pytest.fixture(scope="module")
def uninterrupted(tiny_config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory):
    """Train once without a break."""
    run = Run.create(tmp_path_factory.mktemp("whole") / "run")
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
    passing = ("seconds", "time")
    return [{k: v for k, v in one.items() if k not in passing} for one in run.read_history()]


def die_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int) -> None:
    """Let the given call of a function, counted from 1, end the process before it does anything."""
    original, calls = getattr(owner, name), [0]

    def counted(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


slow = pytest.mark.slow
MOMENTS = [
    # Before any state; between history and state; between best weights and state; in phase two;
    # at the boundary; after the last epoch; while the model is written.
    pytest.param("bc_model.training.callbacks.save_state", 1, id="first epoch", marks=slow),
    pytest.param("bc_model.training.callbacks.save_state", 2, id="head", marks=slow),
    pytest.param("bc_model.training.callbacks.save_weights", 2, id="best weights", marks=slow),
    pytest.param("bc_model.training.callbacks.save_state", 5, id="fine-tuning", marks=slow),
    # The first call is that of `build_model`.
    pytest.param("bc_model.training.trainer.unfreeze_from", 2, id="boundary"),
    pytest.param("bc_model.training.trainer.write_bundle", 1, id="export", marks=slow),
]


@pytest.mark.parametrize(("place", "call"), MOMENTS)
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    config: TrainingConfig,
    uninterrupted: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    call: int,
) -> None:
    run = Run.create(tmp_path / "run")
    with monkeypatch.context() as patch:
        module, _, name = place.rpartition(".")
        die_at(patch, sys.modules[module], name, call)
        with pytest.raises(Killed):
            train(config, run)
    assert not run.model_dir.exists()

    train(config, run, resume=True)

    assert run.read_status()["state"] == "done"
    assert metrics(run) == metrics(uninterrupted)
    assert fingerprint(run) == fingerprint(uninterrupted)


@pytest.mark.parametrize(
    "call", [pytest.param(2, id="head", marks=slow), pytest.param(6, id="fine-tuning")]
)
def test_a_run_through_the_cache_is_resumed_as_exactly(
    config: TrainingConfig,
    tiny_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: int,
) -> None:
    # From trained weights only the last block learns, on kept activations, in both phases.
    weights = tmp_path / "start.keras"
    shutil.copy(tiny_run.model_dir / "model.keras", weights)
    config = dataclasses.replace(config, weights=str(weights), augmented_copies=2)
    whole, run = (Run.create(tmp_path / name) for name in ("whole", "run"))
    train(config, whole)
    with monkeypatch.context() as patch:
        die_at(patch, callbacks, "save_state", call)
        with pytest.raises(Killed):
            train(config, run)
    assert run.cache_dir.is_dir()

    train(config, run, resume=True)

    assert metrics(run) == metrics(whole)
    assert fingerprint(run) == fingerprint(whole)


@slow
def test_another_file_of_initial_weights_is_noticed(
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

    with pytest.raises(RunError, match="the file of initial weights"):
        train(config, run, resume=True)


def test_a_real_kill_in_the_middle(
    config: TrainingConfig, uninterrupted: Run, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": config.as_dict()})
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
def test_a_full_disk_loses_the_epoch_and_not_the_run(
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
        with pytest.raises(RunError, match=r"No space left on device\. Make room and resume"):
            train(config, run)
    assert run.read_status()["state"] == "failed"
    train(config, run, resume=True)
    assert fingerprint(run) == fingerprint(uninterrupted)


# What changed


@slow
def test_other_images_are_named_and_refused_unless_accepted(
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

    with pytest.raises(
        RunError, match=r"the pictures of the data set, the split.*Accept the changes"
    ):
        train(config, run, resume=True)
    assert train(config, run, resume=True, accept_changes=True) is not None


def test_each_change_is_named() -> None:
    before = {
        "data_sha256": "a", "split_sha256": "b", "git_commit": "c", "compute_dtype": "float32",
        "features_by": "openvino-f32", "devices": 1,
        "versions": {"keras": "3.1", "numpy": "2.0"},
    }  # fmt: skip
    assert changes_since(before, before) == []
    now = before | {"git_commit": "d", "versions": {"keras": "3.2", "numpy": "2.0"}}
    assert changes_since(before, now) == ["keras (was 3.1, is 3.2)", "the program's code"]
    now = before | {"compute_dtype": "bfloat16"}
    assert changes_since(before, now) == ["the arithmetic (was float32, is bfloat16)"]
    old = {key: before[key] for key in before if key not in ("compute_dtype", "devices")}
    assert changes_since(old, now) == ["the arithmetic (was float32, is bfloat16)"]
    now = before | {"features_by": "openvino-bf16", "devices": 2}
    assert changes_since(before, now) == [
        "what the features are computed by (was openvino-f32, is openvino-bf16)",
        "the number of devices that share a batch (was 1, is 2)",
    ]


def test_a_run_that_never_came_to_its_data_has_nothing_to_compare() -> None:
    now = {
        "data_sha256": "a",
        "split_sha256": "b",
        "git_commit": "c",
        "compute_dtype": "float32",
        "versions": {},
    }
    assert changes_since({"config": {}}, now) == []


# The file


@pytest.fixture
def model() -> keras.Model:
    built = build_model("tiny", image_size=(32, 32), dense_units=(4,))
    built.compile(optimizer=keras.optimizers.Adam(0.01), loss="categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.random((8, 32, 32, 3), np.float32) * 255
    built.fit(x, np.eye(2)[rng.integers(2, size=8)], epochs=1, verbose=0)
    return built


def test_a_state_comes_back_whole(model: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    state = TrainState("finetune", 7, 3, False, 0.25, {"plateau": {"best": 0.25, "wait": 2.0}})
    save_state(path, state, model)
    model_then = [v.numpy().copy() for v in model.variables]
    optimizer_then = [v.numpy().copy() for v in model.optimizer.variables]

    other = build_model("tiny", image_size=(32, 32), dense_units=(4,))
    other.compile(optimizer=keras.optimizers.Adam(0.5), loss="categorical_crossentropy")
    restore_state(path, other)

    assert read_state(path) == state
    for was, variable in zip(model_then, other.variables, strict=True):
        np.testing.assert_array_equal(was, variable.numpy())
    for was, variable in zip(optimizer_then, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(was, variable.numpy())
    assert float(other.optimizer.learning_rate.numpy()) == pytest.approx(0.01)
    # Dropout draws on from where it stood: its seed is part of the state.
    assert any("seed" in variable.path for variable in model.variables)


def test_no_state_is_none(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state.npz") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_a_damaged_state_is_a_run_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.npz").write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        read_state(tmp_path / "state.npz")


def test_weights_of_another_network_are_refused(model: keras.Model, tmp_path: Path) -> None:
    save_weights(tmp_path / "best.npz", model)
    with pytest.raises(RunError, match="of another network"):
        load_weights(tmp_path / "best.npz", build_model("tiny", dense_units=(5,)))


def test_nothing_is_left_beside_the_file(model: keras.Model, tmp_path: Path) -> None:
    save_weights(tmp_path / "best.npz", model)
    assert [path.name for path in tmp_path.iterdir()] == ["best.npz"]
