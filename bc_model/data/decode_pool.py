"""Decode untrusted images in processes that can be ended.

A hostile file may keep a codec busy, fill the memory, or crash it. In a process of `DecodePool`,
that ends only this process, and the image is refused.
"""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self, cast

import numpy as np

from bc_model.data.decode_worker import LENGTH, write_message
from bc_model.data.image_headers import (
    FULL_PIXELS,
    count_declared_pixels,
    is_large,
    require_file_size,
)
from bc_model.errors import BcModelError, BusyError, CanceledError, ImageError
from bc_model.utils.io import project_dir
from bc_model.utils.processor import usable_cores, usable_memory_mb

MAX_WAITING = 64
"""As many as wait for the engine. A small image takes some hundredths of a second."""
TIME_LIMIT_S = 2.5
"""CPU time for one image. The slowest accepted kind, progressive JPEG, takes 2 s at most."""
LARGE_TIME_FACTOR = 4
"""Images that are read at half of their resolution have up to four times as many pixels."""
WORKER_MB = 750
"""Largest memory of a worker process: 200 MB of progressive JPEG."""
LARGE_NICENESS = 5
"""Processes for large images get about a third of a core that others need as well."""

_LIMITS_CPU = os.name == "posix"
_ELAPSED_RATIO = 8 if _LIMITS_CPU else 1
"""Limit of the elapsed time, as a multiple of the CPU time: other processes may need the cores."""
_KILLED = {-9, -15, 1}
"""Exit statuses that the image did not cause: SIGKILL, as without memory, SIGTERM, and a process
that could not start. Windows ends processes with the status 1."""
_MAX_HEADER_BYTES = 2**16
_POLL_S = 0.1
_PIPE_BYTES = 2**20
_SET_PIPE_SIZE = 1031
"""F_SETPIPE_SZ of Linux. Pixels pass through the default pipe of 64 kB at half the speed."""


