"""One training step of the bundled model: ``python -m benchmarks.distillation_step [--json]``.

It compares the layers and the optimizer of Keras with those of
`bc_model.distillation.fast_layers`, on the same network, images and compute dtype.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import click
import numpy as np

from bc_model.distillation import ViewBatch
from bc_model.utils import silence_native_stderr
from benchmarks.timing import ROUNDS, compute_speedup, describe_machine, run_rounds

STEPS = 5
N_FEATURES = 264 + 64 + 1
"""Hand-crafted features, components of ImageNet activations, and the scale."""
CELLS = (3, 4)
"""Rows and columns of the last activations of a view of 96 x 128 px."""


def make_timer(*, fast: bool) -> Callable[[], float]:
    """Return a function that runs some steps and returns the time of one, s."""
    from bc_model.distillation import DistillationConfig, ViewTargets, build_student
    from bc_model.training import use_compute_dtype

    config = DistillationConfig()
    rng = np.random.default_rng(0)
    n = config.batch_size
    # The values of the targets do not affect the time.
    targets = ViewTargets(
        features=rng.normal(size=(n, N_FEATURES)).astype(np.float32),
        logits=rng.normal(size=(n, 4)).astype(np.float32),
        labels=np.full((n, 2), 0.5, np.float32),
        subtypes=np.full((n, 8), 0.125, np.float32),
        weights=np.full(N_FEATURES, 1 / N_FEATURES, np.float32),
    )
    pixels = rng.integers(0, 256, (n, *config.view_size, 3), np.uint8)
    network, model = build_student(config, targets, fast=fast)
    batch = ViewBatch(pixels, np.zeros((n, 12, 16), np.float32), np.arange(n))
    values = targets.of(batch, CELLS, config.backbone)

    def run_steps() -> float:
        with use_compute_dtype(network, config.compute_dtype):
            start = time.perf_counter()
            for _ in range(STEPS):
                model.train_on_batch(pixels, values)
            return (time.perf_counter() - start) / STEPS

    run_steps()  # The first call traces the graph.
    return run_steps


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, as_json: bool) -> None:
    """Time training steps of the bundled model with Keras layers and with fast layers."""
    with silence_native_stderr():
        timers = {
            "keras": make_timer(fast=False),
            "fast": make_timer(fast=True),
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
