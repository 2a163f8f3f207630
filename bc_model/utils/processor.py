"""The machine: the cores and memory that this process may use, and the instructions."""

import math
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bc_model.errors import ProcessorError
from bc_model.utils.io import read_text

_X86 = {"x86_64", "amd64", "i386", "i686"}
_REQUIRED = "AVX"
"""The wheels of TensorFlow for x86 processors contain these instructions everywhere."""

_PROCESS = Path("/proc/self")
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)  # fmt: skip


def require_tensorflow() -> None:
    """Check that TensorFlow can start; otherwise its import ends the process without a message.

    Every function that imports TensorFlow before a model exists calls this first.

    Raises
    ------
    ProcessorError
        An x86 processor has no AVX instructions.
    """
    if not can_start_tensorflow():
        raise ProcessorError(
            f"TensorFlow cannot start on this processor. Expected {_REQUIRED} instructions, got a "
            "processor or virtual machine without them. Train and export models on another "
            "machine. Predictions do not need TensorFlow."
        )


def can_start_tensorflow() -> bool:
    """Return whether the processor has the instructions that TensorFlow needs."""
    is_x86 = platform.machine().lower() in _X86
    return not is_x86 or _processor_features().get(_REQUIRED, True)


def usable_cores() -> int:
    """Return how many threads are useful: the cores, or fewer by affinity or CPU quota.

    A container often has a CPU quota, and the system stops all its threads for the rest of a
    period once they have used it up. A quota of 1.5 cores allows two threads.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, math.ceil(min(cores, _cpu_quota())))


def limited_cores() -> int | None:
    """Return `usable_cores` if the machine has more cores, otherwise None."""
    cores = usable_cores()
    return cores if cores < (os.cpu_count() or 1) else None


def usable_memory_mb() -> int:
    """Return the memory of the machine or of its control groups in MB; 0 if it is unknown."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Not on Windows.
        return 0
    return int(min(machine, _memory_limit())) // 2**20


def limit_threads() -> None:
    """Limit the threads of the numerical libraries that are loaded later, also by child processes.

    They consider the affinity of the process, but not the quota. Variables that are set are kept.
    """
    if cores := limited_cores():
        for name in _THREAD_VARIABLES:
            os.environ.setdefault(name, str(cores))


def limit_loaded_threads() -> None:
    """Limit the threads of the numerical libraries that this process has loaded, and of OpenCV.

    A program that loads NumPy before this package calls this at its start.
    """
    if cores := limited_cores():
        import cv2
        import threadpoolctl

        threadpoolctl.threadpool_limits(cores)
        cv2.setNumThreads(cores)


def _processor_features() -> dict[str, bool]:
    # NumPy asks processor and operating system, on every system.
    from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
        __cpu_features__,
    )

    return dict(__cpu_features__)


def _cpu_quota(process: Path = _PROCESS) -> float:
    """Return the lowest quota of the control groups of a process, in cores; inf without one."""
    # A group has at most the quota of the groups that contain it.
    return min(map(_read_quota, _group_folders(process, "cpu")), default=math.inf)


def _memory_limit(process: Path = _PROCESS) -> float:
    """Return the lowest memory limit of the control groups of a process, in bytes, or inf."""
    return min(map(_read_memory_limit, _group_folders(process, "memory")), default=math.inf)


def _group_folders(process: Path, controller: str) -> list[Path]:
    try:
        groups = list(_control_groups(process, controller))
    except (OSError, ValueError, IndexError):  # Not Linux, or a format that is not known.
        return []
    return [folder for group in groups for folder in group]


def _control_groups(process: Path, controller: str) -> Iterator[list[Path]]:
    """Yield the directories from each mount point down to the control group of a process."""
    # Version 2 has one line without controllers, version 1 has one line per hierarchy.
    paths = {
        name: path
        for _, controllers, path in (line.split(":", 2) for line in _lines(process / "cgroup"))
        for name in controllers.split(",")
    }
    for mount in _lines(process / "mountinfo"):
        fields, _, kind = (part.split() for part in mount.partition(" - "))
        is_v1 = kind[0] == "cgroup" and controller in kind[-1].split(",")
        path = paths.get(controller if is_v1 else "")
        if path is None or not (is_v1 or kind[0] == "cgroup2"):
            continue
        # In a container, the path can be that of the host, of which only the end is mounted.
        root, folders = fields[3], [Path(fields[4])]
        for name in path.removeprefix(root).strip("/").split("/"):
            folders.append(folders[-1] / name)
        yield folders


def _lines(path: Path) -> list[str]:
    return read_text(path).splitlines()


def _read_quota(folder: Path) -> float:
    """Return the quota of one control group in cores; inf without one."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = read_text(folder / "cpu.max").split()
        else:
            quota, period = (
                read_text(folder / name).strip()
                for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            )
        return int(quota) / int(period) if quota.isdecimal() and int(period) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def _read_memory_limit(folder: Path) -> float:
    """Return the memory limit of one control group in bytes; inf without one."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # The limit may be "max".
            return int(read_text(folder / name))
    return math.inf