class DecodePool:
    """Decode images in processes with limits on time and memory, for many threads.

    Processes start with the first image and end with this process. A process that exceeds a limit
    is replaced. Large images have their own queue and processes of lower priority, so that others
    do not wait for them.

    Parameters
    ----------
    n_workers : int, optional
        Number of processes for images up to `LARGE_PIXELS`. The default is the number of usable
        cores. Half as many further processes decode larger images, but at least one, and no more
        than fit into a quarter of the memory.
    max_waiting : int
        Largest number of images that wait in each queue.
    time_limit_s : float
        CPU time for one image of at most 40 million pixels. Larger ones have four times as much.

    Attributes
    ----------
    n_workers : int
        Largest number of processes for images up to `LARGE_PIXELS`.

    Examples
    --------
    >>> from bc_model.data import example_png
    >>> with DecodePool(n_workers=1) as pool:
    ...     pool.decode(example_png(malignant=True), "example.png").shape
    (460, 700, 3)
    """

    def __init__(
        self,
        n_workers: int | None = None,
        *,
        max_waiting: int = MAX_WAITING,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self.n_workers = n_workers or usable_cores()
        n_large = max(1, min(self.n_workers // 2, usable_memory_mb() // 4 // WORKER_MB))
        self._time_limit_s = time_limit_s
        self._small = _Queue(self.n_workers, max_waiting)
        self._large = _Queue(n_large, max_waiting, LARGE_NICENESS)

    def decode(
        self, data: bytes, name: str, *, is_canceled: Callable[[], bool] | None = None
    ) -> np.ndarray:
        """Return the pixels of an encoded image, as `decode_image`.

        Parameters
        ----------
        data : bytes
            Content of a PNG, JPEG or TIFF file.
        name : str
            Name of the image in error messages.
        is_canceled : callable, optional
            Returns whether the pixels are no longer needed. It is called ten times a second and
            may raise an exception, which ends decoding as well.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            Image in RGB.

        Raises
        ------
        ImageError
            The image cannot be decoded, or exceeds a limit.
        BusyError
            Too many images are waiting, or the machine is too busy to decode this one.
        CanceledError
            `is_canceled` returned true.
        """
        require_file_size(len(data), name)
        is_reduced = count_declared_pixels(data) > FULL_PIXELS
        time_limit_s = self._time_limit_s * (LARGE_TIME_FACTOR if is_reduced else 1)
        request = _Request(data, name, time_limit_s)
        future = (self._large if is_large(data) else self._small).submit(request)
        try:
            while not wait([future], _POLL_S).done:
                if is_canceled is not None and is_canceled():
                    raise CanceledError(f"{name} was not read, because its session was closed.")
                request.end_if_late()
        except BaseException:
            future.cancel()  # If it is waiting.
            request.cancel()
            raise
        return future.result()

    def close(self) -> None:
        """End all processes; images that are being decoded are finished first."""
        for queue in (self._small, self._large):
            queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Queue:
    """Waiting images, and the threads and processes that decode them in order of arrival."""

    def __init__(self, n_workers: int, max_waiting: int, niceness: int = 0) -> None:
        self.n_workers = n_workers
        self._max_pending = n_workers + max_waiting
        self._niceness = niceness
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="decode")
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._lock = threading.Lock()
        self._n_pending = 0

    def submit(self, request: "_Request") -> Future[np.ndarray]:
        """Return the future pixels, or raise `BusyError`."""
        with self._lock:
            if self._n_pending >= self._max_pending:
                raise BusyError(
                    f"Too many images are being read. Expected at most {self._max_pending} at "
                    "once. Try again in a moment."
                )
            self._n_pending += 1
        future = self._threads.submit(self._run, request)
        future.add_done_callback(self._count_done)
        return future

    def close(self) -> None:
        self._threads.shutdown()
        with suppress(Empty):
            while True:
                self._idle.get_nowait().end()

    def _count_done(self, _: Future[np.ndarray]) -> None:
        with self._lock:
            self._n_pending -= 1

    def _run(self, request: "_Request") -> np.ndarray:
        worker = self._take_worker()
        try:
            return request.run(worker)
        finally:
            if worker.is_alive:
                self._idle.put(worker)
            else:
                worker.end()

    def _take_worker(self) -> "_Worker":
        with suppress(Empty):
            worker = self._idle.get_nowait()
            if worker.is_alive:
                return worker
            worker.end()
        try:
            return _Worker(self._niceness)
        except OSError as error:
            raise BusyError(
                f"No process can be started to read images ({error.strerror}). Try again in a "
                "moment."
            ) from error


class _Request:
    """One image, which a thread of the pool decodes while the caller watches its limits."""

    def __init__(self, data: bytes, name: str, time_limit_s: float) -> None:
        self._data = data
        self._name = name
        self._time_limit_s = time_limit_s
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._deadline_s = float("inf")
        self._is_canceled = False

    def run(self, worker: "_Worker") -> np.ndarray:
        """Return the pixels, or raise `ImageError` or `BusyError`; called by a pool thread."""
        with self._lock:
            if self._is_canceled:
                raise CanceledError(self._name)
            self._worker = worker
            self._deadline_s = time.monotonic() + self._time_limit_s * _ELAPSED_RATIO
        try:
            return worker.decode(self._data, self._name, self._time_limit_s)
        except ImageError:
            raise
        except BaseException as error:
            # The process ends after every other error, because the rest of its answer would become
            # the answer for the next image.
            raise self._describe_failure(error, worker.end()) from error
        finally:
            with self._lock:
                self._worker = None

    def cancel(self) -> None:
        """End the process if it decodes this image."""
        with self._lock:
            self._is_canceled = True
            if self._worker:
                self._worker.kill()

    def end_if_late(self) -> None:
        """End the process if the time is over."""
        with self._lock:
            if self._worker and time.monotonic() > self._deadline_s:
                self._worker.kill()

    def _describe_failure(self, error: BaseException, status: int) -> BcModelError:
        """Return the error for an exit status of the process: of the image, or of the machine."""
        is_late = time.monotonic() > self._deadline_s
        remedy = "Open it in an image editor and save it as PNG."
        if status == -getattr(signal, "SIGPROF", 0) or (is_late and not _LIMITS_CPU):
            limit = f"Expected at most {self._time_limit_s:g} s"
            return ImageError(
                f"{self._name} takes too long to decode. {limit}. {remedy}", "too slow"
            )
        is_killed = isinstance(error, (OSError, EOFError)) and status in _KILLED
        if is_late or is_killed or isinstance(error, MemoryError):
            return BusyError(
                f"{self._name} could not be read in time, because the machine is busy. Try again "
                "in a moment."
            )
        return ImageError(f"{self._name} cannot be decoded: its decoder failed. {remedy}")


class _Worker:
    """A process of `decode_worker`."""

    def __init__(self, niceness: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bc_model.data.decode_worker", str(niceness)], cwd=project_dir(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
        # Without a buffer, the pipes are raw files.
        self._requests = cast(io.FileIO, self._process.stdin)
        self._answers = cast(io.FileIO, self._process.stdout)
        self._is_ended = False
        if sys.platform == "linux":
            import fcntl

            for stream in (self._requests, self._answers):
                with suppress(OSError):  # The pipes of a user have a common limit.
                    fcntl.fcntl(stream, _SET_PIPE_SIZE, _PIPE_BYTES)

    @property
    def is_alive(self) -> bool:
        return not self._is_ended and self._process.poll() is None

    def decode(self, data: bytes, name: str, cpu_s: float) -> np.ndarray:
        """Return the pixels, or raise `ImageError`.

        After any other error, the process must end: a codec that was taken over may answer
        anything.
        """
        write_message(self._requests, {"name": name, "n_bytes": len(data), "cpu_s": cpu_s})
        content = memoryview(data)
        while content:
            content = content[self._requests.write(content) :]
        (length,) = LENGTH.unpack(self._read(bytearray(LENGTH.size)))
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"Invalid length {length}.")
        answer: dict[str, Any] = json.loads(self._read(bytearray(length)))
        if "message" in answer:
            raise ImageError(str(answer["message"]), str(answer["reason"]))
        width, height = int(answer["width_px"]), int(answer["height_px"])
        if min(width, height) < 1 or width * height > FULL_PIXELS:
            raise ValueError(f"Invalid size {width} x {height}.")
        rgb = np.empty((height, width, 3), np.uint8)
        self._read(rgb.data)
        return rgb

    def kill(self) -> None:
        """End the process at once, from any thread; it decodes no other image."""
        self._is_ended = True
        self._process.kill()

    def end(self) -> int:
        """End the process, if it still runs, and return its exit status."""
        self._is_ended = True
        with suppress(OSError):
            self._requests.close()
        self._process.kill()
        self._answers.close()
        return self._process.wait()

    def _read(self, buffer: Any) -> Any:
        """Fill a buffer and return it."""
        rest = memoryview(buffer).cast("B")
        while rest:
            count = self._answers.readinto(rest)
            if not count:
                raise EOFError("The process has ended.")
            rest = rest[count:]
        return buffer
