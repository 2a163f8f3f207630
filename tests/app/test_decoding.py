"""The processes that decode the images of all sessions."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app.components import decoding
from bc_model.data import DecodePool, example_png, load_dataset
from bc_model.errors import BusyError

DECODING = (
    "load_dataset", "make_thumbnail", "read_image", "images.read", "evaluate_external",
    "find_neighbors", "compute_training_features",
)  # fmt: skip
"""Functions that decode images, in this process unless they receive a decoder."""
PIXELS = np.zeros((40, 40, 3), np.uint8)


class RecordingPool:
    """A pool that is busy for some calls, and records how many images it decodes at once."""

    def __init__(self, n_busy: int = 0) -> None:
        self._lock = threading.Lock()
        self._n_busy = n_busy
        self._n_running = self.n_calls = self.n_most = 0

    def decode(self, data: bytes, name: str) -> np.ndarray:
        with self._lock:
            self.n_calls += 1
            if self.n_calls <= self._n_busy:
                raise BusyError("Too many images are being read.")
            self._n_running += 1
            self.n_most = max(self.n_most, self._n_running)
        time.sleep(0.01)
        with self._lock:
            self._n_running -= 1
        return PIXELS


@pytest.fixture
def use_pool(monkeypatch: pytest.MonkeyPatch):
    def use(pool: RecordingPool) -> RecordingPool:
        monkeypatch.setattr(decoding, "_pool", pool)
        monkeypatch.setattr(decoding, "_RETRY_S", 0.01)
        return pool

    return use


def test_dataset_images_wait_while_the_pool_is_busy(use_pool) -> None:
    pool = use_pool(RecordingPool(n_busy=3))
    assert decoding.decode_dataset_image(b"", "x") is PIXELS
    assert pool.n_calls == 4


def test_dataset_images_do_not_wait_without_end(use_pool, monkeypatch) -> None:
    use_pool(RecordingPool(n_busy=1000))
    monkeypatch.setattr(decoding, "_PATIENCE_S", 0.05)
    with pytest.raises(BusyError):
        decoding.decode_dataset_image(b"", "x")


def test_all_readings_of_datasets_leave_the_queue_to_the_pages(use_pool, monkeypatch) -> None:
    pool = use_pool(RecordingPool())
    monkeypatch.setattr(decoding, "_dataset_slots", threading.BoundedSemaphore(2))
    with ThreadPoolExecutor(12) as threads:
        for future in [threads.submit(decoding.decode_dataset_image, b"", "x") for _ in range(24)]:
            future.result()
    assert pool.n_most == 2
    assert pool.n_calls == 24


def test_dataset_read_in_processes_equals_that_of_this_process(synthetic_dataset: Path) -> None:
    expected = load_dataset(synthetic_dataset)
    with DecodePool(n_workers=1) as pool:
        dataset = load_dataset(synthetic_dataset, decode=pool.decode)
    assert dataset.images.equals(expected.images)


def test_no_page_decodes_in_the_process_of_the_server() -> None:
    app = Path(decoding.__file__).parents[1]
    for path in app.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        imported = text.partition("from bc_model.data import ")[2].partition("\nfrom ")[0]
        assert "decode_image" not in imported, path
        for name in DECODING:
            for call in re.split(rf"[^_]\b{name}\(", text)[1:]:
                assert "decode=" in call[:200], f"{path}: {name}"


def test_image_of_a_page_is_decoded_in_a_process() -> None:
    assert decoding.decode_image(example_png(malignant=True), "x").shape == (460, 700, 3)
