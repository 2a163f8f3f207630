"""Inputs of a phase: training with and without cached features gives the same model."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from bc_model.data import pipeline
from bc_model.errors import RunError
from bc_model.model import build_model, load_keras
from bc_model.training import inputs
from bc_model.training.config import TrainingConfig
from bc_model.training.inputs import Subset, count_cache_bytes, make_cached_inputs
from bc_model.training.run import Run
from bc_model.training.trainer import train

pytestmark = pytest.mark.usefixtures("eagerly")

NO_PROGRESS = dict.fromkeys(("training", "validation"), lambda *_: None)


@pytest.fixture
def pretrained(tiny_config: TrainingConfig, tiny_run: Run) -> TrainingConfig:
    """Return a configuration in which both phases have frozen layers."""
    return dataclasses.replace(
        tiny_config,
        weights=str(tiny_run.model_dir / "model.keras"),
        head_epochs=3,
        finetune_epochs=3,
        dropout=0.0,
        augmented_copies=1,
        patience=50,
        seed=2,  # With 0 or 1, most hidden units are inactive, so that the loss hardly changes.
    )


def disable_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    def resize(image: tf.Tensor, image_size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
        resized = tf.image.resize(tf.cast(image, tf.float32), image_size)
        return tf.ensure_shape(resized, (*image_size, 3))

    monkeypatch.setattr(pipeline, "augment", resize)


def test_train_with_and_without_cache_gives_similar_losses(
    pretrained: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without augmentation, the only difference is rounding, mainly of activations to bfloat16.
    disable_augmentation(monkeypatch)
    histories = []
    for cache in (True, False):
        run = Run.create(tmp_path / f"cache-{cache}")
        train(dataclasses.replace(pretrained, cache_features=cache), run)
        assert not run.cache_dir.exists()  # The end of a run deletes the cache.
        histories.append(run.read_history())
    cached, uncached = histories
    assert [r["phase"] for r in cached] == ["head"] * 3 + ["finetune"] * 3
    for one, other in zip(cached, uncached, strict=True):
        tolerance = 2e-3 if one["phase"] == "head" else 2e-2
        for name in ("loss", "val_loss"):
            assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance)
    # The models have changed during training.
    assert abs(uncached[-1]["loss"] - uncached[0]["loss"]) > 0.01


def test_train_with_small_disk_raises_before_the_first_epoch(
    pretrained: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run")
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(RunError, match=r"got 1 MB\. Free disk space"):
        train(pretrained, run)
    assert run.read_history() == []


def make_subsets() -> tuple[Subset, Subset]:
    rng = np.random.default_rng(0)
    labels = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1]]
    pixels = rng.integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    return Subset(pixels, labels), Subset(pixels[:, :32, :32], labels)


def test_make_cached_inputs_returns_the_trained_layers(
    pretrained: TrainingConfig, tiny_run: Run, tmp_path: Path
) -> None:
    model = load_keras(tiny_run.model_dir / "model.keras")
    training, validation = make_subsets()
    phase_inputs = make_cached_inputs(
        model, "finetune", pretrained, training, validation, tmp_path, NO_PROGRESS
    )
    assert phase_inputs is not None
    names = {layer.name for layer in phase_inputs.model.layers}
    assert {"block3_conv", "logits"} <= names
    assert "block2_conv" not in names
    assert phase_inputs.seconds_per_image > 0.0
    # The tail computes of the cached features what the entire model computes of the images.
    (features, _, _) = next(iter(phase_inputs.validation))
    expected = model(validation.pixels.astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(
        phase_inputs.model(features, training=False).numpy(), expected, atol=2e-2
    )


def test_make_cached_inputs_for_the_second_phase_computes_nothing(
    pretrained: TrainingConfig, tiny_run: Run, tmp_path: Path
) -> None:
    model = load_keras(tiny_run.model_dir / "model.keras")
    training, validation = make_subsets()
    totals: list[int] = []
    arguments = (
        pretrained, training, validation, tmp_path,
        dict.fromkeys(("training", "validation"), lambda done, total: totals.append(total)),
    )  # fmt: skip
    phase_inputs = make_cached_inputs(model, "head", *arguments)
    assert phase_inputs is not None
    (features, _, _) = next(iter(phase_inputs.validation))
    expected = model(validation.pixels.astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(
        phase_inputs.model(features, training=False).numpy(), expected, atol=2e-2
    )
    totals.clear()
    assert make_cached_inputs(model, "finetune", *arguments) is not None
    assert totals == []


def test_make_cached_inputs_without_frozen_layers_is_none(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    model = build_model("tiny", image_size=(32, 32), dense_units=(8,))
    training, validation = make_subsets()
    arguments = (tiny_config, training, validation, tmp_path, NO_PROGRESS)
    assert make_cached_inputs(model, "finetune", *arguments) is None
    assert list(tmp_path.iterdir()) == []


def test_count_cache_bytes_adds_both_phases(pretrained: TrainingConfig) -> None:
    model = build_model("tiny", image_size=(32, 32), dense_units=(8,))
    config = dataclasses.replace(pretrained, augmented_copies=6)
    # 6 copies of 10 images and 3 validation images: 32 pooled features of four bytes, and 8x8x16
    # activations of two bytes before the last block.
    expected = 63 * 32 * 4 + 63 * 8 * 8 * 16 * 2
    assert count_cache_bytes(model, config, 10, 3) == expected


def test_make_extractor_from_scratch_or_deterministic_uses_float32(
    tiny_config: TrainingConfig, pretrained: TrainingConfig
) -> None:
    base = keras.Model(x := keras.Input((32, 32, 3)), keras.layers.Flatten()(x))
    assert inputs._make_extractor(base, (32, 32, 3), tiny_config).name == "tensorflow-f32"
    assert inputs._make_extractor(base, (32, 32, 3), pretrained).name.startswith("openvino")
    exact = dataclasses.replace(pretrained, deterministic=True)
    assert inputs._make_extractor(base, (32, 32, 3), exact).name == "tensorflow-f32"
