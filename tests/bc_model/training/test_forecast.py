"""The time said before a start: worked by hand."""

import pytest

from bc_model.training.forecast import START_S, forecast_seconds, measure_gflops
from bc_model.training.settings import TrainSettings


def seconds(**changes: object) -> float:
    values = {"data": "set", "weights": "imagenet", "head_epochs": 10, "finetune_epochs": 0}
    # 7.7 GFLOP a picture at 7.7 GFLOP/s: a second each.
    return forecast_seconds(TrainSettings(**{**values, **changes}), 100, 20, 7.7) - START_S


def test_every_epoch_of_a_plain_first_phase_sees_every_picture() -> None:
    assert seconds(cache=False) == pytest.approx(10 * 120)


def test_a_cached_first_phase_sees_each_view_once_whatever_its_epochs() -> None:
    assert seconds(views=6) == pytest.approx(6 * 100 + 20)
    assert seconds(views=6, head_epochs=500) == seconds(views=6)


def test_a_picture_of_half_the_side_is_a_quarter_of_the_work() -> None:
    assert seconds(cache=False, image_size=(112, 112)) == pytest.approx(10 * 120 / 4)


def test_from_scratch_everything_is_trained_and_nothing_kept() -> None:
    found = seconds(weights="none", head_epochs=0, finetune_epochs=3)
    assert found == pytest.approx(3 * (120 + 2 * 100))


def test_a_machine_has_a_rate() -> None:
    assert 0.1 < measure_gflops() < 1e6
