"""Many concurrent users: ``python -m benchmarks.load [--json]``.

Sixteen threads request predictions with Grad-CAM from one engine for one minute. Each result is
compared with that of a single user. Users and time are bounded.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from benchmarks.engines import SIZE
from benchmarks.timing import describe_machine

USERS = 16
SECONDS = 60
IMAGES = 24
SINGLE_ROUNDS = 15


def measure(users: int, seconds: float) -> dict[str, Any]:
    """Run the load test and return counts, times and memory."""
    from bc_model.data import CLASSES, decode_image, generate_image, preprocess_image
    from bc_model.gradcam import encode_png
    from bc_model.inference import BatchingEngine, Engine, write_bundle
    from bc_model.model import build_model
    from benchmarks.model_card import dummy_model_card

    files = [
        encode_png(generate_image(malignant=bool(i % 2), seed=i, case_seed=i))
        for i in range(IMAGES)
    ]
    with tempfile.TemporaryDirectory() as folder:
        model = build_model("resnet50", image_size=SIZE)
        bundle = write_bundle(model, Path(folder) / "model", dummy_model_card(SIZE))
        engine = BatchingEngine(Engine(bundle))

    def predict(data: bytes) -> tuple[np.ndarray, dict]:
        return engine.explain_one(preprocess_image(decode_image(data, "image"), SIZE))

    expected_results = [predict(data) for data in files]
    single_user_s = []
    for i in range(SINGLE_ROUNDS):
        start = time.perf_counter()
        predict(files[i % IMAGES])
        single_user_s.append(time.perf_counter() - start)

    times: list[float] = []
    errors: list[str] = []
    n_incorrect = 0
    lock = threading.Lock()
    memory = [_memory_mb()]
    end = time.monotonic() + seconds

    def simulate_user(number: int) -> None:
        nonlocal n_incorrect
        rng = np.random.default_rng(number)
        while time.monotonic() < end:
            image = int(rng.integers(IMAGES))
            start = time.perf_counter()
            try:
                logits, heatmaps = predict(files[image])
            except Exception as error:  # Every error is counted and reported.
                with lock:
                    errors.append(repr(error))
                continue
            duration_s = time.perf_counter() - start
            expected_logits, expected = expected_results[image]
            close = _close(logits, expected_logits) and all(
                _close(heatmaps[name].raw, expected[name].raw) for name in CLASSES
            )
            with lock:
                times.append(duration_s)
                n_incorrect += not close

    threads = [threading.Thread(target=simulate_user, args=(i,)) for i in range(users)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(1.0)
        memory.append(_memory_mb())
    single_s = float(np.median(single_user_s))
    p95 = float(np.percentile(times, 95))
    return {
        "machine": describe_machine(),
        "users": users,
        "seconds": seconds,
        "results": len(times),
        "errors": errors[:5],
        "n_errors": len(errors),
        "incorrect_results": int(n_incorrect),
        "single_user_ms": 1e3 * single_s,
        "p50_ms": 1e3 * float(np.percentile(times, 50)),
        "p95_ms": 1e3 * p95,
        "p95_limit_ms": 1e3 * single_s * users * 1.5,
        "p95_within_limit": p95 <= single_s * users * 1.5,
        "memory_mb_start": memory[0],
        "memory_mb_half_way": memory[len(memory) // 2],
        "memory_mb_end": memory[-1],
    }


def _close(values: np.ndarray, expected: np.ndarray) -> bool:
    scale = max(float(np.abs(expected).max()), 1e-6)
    return float(np.abs(values - expected).max()) <= 1e-3 * scale


def _memory_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20


@click.command()
@click.option("--users", type=click.IntRange(1, 64), default=USERS, show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 120), default=SECONDS, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(users: int, seconds: float, as_json: bool) -> None:
    """Measure the latency of one engine under many concurrent users."""
    found = measure(users, seconds)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        click.echo(f"{name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    main()
