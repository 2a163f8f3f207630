"""Rounds, medians and ratios, computed the same way in every benchmark.

Other processes of the machine disturb single measurements. Each round therefore times every
function once, and a result is the median over rounds of the ratios within one round.
"""

import os
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
    """The speedup of one function over another.

    Attributes
    ----------
    median, low, high : float
        Median and extremes over the rounds.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.low:.2f}-{self.high:.2f})"


def time_once(action: Callable[[], Any]) -> float:
    """Run an action twice and return the duration of the second run, s."""
    action()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def run_rounds(timers: dict[str, Callable[[], float]], *, rounds: int = ROUNDS) -> dict:
    """Call every timer once per round.

    The threads of an engine stay active for a while after its work and slow the next engine. A
    pause before each measurement and the untimed run of `time_once` prevent this.

    Returns
    -------
    dict of str to ndarray of shape (rounds,)
        Durations, s.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    names = list(timers)
    for number in range(rounds):
        # The order rotates, so that no function always follows the one that heats the processor.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            time.sleep(PAUSE_S)
            seconds[name].append(timers[name]())
    return {name: np.array(values) for name, values in seconds.items()}


def compute_speedup(seconds: dict[str, np.ndarray], name: str, than: str) -> Ratio:
    """Return the speedup of `name` over `than` within each round."""
    ratios = seconds[than] / seconds[name]
    return Ratio(float(np.median(ratios)), float(ratios.min()), float(ratios.max()))


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, features and versions of this machine."""
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
