"""Batches made ahead of the learning, in a thread or in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import cv2

from bc_model.bundled.views import Views, ViewSampler

_AHEAD = 4
"""Batches that wait, for each process that makes them."""

_sampler: ViewSampler | None = None
"""Of a process that makes batches."""


@contextmanager
def batches_ahead(sampler: ViewSampler, steps: range, processes: int) -> Iterator[Iterator[Views]]:
    """Give the batches of some steps, in order and the same ones however many processes make them.

    Parameters
    ----------
    sampler : ViewSampler
    steps : range
    processes : int
        0 makes them in a thread of this process.
    """
    pool: Executor
    if processes:
        # A forked child would inherit locks that threads of this process hold.
        pool = ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), _begin, (sampler,)
        )
    else:
        pool = ThreadPoolExecutor(1)
    make = _make if processes else sampler.batch
    waiting: deque[Future[Views]] = deque()

    def in_order() -> Iterator[Views]:
        to_ask = iter(steps)
        for _ in steps:
            free = _AHEAD * max(processes, 1) - len(waiting)
            waiting.extend(pool.submit(make, step) for step in islice(to_ask, free))
            yield waiting.popleft().result()

    try:
        yield in_order()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(sampler: ViewSampler) -> None:
    global _sampler
    cv2.setNumThreads(1)
    _sampler = sampler


def _make(step: int) -> Views:
    assert _sampler is not None, "a process begins with its sampler"
    return _sampler.batch(step)
