"""One training step of the bundled model: ``python -m benchmarks.distillation_step [--json]``.

It compares the layers and the optimizer of Keras with those of
`bc_model.distillation.fast_layers`, on the same network, images and compute dtype.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from bc_model.data import generate_dataset
from bc_model.utils import silence_native_stderr
from benchmarks.timing import ROUNDS, compute_speedup, describe_machine, run_rounds

STEPS = 5


def make_timer(*, fast: bool, proxy: bool) -> Callable[[], float]:
    """Return a function that runs some steps and returns the time of one, s."""
    from bc_model.distillation import DistillationConfig, Source, ViewSampler, prepare, proxy_config
    from bc_model.training import use_compute_dtype

    config = proxy_config(DistillationConfig()) if proxy else DistillationConfig()
    with TemporaryDirectory() as folder:
        generate_dataset(
            Path(folder) / "data",
            n_cases=6,
            images_per_case=2,
            size=(160, 240),
            magnifications=(100, 200),
        )
        source = Source.read(Path(folder), ("data",), config.image_size)
    sampler = ViewSampler(source, config, 0)
    model, targets = prepare(config, sampler, quick=fast)
    views = sampler.batch(0)
    # The values of the first two targets do not affect the time.
    target_values = (views.features * 0.0, views.labels[:, :1], views.labels, views.subtypes)

    def run_steps() -> float:
        with use_compute_dtype(model, config.compute_dtype):
            start = time.perf_counter()
            for _ in range(STEPS):
                targets.train_on_batch(views.pixels, target_values)
            return (time.perf_counter() - start) / STEPS

    run_steps()  # The first call traces the graph.
    return run_steps


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True)
@click.option("--proxy", is_flag=True, help="The proxy network instead of ResNet50.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, proxy: bool, as_json: bool) -> None:
    """Time training steps of the bundled model with Keras layers and with fast layers."""
    with silence_native_stderr():
        timers = {
            "keras": make_timer(fast=False, proxy=proxy),
            "fast": make_timer(fast=True, proxy=proxy),
        }
    seconds = run_rounds(timers, rounds=rounds)
    speedup = compute_speedup(seconds, "fast", "keras")
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    if as_json:
        found = {"machine": describe_machine(), "step_s": medians, "speedup": vars(speedup)}
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(describe_machine())
    for name, median in medians.items():
        click.echo(f"{name}: {median:.3f} s per step")
    click.echo(f"speedup of the fast layers: {speedup}")


if __name__ == "__main__":
    main()
