"""Many users, one engine: each gets the answer to the own picture, and nobody waits for ever."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from bc_model.data.breakhis import CLASSES
from bc_model.errors import EngineBusyError
from bc_model.gradcam import Heatmap
from bc_model.inference.batching import BatchingEngine
from bc_model.inference.bundle import open_bundle
from bc_model.inference.engine import Engine
from bc_model.training.run import Run

SOON_S = 20.0
"""Nothing here takes a second; who waits this long would wait for ever."""


def image(number: int) -> np.ndarray:
    return np.full((1, 1, 3), number, np.int32)


def number_of(answer: tuple[np.ndarray, dict[str, Heatmap]]) -> int:
    """Return the number of the picture that an answer is to; its two halves must agree."""
    logits, heatmaps = answer
    numbers = {int(logits[0]), -int(logits[1]), int(heatmaps["malignant"].raw[0, 0])}
    (number,) = numbers
    return number


def answer_by_number(pixels: np.ndarray) -> tuple[np.ndarray, list[dict[str, Heatmap]]]:
    numbers = pixels[:, 0, 0, 0]
    maps = [{"malignant": Heatmap("malignant", np.full((1, 1), n))} for n in numbers]
    return np.stack([numbers, -numbers], axis=1), maps


class FakeEngine:
    """Answer with the number of each picture; note each pass, and hold it until the gate opens."""

    bundle = None

    def __init__(self, answer: Callable[[np.ndarray], Any] = answer_by_number) -> None:
        self.answer = answer
        self.passes: list[np.ndarray] = []
        self.fail_in: dict[int, BaseException] = {}
        self.gate = threading.Event()

    def explain(self, pixels: np.ndarray) -> Any:
        self.passes.append(pixels)
        count = len(self.passes)
        assert self.gate.wait(SOON_S), "the test never opened the gate"
        if count in self.fail_in:
            raise self.fail_in[count]
        return self.answer(pixels)

    @property
    def numbers(self) -> list[list[int]]:
        return [one[:, 0, 0, 0].tolist() for one in self.passes]


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.gate.set()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


def in_thread(task: Callable[[], Any]) -> Future:
    """Run in a thread that cannot keep the test run alive if it hangs."""
    future: Future = Future()

    def work() -> None:
        try:
            future.set_result(task())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def ask(batching: BatchingEngine, pixels: np.ndarray) -> Future:
    """Ask in a thread of its own; return once the picture waits or is being computed."""
    known = len(batching._waiting) + sum(map(len, batching.engine.passes))
    answer = in_thread(lambda: batching.explain_one(pixels))
    until(lambda: len(batching._waiting) + sum(map(len, batching.engine.passes)) > known)
    return answer


def ask_all(batching: BatchingEngine, numbers: range) -> list[Future]:
    """Ask one after the other; the first picture holds the engine while the others wait."""
    answers = []
    for number in numbers:
        answers.append(ask(batching, image(number)))
        until(lambda: bool(batching.engine.passes))
    return answers


def test_one_alone_is_answered_at_once(fake: FakeEngine) -> None:
    fake.gate.set()
    assert number_of(BatchingEngine(fake).explain_one(image(7))) == 7
    assert fake.numbers == [[7]]


def test_everyone_gets_the_own_answer(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # let the threads cut in on one another everywhere
    try:
        fake.gate.set()
        batching = BatchingEngine(fake, max_batch=4)

        def twenty_times(user: int) -> list[int]:
            return [number_of(batching.explain_one(image(100 * user + i))) for i in range(20)]

        users = [in_thread(lambda user=user: twenty_times(user)) for user in range(16)]
        found = [user.result(SOON_S) for user in users]
    finally:
        sys.setswitchinterval(before)
    assert found == [[100 * user + i for i in range(20)] for user in range(16)]
    assert max(map(len, fake.passes)) <= 4
    assert sum(map(len, fake.passes)) == 16 * 20, "a picture was computed twice"


def test_those_who_wait_together_are_answered_in_one_pass(fake: FakeEngine) -> None:
    answers = ask_all(BatchingEngine(fake), range(6))
    fake.gate.set()
    assert [number_of(answer.result(SOON_S)) for answer in answers] == [0, 1, 2, 3, 4, 5]
    assert fake.numbers == [[0], [1, 2, 3, 4, 5]]


def test_a_pass_takes_no_more_than_a_batch_in_the_order_of_arrival(fake: FakeEngine) -> None:
    answers = ask_all(BatchingEngine(fake, max_batch=3), range(9))
    fake.gate.set()
    for answer in answers:
        answer.result(SOON_S)
    assert fake.numbers == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]


def test_one_too_many_is_refused_and_not_computed(fake: FakeEngine) -> None:
    batching = BatchingEngine(fake, max_waiting=2)
    answers = ask_all(batching, range(3))  # one is computed, two wait
    with pytest.raises(EngineBusyError, match="2 pictures are waiting"):
        batching.explain_one(image(3))
    fake.gate.set()
    assert [number_of(answer.result(SOON_S)) for answer in answers] == [0, 1, 2]
    assert fake.numbers == [[0], [1, 2]]


def test_after_it_was_busy_it_takes_images_again(fake: FakeEngine) -> None:
    batching = BatchingEngine(fake, max_waiting=1)
    answers = ask_all(batching, range(2))
    with pytest.raises(EngineBusyError):
        batching.explain_one(image(2))
    fake.gate.set()
    for answer in answers:
        answer.result(SOON_S)
    assert number_of(in_thread(lambda: batching.explain_one(image(3))).result(SOON_S)) == 3


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=repr)
def test_a_failing_pass_is_told_to_its_whole_batch_and_to_nobody_else(
    fake: FakeEngine, error: BaseException
) -> None:
    fake.fail_in = {2: error}
    first, *failed, last = ask_all(BatchingEngine(fake, max_batch=3), range(5))
    fake.gate.set()
    assert [one.exception(SOON_S) for one in failed] == [error] * 3
    assert (number_of(first.result(SOON_S)), number_of(last.result(SOON_S))) == (0, 4)


def test_the_next_request_after_a_failing_pass_works(fake: FakeEngine) -> None:
    fake.fail_in = {1: RuntimeError("out of memory")}
    fake.gate.set()
    batching = BatchingEngine(fake)
    with pytest.raises(RuntimeError, match="out of memory"):
        batching.explain_one(image(1))
    assert number_of(in_thread(lambda: batching.explain_one(image(2))).result(SOON_S)) == 2


def test_an_answer_too_short_for_its_batch_leaves_nobody_waiting(fake: FakeEngine) -> None:
    fake.answer = lambda pixels: answer_by_number(pixels[:1])
    _, *answers = ask_all(BatchingEngine(fake), range(3))
    fake.gate.set()
    for answer in answers:
        answer.exception(SOON_S)  # it may be an answer or an error; it must come
    assert isinstance(answers[-1].exception(), IndexError)


def test_nothing_is_left_behind(fake: FakeEngine) -> None:
    batching = BatchingEngine(fake)
    threads = set(threading.enumerate())
    answers = ask_all(batching, range(4))
    fake.gate.set()
    for answer in answers:
        answer.result(SOON_S)
    until(lambda: set(threading.enumerate()) <= threads)
    assert not batching._waiting


def test_a_real_engine_gives_eight_users_what_it_gives_one(tiny_run: Run) -> None:
    engine = Engine(open_bundle(tiny_run.path))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    gated = FakeEngine(engine.explain)
    batching = BatchingEngine(gated)
    answers = [ask(batching, one) for one in pixels]
    gated.gate.set()
    for one, answer in zip(pixels, answers, strict=True):
        logits, heatmaps = answer.result(SOON_S)
        (alone,), (maps,) = engine.explain(one[None])
        np.testing.assert_allclose(logits, alone, rtol=0, atol=1e-5)
        for name in CLASSES:
            np.testing.assert_allclose(heatmaps[name].raw, maps[name].raw, rtol=0, atol=1e-5)
    assert max(map(len, gated.passes)) > 1, "no two were computed together"
