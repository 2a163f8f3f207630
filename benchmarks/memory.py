"""Memory of a training process: ``python -m benchmarks.memory --weights FILE [--json]``.

Draws pictures, trains on them in a process of its own and samples that process ten times a second.
Mapped files are told apart: the system takes their pages back when others need the room.
"""

from __future__ import annotations

import json
import resource  # not on Windows, where nobody measures this
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import psutil

from bc_model.data import generate_dataset
from bc_model.training import Run, TrainingConfig
from benchmarks.resume import queue, start
from benchmarks.timing import describe_machine

CASES = 80


def watch(child: subprocess.Popen, run: Run) -> dict[str, dict[str, float]]:
    """Return the highest memory of a process in each of its stages, GB."""
    process, peaks = psutil.Process(child.pid), dict[str, dict[str, float]]()
    while child.poll() is None:
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:
            break
        status = run.read_status()
        message = status.get("message", "").split(":")[0]
        stage = message or status.get("phase") or status["state"]
        here = peaks.setdefault(stage, {"resident_gb": 0.0, "mapped_files_gb": 0.0})
        here["resident_gb"] = max(here["resident_gb"], memory.rss / 1e9)
        here["mapped_files_gb"] = max(here["mapped_files_gb"], memory.shared / 1e9)
        time.sleep(0.1)
    return peaks


def measure(config: TrainingConfig, folder: Path) -> dict[str, Any]:
    """Train once and tell the peaks."""
    run = queue(folder / "run", config)
    began = time.monotonic()
    child = start(run)
    peaks = watch(child, run)
    if child.wait() != 0:
        raise RuntimeError(f"the run failed: {run.read_status().get('message')}")
    return {
        "machine": describe_machine(),
        "images": sum(1 for path in Path(config.data).rglob("*.png")),
        "resident_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9,
        "by_stage": peaks,
        "seconds": time.monotonic() - began,
    }


@click.command()
@click.option("--weights", required=True, help="imagenet or a file.")
@click.option("--pictures", default=8000, show_default=True)
@click.option("--augmented-copies", default=5, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Keep the drawn pictures here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(
    weights: str, images: int, augmented_copies: int, data: Path | None, as_json: bool
) -> None:
    """Measure the memory of a run of one epoch a phase on drawn pictures of 224x224 px."""
    with tempfile.TemporaryDirectory() as name:
        synthetic = data or Path(name) / "drawn"
        if not synthetic.exists():
            each = max(1, images // CASES)
            generate_dataset(synthetic, n_cases=CASES, images_per_case=each, size=(224, 224))
        config = TrainingConfig(
            data=str(synthetic.resolve()), weights=weights, head_epochs=1, finetune_epochs=1,
            n_folds=10, augmented_copies=augmented_copies,
        )  # fmt: skip
        found = measure(config, Path(name))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{found['images']} pictures: {found['resident_gb']:.2f} GB at most")
    for stage, peak in found["by_stage"].items():
        words = f"{peak['resident_gb']:.2f} GB, {peak['mapped_files_gb']:.2f} of them mapped files"
        click.echo(f"{stage}: {words}")


if __name__ == "__main__":
    sys.exit(main())
