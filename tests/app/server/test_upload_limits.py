"""Limits of uploads, with an application that answers like that of Streamlit."""

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.server import upload_limits
from app.server.upload_limits import UploadLimitMiddleware, read_memory_limit
from tests.app.server.coroutines import run_coroutine

PATH = "/base/_stcore/upload_file/session-1/file-1"


async def store(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the upload, and answer that it was stored."""
    await Request(scope, receive).body()
    await Response(status_code=204)(scope, receive, send)


class Client:
    """Send requests to the middleware of a server that holds at most 1,000 bytes."""

    def __init__(self) -> None:
        self.app = UploadLimitMiddleware(store, memory_bytes=1000)

    async def send(
        self,
        *chunks: bytes,
        length: int | str | None = None,
        path: str = PATH,
        method: str = "PUT",
        wait: asyncio.Event | None = None,
    ) -> tuple[int, str]:
        """Return status and text of the answer; the last chunk waits for an event."""
        messages = [
            {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
            for number, chunk in enumerate(chunks, start=1)
        ]
        answers: list[Message] = []

        async def receive() -> Message:
            if wait and len(messages) == 1:
                await wait.wait()
            return messages.pop(0)

        async def send(message: Message) -> None:
            answers.append(message)

        n_bytes = sum(map(len, chunks)) if length is None else length
        headers = [] if n_bytes == "" else [(b"content-length", str(n_bytes).encode())]
        scope: dict[str, Any] = {
            "type": "http", "path": path, "method": method, "headers": headers,
        }  # fmt: skip
        await self.app(scope, receive, send)
        return answers[0]["status"], b"".join(m.get("body", b"") for m in answers).decode()


def test_upload_within_the_limits_is_stored() -> None:
    client = Client()
    assert run_coroutine(client.send(b"x" * 600, b"x" * 400)) == (204, "")
    assert client.app.n_receiving_bytes == 0


def test_upload_above_the_memory_limit_is_refused() -> None:
    status, text = run_coroutine(Client().send(b"", length=1001))
    assert status == 413
    assert text == "All uploads together are limited to 0 MB (BC_UPLOAD_MEMORY_MB).\n"


def test_held_uploads_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_limits, "count_held_bytes", lambda: 500)
    status, text = run_coroutine(Client().send(b"x" * 501))
    assert (status, "Try again later" in text) == (429, True)
    assert run_coroutine(Client().send(b"x" * 500)) == (204, "")


def test_uploads_at_the_same_time_count() -> None:
    async def upload() -> tuple[int, int, int]:
        client, wait = Client(), asyncio.Event()
        first = asyncio.create_task(client.send(b"x" * 600, b"", wait=wait))
        await asyncio.sleep(0)
        second, _ = await client.send(b"x" * 600)
        wait.set()
        return (await first)[0], second, (await client.send(b"x" * 600))[0]

    assert run_coroutine(upload()) == (204, 429, 204)


def test_refused_upload_is_read_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, a client that still sends receives a reset of the connection."""
    monkeypatch.setattr(upload_limits, "count_held_bytes", lambda: 1000)
    received: list[int] = []

    async def upload() -> int:
        async def receive() -> Message:
            received.append(1)
            return {"type": "http.request", "body": b"x", "more_body": len(received) < 3}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                received.append(message["status"])

        headers = [(b"content-length", b"3")]
        scope: dict[str, Any] = {
            "type": "http", "path": PATH, "method": "PUT", "headers": headers,
        }  # fmt: skip
        await UploadLimitMiddleware(store, memory_bytes=1000)(scope, receive, send)
        return len(received)

    assert run_coroutine(upload()) == 4
    assert received == [1, 1, 1, 429]


@pytest.mark.parametrize("length", ["", "-1", "many", "1e3"])
def test_upload_without_a_length_is_refused(length: str) -> None:
    assert run_coroutine(Client().send(b"x", length=length))[0] == 411


def test_idle_upload_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would reserve memory for ever."""
    monkeypatch.setattr(upload_limits, "IDLE_S", 0.01)
    client = Client()
    assert run_coroutine(client.send(b"x", b"x", wait=asyncio.Event()))[0] == 408
    assert client.app.n_receiving_bytes == 0


def test_number_of_uploads_is_limited_by_session_and_in_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload_limits, "MAX_PER_SESSION", 3)
    monkeypatch.setattr(upload_limits, "MAX_PER_SERVER", 5)
    now = 1000.0
    monkeypatch.setattr(upload_limits.time, "monotonic", lambda: now)

    async def upload(client: Client, session: int) -> int:
        return (await client.send(b"x", path=PATH.replace("session-1", str(session))))[0]

    client = Client()
    statuses = [run_coroutine(upload(client, session)) for session in (1, 1, 1, 1, 2, 2, 2, 3)]
    assert statuses == [204, 204, 204, 429, 204, 204, 429, 429]
    now += upload_limits.PERIOD_S + 1
    assert run_coroutine(upload(client, 1)) == 204
    assert list(client.app.times) == ["1"]


def test_other_requests_are_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_limits, "count_held_bytes", lambda: 10_000)
    client = Client()
    assert run_coroutine(client.send(b"x", method="DELETE"))[0] == 204
    assert run_coroutine(client.send(b"x", path="/_stcore/health"))[0] == 204


def test_upload_at_a_slow_rate_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single bytes within the idle time would reserve memory for ever."""
    monkeypatch.setattr(upload_limits, "START_S", 0.0)
    monkeypatch.setattr(upload_limits, "MIN_BYTES_PER_S", 1000)
    client = Client()
    assert run_coroutine(client.send(b"x", b"x", wait=asyncio.Event()))[0] == 408
    assert client.app.n_receiving_bytes == 0


def test_upload_of_an_unknown_session_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_limits.runtime, "exists", lambda: True)
    instance = Mock()
    instance.is_active_session = lambda session: session == "other"
    monkeypatch.setattr(upload_limits.runtime, "get_instance", lambda: instance)
    client = Client()
    status, _ = run_coroutine(client.send(b"x", b"", wait=asyncio.Event()))  # It is not read.
    assert (status, client.app.times) == (400, {})


def test_closed_tabs_are_freed_before_an_upload_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [600, 0]
    monkeypatch.setattr(upload_limits, "count_held_bytes", lambda: held[0])
    monkeypatch.setattr(upload_limits, "free_closed_sessions", lambda: held.pop(0))
    client = Client()
    assert run_coroutine(client.send(b"x" * 400))[0] == 204
    assert held == [600, 0]
    assert run_coroutine(client.send(b"x" * 401))[0] == 204
    assert held == [0]


def test_memory_limit_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BC_UPLOAD_MEMORY_MB", raising=False)
    assert read_memory_limit() == 1_400_000_000
    monkeypatch.setenv("BC_UPLOAD_MEMORY_MB", "250")
    assert read_memory_limit() == 250_000_000
    for text in ("0", "-1", "many", ""):
        monkeypatch.setenv("BC_UPLOAD_MEMORY_MB", text)
        with pytest.raises(SystemExit, match="BC_UPLOAD_MEMORY_MB"):
            read_memory_limit()
