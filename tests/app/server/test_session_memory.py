"""The memory of closed tabs, with the real session manager of Streamlit."""

import asyncio
from pathlib import Path
from unittest.mock import Mock

import pytest
from streamlit.runtime import Runtime, RuntimeConfig, SessionClient
from streamlit.runtime.caching.storage.dummy_cache_storage import (
    MemoryCacheStorageManager,
)
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import DeletedFile, UploadedFile, UploadedFileRec

from app.components.classify.session_images import SessionImages, hold_image
from app.server import session_memory
from app.server.lifespan import TASKS
from app.server.session_memory import (
    count_held_bytes,
    expire_sessions,
    free_sessions,
    is_upload_lost,
    register_holder,
)
from tests.app.server.coroutines import run_coroutine

MB = 2**20


def close_tabs(tmp_path: Path, ttl_s: float, *, max_closed_bytes: int) -> tuple[int, list[str]]:
    """Open four tabs with 1 MB each, close three, free sessions; return what has files."""

    async def run() -> tuple[int, list[str]]:
        script = tmp_path / "page.py"
        script.write_text("")
        files = MemoryUploadedFileManager("/upload")
        server = Runtime(
            RuntimeConfig(
                script_path=str(script),
                media_file_storage=MemoryMediaFileStorage("/media"),
                uploaded_file_manager=files,
                cache_storage_manager=MemoryCacheStorageManager(),
                is_hello=False,
                session_storage=MemorySessionStorage(ttl_seconds=ttl_s),
            )
        )
        await server.start()
        tabs = [
            server.connect_session(Mock(spec=SessionClient), user_info={}, session_id_override=name)
            for name in ("first", "second", "third", "open")
        ]
        for tab in tabs:
            files.add_file(tab, UploadedFileRec("file", "a.png", "image/png", bytes(MB)))
        for tab in tabs[:3]:
            server.disconnect_session(tab)
        assert len(files.file_storage) == 4  # Streamlit keeps the files of closed tabs.
        await asyncio.sleep(0.2)
        n_freed = free_sessions(server, max_closed_bytes)
        left = list(files.file_storage)
        server.stop()
        await server.stopped
        return n_freed, left

    return run_coroutine(run())


@pytest.fixture(autouse=True)
def _no_other_runtime(monkeypatch) -> None:
    monkeypatch.setattr(Runtime, "_instance", None)


def test_free_sessions_frees_the_files_of_expired_sessions(tmp_path):
    assert close_tabs(tmp_path, ttl_s=0.1, max_closed_bytes=10 * MB) == (3, ["open"])


def test_free_sessions_keeps_sessions_that_may_reconnect(tmp_path):
    n_freed, left = close_tabs(tmp_path, ttl_s=3600, max_closed_bytes=10 * MB)

    assert (n_freed, len(left)) == (0, 4)


def test_free_sessions_above_the_limit_frees_the_tabs_that_were_closed_first(tmp_path):
    freed = close_tabs(tmp_path, ttl_s=3600, max_closed_bytes=MB)

    assert freed == (2, ["third", "open"])


def test_uploaded_file_returns_its_content_without_a_copy():
    record = UploadedFileRec("file", "a.png", "image/png", bytes(1000))

    assert UploadedFile(record, Mock()).getvalue() is record.data


def test_held_bytes_of_uploaders_and_sessions_count_once(monkeypatch):
    manager = MemoryUploadedFileManager("/upload")
    for session in ("a", "b"):
        manager.add_file(session, UploadedFileRec("1", "x.png", "image/png", bytes(10)))
    monkeypatch.setattr(session_memory.runtime, "exists", lambda: True)
    monkeypatch.setattr(
        session_memory.runtime, "get_instance", lambda: Mock(uploaded_file_mgr=manager)
    )
    monkeypatch.setattr(session_memory, "_holders", [])
    assert count_held_bytes() == 20
    shared = manager.file_storage["a"]["1"].data
    register_holder(lambda: [shared, bytes(5)])
    assert count_held_bytes() == 25
    manager.remove_session_files("a")
    manager.remove_session_files("b")
    assert count_held_bytes() == 15


def test_images_of_the_page_classify_are_counted():
    image = hold_image("a.png", bytes(1000), "a")
    session = SessionImages()
    before = count_held_bytes()
    session.update({"a": lambda: image})
    session.start_uploader()  # Its copy in the uploader is freed.
    assert count_held_bytes() == before + 1000


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, False), ([], False), (DeletedFile("a"), True), ([Mock(), DeletedFile("a")], True)],
)
def test_lost_upload_is_found(value, expected):
    assert is_upload_lost(value) is expected


def test_server_frees_sessions_as_long_as_it_runs():
    assert expire_sessions in TASKS


def test_expire_sessions_goes_on_after_an_error(monkeypatch):
    calls: list[None] = []

    def fail(_server: object) -> int:
        calls.append(None)
        raise RuntimeError("a fault in the program")

    monkeypatch.setattr("app.server.session_memory.PERIOD_S", 0.001)
    monkeypatch.setattr("app.server.session_memory.free_sessions", fail)
    monkeypatch.setattr("app.server.session_memory.runtime", Mock())

    async def run() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(expire_sessions(), timeout=0.1)

    run_coroutine(run())
    assert len(calls) > 1
