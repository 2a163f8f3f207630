"""The arithmetic of the benchmarks: a wrong ratio would be a wrong claim."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks.ceiling import PRODUCT_GFLOP, count_gflop
from benchmarks.contestants import IMAGES
from benchmarks.serving import summarize_batch
from benchmarks.timing import describe_machine, faster, run_rounds, time_once
from benchmarks.workers import workers


def test_a_ratio_is_taken_within_each_round() -> None:
    # Round two ran on a slow machine: both took ten times as long, and their ratio stands.
    seconds = {"ours": np.array([1.0, 10.0, 1.0]), "theirs": np.array([2.0, 20.0, 4.0])}
    ratio = faster(seconds, "ours", "theirs")
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 4.0)


def test_each_round_asks_everyone_and_turns_the_order() -> None:
    asked: list[str] = []

    def timer(name: str, seconds: float) -> Callable[[], float]:
        return lambda: (asked.append(name), seconds)[1]

    found = run_rounds({"a": timer("a", 1.0), "b": timer("b", 2.0)}, rounds=2)
    assert asked == ["a", "b", "b", "a"]
    assert {name: list(values) for name, values in found.items()} == {"a": [1, 1], "b": [2, 2]}


def test_the_timed_run_follows_an_untimed_one() -> None:
    ran: list[int] = []
    assert time_once(lambda: ran.append(1)) >= 0.0
    assert len(ran) == 2


FACTORIES = """
import os

def counting(folder):
    return {"write": lambda: (folder / "pid").write_text(str(os.getpid()))}

def broken(folder):
    (folder / "tried").touch()
    raise SystemExit(1)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that a new process can import, which pytest's own test modules are not."""
    (tmp_path / "factories_of_a_test.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("factories_of_a_test")


def test_contestants_run_in_a_process_of_their_own(tmp_path: Path, factories: ModuleType) -> None:
    with workers(tmp_path, factories.counting) as timers:
        assert timers["write"]() >= 0.0
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_a_worker_that_dies_is_noticed(tmp_path: Path, factories: ModuleType) -> None:
    with pytest.raises(EOFError), workers(tmp_path, factories.broken):
        pass
    assert (tmp_path / "tried").exists()


def test_ratios_of_a_batch_by_hand() -> None:
    names = ("Model.predict", "tf.function", "ONNX Runtime", "f32", "bf16", "int8")
    seconds = {name: np.array([2.0, 4.0, 2.0]) for name in names}
    seconds["f32"] = np.array([1.0, 2.0, 1.0])
    seconds["f32 with heatmaps"] = np.array([1.1, 2.2, 1.1])
    seconds |= {"ceiling f32": np.full(3, 0.5), "ceiling bf16": np.full(3, 0.25)}
    found = summarize_batch(seconds, gflop=1.0)
    assert found["faster_at_batch_32"]["f32"]["Model.predict"]["median"] == 2.0
    assert found["images_per_second"]["f32"] == IMAGES
    assert found["heatmap_extra_cost_at_batch_32"] == pytest.approx(0.1)
    # Pictures of 1 GFLOP in a second, where the machine could do PRODUCT_GFLOP in half a one.
    assert found["share_of_ceiling"]["f32"] == pytest.approx(IMAGES / (PRODUCT_GFLOP / 0.5))


def test_multiply_adds_of_one_convolution_by_hand() -> None:
    import keras

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, padding="same")(image))
    # 8 x 8 places, 4 filters of 3 x 3 x 3, one multiplication and one addition each.
    assert count_gflop(model) == pytest.approx(2 * 8 * 8 * 4 * 27 / 1e9)


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["processor"]
