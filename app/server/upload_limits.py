"""Limits of uploads: their total memory, their number per time, and their duration.

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

from app.server.session_memory import count_held_bytes, free_closed_sessions

MEMORY_VARIABLE = "BC_UPLOAD_MEMORY_MB"
DEFAULT_MEMORY_MB = 1400
"""Enough for one archive beside the images that all sessions may hold."""
MAX_PER_SESSION, MAX_PER_SERVER = 1000, 3000
"""Number of uploads within `PERIOD_S`. A session can hold about 600 images of BreakHis."""
PERIOD_S = 60.0
IDLE_S = 30.0
"""An upload without a new byte for this time is ended, because it reserves memory."""
START_S, MIN_BYTES_PER_S = 60.0, 100_000
"""An upload that takes longer than `START_S` and its size at this rate is ended as well."""
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
        elif runtime.exists() and not runtime.get_instance().is_active_session(route[1]):
            await _refuse(400, "This tab is not connected.")(scope, receive, send)
            return  # Its content is not read.
        elif not self._is_in_time(route[1]):
            refusal = _refuse(429, "Too many uploads within a minute. Try again in a minute.")
        elif n_bytes > self.memory_bytes:
            refusal = _refuse(413, self._describe_limit())
        elif not self._has_room(n_bytes):
            refusal = _refuse(429, f"{self._describe_limit()} Try again later.")
        if refusal is None:
            await self._receive(scope, receive, send, n_bytes)
        else:
            if n_bytes <= MAX_DISCARDED_BYTES:
                await _discard_body(receive)
            await refusal(scope, receive, send)

    async def _receive(self, scope: Scope, receive: Receive, send: Send, n_bytes: int) -> None:
        n_receiving = n_bytes
        end_s = time.monotonic() + START_S + n_bytes / MIN_BYTES_PER_S

        async def receive_in_time() -> Message:
            try:
                left_s = max(0.0, end_s - time.monotonic())
                return await asyncio.wait_for(receive(), min(IDLE_S, left_s))
            except TimeoutError:
                return {"type": "http.disconnect"}

        async def note_response(message: Message) -> None:
            # The content is stored before the response, and counts as held from then on.
            nonlocal n_receiving
            self.n_receiving_bytes -= n_receiving
            n_receiving = 0
            await send(message)

        self.n_receiving_bytes += n_receiving
        try:
            await self.app(scope, receive_in_time, note_response)
        except ClientDisconnect:
            if n_receiving:
                await _refuse(408, "The upload was interrupted.")(scope, receive, send)
        finally:
            self.n_receiving_bytes -= n_receiving

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

    def _has_room(self, n_bytes: int) -> bool:
        """Return whether an upload fits; if not, closed tabs lose their images first."""
        max_held_bytes = self.memory_bytes - self.n_receiving_bytes - n_bytes
        if count_held_bytes() > max_held_bytes:
            free_closed_sessions()
        return count_held_bytes() <= max_held_bytes

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


def read_memory_limit() -> int:
    """Return the limit of all uploads, bytes: BC_UPLOAD_MEMORY_MB, or 1,400 MB."""
    text = os.environ.get(MEMORY_VARIABLE, str(DEFAULT_MEMORY_MB))
    if not text.isdecimal() or int(text) < 1:
        raise SystemExit(
            f"Invalid environment variable {MEMORY_VARIABLE}. Expected a number of MB, got "
            f"{text!r}."
        )
    return int(text) * 1_000_000
