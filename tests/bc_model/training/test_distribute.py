"""Batches shared among several devices: two logical processors stand for two graphics cards."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bc_model.errors import SettingsError
from bc_model.training.distribute import strategy_for
from bc_model.training.settings import TrainSettings

# In a process of its own: devices are divided before TensorFlow uses the first of them.
TRAIN_ON_TWO = """
import json, sys
import tensorflow as tf
from pathlib import Path
from bc_model.training.fit import train
from bc_model.training.run_folder import RunFolder
from bc_model.training.settings import TrainSettings

settings = TrainSettings.from_dict(json.loads(sys.argv[1]))
if settings.mirrored:
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
    tf.config.list_logical_devices = lambda kind=None, real=tf.config.list_logical_devices: (
        real("CPU") if kind == "GPU" else real(kind)
    )
train(settings, RunFolder.create(Path(sys.argv[2])))
"""


def test_one_switch_is_refused_without_cards(tiny_settings: TrainSettings) -> None:
    with pytest.raises(SettingsError, match=r"two or more graphics cards; .* finds none here"):
        strategy_for(replace(tiny_settings, mirrored=True))


def test_without_the_switch_nothing_is_mirrored(tiny_settings: TrainSettings) -> None:
    assert strategy_for(tiny_settings).num_replicas_in_sync == 1


def test_two_devices_learn_what_one_learns(
    tiny_settings: TrainSettings, tiny_run: object, tmp_path: Path
) -> None:
    # From a trained network, whose statistics stand still, and without dropout: a batch in two
    # halves then has the gradient of the whole, but for rounding.
    settings = replace(
        tiny_settings,
        weights=str(tiny_run.model_folder / "model.keras"),
        arithmetic="float32",
        dropout=0.0,
        head_epochs=2,
        finetune_epochs=2,
    )
    histories = []
    for mirrored in (False, True):
        run = tmp_path / f"mirrored-{mirrored}"
        text = json.dumps(replace(settings, mirrored=mirrored).as_dict())
        done = subprocess.run(
            [sys.executable, "-c", TRAIN_ON_TWO, text, str(run)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        lines = (run / "history.jsonl").read_text().splitlines()
        histories.append([json.loads(line) for line in lines])
        assert json.loads((run / "status.json").read_text())["state"] == "done"
    for one, two in zip(*histories, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(two["val_loss"], rel=1e-4)
    assert histories[0][-1]["loss"] != pytest.approx(histories[0][0]["loss"], rel=1e-3)
