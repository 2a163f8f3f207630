"""Training is reproducible."""

from pathlib import Path

import pytest

from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.training.trainer import train


def test_train_with_the_same_seed_gives_the_same_losses(
    tiny_config: TrainingConfig, tiny_run: Run, tmp_path: Path
) -> None:
    run = train(tiny_config, tmp_path / "run")
    for epoch, expected in zip(run.read_history(), tiny_run.read_history(), strict=True):
        for key in ("loss", "val_loss", "accuracy", "val_accuracy"):
            assert epoch[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-4)
