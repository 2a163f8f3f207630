"""Memory of a training process: ``python -m benchmarks.memory --weights FILE [--json]``.

It generates images, trains on them in a separate process and samples that process ten times a
second. Mapped files count separately, because the system can reclaim their pages.
"""

from __future__ import annotations

import json
import resource  # Not available on Windows.
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import psutil

from bc_model.data import generate_dataset
from bc_model.training import Run, TrainingConfig
from benchmarks.resume import queue_run, start_process
from benchmarks.timing import describe_machine

CASES = 80


def sample_peaks(child: subprocess.Popen, run: Run) -> dict[str, dict[str, float]]:
    """Return the peak memory of a process in each stage, GB."""
    process, peaks = psutil.Process(child.pid), dict[str, dict[str, float]]()
    while child.poll() is None:
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:
            break
        status = run.read_status()
        message = status.get("message", "").split(":")[0]
        stage = message or status.get("phase") or status["state"]
        peak = peaks.setdefault(stage, {"resident_gb": 0.0, "mapped_files_gb": 0.0})
        peak["resident_gb"] = max(peak["resident_gb"], memory.rss / 1e9)
        peak["mapped_files_gb"] = max(peak["mapped_files_gb"], memory.shared / 1e9)
        time.sleep(0.1)
    return peaks


def measure(config: TrainingConfig, folder: Path) -> dict[str, Any]:
    """Train once and return the peak memory."""
    run = queue_run(folder / "run", config)
    began = time.monotonic()
    child = start_process(run)
    peaks = sample_peaks(child, run)
    if child.wait() != 0:
        raise RuntimeError(f"The run failed: {run.read_status().get('message')}")
    return {
        "machine": describe_machine(),
        "images": sum(1 for path in Path(config.data).rglob("*.png")),
        "resident_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9,
        "by_stage": peaks,
        "seconds": time.monotonic() - began,
    }


@click.command()
@click.option("--weights", required=True, help="'imagenet' or a file.")
@click.option("--images", default=8000, show_default=True)
@click.option("--augmented-copies", default=5, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Folder for the images.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(
    weights: str, images: int, augmented_copies: int, data: Path | None, as_json: bool
) -> None:
    """Measure the memory of one head-training and one fine-tuning epoch at 224x224 px."""
    with tempfile.TemporaryDirectory() as name:
        synthetic = data or Path(name) / "synthetic"
        if not synthetic.exists():
            per_case = max(1, images // CASES)
            generate_dataset(synthetic, n_cases=CASES, images_per_case=per_case, size=(224, 224))
        config = TrainingConfig(
            data=str(synthetic.resolve()), weights=weights, head_epochs=1, finetune_epochs=1,
            n_folds=10, augmented_copies=augmented_copies,
        )  # fmt: skip
        found = measure(config, Path(name))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{found['images']} images: at most {found['resident_gb']:.2f} GB")
    for stage, peak in found["by_stage"].items():
        mapped = f"{peak['mapped_files_gb']:.2f} GB in mapped files"
        click.echo(f"{stage}: {peak['resident_gb']:.2f} GB, including {mapped}")


if __name__ == "__main__":
    main()
