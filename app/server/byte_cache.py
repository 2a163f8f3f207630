"""A cache in memory with a limit in bytes, shared by all sessions."""

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """Cache that drops the least recently used values above a limit.

    `st.cache_data` limits the number of entries only, and returns a copy of each value.

    Parameters
    ----------
    max_bytes : int
        Limit for the sum of all values. A larger value is not stored.
    idle_s : float
        Seconds after which `drop_idle_entries` drops a value that was not used.
    """

    def __init__(self, max_bytes: int, idle_s: float) -> None:
        self.max_bytes, self.idle_s = max_bytes, idle_s
        self.n_bytes = 0
        self._entries: OrderedDict[Hashable, tuple[Value, int, float]] = OrderedDict()
        self._lock = threading.Lock()
        _caches.add(self)

    def get(self, key: Hashable) -> Value | None:
        """Return a value, or None if it is not stored."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None:
                return None
            value, size, _ = entry
            self._entries[key] = (value, size, time.monotonic())
            return value

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Store a value of `size` bytes."""
        with self._lock:
            if key in self._entries:
                self._drop(key)
            if size > self.max_bytes:
                return
            while self.n_bytes + size > self.max_bytes:
                self._drop(next(iter(self._entries)))
            self._entries[key] = (value, size, time.monotonic())
            self.n_bytes += size

    def drop_idle(self, now: float) -> int:
        """Drop the values that were not used for `idle_s`, and return their number."""
        with self._lock:
            idle = [key for key, (_, _, used) in self._entries.items() if now - used > self.idle_s]
            for key in idle:
                self._drop(key)
            return len(idle)

    def _drop(self, key: Hashable) -> None:
        self.n_bytes -= self._entries.pop(key)[1]


_caches: weakref.WeakSet[ByteCache] = weakref.WeakSet()


def drop_idle_entries() -> int:
    """Drop the idle values of all caches, and return their number."""
    now = time.monotonic()
    return sum(cache.drop_idle(now) for cache in list(_caches))
