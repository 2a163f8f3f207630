"""Diagnose beside a training run: ``python -m benchmarks.beside [--json]``.

How long one explained picture takes on a quiet machine, and while a run goes on as the app starts
it: at a lower priority, a whole network learning, with each number of threads asked for.
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
from benchmarks.contestants import SIZE
from benchmarks.timing import describe_machine

PAUSE_S = 0.3
PATIENCE_S = 180.0


def ask(engine: Any, rounds: int) -> dict[str, float]:
    """Explain pictures with a pause between them, as a person does."""
    times = []
    for number in range(rounds):
        image = generate_image(malignant=bool(number % 2), seed=number, case_seed=number)[
            :224, :224
        ]
        began = time.perf_counter()
        engine.explain_one(image)
        times.append(time.perf_counter() - began)
        time.sleep(PAUSE_S)
    return {
        "p50_ms": 1e3 * float(np.median(times)),
        "p95_ms": 1e3 * float(np.percentile(times, 95)),
    }


def wait_until_trained(run: Run, epochs: int) -> None:
    """Wait until a run has some epochs behind it."""
    end = time.monotonic() + PATIENCE_S
    while len(run.read_history()) < epochs:
        if time.monotonic() > end or run.read_status()["state"] in ENDED_STATES:
            raise RuntimeError(f"the run does not train; its log: {run.read_log()}")
        time.sleep(0.2)


def measure(rounds: int, thread_counts: tuple[int, ...]) -> dict[str, Any]:
    """Time the engine alone, then beside a run with each number of threads."""
    from bc_model.inference import BatchingEngine, Engine, write_bundle
    from bc_model.model import build_model
    from benchmarks.card import dummy_model_card

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate_dataset(folder / "drawn", n_cases=10, images_per_case=16, size=SIZE)
        model = build_model("resnet50", image_size=SIZE)
        bundle = write_bundle(model, folder / "model", dummy_model_card(SIZE))
        engine = BatchingEngine(Engine(bundle))
        ask(engine, 3)
        found: dict[str, Any] = {"machine": describe_machine(), "alone": ask(engine, rounds)}
        for threads in thread_counts:
            config = TrainingConfig(
                data=str(folder / "drawn"), weights="none", head_epochs=0, finetune_epochs=500,
                patience=1000, threads=threads,
            )  # fmt: skip
            run = start_run(config, folder / "runs")
            try:
                wait_until_trained(run, 1)
                before = len(run.read_history())
                answers = ask(engine, rounds)
                wait_until_trained(run, before + 1)
                epochs = [record["seconds"] for record in run.read_history()[before:]]
            finally:
                cancel_job(run)
            found[f"beside_{threads or 'default'}_threads"] = answers | {
                "epoch_s": float(np.median(epochs))
            }
            end = time.monotonic() + PATIENCE_S
            while run.read_status()["state"] != "canceled" and time.monotonic() < end:
                time.sleep(0.2)
    return found


@click.command()
@click.option("--rounds", default=40, show_default=True, type=click.IntRange(5, 500))
@click.option("--threads", default="0,1", show_default=True, help="Of the trainer; 0: default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, threads: str, as_json: bool) -> None:
    """Time an explained picture alone and beside a training run."""
    found = measure(rounds, tuple(int(count) for count in threads.split(",")))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        click.echo(f"{name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    main()
