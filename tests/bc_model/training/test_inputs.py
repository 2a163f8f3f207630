"""Through the cache or without it: the same training, and only the time differs."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from bc_model.data import pipeline
from bc_model.errors import RunError
from bc_model.model import build_model, load_keras
from bc_model.training import inputs as feed
from bc_model.training.config import TrainingConfig
from bc_model.training.inputs import Subset, cache_bytes, cached_feed
from bc_model.training.run import Run
from bc_model.training.trainer import train


@pytest.fixture
def pretrained(tiny_config: TrainingConfig, tiny_run: Run) -> TrainingConfig:
    """Fine-tune the last block of a trained network: something stays frozen in both phases."""
    return dataclasses.replace(
        tiny_config,
        weights=str(tiny_run.model_dir / "model.keras"),
        head_epochs=3,
        finetune_epochs=3,
        dropout=0.0,
        augmented_copies=1,
        patience=50,
    )


def without_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    def resize(image: tf.Tensor, image_size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
        resized = tf.image.resize(tf.cast(image, tf.float32), image_size)
        return tf.ensure_shape(resized, (*image_size, 3))

    monkeypatch.setattr(pipeline, "augment", resize)


def test_both_ways_learn_the_same(
    pretrained: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One view, the picture itself, and no augmentation: nothing is left that could differ but
    # rounding, of the activations to bfloat16 above all.
    without_augmentation(monkeypatch)
    histories = []
    for cache in (True, False):
        run = Run.create(tmp_path / f"cache-{cache}")
        train(dataclasses.replace(pretrained, cache_features=cache), run)
        histories.append(run.read_history())
    cached, plain = histories
    assert [r["phase"] for r in cached] == ["head"] * 3 + ["finetune"] * 3
    for one, other in zip(cached, plain, strict=True):
        tolerance = 2e-3 if one["phase"] == "head" else 2e-2
        for name in ("loss", "val_loss"):
            assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance)
    # And they did learn: equal because nothing moved would not count.
    assert abs(plain[-1]["loss"] - plain[0]["loss"]) > 0.01


def test_the_cache_is_gone_when_the_run_is_done(pretrained: TrainingConfig, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    train(pretrained, run)
    assert run.read_status()["state"] == "done"
    assert not run.cache_dir.exists()


def test_too_little_room_is_found_before_the_first_epoch(
    pretrained: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run")
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(RunError, match=r"the disk has 0\.0 GB free; make room"):
        train(pretrained, run)
    assert run.read_history() == []


def parts() -> tuple[Subset, Subset]:
    rng = np.random.default_rng(0)
    labels = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1]]
    margin = rng.integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    return Subset(margin, labels), Subset(margin[:, :32, :32], labels)


def test_only_what_learns_is_fitted(
    pretrained: TrainingConfig, tiny_run: Run, tmp_path: Path
) -> None:
    model = load_keras(tiny_run.model_dir / "model.keras")
    training, validation = parts()
    fed = cached_feed(
        model, "finetune", pretrained, training, validation, tmp_path, lambda *_: None
    )
    assert fed is not None
    names = {layer.name for layer in fed.fitted.layers}
    assert {"block3_conv", "logits"} <= names
    assert "block2_conv" not in names
    assert fed.seconds_a_image > 0.0
    # The tail's answer on the kept activations is the whole network's on the pictures.
    (features, _, _) = next(iter(fed.validation))
    expected = model(validation.pixels.astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(fed.fitted(features, training=False).numpy(), expected, atol=2e-2)


def test_one_pass_through_the_network_serves_both_phases(
    pretrained: TrainingConfig, tiny_run: Run, tmp_path: Path
) -> None:
    model = load_keras(tiny_run.model_dir / "model.keras")
    training, validation = parts()
    told: list[int] = []
    arguments = (
        pretrained, training, validation, tmp_path, lambda _, done, total: told.append(total),
    )  # fmt: skip
    fed = cached_feed(model, "head", *arguments)
    assert fed is not None
    (features, _, _) = next(iter(fed.validation))
    expected = model(validation.pixels.astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(fed.fitted(features, training=False).numpy(), expected, atol=2e-2)
    told.clear()
    assert cached_feed(model, "finetune", *arguments) is not None
    assert told == []


def test_nothing_is_kept_where_everything_learns(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    model = build_model("tiny", image_size=(32, 32), dense_units=(8,))
    training, validation = parts()
    arguments = (tiny_config, training, validation, tmp_path, lambda *_: None)
    assert cached_feed(model, "finetune", *arguments) is None
    assert list(tmp_path.iterdir()) == []


def test_the_room_for_both_phases_by_hand(pretrained: TrainingConfig) -> None:
    model = build_model("tiny", image_size=(32, 32), dense_units=(8,))
    config = dataclasses.replace(pretrained, augmented_copies=6)
    # 10 pictures in 6 views and 3 to validate: 32 pooled features in four bytes, and the 8x8x16
    # before the last block in two.
    expected = 63 * 32 * 4 + 63 * 8 * 8 * 16 * 2
    assert cache_bytes(model, config, 10, 3) == expected


def test_a_network_from_scratch_is_computed_in_float32(
    tiny_config: TrainingConfig, pretrained: TrainingConfig
) -> None:
    base = keras.Model(x := keras.Input((32, 32, 3)), keras.layers.Flatten()(x))
    assert feed._extractor(base, (32, 32, 3), tiny_config).name == "tensorflow-f32"
    assert feed._extractor(base, (32, 32, 3), pretrained).name.startswith("openvino")
    exact = dataclasses.replace(pretrained, deterministic=True)
    assert feed._extractor(base, (32, 32, 3), exact).name == "tensorflow-f32"
