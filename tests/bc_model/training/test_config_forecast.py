"""The time said before a start: worked by hand."""

import pytest

from bc_model.training.config import (
    BFLOAT16_GAIN,
    START_S,
    TrainingConfig,
    estimate_duration_s,
    measure_gflops,
)


def seconds(**changes: object) -> float:
    values = {"data": "set", "weights": "imagenet", "head_epochs": 10, "finetune_epochs": 0}
    # 7.7 GFLOP a picture at 7.7 GFLOP/s: a second each.
    return estimate_duration_s(TrainingConfig(**{**values, **changes}), 100, 20, 7.7) - START_S


def test_every_epoch_of_a_plain_first_phase_sees_every_image() -> None:
    assert seconds(cache_features=False) == pytest.approx(10 * 120)


def test_a_cached_first_phase_sees_each_view_once_whatever_its_epochs() -> None:
    assert seconds(augmented_copies=6) == pytest.approx(6 * 100 + 20)
    assert seconds(augmented_copies=6, head_epochs=500) == seconds(augmented_copies=6)


def test_one_pass_serves_both_phases() -> None:
    tuned = 0.25 * (120 + 2 * 100)
    assert seconds(augmented_copies=6, finetune_epochs=4) == pytest.approx(6 * 100 + 20 + 4 * tuned)
    alone = seconds(augmented_copies=6, head_epochs=0, finetune_epochs=4)
    assert alone == pytest.approx(6 * 100 + 20 + 4 * tuned)


def test_bfloat16_speeds_up_what_starts_from_weights() -> None:
    def found(**changes: object) -> float:
        config = TrainingConfig(data="set", **{"weights": "imagenet", **changes})
        plain, faster = (
            estimate_duration_s(config, 100, 20, 7.7, has_bfloat16=has) - START_S
            for has in (False, True)
        )
        return plain / faster

    assert found() == pytest.approx(BFLOAT16_GAIN)
    assert found(compute_dtype="float32") == found(weights="none") == 1.0


def test_a_image_of_half_the_side_is_a_quarter_of_the_work() -> None:
    assert seconds(cache_features=False, image_size=(112, 112)) == pytest.approx(10 * 120 / 4)


def test_from_scratch_everything_is_trained_and_nothing_kept() -> None:
    found = seconds(weights="none", head_epochs=0, finetune_epochs=3)
    assert found == pytest.approx(3 * (120 + 2 * 100))


def test_a_machine_has_a_rate() -> None:
    assert 0.1 < measure_gflops() < 1e6
