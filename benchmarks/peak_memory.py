"""Peak memory of a part of a process, from the counters of Linux."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class PeakMemory:
    """Growth of the memory within a block, MB; NaN on other systems than Linux."""

    growth_mb: float = math.nan


@contextmanager
def measured_memory() -> Iterator[PeakMemory]:
    """Measure by how much the resident memory grows in the block at most."""
    peak = PeakMemory()
    if not _RESET.exists():
        yield peak
        return
    _RESET.write_text("5")  # Sets the peak to the current value.
    start_mb = _read_mb("VmRSS")
    yield peak
    peak.growth_mb = max(0.0, _read_mb("VmHWM") - start_mb)


def _read_mb(key: str) -> float:
    match = re.search(rf"{key}:\s+(\d+) kB", _STATUS.read_text())
    return int(match[1]) / 2**10 if match else math.nan
