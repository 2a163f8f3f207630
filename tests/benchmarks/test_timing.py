"""The arithmetic of the benchmarks: a wrong ratio would be a wrong claim."""

import numpy as np
import pytest

from benchmarks.ceiling import count_gflop
from benchmarks.timing import describe_machine, faster, run_rounds


def test_a_ratio_is_taken_within_each_round() -> None:
    # Round two ran on a slow machine: both took ten times as long, and their ratio stands.
    seconds = {"ours": np.array([1.0, 10.0, 1.0]), "theirs": np.array([2.0, 20.0, 4.0])}
    ratio = faster(seconds, "ours", "theirs")
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 4.0)


def test_each_round_times_everyone_after_an_untimed_run_of_its_own() -> None:
    ran: list[str] = []
    found = run_rounds({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, rounds=2)
    # And the order turns: nobody always follows the same one.
    assert ran == ["a", "a", "b", "b", "b", "b", "a", "a"]
    assert {name: len(values) for name, values in found.items()} == {"a": 2, "b": 2}


def test_multiply_adds_of_one_convolution_by_hand() -> None:
    import keras

    picture = keras.Input((8, 8, 3))
    model = keras.Model(picture, keras.layers.Conv2D(4, 3, padding="same")(picture))
    # 8 x 8 places, 4 filters of 3 x 3 x 3, one multiplication and one addition each.
    assert count_gflop(model) == pytest.approx(2 * 8 * 8 * 4 * 27 / 1e9)


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["processor"]
