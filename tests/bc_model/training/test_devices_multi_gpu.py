"""Multi-GPU training, simulated by two logical processors in place of two GPUs."""

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
from bc_model.utils.serialization import to_json

# In a separate process, because devices are divided before TensorFlow uses the first one.
TRAIN_ON_TWO = """
import json, sys
import tensorflow as tf
from pathlib import Path
from bc_model.training.trainer import train
from bc_model.training.run import Run
from bc_model.training.config import TrainingConfig
from bc_model.utils.serialization import from_json

config = from_json(TrainingConfig, json.loads(sys.argv[1]))
if config.multi_gpu:
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
    tf.config.list_logical_devices = lambda kind=None, real=tf.config.list_logical_devices: (
        real("CPU") if kind == "GPU" else real(kind)
    )
train(config, Run.create(Path(sys.argv[2])))
"""


def test_make_strategy_without_gpus_raises(tiny_config: TrainingConfig) -> None:
    with pytest.raises(ConfigError, match=r"Expected two or more GPUs, got 0"):
        make_strategy(replace(tiny_config, multi_gpu=True))


def test_make_strategy_without_multi_gpu_uses_one_device(tiny_config: TrainingConfig) -> None:
    assert make_strategy(tiny_config).num_replicas_in_sync == 1


def train_in_process(config: TrainingConfig, run: Path) -> list[dict]:
    process = subprocess.run(
        [sys.executable, "-c", TRAIN_ON_TWO, json.dumps(to_json(config)), str(run)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_multi_gpu_training_with_odd_batches_has_finite_losses(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    # 18 images in batches of 16 leave two, so the second device could get none. Then its batch
    # normalization would be NaN. The six validation images are in one batch.
    config = replace(tiny_config, multi_gpu=True, batch_size=16, finetune_epochs=2)
    for epoch in train_in_process(config, tmp_path / "run"):
        assert all(math.isfinite(epoch[name]) for name in ("loss", "val_loss"))


def test_validation_order_for_two_devices_keeps_the_loss() -> None:
    labels = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 1, 1]]
    losses = np.arange(7.0)
    _, plain, size = validation_order(labels, 4, 1)
    index, weights, size_of_two = validation_order(labels, 4, 2)
    assert (size, size_of_two) == (4, 4)
    assert len(index) % size_of_two == 0
    assert (losses[index] * weights).mean() == pytest.approx((losses * plain).mean())


def test_resolve_batch_size_with_too_few_images_raises(
    tiny_config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = SimpleNamespace(num_replicas_in_sync=4)
    monkeypatch.setattr("tensorflow.distribute.get_strategy", lambda: four)
    assert resolve_batch_size(replace(tiny_config, batch_size=35), 100) == (32, 4)
    for size, images in ((3, 100), (32, 20)):
        with pytest.raises(ConfigError, match=f"for 4 GPUs. Expected 4 <= batch_size <= {images}"):
            resolve_batch_size(replace(tiny_config, batch_size=size), images)


@pytest.mark.slow
def test_multi_gpu_training_has_the_losses_of_one_device(
    tiny_config: TrainingConfig, tiny_run: object, tmp_path: Path
) -> None:
    # With frozen statistics and without dropout, a batch in two halves has the gradient of the
    # entire batch, except for rounding.
    config = replace(
        tiny_config,
        weights=str(tiny_run.model_dir / "model.keras"),
        compute_dtype="float32",
        dropout=0.0,
        head_epochs=2,
        finetune_epochs=2,
        batch_size=6,  # Of 18 images, so that no image is dropped.
    )
    histories = [
        train_in_process(replace(config, multi_gpu=multi_gpu), tmp_path / f"multi-gpu-{multi_gpu}")
        for multi_gpu in (False, True)
    ]
    for one, two in zip(*histories, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(two["val_loss"], rel=1e-4)
    assert histories[0][-1]["loss"] != pytest.approx(histories[0][0]["loss"], rel=1e-3)
