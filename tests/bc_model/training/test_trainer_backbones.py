"""Every backbone: head training, fine-tuning, the bundle and its heatmaps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bc_model.data.breakhis import CLASSES
from bc_model.data.synthetic import generate_image
from bc_model.gradcam import GradCAM
from bc_model.inference.bundle import open_bundle
from bc_model.inference.engine import Engine
from bc_model.model import BACKBONES, build_model, load_keras
from bc_model.training.config import TrainingConfig
from bc_model.training.trainer import train

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES if name != "tiny"]


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backbone", ["tiny", *SLOW])
def test_train_from_pretrained_weights_gives_the_heatmaps_of_keras(
    backbone: str, compute_dtype: str, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    start = build_model(backbone, image_size=(32, 32), dense_units=(8,))
    start.save(tmp_path / "start.keras")
    config = replace(
        tiny_config, backbone=backbone, weights=str(tmp_path / "start.keras"), augmented_copies=2,
        compute_dtype=compute_dtype, finetune_learning_rate=1e-2,
    )  # fmt: skip
    run = train(config, tmp_path / "run")

    assert [epoch["phase"] for epoch in run.read_history()] == ["head", "finetune"]
    image = generate_image(malignant=True, seed=1, case_seed=1, size=(32, 32))
    bundle = open_bundle(run.path)
    model = load_keras(run.model_dir / "model.keras")
    # The saved model computes in float32 after training in any dtype.
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    heatmaps = Engine(bundle).explain(image[None]).heatmaps
    for name in CLASSES:
        (expected,) = GradCAM(model)(image[None], name)
        scale = max(expected.maximum, 1e-6)
        np.testing.assert_allclose(heatmaps[0][name].raw, expected.raw, atol=1e-3 * scale)
