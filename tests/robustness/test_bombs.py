"""Costly files of `benchmarks.bombs`: each has its expected outcome within its bounds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.bombs import BOMBS, DECODED, MAX_MB, MAX_S, Bomb, Cost, measuring_process

Measure = Callable[[Bomb], tuple[int, Cost]]


@pytest.fixture(scope="module")
def measure() -> Iterator[Measure]:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("The peak of the memory can be measured on Linux only.")
    with measuring_process() as measure:
        yield measure


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(bomb, id=bomb.name, marks=[pytest.mark.slow] if bomb.is_slow else [])
        for bomb in BOMBS
    ],
)
def test_bomb_stays_within_bounds(bomb: Bomb, measure: Measure) -> None:
    _, cost = measure(bomb)
    assert bomb.find_breaches(cost) == []


@pytest.mark.parametrize(
    ("refusal", "cost"),
    [
        ("is too large.", Cost(DECODED, 0, 0)),
        ("is too large.", Cost("bomb.png is damaged or incomplete.", 0, 0)),
        ("is too large.", Cost("MemoryError: ", 0, 0)),
        (None, Cost("bomb.png is too large.", 0, 0)),
        (None, Cost(DECODED, MAX_S + 0.1, 0)),
        (None, Cost(DECODED, 0, MAX_MB + 1)),
    ],
)
def test_another_outcome_or_higher_cost_is_a_breach(refusal: str | None, cost: Cost) -> None:
    assert len(Bomb("PNG", "pixels", bytes, refusal).find_breaches(cost)) == 1


def test_the_expected_outcome_is_no_breach() -> None:
    assert not Bomb("PNG", "pixels", bytes).find_breaches(Cost(DECODED, MAX_S, MAX_MB))
    cost = Cost("bomb.png is too large. Use a smaller one.", 0, 0)
    assert not Bomb("PNG", "pixels", bytes, "is too large.").find_breaches(cost)
