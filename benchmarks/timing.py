"""Rounds, medians and ratios: the same way for every benchmark.

The machines are shared and noisy, so nothing is quoted alone: each round runs every contestant
once, in turn, and a claim is the median over rounds of a ratio within one round.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 7
PAUSE_S = 0.2


@dataclass(frozen=True)
class Ratio:
    """How much faster one contestant is than another.

    Attributes
    ----------
    median, low, high : float
        Over the rounds; low and high are the extremes.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.low:.2f}-{self.high:.2f})"


def time_once(action: Callable[[], Any]) -> float:
    """Run an action twice and return the seconds of the second time."""
    action()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def run_rounds(timers: dict[str, Callable[[], float]], *, rounds: int = ROUNDS) -> dict:
    """Ask every contestant's timer once a round, in turn.

    Threads of one engine go on spinning for a while after its work, on the very processors that
    the next one needs, hence a pause before each and the untimed run in `time_once`: without
    them, what is measured is the neighbour.

    Returns
    -------
    dict from name to ndarray of shape (rounds,)
        Seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    names = list(timers)
    for number in range(rounds):
        # The order turns each round: nobody always follows the one that heats the processor.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            time.sleep(PAUSE_S)
            seconds[name].append(timers[name]())
    return {name: np.array(values) for name, values in seconds.items()}


def faster(seconds: dict[str, np.ndarray], name: str, than: str) -> Ratio:
    """Return how many times faster `name` is, round by round."""
    ratios = seconds[than] / seconds[name]
    return Ratio(float(np.median(ratios)), float(ratios.min()), float(ratios.max()))


def describe_machine() -> dict[str, Any]:
    """Say on what machine the figures were taken."""
    import os

    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    flags: set[str] = set()
    if cpu_info.exists():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
            if line.startswith("flags"):
                flags = set(line.split(":", 1)[1].split())
    target = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "features": [flag for flag in target if flag in flags],
        "system": platform.system(),
        "python": platform.python_version(),
    }
