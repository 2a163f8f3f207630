"""Serving against its references: ``python -m benchmarks.serving [--json]``.

Pictures per second in batches of 32, several in a row, and the time of one explained picture: one
ResNet50 with random weights at 224x224, every contestant on the same weights and pictures. Beside
them the machine's own ceiling: a matrix product by the same engine at the same precision.
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
from benchmarks import contestants
from benchmarks.ceiling import PRODUCT_GFLOP, count_gflop
from benchmarks.contestants import BATCH, IMAGES, PRECISIONS
from benchmarks.start import measure_start
from benchmarks.timing import ROUNDS, Ratio, describe_machine, faster, run_rounds
from benchmarks.workers import workers

REFERENCES = ("Model.predict", "tf.function", "ONNX Runtime")


def measure(rounds: int) -> dict[str, Any]:
    """Measure everything and return it as JSON-safe values."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with silence_native_stderr():
            gflop = count_gflop(contestants.prepare(folder))
        with workers(
            folder,
            contestants.tensorflow_batch,
            contestants.onnx_batch,
            contestants.our_batch,
            contestants.machine_ceiling,
        ) as timers:
            batch = run_rounds(timers, rounds=rounds)
        with workers(folder, contestants.our_single, contestants.tensorflow_single) as timers:
            single = run_rounds(timers, rounds=3 * rounds)
    return {
        "machine": describe_machine(),
        "batch": BATCH,
        "rounds": rounds,
        "native_precisions": sorted(supported_precisions()),
        "gflop_per_image": gflop,
        **summarize_batch(batch, gflop),
        "milliseconds_one_image": {k: 1e3 * float(np.median(v)) for k, v in single.items()},
        "faster_one_explained_picture": {
            reference: asdict(faster(single, "this project", reference))
            for reference in ("tf-keras-vis", "GradientTape")
        },
        "heatmap_extra_cost_one_picture": float(
            np.median(single["this project"] / single["prediction alone"] - 1.0)
        ),
        "start": measure_start(),
    }


def summarize_batch(seconds: dict[str, np.ndarray], gflop: float) -> dict[str, Any]:
    """Turn seconds for `IMAGES` pictures, by contestant and round, into rates and ratios."""
    rates = {
        name: float(np.median(IMAGES / spent))
        for name, spent in seconds.items()
        if not name.startswith("ceiling")
    }
    # A ceiling is the best that was seen, not the usual.
    ceiling = {name: PRODUCT_GFLOP / seconds[f"ceiling {name}"].min() for name in ("f32", "bf16")}
    extra = seconds["f32 with heatmaps"] / seconds["f32"] - 1.0
    return {
        "images_per_second": rates,
        "faster_at_batch_32": {
            name: {reference: asdict(faster(seconds, name, reference)) for reference in REFERENCES}
            for name in PRECISIONS
        },
        "heatmap_extra_cost_at_batch_32": float(np.median(extra)),
        "ceiling_gflops": ceiling,
        "share_of_ceiling": {name: gflop * rates[name] / ceiling[name] for name in ceiling},
    }


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="At least five.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, as_json: bool) -> None:
    """Measure serving side by side with its references."""
    found = measure(max(5, rounds))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    machine = found["machine"]
    click.echo(
        f"{machine['processor']}, {machine['cores']} cores, {', '.join(machine['features'])}"
    )
    native = ", ".join(found["native_precisions"])
    click.echo(f"  computed natively: {native}; what is not among them fell back to f32")
    for name, speed in found["images_per_second"].items():
        click.echo(f"  {name}: {speed:.1f} pictures/s")
    for name, against in found["faster_at_batch_32"].items():
        words = ", ".join(f"{Ratio(**ratio)} {reference}" for reference, ratio in against.items())
        click.echo(f"  {name} against {words}")
    for name, milliseconds in found["milliseconds_one_image"].items():
        click.echo(f"  one picture, {name}: {milliseconds:.1f} ms")
    for name, ratio in found["faster_one_explained_picture"].items():
        click.echo(f"  one explained picture against {name}: {Ratio(**ratio)}")
    click.echo(f"  heatmaps cost {found['heatmap_extra_cost_at_batch_32']:.1%} more at batch 32")
    for name, subset in found["share_of_ceiling"].items():
        click.echo(
            f"  {name}: {subset:.0%} of the machine's {found['ceiling_gflops'][name]:.0f} GFLOP/s"
        )
    for name, value in found["start"].items():
        click.echo(f"  {name.replace('_', ' ')}: {value:.2f}")


if __name__ == "__main__":
    main()
