"""Inference during training: ``python -m benchmarks.inference_during_training [--json]``.

It measures the time of one prediction with Grad-CAM on an idle machine, and while a run trains
all layers at a lower priority, as the app starts it, for each number of training threads.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from bc_model.data import generate_dataset, generate_image
from bc_model.jobs import ENDED_STATES, cancel_job
from bc_model.training import Run, TrainingConfig, start_run
from benchmarks.engines import SIZE
from benchmarks.timing import describe_machine

PAUSE_S = 0.3
TIMEOUT_S = 180.0


def time_predictions(engine: Any, rounds: int) -> dict[str, float]:
    """Return percentiles of the prediction time, with a pause between images, ms."""
    times = []
    for number in range(rounds):
        image = generate_image(malignant=bool(number % 2), seed=number, case_seed=number)[
            :224, :224
        ]
        start = time.perf_counter()
        engine.explain_one(image)
        times.append(time.perf_counter() - start)
        time.sleep(PAUSE_S)
    return {
        "p50_ms": 1e3 * float(np.median(times)),
        "p95_ms": 1e3 * float(np.percentile(times, 95)),
    }


def wait_until_trained(run: Run, epochs: int) -> None:
    """Wait until a run has finished a number of epochs."""
    end = time.monotonic() + TIMEOUT_S
    while len(run.read_history()) < epochs:
        if time.monotonic() > end or run.read_status()["state"] in ENDED_STATES:
            raise RuntimeError(f"The run does not train. Log: {run.read_log()}")
        time.sleep(0.2)


def measure(rounds: int, thread_counts: tuple[int, ...]) -> dict[str, Any]:
    """Time the engine alone, then during a run with each number of threads."""
    from bc_model.inference import BatchingEngine, Engine, write_bundle
    from bc_model.model import build_model
    from benchmarks.model_card import dummy_model_card

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate_dataset(folder / "data", n_cases=10, images_per_case=16, size=SIZE)
        model = build_model("resnet50", image_size=SIZE)
        bundle = write_bundle(model, folder / "model", dummy_model_card(SIZE))
        engine = BatchingEngine(Engine(bundle))
        time_predictions(engine, 3)
        found: dict[str, Any] = {
            "machine": describe_machine(),
            "idle": time_predictions(engine, rounds),
        }
        for threads in thread_counts:
            config = TrainingConfig(
                data=str(folder / "data"), weights="none", head_epochs=0, finetune_epochs=500,
                patience=1000, threads=threads,
            )  # fmt: skip
            run = start_run(config, folder / "runs")
            try:
                wait_until_trained(run, 1)
                before = len(run.read_history())
                times = time_predictions(engine, rounds)
                wait_until_trained(run, before + 1)
                epochs = [record["seconds"] for record in run.read_history()[before:]]
            finally:
                cancel_job(run)
            found[f"training_with_{threads or 'default'}_threads"] = times | {
                "epoch_s": float(np.median(epochs))
            }
            end = time.monotonic() + TIMEOUT_S
            while run.read_status()["state"] != "canceled" and time.monotonic() < end:
                time.sleep(0.2)
    return found


@click.command()
@click.option("--rounds", default=40, show_default=True, type=click.IntRange(5, 500))
@click.option("--threads", default="0,1", show_default=True, help="Training threads; 0: default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, threads: str, as_json: bool) -> None:
    """Time predictions on an idle machine and during training."""
    found = measure(rounds, tuple(int(count) for count in threads.split(",")))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        click.echo(f"{name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    main()
