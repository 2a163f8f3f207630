"""A few rounds of `benchmarks.faults`, and a short test of `benchmarks.load`."""

import random
from pathlib import Path

import pytest

from benchmarks.faults import KINDS
from benchmarks.load import measure_hostile, measure_load

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", KINDS)
def test_killed_work_is_resumed_without_a_loss(kind: str, tmp_path: Path) -> None:
    result = KINDS[kind](2, random.Random(0), tmp_path)
    assert result.lost == []
    assert result.kills


def test_answers_to_many_users_are_those_to_a_single_user() -> None:
    numbers, _ = measure_load(sessions=6, seconds=10)
    # The memory grows until the caches are full, which takes longer than this test.
    assert (numbers["wrong"], numbers["errors"]) == (0, 0)
    assert numbers["images"] > 0


def test_hostile_uploads_do_not_disturb_other_users() -> None:
    numbers, _ = measure_hostile(seconds=10)
    assert (numbers["attacked"]["wrong"], numbers["attacked"]["errors"]) == (0, 0)
    assert max(numbers["attacked"]["memory_mb"]) < 2500
