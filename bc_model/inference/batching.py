"""One engine, many users: requests that come together are answered in one pass.

There is no thread of its own. Of those who wait, the first takes what is waiting, up to one
batch, through the engine and wakes the others; so nothing has to be started or stopped, and a
forgotten object leaves nothing behind.
"""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from bc_model.errors import EngineBusyError
from bc_model.gradcam import Heatmap
from bc_model.inference.engine import Engine

MAX_BATCH = 8
"""More gains no speed on a few cores, and lets the first wait for the last."""
MAX_WAITING = 64


@dataclass(eq=False)
class _Request:
    pixels: np.ndarray
    logits: np.ndarray | None = None
    heatmaps: dict[str, Heatmap] | None = None
    error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.heatmaps is not None or self.error is not None


class BatchingEngine:
    """Explain single pictures for many threads at once, in the order they came.

    Parameters
    ----------
    engine : Engine
    max_batch : int
        Pictures in one pass.
    max_waiting : int
        Pictures that may wait for their turn, those being computed not counted.
    """

    def __init__(
        self, engine: Engine, *, max_batch: int = MAX_BATCH, max_waiting: int = MAX_WAITING
    ) -> None:
        self.engine = engine
        self.bundle = engine.bundle
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._is_computing = False

    def explain_one(self, pixels: np.ndarray) -> tuple[np.ndarray, dict[str, Heatmap]]:
        """Return the logits of one picture and the heatmap of each class.

        Parameters
        ----------
        pixels : ndarray of shape (height, width, 3), uint8
            RGB at the bundle's input size.

        Returns
        -------
        logits : ndarray of shape (2,), float32
        heatmaps : dict from class name to Heatmap

        Raises
        ------
        EngineBusyError
            Too many pictures are waiting already.
        """
        request = _Request(pixels)
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                raise EngineBusyError(
                    f"{len(self._waiting)} pictures are waiting for an answer already; "
                    "try again in a moment."
                )
            self._waiting.append(request)
        while not request.is_done:
            if batch := self._wait_for_turn(request):
                self._compute(batch)
        if request.error is not None:
            raise request.error
        assert request.logits is not None
        assert request.heatmaps is not None
        return request.logits, request.heatmaps

    def _wait_for_turn(self, request: _Request) -> list[_Request]:
        """Return what to compute, or nothing once someone else has answered the request."""
        with self._changed:
            self._changed.wait_for(lambda: request.is_done or not self._is_computing)
            if request.is_done:
                return []
            self._is_computing = True
            count = min(self._max_batch, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _compute(self, batch: list[_Request]) -> None:
        try:
            logits, heatmaps = self.engine.explain(np.stack([one.pixels for one in batch]))
            for i, one in enumerate(batch):
                one.logits, one.heatmaps = logits[i], heatmaps[i]
        except BaseException as error:
            # Everyone in the batch is told: nobody may wait for an answer that never comes.
            for one in batch:
                one.error = error
        finally:
            with self._changed:
                self._is_computing = False
                self._changed.notify_all()
