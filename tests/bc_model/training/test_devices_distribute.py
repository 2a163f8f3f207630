"""Batches shared among several devices: two logical processors stand for two graphics cards."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bc_model.data.pipeline import validation_order
from bc_model.errors import ConfigError
from bc_model.training.config import TrainingConfig
from bc_model.training.devices import make_strategy, resolve_batch_size

# In a process of its own: devices are divided before TensorFlow uses the first of them.
TRAIN_ON_TWO = """
import json, sys
import tensorflow as tf
from pathlib import Path
from bc_model.training.trainer import train
from bc_model.training.run import Run
from bc_model.training.config import TrainingConfig

settings = TrainingConfig.from_dict(json.loads(sys.argv[1]))
if settings.multi_gpu:
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
    tf.config.list_logical_devices = lambda kind=None, real=tf.config.list_logical_devices: (
        real("CPU") if kind == "GPU" else real(kind)
    )
train(settings, Run.create(Path(sys.argv[2])))
"""


def test_one_switch_is_refused_without_cards(tiny_config: TrainingConfig) -> None:
    with pytest.raises(ConfigError, match=r"Expected two or more GPUs, got 0"):
        make_strategy(replace(tiny_config, multi_gpu=True))


def test_without_the_switch_nothing_is_mirrored(tiny_config: TrainingConfig) -> None:
    assert make_strategy(tiny_config).num_replicas_in_sync == 1


def train_on_two(config: TrainingConfig, run: Path) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_ON_TWO, json.dumps(config.as_dict()), str(run)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_device_gets_a_proportion_of_every_batch(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    # 18 pictures in batches of 16: of the two left over, the second device would get none, and
    # its normalisation over nothing would make every weight NaN. Six to validate in one batch.
    config = replace(tiny_config, multi_gpu=True, batch_size=16, finetune_epochs=2)
    for epoch in train_on_two(config, tmp_path / "run"):
        assert all(math.isfinite(epoch[name]) for name in ("loss", "val_loss"))


def test_the_validation_loss_is_that_of_the_images_alone() -> None:
    labels = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 1, 1]]
    losses = np.arange(7.0)
    _, plain, size = validation_order(labels, 4, 1)
    index, weights, shared = validation_order(labels, 4, 2)
    assert (size, shared) == (4, 4)
    assert len(index) % shared == 0
    assert (losses[index] * weights).mean() == pytest.approx((losses * plain).mean())


def test_a_batch_smaller_than_the_cards_is_refused(
    tiny_config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = SimpleNamespace(num_replicas_in_sync=4)
    monkeypatch.setattr("tensorflow.distribute.get_strategy", lambda: four)
    assert resolve_batch_size(replace(tiny_config, batch_size=35), 100) == (32, 4)
    for size, images in ((3, 100), (32, 20)):
        with pytest.raises(ConfigError, match="cannot be shared among 4 graphics cards"):
            resolve_batch_size(replace(tiny_config, batch_size=size), images)


@pytest.mark.slow
def test_two_devices_learn_what_one_learns(
    tiny_config: TrainingConfig, tiny_run: object, tmp_path: Path
) -> None:
    # From a trained network, whose statistics stand still, and without dropout: a batch in two
    # halves then has the gradient of the whole, but for rounding.
    config = replace(
        tiny_config,
        weights=str(tiny_run.model_dir / "model.keras"),
        compute_dtype="float32",
        dropout=0.0,
        head_epochs=2,
        finetune_epochs=2,
        batch_size=6,  # 18 pictures: no batch is left out
    )
    histories = [
        train_on_two(replace(config, multi_gpu=multi_gpu), tmp_path / f"multi-gpu-{multi_gpu}")
        for multi_gpu in (False, True)
    ]
    for one, two in zip(*histories, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(two["val_loss"], rel=1e-4)
    assert histories[0][-1]["loss"] != pytest.approx(histories[0][0]["loss"], rel=1e-3)
