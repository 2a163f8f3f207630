"""The memory of sessions: free closed tabs by a timer, and single uploads on request.

Streamlit keeps the session of a closed tab for `server.disconnectedSessionTTL`, but looks for
expired sessions only when another tab closes. This is the only module that uses private parts of
Streamlit; `tests/app/server/test_session_memory.py` fails if they change.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
from collections.abc import Callable

from streamlit import runtime
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import DeletedFile

from app.server.byte_cache import drop_idle_entries

PERIOD_S = 15.0
MAX_CLOSED_MB = 512
"""Limit for the uploads of all closed tabs. The oldest sessions are freed first."""

logger = logging.getLogger("app")


async def expire_sessions() -> None:
    """Free expired sessions, idle cache entries and garbage, as long as the server runs."""
    n_collections = 0
    while True:
        await asyncio.sleep(PERIOD_S)
        try:
            n_freed = free_sessions(runtime.get_instance()) + drop_idle_entries()
        except Exception:
            logger.exception("Expired sessions cannot be freed")
            continue
        if n_freed or _count_collections() > n_collections:
            await asyncio.to_thread(_return_memory)
            n_collections = _count_collections()


def free_sessions(server: Runtime, max_closed_bytes: int = MAX_CLOSED_MB * 2**20) -> int:
    """Close expired sessions, and the oldest closed tabs above the limit; return their number.

    Must run on the event loop of the server.
    """
    storage = server._session_mgr._session_storage  # type: ignore[attr-defined]
    expired = storage._cache.expire()
    for _, info in expired:
        info.session.shutdown()
    sizes = {
        info.session.id: _count_upload_bytes(server, info.session.id) for info in storage.list()
    }
    n_early, total = 0, sum(sizes.values())
    for session_id, size in sizes.items():  # In the order in which the tabs were closed.
        if total <= max_closed_bytes:
            break
        server.close_session(session_id)
        n_early, total = n_early + 1, total - size
    return len(expired) + n_early


def make_upload_release(file_id: str) -> Callable[[], None]:
    """Return a function that frees an uploaded file of this session, callable on any thread."""
    context = get_script_run_ctx()
    if context is None:
        return lambda: None
    manager, session_id = context.uploaded_file_mgr, context.session_id
    return lambda: manager.remove_file(session_id, file_id)  # type: ignore[attr-defined]


def is_upload_lost(value: object) -> bool:
    """Return whether the value of an uploader has a file that the server does not hold.

    After a restart of the server, or after the end of a session, the uploader in the browser still
    lists its files.
    """
    files = value if isinstance(value, list) else [value]
    return any(isinstance(file, DeletedFile) for file in files)


def register_holder(list_contents: Callable[[], list[bytes]]) -> None:
    """Let `count_held_bytes` count files that sessions hold apart from their uploaders."""
    _holders.append(list_contents)


def count_held_bytes() -> int:
    """Return the size of all uploaded files in memory; a shared content counts once."""
    contents = [content for list_contents in _holders for content in list_contents()]
    if runtime.exists():
        storage = runtime.get_instance().uploaded_file_mgr.file_storage  # type: ignore[attr-defined]
        contents += [file.data for files in list(storage.values()) for file in list(files.values())]
    return sum({id(content): len(content) for content in contents}.values())


def free_closed_sessions() -> None:
    """Free the sessions of all closed tabs. Must run on the event loop of the server."""
    if runtime.exists() and free_sessions(runtime.get_instance(), max_closed_bytes=-1):
        gc.collect()


_holders: list[Callable[[], list[bytes]]] = []


def _count_upload_bytes(server: Runtime, session_id: str) -> int:
    files = server.uploaded_file_mgr.file_storage  # type: ignore[attr-defined]
    return sum(len(file.data) for file in list(files.get(session_id, {}).values()))


def _count_collections() -> int:
    """Return the number of collections of young objects, which idle servers hardly create."""
    return int(gc.get_stats()[0]["collections"])


def _return_memory() -> None:
    """Collect garbage, such as freed sessions, and return its memory to the system."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # Only glibc has it.
        ctypes.CDLL(None).malloc_trim(0)
