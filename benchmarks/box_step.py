"""A step of the model in the box: ``python -m benchmarks.box_step [--rounds N] [--json]``.

The same network, views and arithmetic, with Keras's own layers and optimiser, and with those of
`bc_model.distillation.fast_layers`. They take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from bc_model.data import write_synthetic
from bc_model.utils import native_stderr_silenced
from benchmarks.timing import ROUNDS, describe_machine, faster, run_rounds

STEPS = 5


def timer(fast: bool, small: bool) -> Callable[[], float]:
    """Return what takes a few steps and says how long one took, in seconds."""
    from bc_model.distillation import (
        DistillationConfig,
        TrainingImages,
        ViewSampler,
        build_student,
        proxy_config,
    )
    from bc_model.training import computing_in

    config = proxy_config(DistillationConfig()) if small else DistillationConfig()
    with TemporaryDirectory() as folder:
        write_synthetic(
            Path(folder) / "drawn",
            n_cases=6,
            images_per_case=2,
            size=(160, 240),
            magnifications=(100, 200),
        )
        source = TrainingImages.read(Path(folder), ("drawn",), config.image_size)
    sampler = ViewSampler(source, config, 0)
    model, targets = build_student(config, sampler, fast=fast)
    views = sampler.sample_batch(0)
    # Of the first two lessons any number will do.
    answers = (views.features * 0.0, views.labels[:, :1], views.labels, views.subtypes)

    def steps() -> float:
        with computing_in(model, config.compute_dtype):
            began = time.perf_counter()
            for _ in range(STEPS):
                targets.train_on_batch(views.pixels, answers)
            return (time.perf_counter() - began) / STEPS

    steps()  # traced
    return steps


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True)
@click.option("--small", is_flag=True, help="The small network that chooses, not ResNet50.")
@click.option("--json", "as_json", is_flag=True)
def main(rounds: int, small: bool, as_json: bool) -> None:
    """Time steps of the model in the box with Keras's layers and with the quick ones."""
    with native_stderr_silenced():
        timers = {"keras": timer(False, small), "quick": timer(True, small)}
    seconds = run_rounds(timers, rounds=rounds)
    ratio = faster(seconds, "quick", "keras")
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    if as_json:
        found = {"machine": describe_machine(), "step_s": medians, "faster": vars(ratio)}
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(describe_machine())
    for name, median in medians.items():
        click.echo(f"{name}: {median:.3f} s a step")
    click.echo(f"quick is faster by {ratio}")


if __name__ == "__main__":
    main()
