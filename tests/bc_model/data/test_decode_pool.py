"""Decoding in processes with limits on time and memory."""

import io
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from bc_model.data import decode_pool
from bc_model.data.decode_pool import DecodePool
from bc_model.data.decode_worker import write_message
from bc_model.data.images import decode_image
from bc_model.errors import BusyError, CanceledError, ImageError

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 4), dtype=np.uint8)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="The tests send signals of POSIX.")


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


SMALL = encode(Image.fromarray(NOISE))


@pytest.fixture(scope="module")
def large() -> bytes:
    """Return an image that takes some tenths of a second."""
    return encode(Image.new("L", (8000, 5000)), compress_level=1)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen]:
    """Return the processes that pools start from now on."""
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            started.append(self)

    monkeypatch.setattr(decode_pool.subprocess, "Popen", Popen)
    return started


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[DecodePool]:
    with DecodePool(n_workers=1) as pool:
        yield pool


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_decode_returns_pixels_of_decode_image(shared_pool: DecodePool, kind: str) -> None:
    image = Image.fromarray(NOISE)
    data = encode(image if kind != "JPEG" else image.convert("RGB"), kind)
    np.testing.assert_array_equal(shared_pool.decode(data, "x"), decode_image(data, "x"))


def test_decode_large_image_returns_all_rows(shared_pool: DecodePool) -> None:
    rows = np.arange(3000, dtype=np.uint16).view(np.uint8).reshape(3000, 2)
    data = encode(Image.fromarray(np.repeat(rows, 500, axis=1)))
    np.testing.assert_array_equal(shared_pool.decode(data, "x"), decode_image(data, "x"))


@pytest.mark.parametrize("data", [b"", b"text", SMALL[:200], encode(Image.new("L", (8, 8)))])
def test_decode_invalid_image_raises_error_of_decode_image(
    shared_pool: DecodePool, data: bytes
) -> None:
    name = "caf\u00e9 \udcff.png"  # A name that is not UTF-8 contains lone surrogates.
    with pytest.raises(ImageError) as expected:
        decode_image(data, name)
    with pytest.raises(ImageError) as caught:
        shared_pool.decode(data, name)
    assert (str(caught.value), caught.value.reason) == (str(expected.value), expected.value.reason)


def test_decode_too_slow_image_is_refused(
    processes: list, large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_pool, "_ELAPSED_RATIO", 1000)  # Only CPU time counts.
    with DecodePool(n_workers=1, time_limit_s=0.05) as pool:
        with pytest.raises(ImageError, match=r"x\.png takes too long to decode") as caught:
            pool.decode(large, "x.png")
        assert caught.value.reason == "too slow"
        assert processes[0].wait(5) == -signal.SIGPROF
        assert pool.decode(SMALL, "x.png").shape == (60, 80, 3)
    assert len(processes) == 2


@pytest.fixture(scope="module")
def reduced() -> bytes:
    """Return an image that is read at half of its resolution."""
    gray = np.tile(NOISE[..., 0], (87, 100))
    return encode(Image.fromarray(gray), "JPEG", quality=10)  # 8000 x 5220 px.


def test_decode_image_above_the_full_size_returns_half_of_its_resolution(
    shared_pool: DecodePool, reduced: bytes
) -> None:
    pixels = shared_pool.decode(reduced, "x.jpg")
    assert pixels.shape == (2610, 4000, 3)
    np.testing.assert_array_equal(pixels, decode_image(reduced, "x.jpg"))


def test_decode_image_above_the_full_size_has_four_times_the_time(
    reduced: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_pool, "_ELAPSED_RATIO", 1000)  # The machine may be busy.
    with (
        DecodePool(n_workers=1, time_limit_s=0.005) as pool,
        pytest.raises(ImageError, match=r"takes too long to decode\. Expected at most 0\.02 s"),
    ):
        pool.decode(reduced, "x.jpg")


def test_decode_stopped_process_is_ended_after_elapsed_time(
    processes: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_pool, "_ELAPSED_RATIO", 0.2)
    with DecodePool(n_workers=1) as pool:
        pool.decode(SMALL, "x.png")
        processes[0].send_signal(signal.SIGSTOP)  # It uses no CPU time.
        with pytest.raises(BusyError, match=r"x\.png could not be read in time"):
            pool.decode(SMALL, "x.png")
        assert pool.decode(SMALL, "x.png").shape == (60, 80, 3)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL"])
