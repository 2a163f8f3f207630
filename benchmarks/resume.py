"""Kill a run at random times and resume it: ``python -m benchmarks.resume [--json]``.

One run is not interrupted. The other is ended by SIGKILL at random times during head training and
fine-tuning and resumed each time. Their histories and final weights must be bit-identical. The
benchmark also measures the extra time of a resume. Do not change the code while it runs, because
a run does not resume with changed code.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from bc_model.data import generate_dataset
from bc_model.training import Run, TrainingConfig
from bc_model.utils import to_json

KILLS = 20
TIMEOUT_S = 300.0


def queue_run(path: Path, config: TrainingConfig) -> Run:
    """Create a run that `train --resume` can start."""
    run = Run.create(path)
    run.write_config({"config": to_json(config)})
    run.write_status("queued")
    return run


def start_process(run: Run) -> subprocess.Popen:
    """Start or resume a run in a separate process."""
    return subprocess.Popen(
        [sys.executable, "-m", "bc_model", "train", "--run", str(run.path), "--resume"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_training(run: Run, child: subprocess.Popen) -> float | None:
    """Return the time until the run trains, s; None if it ends before."""
    began = time.monotonic()
    while time.monotonic() - began < TIMEOUT_S:
        if child.poll() is not None:
            return None
        if run.read_status()["state"] == "running":
            return time.monotonic() - began
        time.sleep(0.005)
    raise RuntimeError(f"Run {run.path} does not train. Log: {run.read_log()}")


def hash_weights(run: Run) -> str:
    """Return the hash of the final weights."""
    from bc_model.model import load_keras, weights_fingerprint

    return weights_fingerprint(load_keras(run.model_dir / "model.keras"))


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """Return the history without durations and times."""
    clock = ("seconds", "time")
    return [{k: v for k, v in epoch.items() if k not in clock} for epoch in run.read_history()]


def measure(kills: int, seed: int) -> dict[str, Any]:
    """Train one run, interrupt and resume another, and compare them."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate_dataset(folder / "data", n_cases=10, images_per_case=6, size=(64, 96))
        config = TrainingConfig(
            data=str(folder / "data"), weights="none", backbone="tiny", image_size=(64, 64),
            head_epochs=kills + 10, finetune_epochs=kills + 10, batch_size=4, patience=1000,
            deterministic=True, seed=seed,
        )  # fmt: skip
        reference = queue_run(folder / "reference", config)
        child = start_process(reference)
        first_start = wait_for_training(reference, child)
        child.wait()

        run = queue_run(folder / "killed", config)
        kill_times: list[dict[str, Any]] = []
        start_times_s: list[float] = []
        # Spread over both phases: each kill waits for some epochs more than the one before.
        total = config.head_epochs + config.finetune_epochs
        for number in range(kills):
            child = start_process(run)
            start_s = wait_for_training(run, child)
            if start_s is None:
                break
            start_times_s.append(start_s)
            target_epoch = (number + rng.random()) * total / kills
            while len(run.read_history()) < target_epoch and child.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.05)
            child.kill()
            child.wait()
            history = run.read_history()
            kill_times.append(
                {"epoch": len(history), "phase": history[-1]["phase"] if history else "head"}
            )
        child = start_process(run)
        if child.wait() != 0:
            raise RuntimeError(f"The run cannot be resumed: {run.read_status()['message']}")
        resume_s = float(np.median(start_times_s[1:])) if len(start_times_s) > 1 else None
        return {
            "kills": len(kill_times),
            "kill_times": kill_times,
            "history_equal": read_metrics(run) == read_metrics(reference),
            "weights_equal": hash_weights(run) == hash_weights(reference),
            "first_start_s": first_start,
            "resume_s": resume_s,
            "resume_overhead_s": None if resume_s is None else resume_s - (first_start or 0.0),
        }


@click.command()
@click.option("--kills", default=KILLS, show_default=True, type=click.IntRange(1, 100))
@click.option("--seed", default=0, show_default=True, help="Seed for kill times and training.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(kills: int, seed: int, as_json: bool) -> None:
    """Kill a run at random times and compare it with an uninterrupted run."""
    found = measure(kills, seed)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            click.echo(f"{name.replace('_', ' ')}: {value}")
    if not (found["weights_equal"] and found["history_equal"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
