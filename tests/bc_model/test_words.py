import pytest

from bc_model.words import (
    duration_in_words,
    many,
    probability_in_words,
    rough_duration_in_words,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, words: str):
    assert duration_in_words(seconds) == words


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.0, "below 0.01"), (0.01, "0.01"), (0.5, "0.50"), (0.99, "0.99"), (1.0, "above 0.99")],
)
def test_a_probability_is_never_said_to_be_certain(probability: float, words: str):
    assert probability_in_words(probability) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "a minute"), (1020, "17 min"), (3590, "1 h"), (8000, "2 h 10 min"), (7170, "2 h")],
)
def test_a_guess_is_not_said_to_the_second(seconds: float, words: str):
    assert rough_duration_in_words(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (7909, "7,909 cases")]
)
def test_one_is_not_many(count: int, words: str):
    assert many(count, "case") == words