def test_decode_crash_of_codec_refuses_image(
    processes: list, large: bytes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    number = getattr(signal, name)
    with DecodePool(n_workers=1) as pool:
        with pytest.raises(ImageError, match=r"x\.png cannot be decoded: its decoder failed"):
            pool.decode(large, "x.png", is_canceled=lambda: processes[0].send_signal(number))
        assert pool.decode(SMALL, "x.png").shape == (60, 80, 3)


def test_decode_process_killed_by_the_system_raises_busy_error(
    processes: list, large: bytes
) -> None:
    with DecodePool(n_workers=1) as pool:
        with pytest.raises(BusyError, match="because the machine is busy"):
            pool.decode(large, "x.png", is_canceled=lambda: processes[0].kill())
        assert pool.decode(SMALL, "x.png").shape == (60, 80, 3)


class Impostor(decode_pool._Worker):
    """A process that was taken over and answers each request with some bytes."""

    answer = b""

    def __init__(self, niceness: int) -> None:
        super().__init__(niceness)
        self.end()
        code = (
            "import os, sys\n"
            f"os.write(1, bytes.fromhex('{self.answer.hex()}'))\n"
            "sys.stdin.buffer.read()\n"
        )
        self._is_ended = False
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._requests, self._answers = self._process.stdin, self._process.stdout


def frame(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


FORGED = frame(b'{"width_px": 1, "height_px": 1}') + b"\0\0\0"


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack(">I", 2**32 - 1),
        frame(b"[]"),
        frame(b"7"),
        frame(b"\xff"),
        frame(b"{}"),
        frame(b"[" * 60_000),
        frame(b'{"width_px": 1e999, "height_px": 1}'),
        frame(b'{"width_px": null, "height_px": 1}'),
        frame(b'{"width_px": 9999999, "height_px": 9999999}'),
        frame(b'{"message": "x"}'),
    ],
    ids=range(10),
)
def test_decode_after_an_invalid_answer_never_uses_the_rest_of_it(
    processes: list, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(Impostor, "answer", answer + FORGED)
    real = decode_pool._Worker
    with DecodePool(n_workers=1) as pool:
        monkeypatch.setattr(decode_pool, "_Worker", Impostor)
        with pytest.raises(ImageError, match="its decoder failed"):
            pool.decode(SMALL, "x.png")
        monkeypatch.setattr(decode_pool, "_Worker", real)
        assert pool.decode(SMALL, "x.png").shape == (60, 80, 3)
    assert all(process.returncode is not None for process in processes)


def test_decode_without_memory_for_the_pixels_replaces_the_process(
    processes: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with DecodePool(n_workers=1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(decode_pool.np, "empty", fail)
            with pytest.raises(BusyError):
                pool.decode(SMALL, "x.png")
        assert pool.decode(SMALL, "x.png").shape == (60, 80, 3)
    assert len(processes) == 2


def test_worker_that_was_ended_is_not_used_again() -> None:
    worker = decode_pool._Worker(0)
    worker.kill()
    assert not worker.is_alive  # Also before the system has ended the process.
    assert worker.end() == worker.end() == -signal.SIGKILL


def test_worker_that_fails_between_strips_ends() -> None:
    code = (
        "import sys\n"
        "from bc_model.data import decode_worker\n"
        "def strips(self):\n"
        "    yield b'pixels'\n"
        "    raise MemoryError\n"
        "decode_worker.ImageDecoder.strips = strips\n"
        "sys.argv[1:] = ['0']\n"
        "decode_worker.main()\n"
    )
    requests = io.BytesIO()
    for _ in range(2):
        write_message(requests, {"name": "x", "n_bytes": len(SMALL), "cpu_s": 5})
        requests.write(SMALL)
    done = subprocess.run(
        [sys.executable, "-c", code], input=requests.getvalue(), capture_output=True
    )
    assert b"message" not in done.stdout
    assert done.stdout.count(b"width_px") <= 1
    assert done.returncode not in {0, 1}


def test_decode_process_that_ended_in_between_is_replaced(processes: list) -> None:
    with DecodePool(n_workers=1) as pool:
        pool.decode(SMALL, "x.png")
        processes[0].kill()
        processes[0].wait()
        assert pool.decode(SMALL, "x.png").shape == (60, 80, 3)


def test_decode_canceled_ends_process(processes: list, large: bytes) -> None:
    with DecodePool(n_workers=1) as pool:
        with pytest.raises(CanceledError):
            pool.decode(large, "x.png", is_canceled=lambda: True)
        assert processes[0].wait(5) == -signal.SIGKILL
        assert pool.decode(SMALL, "x.png").shape == (60, 80, 3)


def test_decode_error_of_callback_ends_process(processes: list, large: bytes) -> None:
    class SessionEnded(BaseException):
        pass

    def raise_ended() -> bool:
        raise SessionEnded

    with DecodePool(n_workers=1) as pool:
        with pytest.raises(SessionEnded):
            pool.decode(large, "x.png", is_canceled=raise_ended)
        assert processes[0].wait(5) == -signal.SIGKILL


def test_decode_full_queue_raises_busy_error(large: bytes) -> None:
    with DecodePool(n_workers=1, max_waiting=0) as pool:

        def decode_another() -> bool:
            with pytest.raises(BusyError, match="Try again in a moment"):
                pool.decode(large, "x.png")
            raise CanceledError("The other image was refused.")

        with pytest.raises(CanceledError, match="The other image was refused"):
            pool.decode(large, "x.png", is_canceled=decode_another)


def test_decode_without_process_raises_busy_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(decode_pool.subprocess, "Popen", fail)
    with (
        DecodePool(n_workers=1) as pool,
        pytest.raises(BusyError, match="Resource temporarily unavailable"),
    ):
        pool.decode(SMALL, "x.png")


def test_decode_many_threads_get_their_own_images(processes: list) -> None:
    images = [np.full((40, 40 + i, 3), i, np.uint8) for i in range(24)]
    files = [encode(Image.fromarray(image)) for image in images]
    with DecodePool(n_workers=2, max_waiting=24) as pool, ThreadPoolExecutor(12) as threads:
        decoded = list(threads.map(lambda data: pool.decode(data, "x"), files))
    for image, pixels in zip(images, decoded, strict=True):
        np.testing.assert_array_equal(pixels, image)
    assert len(processes) <= 2
    assert all(process.returncode is not None for process in processes)


def test_workers_end_with_their_parent() -> None:
    code = (
        "import os, sys, time\n"
        "from bc_model.data import DecodePool\n"
        "pool = DecodePool(n_workers=1)\n"
        "pool.decode(sys.stdin.buffer.read(), 'x')\n"
        "print(pool._small._take_worker()._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdin.write(SMALL)
        parent.stdin.close()
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline_s = time.monotonic() + 10
    while is_running(worker) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not is_running(worker)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux limits the memory.")
def test_worker_memory_is_limited() -> None:
    code = (
        "from bc_model.data.decode_worker import _limit_memory\n"
        "_limit_memory(2**24)\n"
        "try: bytearray(2**28)\n"
        "except MemoryError: _limit_memory(None)\n"
        "else: raise SystemExit('not limited')\n"
        "bytearray(2**28)\n"
        "import resource\n"
        "size = 2**32\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "_limit_memory(2**40)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS) == (size, size)\n"
        "_limit_memory(2**24)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS)[0] < size\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("memory_mb", "n_large"), [(0, 1), (4000, 1), (6000, 2), (64_000, 4)])
def test_workers_for_large_images_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch, memory_mb: int, n_large: int
) -> None:
    monkeypatch.setattr(decode_pool, "usable_memory_mb", lambda: memory_mb)
    monkeypatch.setattr(decode_pool, "usable_cores", lambda: 8)
    with DecodePool() as pool:
        assert (pool._small.n_workers, pool._large.n_workers) == (8, n_large)


def test_decode_small_image_does_not_wait_for_large_images(processes: list, large: bytes) -> None:
    with DecodePool(n_workers=1) as pool, ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(pool.decode, large, "large.png") for _ in range(3)]
        for _ in range(3):
            pool.decode(SMALL, "small.png")
        assert not all(future.done() for future in waiting)
        assert all(future.result().shape == (5000, 8000, 3) for future in waiting)
    assert len(processes) == 2


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("shape", [(64, 64, 3), (300, 300)])
def test_decode_image_of_16_bits_equals_decode_image(suffix: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)
    data = cv2.imencode(suffix, values)[1].tobytes()
    with DecodePool(n_workers=1) as pool:
        for _ in range(2):  # The process is used again.
            assert np.array_equal(pool.decode(data, f"a{suffix}"), decode_image(data, "a"))
