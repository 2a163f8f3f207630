"""Decoding of images in the processes that all sessions share."""

import threading
import time

import numpy as np

from bc_model.data import DecodePool
from bc_model.errors import BusyError

_PATIENCE_S = 60.0
_RETRY_S = 0.2

# Not in the cache of Streamlit, which every session can clear. Processes start with the first
# image. A session waits for one image at a time, so `max_waiting` is a number of sessions.
_pool = DecodePool(max_waiting=64)
_dataset_slots = threading.BoundedSemaphore(_pool.n_workers)


def get_decode_pool() -> DecodePool:
    """Return the processes that decode the images of all sessions."""
    return _pool


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Return the pixels of one image that a page shows; see `DecodePool.decode`."""
    return get_decode_pool().decode(data, name)


def decode_dataset_image(data: bytes, name: str) -> np.ndarray:
    """Return the pixels of one of many images, as `decode_image`, but wait while it is busy.

    All readings of datasets together have at most one image per process in the queue, so that an
    image that a page shows waits for few of them.
    """
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with _dataset_slots:
                return decode_image(data, name)
        except BusyError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_RETRY_S)
