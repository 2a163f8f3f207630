"""Inference speed compared with references: ``python -m benchmarks.inference [--json]``.

It measures images per second in batches of 32 and the time of one prediction with Grad-CAM. Every
engine uses the same ResNet50 with random weights and the same images of 224x224 px. A matrix
product at the same precision measures the peak throughput of the machine.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from bc_model.inference import supported_precisions
from bc_model.utils import silence_native_stderr
from benchmarks import engines
from benchmarks.engines import BATCH, IMAGES, PRECISIONS
from benchmarks.peak_throughput import PRODUCT_GFLOP, count_gflop
from benchmarks.startup import measure_startup
from benchmarks.timing import ROUNDS, Ratio, compute_speedup, describe_machine, run_rounds
from benchmarks.workers import workers

FINER = ("fine heatmaps", "finest heatmaps")
REFERENCES = ("Model.predict", "tf.function", "ONNX Runtime")


def measure(rounds: int) -> dict[str, Any]:
    """Return all measurements as JSON-safe values."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with silence_native_stderr():
            gflop = count_gflop(engines.prepare(folder))
        with workers(
            folder,
            engines.tensorflow_batch,
            engines.onnx_batch,
            engines.openvino_batch,
            engines.peak_batch,
        ) as timers:
            batch = run_rounds(timers, rounds=rounds)
        with workers(folder, engines.openvino_single, engines.tensorflow_single) as timers:
            single = run_rounds(timers, rounds=3 * rounds)
    return {
        "machine": describe_machine(),
        "batch": BATCH,
        "rounds": rounds,
        "native_precisions": sorted(supported_precisions()),
        "gflop_per_image": gflop,
        **summarize_batch(batch, gflop),
        "milliseconds_one_image": {k: 1e3 * float(np.median(v)) for k, v in single.items()},
        "speedup_one_image_with_heatmaps": {
            reference: asdict(compute_speedup(single, "this project", reference))
            for reference in ("tf-keras-vis", "GradientTape")
        },
        "heatmap_extra_cost_one_image": float(
            np.median(single["this project"] / single["prediction alone"] - 1.0)
        ),
        "duration_of_finer_heatmaps": {
            name: asdict(compute_speedup(single, "this project", name)) for name in FINER
        },
        "startup": measure_startup(),
    }


def summarize_batch(seconds: dict[str, np.ndarray], gflop: float) -> dict[str, Any]:
    """Return rates and speedups for durations of `IMAGES` images, by engine and round."""
    rates = {
        name: float(np.median(IMAGES / spent))
        for name, spent in seconds.items()
        if not name.startswith("peak")
    }
    # The peak is the best round, not the median.
    peak = {name: PRODUCT_GFLOP / seconds[f"peak {name}"].min() for name in ("f32", "bf16")}
    extra = seconds["f32 with heatmaps"] / seconds["f32"] - 1.0
    return {
        "images_per_second": rates,
        "speedup_at_batch_32": {
            name: {
                reference: asdict(compute_speedup(seconds, name, reference))
                for reference in REFERENCES
            }
            for name in PRECISIONS
        },
        "heatmap_extra_cost_at_batch_32": float(np.median(extra)),
        "peak_gflops": peak,
        "proportion_of_peak": {name: gflop * rates[name] / peak[name] for name in peak},
    }


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="Rounds, at least five.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, as_json: bool) -> None:
    """Measure inference and compare it with references."""
    found = measure(max(5, rounds))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    machine = found["machine"]
    click.echo(
        f"{machine['processor']}, {machine['cores']} cores, {', '.join(machine['features'])}"
    )
    native = ", ".join(found["native_precisions"])
    click.echo(f"  native precisions: {native}; other precisions use f32")
    for name, speed in found["images_per_second"].items():
        click.echo(f"  {name}: {speed:.1f} images/s")
    for name, speedups in found["speedup_at_batch_32"].items():
        text = ", ".join(f"{reference} {Ratio(**ratio)}" for reference, ratio in speedups.items())
        click.echo(f"  speedup of {name} over {text}")
    for name, milliseconds in found["milliseconds_one_image"].items():
        click.echo(f"  one image, {name}: {milliseconds:.1f} ms")
    for name, ratio in found["speedup_one_image_with_heatmaps"].items():
        click.echo(f"  speedup with heatmaps over {name}: {Ratio(**ratio)}")
    for name, ratio in found["duration_of_finer_heatmaps"].items():
        click.echo(f"  duration of {name}, relative to those of the last block: {Ratio(**ratio)}")
    click.echo(
        f"  extra cost of heatmaps at batch 32: {found['heatmap_extra_cost_at_batch_32']:.1%}"
    )
    for name, proportion in found["proportion_of_peak"].items():
        click.echo(
            f"  {name}: {proportion:.0%} of the peak of {found['peak_gflops'][name]:.0f} GFLOP/s"
        )
    for name, value in found["startup"].items():
        click.echo(f"  {name.replace('_', ' ')}: {value:.2f}")


if __name__ == "__main__":
    main()
