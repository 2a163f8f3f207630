import pytest

from bc_model.utils.formatting import (
    format_count,
    format_duration,
    format_duration_estimate,
    format_probability,
    format_with_threshold,
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_format_duration_uses_two_units(seconds: float, expected: str):
    assert format_duration(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "1 min"), (1020, "17 min"), (3590, "1 h"), (8000, "2 h 10 min"), (7170, "2 h")],
)
def test_format_duration_estimate_is_rounded(seconds: float, expected: str):
    assert format_duration_estimate(seconds) == expected


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(0.0, "below 0.01"), (0.01, "0.01"), (0.5, "0.50"), (0.99, "0.99"), (1.0, "above 0.99")],
)
def test_format_probability_is_never_0_or_1(probability: float, expected: str):
    assert format_probability(probability) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (7909, "7,909 cases")]
)
def test_format_count_is_singular_for_1_only(count: int, expected: str):
    assert format_count(count, "case") == expected


@pytest.mark.parametrize(
    ("probability", "threshold", "expected"),
    [
        (0.874, 0.5, ("0.87", "0.50")),
        (0.5, 0.5, ("0.50", "0.50")),
        (0.4987, 0.5, ("0.499", "0.500")),
        (0.49996, 0.5, ("0.49996", "0.50000")),
        (0.5021, 0.5, ("0.502", "0.500")),
        (0.9996, 0.5, ("above 0.99", "0.50")),
        (0.9996, 0.999, ("above 0.999", "0.999")),
        (0.004, 0.0, ("0.004", "0.000")),
        (0.0004, 0.3, ("below 0.01", "0.30")),
    ],
)
def test_format_with_threshold_near_the_threshold_adds_digits(
    probability: float, threshold: float, expected: tuple[str, str]
):
    assert format_with_threshold(probability, threshold) == expected
