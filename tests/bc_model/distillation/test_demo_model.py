"""The build of the demo model with very few images and steps."""

from pathlib import Path

from bc_model.distillation.demo_model import DemoConfig, build_demo_model
from bc_model.inference.bundle import open_bundle

SMALL = DemoConfig(image_size=(32, 48), n_train=8, n_test=8, epochs=1, batch_size=4)


def test_build_demo_model_writes_a_synthetic_bundle_with_its_checks(tmp_path: Path) -> None:
    build_demo_model(tmp_path / "model", SMALL)

    bundle = open_bundle(tmp_path / "model")
    bundle.verify()
    data = bundle.card.data
    assert data.is_synthetic
    assert (data.n_images.train, data.n_images.test) == (8, 8)
    assert len(set(data.training_cases)) == 8
    assert bundle.card.metrics.test.n_cases == 8
    pointing, _ = bundle.card.metrics.explanations.pointing
    assert pointing.hit_rate.n_images == 3  # 3 of 8 images contain a lesion.
    assert len(bundle.card.metrics.explanations.randomization) == 3
