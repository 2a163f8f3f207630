"""The engine with concurrent threads: each thread receives the result of its own image."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from bc_model.contribution_map import ContributionMap
from bc_model.data.breakhis import CLASSES
from bc_model.errors import EngineBusyError
from bc_model.gradcam import Heatmap
from bc_model.inference.batching import BatchingEngine, ImageExplanation
from bc_model.inference.bundle import open_bundle
from bc_model.inference.engine import BatchExplanation, Engine
from bc_model.training.run import Run

TIMEOUT_S = 20.0
"""Each step takes less than a second; a longer wait is a deadlock."""


def image(number: int) -> np.ndarray:
    return np.full((1, 1, 3), number, np.int32)


def number_of(result: ImageExplanation) -> int:
    """Return the number of the image that a result belongs to; all parts must agree."""
    logits, heatmaps, is_constant, contribution, _ = result
    numbers = {int(logits[0]), -int(logits[1]), int(heatmaps["malignant"].raw[0, 0])}
    numbers.add(int(contribution.margin))
    (number,) = numbers
    assert is_constant == (number % 2 == 1)
    return number


def result_by_number(pixels: np.ndarray) -> BatchExplanation:
    numbers = pixels[:, 0, 0, 0]
    maps = [{"malignant": Heatmap("malignant", np.full((1, 1), n))} for n in numbers]
    contributions = [ContributionMap(np.zeros((1, 1)), 0.0, 0.0, n) for n in numbers]
    logits = np.stack([numbers, -numbers], axis=1)
    return BatchExplanation(logits, maps, numbers % 2 == 1, contributions, logits)


class FakeEngine:
    """Return the number of each image, record each forward pass, and wait until the gate opens."""

    bundle = None

    def __init__(self, compute: Callable[[np.ndarray], Any] = result_by_number) -> None:
        self.compute = compute
        self.passes: list[np.ndarray] = []
        self.resolutions: list[str] = []
        self.fail_in: dict[int, BaseException] = {}
        self.gate = threading.Event()

    def explain(self, pixels: np.ndarray, resolution: str) -> Any:
        self.resolutions.append(resolution)
        self.passes.append(pixels)
        count = len(self.passes)
        assert self.gate.wait(TIMEOUT_S), "the test did not open the gate"
        if count in self.fail_in:
            raise self.fail_in[count]
        return self.compute(pixels)

    @property
    def numbers(self) -> list[list[int]]:
        return [batch[:, 0, 0, 0].tolist() for batch in self.passes]


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.gate.set()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, "the condition was not met"
        time.sleep(0.001)


def in_thread(task: Callable[[], Any]) -> Future:
    """Run a task in a daemon thread, which cannot block the end of the test run."""
    future: Future = Future()

    def work() -> None:
        try:
            future.set_result(task())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def request(batching: BatchingEngine, pixels: np.ndarray, resolution: str = "standard") -> Future:
    """Request one image in a new thread; return when the image is waiting or in progress."""
    n_before = len(batching._waiting) + sum(map(len, batching.engine.passes))
    result = in_thread(lambda: batching.explain_one(pixels, resolution))
    wait_until(lambda: len(batching._waiting) + sum(map(len, batching.engine.passes)) > n_before)
    return result


def request_all(batching: BatchingEngine, numbers: range) -> list[Future]:
    """Request images in order; the first one occupies the engine while the others wait."""
    results = []
    for number in numbers:
        results.append(request(batching, image(number)))
        wait_until(lambda: bool(batching.engine.passes))
    return results


def test_explain_one_with_a_single_request_returns_its_result(fake: FakeEngine) -> None:
    fake.gate.set()
    assert number_of(BatchingEngine(fake).explain_one(image(7))) == 7
    assert fake.numbers == [[7]]


def test_explain_one_in_many_threads_returns_the_result_of_each_image(
    fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # switch threads as often as possible
    try:
        fake.gate.set()
        batching = BatchingEngine(fake, max_batch=4)

        def request_20_images(user: int) -> list[int]:
            return [number_of(batching.explain_one(image(100 * user + i))) for i in range(20)]

        users = [in_thread(lambda user=user: request_20_images(user)) for user in range(16)]
        found = [user.result(TIMEOUT_S) for user in users]
    finally:
        sys.setswitchinterval(before)
    assert found == [[100 * user + i for i in range(20)] for user in range(16)]
    assert max(map(len, fake.passes)) <= 4
    assert sum(map(len, fake.passes)) == 16 * 20, "an image was computed twice"


def test_explain_one_with_waiting_requests_computes_them_in_one_pass(fake: FakeEngine) -> None:
    results = request_all(BatchingEngine(fake), range(6))
    fake.gate.set()
    assert [number_of(result.result(TIMEOUT_S)) for result in results] == [0, 1, 2, 3, 4, 5]
    assert fake.numbers == [[0], [1, 2, 3, 4, 5]]


def test_explain_one_computes_at_most_one_batch_in_order_of_arrival(fake: FakeEngine) -> None:
    results = request_all(BatchingEngine(fake, max_batch=3), range(9))
    fake.gate.set()
    for result in results:
        result.result(TIMEOUT_S)
    assert fake.numbers == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]


def test_explain_one_joins_only_images_of_one_resolution(fake: FakeEngine) -> None:
    batching = BatchingEngine(fake)
    results = request_all(batching, range(1))
    for number, resolution in enumerate(["fine", "fine", "standard", "fine"], start=1):
        results.append(request(batching, image(number), resolution))
    fake.gate.set()
    assert [number_of(result.result(TIMEOUT_S)) for result in results] == [0, 1, 2, 3, 4]
    assert fake.numbers == [[0], [1, 2], [3], [4]]
    assert fake.resolutions == ["standard", "fine", "standard", "fine"]


def test_explain_one_with_a_full_queue_raises_engine_busy_error(fake: FakeEngine) -> None:
    batching = BatchingEngine(fake, max_waiting=2)
    results = request_all(batching, range(3))  # one is in progress, two are waiting
    with pytest.raises(EngineBusyError, match="Expected fewer than 2, got 2"):
        batching.explain_one(image(3))
    fake.gate.set()
    assert [number_of(result.result(TIMEOUT_S)) for result in results] == [0, 1, 2]
    assert fake.numbers == [[0], [1, 2]]


def test_explain_one_after_a_full_queue_accepts_images(fake: FakeEngine) -> None:
    batching = BatchingEngine(fake, max_waiting=1)
    results = request_all(batching, range(2))
    with pytest.raises(EngineBusyError):
        batching.explain_one(image(2))
    fake.gate.set()
    for result in results:
        result.result(TIMEOUT_S)
    assert number_of(in_thread(lambda: batching.explain_one(image(3))).result(TIMEOUT_S)) == 3


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=repr)
def test_explain_one_with_a_failed_pass_raises_in_all_threads_of_the_batch(
    fake: FakeEngine, error: BaseException
) -> None:
    fake.fail_in = {2: error}
    first, *failed, last = request_all(BatchingEngine(fake, max_batch=3), range(5))
    fake.gate.set()
    assert [future.exception(TIMEOUT_S) for future in failed] == [error] * 3
    assert (number_of(first.result(TIMEOUT_S)), number_of(last.result(TIMEOUT_S))) == (0, 4)


def test_explain_one_after_a_failed_pass_returns_a_result(fake: FakeEngine) -> None:
    fake.fail_in = {1: RuntimeError("out of memory")}
    fake.gate.set()
    batching = BatchingEngine(fake)
    with pytest.raises(RuntimeError, match="out of memory"):
        batching.explain_one(image(1))
    assert number_of(in_thread(lambda: batching.explain_one(image(2))).result(TIMEOUT_S)) == 2


def test_explain_one_with_too_few_results_raises_instead_of_waiting(fake: FakeEngine) -> None:
    fake.compute = lambda pixels: result_by_number(pixels[:1])
    _, *results = request_all(BatchingEngine(fake), range(3))
    fake.gate.set()
    for result in results:
        result.exception(TIMEOUT_S)  # a result or an error, but no deadlock
    assert isinstance(results[-1].exception(), IndexError)


def test_explain_one_leaves_no_thread_and_no_request(fake: FakeEngine) -> None:
    batching = BatchingEngine(fake)
    threads = set(threading.enumerate())
    results = request_all(batching, range(4))
    fake.gate.set()
    for result in results:
        result.result(TIMEOUT_S)
    wait_until(lambda: set(threading.enumerate()) <= threads)
    assert not batching._waiting


def test_explain_one_with_a_real_engine_equals_single_requests(tiny_run: Run) -> None:
    engine = Engine(open_bundle(tiny_run.path))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    gated = FakeEngine(engine.explain)
    batching = BatchingEngine(gated)
    results = [request(batching, image_pixels) for image_pixels in pixels]
    gated.gate.set()
    for image_pixels, result in zip(pixels, results, strict=True):
        logits, heatmaps, *_ = result.result(TIMEOUT_S)
        (alone,), (maps,), *_ = engine.explain(image_pixels[None])
        np.testing.assert_allclose(logits, alone, rtol=0, atol=1e-5)
        for name in CLASSES:
            np.testing.assert_allclose(heatmaps[name].raw, maps[name].raw, rtol=0, atol=1e-5)
    assert max(map(len, gated.passes)) > 1, "no two images were computed together"
