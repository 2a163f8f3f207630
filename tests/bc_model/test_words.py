import pytest

from bc_model.words import duration_in_words, probability_in_words


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
