"""Limits of uploads: their total memory, their number per time, and their idle time.

Streamlit holds each upload in memory until its widget or its session ends, and limits only the
size of one file.
"""

import asyncio
import contextlib
import os
import re
import time
from collections import deque

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

MEMORY_VARIABLE = "BC_UPLOAD_MEMORY_MB"
DEFAULT_MEMORY_MB = 1100
"""Enough for one archive beside the uploads of closed tabs, see `session_memory`."""
MAX_PER_SESSION, MAX_PER_SERVER = 300, 1500
"""Number of uploads within `PERIOD_S`."""
PERIOD_S = 60.0
IDLE_S = 30.0
"""An upload without a new byte for this time is ended, because it reserves memory."""
MAX_DISCARDED_BYTES = 64_000_000
"""A refused upload up to this size is read, because a client that sends misses the answer."""

_ROUTE = re.compile(r"/_stcore/upload_file/([^/]+)/[^/]+$")


class UploadLimitMiddleware:
    """Refuse uploads above the limits before their content is stored.

    Parameters
    ----------
    app : ASGI application
        The application that stores the uploads.
    memory_bytes : int
        Limit of all uploads that are held or being received.
    """

    def __init__(self, app: ASGIApp, memory_bytes: int) -> None:
        self.app = app
        self.memory_bytes = memory_bytes
        self.n_receiving_bytes = 0
        self.times: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an upload above the limits; pass on all other requests."""
        route = _ROUTE.search(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "PUT":
            await self.app(scope, receive, send)
            return
        text = Headers(scope=scope).get("content-length", "")
        n_bytes = int(text) if text.isdecimal() else 0
        refusal = None
        if not text.isdecimal():
            refusal = _refuse(411, "The upload has no length.")
        elif not self._is_in_time(route[1]):
            refusal = _refuse(429, "Too many uploads within a minute. Try again in a minute.")
        elif n_bytes > self.memory_bytes:
            refusal = _refuse(413, self._describe_limit())
        elif held_bytes() + self.n_receiving_bytes + n_bytes > self.memory_bytes:
            refusal = _refuse(429, f"{self._describe_limit()} Try again later.")
        if refusal is None:
            await self._receive(scope, receive, send, n_bytes)
        else:
            if n_bytes <= MAX_DISCARDED_BYTES:
                await _discard_body(receive)
            await refusal(scope, receive, send)

    async def _receive(self, scope: Scope, receive: Receive, send: Send, n_bytes: int) -> None:
        has_response = False

        async def receive_in_time() -> Message:
            try:
                return await asyncio.wait_for(receive(), IDLE_S)
            except TimeoutError:
                return {"type": "http.disconnect"}

        async def note_response(message: Message) -> None:
            nonlocal has_response
            has_response = True
            await send(message)

        self.n_receiving_bytes += n_bytes
        try:
            await self.app(scope, receive_in_time, note_response)
        except ClientDisconnect:
            if not has_response:
                await _refuse(408, "The upload was interrupted.")(scope, receive, send)
        finally:
            self.n_receiving_bytes -= n_bytes

    def _is_in_time(self, session: str) -> bool:
        """Count an upload, and return whether its session and the server are within the limits."""
        now = time.monotonic()
        for name, times in list(self.times.items()):
            while times and times[0] < now - PERIOD_S:
                times.popleft()
            if not times:
                del self.times[name]
        n_all = sum(map(len, self.times.values()))
        if len(self.times.get(session, ())) >= MAX_PER_SESSION or n_all >= MAX_PER_SERVER:
            return False
        self.times.setdefault(session, deque()).append(now)
        return True

    def _describe_limit(self) -> str:
        return (
            f"All uploads together are limited to {self.memory_bytes / 1e6:,.0f} MB "
            f"({MEMORY_VARIABLE})."
        )


def _refuse(status: int, text: str) -> PlainTextResponse:
    return PlainTextResponse(f"{text}\n", status, {"Retry-After": "60", "Connection": "close"})


async def _discard_body(receive: Receive) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(IDLE_S):
            while (await receive()).get("more_body"):
                pass


def held_bytes() -> int:
    """Return the size of the uploads that Streamlit holds for all sessions."""
    if not runtime.exists():
        return 0
    manager = runtime.get_instance().uploaded_file_mgr
    assert isinstance(manager, MemoryUploadedFileManager)
    return sum(entry.byte_length for entries in manager.get_stats().values() for entry in entries)


def read_memory_limit() -> int:
    """Return the limit of all uploads, bytes: BC_UPLOAD_MEMORY_MB, or 1,100 MB."""
    text = os.environ.get(MEMORY_VARIABLE, str(DEFAULT_MEMORY_MB))
    if not text.isdecimal() or int(text) < 1:
        raise SystemExit(
            f"Invalid environment variable {MEMORY_VARIABLE}. Expected a number of MB, got "
            f"{text!r}."
        )
    return int(text) * 1_000_000
