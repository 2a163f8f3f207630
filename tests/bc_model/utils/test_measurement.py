"""The text and the JSON form of a metric."""

import numpy as np
import pytest

from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import dumps, loads


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (
            Metric(0.891, 0.812, 0.949, 120, 8, "m"),
            "0.89 (95 % CI 0.81-0.95; 120 images, 8 cases)",
        ),
        (Metric(0.5, 0.0, 1.0, 1, 1, "m"), "0.50 (95 % CI 0.00-1.00; 1 image, 1 case)"),
        (
            Metric(0.5, 0.4, 0.6, 20, 0, "m", "too narrow"),
            "0.50 (95 % CI 0.40-0.60; 20 images, unknown cases)",
        ),
        (
            Metric(-0.1, -0.25, -0.05, 20, 4, "m"),
            "-0.10 (95 % CI -0.25 to -0.05; 20 images, 4 cases)",
        ),
        (
            Metric(1.0, None, None, 20, 4, "m", "only one benign case"),
            "1.00 (no interval: only one benign case; 20 images, 4 cases)",
        ),
        (Metric(1.0, None, None, 20, 4, "m"), "1.00 (no interval; 20 images, 4 cases)"),
        (
            Metric(None, None, None, 20, 4, "m", "only one class present"),
            "not defined: only one class present",
        ),
    ],
)
def test_metric_text_contains_interval_and_numbers(metric: Metric, text: str) -> None:
    assert str(metric) == text


def test_metric_text_uses_digits() -> None:
    assert Metric(0.8912, 0.8, 0.9, 2, 2, "m").text(3).startswith("0.891 (95 % CI 0.800-0.900;")


def test_metric_round_trips_json() -> None:
    metric = Metric(0.1, None, None, 3, 2, "m", "why")
    assert loads(Metric, dumps(metric)) == metric


@pytest.mark.parametrize(
    "numbers", [(np.nan, None, None), (0.5, np.inf, 0.6), (0.5, 0.4, None), (0.5, None, 0.6)]
)
def test_metric_invalid_numbers_raises(numbers: tuple[float | None, ...]) -> None:
    with pytest.raises(ValueError, match="Invalid metric"):
        Metric(*numbers, 1, 1, "m")  # type: ignore[arg-type]
