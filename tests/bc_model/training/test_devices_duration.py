"""The estimated duration, compared with values computed on paper."""

import pytest

from bc_model.training import devices
from bc_model.training.config import TrainingConfig
from bc_model.training.devices import estimate_duration_s, measure_gflops

STARTUP_S = devices._STARTUP_S


def duration_s(**changes: object) -> float:
    values = {"data": "set", "weights": "imagenet", "head_epochs": 10, "finetune_epochs": 0}
    # 7.7 GFLOP per image at 7.7 GFLOP/s: one second per image.
    return estimate_duration_s(TrainingConfig(**{**values, **changes}), 100, 20, 7.7) - STARTUP_S


def test_head_training_without_cache_uses_all_images_in_each_epoch() -> None:
    assert duration_s(cache_features=False) == pytest.approx(10 * 120)


def test_head_training_with_cache_uses_each_copy_once() -> None:
    assert duration_s(augmented_copies=6) == pytest.approx(6 * 100 + 20)
    assert duration_s(augmented_copies=6, head_epochs=500) == duration_s(augmented_copies=6)


def test_both_phases_share_one_pass_through_the_backbone() -> None:
    epoch = 0.25 * (120 + 2 * 100)
    assert duration_s(augmented_copies=6, finetune_epochs=4) == pytest.approx(
        6 * 100 + 20 + 4 * epoch
    )
    alone = duration_s(augmented_copies=6, head_epochs=0, finetune_epochs=4)
    assert alone == pytest.approx(6 * 100 + 20 + 4 * epoch)


def test_bfloat16_speeds_up_training_from_pretrained_weights() -> None:
    def speedup(**changes: object) -> float:
        config = TrainingConfig(data="set", **{"weights": "imagenet", **changes})
        plain, faster = (
            estimate_duration_s(config, 100, 20, 7.7, has_bfloat16=has) - STARTUP_S
            for has in (False, True)
        )
        return plain / faster

    assert speedup() == pytest.approx(devices._BFLOAT16_SPEEDUP)
    assert speedup(compute_dtype="float32") == speedup(weights="none") == 1.0


def test_duration_is_proportional_to_the_image_area() -> None:
    assert duration_s(cache_features=False, image_size=(112, 112)) == pytest.approx(10 * 120 / 4)


def test_duration_from_scratch_includes_all_backward_passes() -> None:
    from_scratch = duration_s(weights="none", head_epochs=0, finetune_epochs=3)
    assert from_scratch == pytest.approx(3 * (120 + 2 * 100))


def test_measure_gflops_is_plausible() -> None:
    assert 0.1 < measure_gflops() < 1e6
