"""The images that a session holds: removal, limits and eviction."""

import pytest

from app.components.classify import session_images
from app.components.classify.session_images import SessionImages, hold_image

MB = 2**20
freed: list[str] = []


@pytest.fixture
def released(monkeypatch) -> list[str]:
    """Set limits of 3 MB per session and 5 MB in all, and list the files that were freed."""
    monkeypatch.setattr(session_images, "MAX_SESSION_MB", 3)
    monkeypatch.setattr(session_images, "MAX_TOTAL_MB", 5)
    monkeypatch.setattr(session_images, "_sessions", set())
    freed.clear()
    return freed


def upload(session: SessionImages, *file_ids: str) -> bool:
    """Let the uploader list files of 1 MB."""
    return session.update(
        {
            file_id: lambda file_id=file_id: hold_image(
                file_id, file_id.encode() * MB, file_id, lambda: freed.append(file_id)
            )
            for file_id in file_ids
        }
    )


def names(session: SessionImages) -> list[str]:
    return [image.name for image in session.list_images()]


def test_update_holds_new_files_and_removes_those_removed_in_the_uploader(released):
    session = SessionImages()

    assert upload(session, "a", "b")
    assert not upload(session, "a", "b")
    assert not upload(session, "b")
    assert (names(session), released) == (["b"], ["a"])


def test_images_stay_when_the_uploader_was_closed(released):
    session = SessionImages()
    session.require_uploader(is_open=False)
    upload(session, "a", "b")
    key = session.uploader_key
    session.require_uploader(is_open=True)
    assert session.uploader_key == key

    session.require_uploader(is_open=False)  # Another page was open.
    assert session.uploader_key != key
    upload(session)  # The new uploader is empty.
    assert names(session) == ["a", "b"]
    assert released == ["a", "b"]  # The uploader holds no copy any more.


def test_remove_and_clear_start_an_empty_uploader(released):
    session = SessionImages()
    upload(session, "a", "b", "c")
    key = session.uploader_key
    session.remove(session.list_images()[1])
    upload(session)

    assert session.uploader_key != key
    assert names(session) == ["a", "c"]
    session.clear()
    assert names(session) == []


def test_session_above_its_limit_evicts_its_oldest_images(released):
    session = SessionImages()
    upload(session, "a", "b")
    upload(session, "a", "b", "c", "d")

    assert (names(session), session.evicted) == (["b", "c", "d"], ["a"])
    # The uploader still lists the evicted file, so it is replaced.
    assert session.is_stale
    session.require_uploader(is_open=True)
    assert not session.is_stale
    upload(session)
    upload(session, "e")
    assert (names(session), session.evicted) == (["c", "d", "e"], ["b"])


def test_sessions_above_the_total_evict_images_of_the_least_recently_used_one(released):
    first, second, third = SessionImages(), SessionImages(), SessionImages()
    upload(first, "a", "b")
    upload(second, "c", "d")
    first.list_images()
    upload(third, "e", "f")

    assert (names(first), names(second), names(third)) == (["a", "b"], ["d"], ["e", "f"])
    assert (second.evicted, second.is_stale, first.evicted) == (["c"], True, [])
    assert released == ["c"]


def test_new_upload_clears_the_messages_about_lost_images(released):
    session = SessionImages(n_lost=3)
    upload(session, "a", "b", "c", "d")
    assert (session.n_lost, session.evicted) == (0, ["a"])

    upload(session, "b", "c")
    upload(session, "b", "c", "e")
    assert session.evicted == []


def test_uploader_keys_of_two_sessions_differ():
    # A browser keeps the files of an uploader by its key, also over a restart of the server.
    assert SessionImages().uploader_key != SessionImages().uploader_key
