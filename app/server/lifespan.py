"""Tasks that run as long as the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from app.server.session_memory import expire_sessions

TASKS: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = (expire_sessions,)
"""Endless coroutines; the runtime of Streamlit exists when they start."""


@contextlib.asynccontextmanager
async def run_tasks(_app: object) -> AsyncIterator[None]:
    """Run the tasks while the server is running, and end them with it."""
    running = [asyncio.create_task(task()) for task in TASKS]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
