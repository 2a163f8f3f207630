"""Kill a run at random moments, again and again: ``python -m benchmarks.resume [--json]``.

One run is left alone, the other is ended by SIGKILL at random moments across both phases and
resumed each time. Their histories and final weights must be equal, bit for bit. Beside that: how
long a resume takes until it trains again, in excess of a plain start. Leave the code alone
meanwhile: a run refuses to go on with another one.
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

from bc_model.data import write_synthetic
from bc_model.training import Run, TrainingConfig
from bc_model.utils import to_json

KILLS = 20
PATIENCE_S = 300.0


def queue(path: Path, config: TrainingConfig) -> Run:
    """Make a run that `train --resume` can start."""
    run = Run.create(path)
    run.write_config({"config": to_json(config)})
    run.write_status("queued")
    return run


def start(run: Run) -> subprocess.Popen:
    """Start or resume a run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "bc_model", "train", "--run", str(run.path), "--resume"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_training(run: Run, child: subprocess.Popen) -> float | None:
    """Wait until a batch has been trained; return the seconds, None when the run ended before."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        if child.poll() is not None:
            return None
        if run.read_status()["state"] == "running":
            return time.monotonic() - began
        time.sleep(0.005)
    raise RuntimeError(f"the run {run.path} does not train; its log: {run.read_log()}")


def fingerprint(run: Run) -> str:
    """Hash the final weights."""
    from bc_model.model import load_keras, weights_fingerprint

    return weights_fingerprint(load_keras(run.model_dir / "model.keras"))


def metrics(run: Run) -> list[dict[str, Any]]:
    """Return the history without what a clock tells."""
    clock = ("seconds", "time")
    return [{k: v for k, v in one.items() if k not in clock} for one in run.read_history()]


def measure(kills: int, seed: int) -> dict[str, Any]:
    """Run the one, torment the other, and compare."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic(folder / "set", n_cases=10, images_per_case=6, size=(64, 96))
        config = TrainingConfig(
            data=str(folder / "set"), weights="none", backbone="tiny", image_size=(64, 64),
            head_epochs=kills + 10, finetune_epochs=kills + 10, batch_size=4, patience=1000,
            deterministic=True, seed=seed,
        )  # fmt: skip
        whole = queue(folder / "whole", config)
        child = start(whole)
        first_start = wait_for_training(whole, child)
        child.wait()

        run = queue(folder / "killed", config)
        moments: list[dict[str, Any]] = []
        waits: list[float] = []
        # Spread over both phases: each kill waits for some epochs more than the one before.
        total = config.head_epochs + config.finetune_epochs
        for number in range(kills):
            child = start(run)
            spent = wait_for_training(run, child)
            if spent is None:
                break
            waits.append(spent)
            aim = (number + rng.random()) * total / kills
            while len(run.read_history()) < aim and child.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.05)
            child.kill()
            child.wait()
            history = run.read_history()
            moments.append(
                {"epoch": len(history), "phase": history[-1]["phase"] if history else "head"}
            )
        child = start(run)
        if child.wait() != 0:
            raise RuntimeError(f"the run could not be resumed: {run.read_status()['message']}")
        return {
            "kills": len(moments),
            "moments": moments,
            "history_equal": metrics(run) == metrics(whole),
            "weights_equal": fingerprint(run) == fingerprint(whole),
            "first_start_s": first_start,
            "resume_s": float(np.median(waits[1:])) if len(waits) > 1 else None,
            "resume_overhead_s": float(np.median(waits[1:])) - (first_start or 0.0)
            if len(waits) > 1
            else None,
        }


@click.command()
@click.option("--kills", default=KILLS, show_default=True, type=click.IntRange(1, 100))
@click.option("--seed", default=0, show_default=True, help="Of the moments and of the training.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(kills: int, seed: int, as_json: bool) -> None:
    """Kill a run at random moments and hold it against one that was left alone."""
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
