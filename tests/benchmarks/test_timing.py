"""The arithmetic, timers and worker processes of the benchmarks."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks.engines import IMAGES
from benchmarks.inference import summarize_batch
from benchmarks.peak_throughput import PRODUCT_GFLOP, count_gflop
from benchmarks.timing import compute_speedup, describe_machine, run_rounds, time_once
from benchmarks.workers import workers


def test_compute_speedup_uses_ratios_within_rounds() -> None:
    # In round two both took ten times as long, so the ratio is unchanged.
    seconds = {"engine": np.array([1.0, 10.0, 1.0]), "reference": np.array([2.0, 20.0, 4.0])}
    ratio = compute_speedup(seconds, "engine", "reference")
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 4.0)


def test_run_rounds_calls_every_timer_in_rotating_order() -> None:
    calls: list[str] = []

    def timer(name: str, seconds: float) -> Callable[[], float]:
        return lambda: (calls.append(name), seconds)[1]

    found = run_rounds({"a": timer("a", 1.0), "b": timer("b", 2.0)}, rounds=2)
    assert calls == ["a", "b", "b", "a"]
    assert {name: list(values) for name, values in found.items()} == {"a": [1, 1], "b": [2, 2]}


def test_time_once_runs_the_action_twice() -> None:
    runs: list[int] = []
    assert time_once(lambda: runs.append(1)) >= 0.0
    assert len(runs) == 2


FACTORIES = """
import os

def counting(folder):
    return {"write": lambda: (folder / "pid").write_text(str(os.getpid()))}

def broken(folder):
    (folder / "started").touch()
    raise SystemExit(1)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module that a new process can import, unlike a test module."""
    (tmp_path / "worker_factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("worker_factories")


def test_workers_run_functions_in_a_new_process(tmp_path: Path, factories: ModuleType) -> None:
    with workers(tmp_path, factories.counting) as timers:
        assert timers["write"]() >= 0.0
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_workers_dead_process_raises(tmp_path: Path, factories: ModuleType) -> None:
    with pytest.raises(EOFError), workers(tmp_path, factories.broken):
        pass
    assert (tmp_path / "started").exists()


def test_summarize_batch_returns_worked_values() -> None:
    names = ("Model.predict", "tf.function", "ONNX Runtime", "f32", "bf16", "int8")
    seconds = {name: np.array([2.0, 4.0, 2.0]) for name in names}
    seconds["f32"] = np.array([1.0, 2.0, 1.0])
    seconds["f32 with heatmaps"] = np.array([1.1, 2.2, 1.1])
    seconds |= {"peak f32": np.full(3, 0.5), "peak bf16": np.full(3, 0.25)}
    found = summarize_batch(seconds, gflop=1.0)
    assert found["speedup_at_batch_32"]["f32"]["Model.predict"]["median"] == 2.0
    assert found["images_per_second"]["f32"] == IMAGES
    assert found["heatmap_extra_cost_at_batch_32"] == pytest.approx(0.1)
    # Each image needs 1 GFLOP. The peak is PRODUCT_GFLOP in half a second.
    assert found["proportion_of_peak"]["f32"] == pytest.approx(IMAGES / (PRODUCT_GFLOP / 0.5))


def test_count_gflop_of_one_convolution() -> None:
    import keras

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, padding="same")(image))
    # 8 x 8 positions, 4 filters of 3 x 3 x 3, one multiplication and one addition each.
    assert count_gflop(model) == pytest.approx(2 * 8 * 8 * 4 * 27 / 1e9)


def test_describe_machine_names_processor_and_cores() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["processor"]
