"""The images that a session holds: removal, limits and eviction."""

import pytest

from app.components.classify import session_images
from app.components.classify.image_uploader import MAX_UPLOAD_MB
from app.components.classify.session_images import SessionImages, hold_image
from app.server.upload_limits import DEFAULT_MEMORY_MB
from bc_model.data.image_headers import MAX_FILE_MB

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
    key = session.uploader_key
    session.start_uploader()
    assert session.uploader_key == key  # It is empty already.
    upload(session, "a", "b")

    session.start_uploader()  # Another page was open.
    assert session.uploader_key != key
    upload(session)
    assert names(session) == ["a", "b"]
    assert released == ["a", "b"]  # The uploader holds no copy any more.


def test_file_that_is_uploaded_again_is_held_once(released):
    session = SessionImages()
    upload(session, "a", "b")
    session.start_uploader()
    session.update({"again": lambda: hold_image("a", b"a" * MB, "again")})

    assert names(session) == ["b", "a"]


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
    session.start_uploader()
    assert not session.is_stale
    upload(session)
    upload(session, "e")
    assert (names(session), session.evicted) == (["c", "d", "e"], ["b"])


def test_largest_image_file_fits_into_the_uploader_and_a_session():
    assert MAX_UPLOAD_MB == MAX_FILE_MB
    assert MAX_FILE_MB <= session_images.MAX_SESSION_MB
    assert MAX_FILE_MB * 2**20 <= DEFAULT_MEMORY_MB * 10**6


def test_sessions_above_the_total_evict_images_of_the_least_recently_used_one(released):
    first, second, third = SessionImages(), SessionImages(), SessionImages()
    upload(first, "a", "b")
    upload(second, "c", "d")
    first.list_images()
    upload(third, "e", "f")

    assert (names(first), names(second), names(third)) == (["a", "b"], ["d"], ["e", "f"])
    assert (second.evicted, second.is_stale, first.evicted) == (["c"], True, [])
    assert released == ["c"]


def test_next_upload_clears_the_message_about_evicted_images(released):
    session = SessionImages()
    upload(session, "a", "b", "c", "d")
    assert session.evicted == ["a"]

    session.start_uploader()
    upload(session, "e")
    assert session.evicted == ["b"]
    session.clear()
    upload(session, "f")
    assert session.evicted == []


def test_new_session_receives_files_that_were_uploaded_since_the_old_one_was_lost(released):
    old = SessionImages()
    upload(old, "a", "b")
    session = SessionImages(n_lost=2, n_uploaders=old.n_uploaders)
    assert session.uploader_key == old.uploader_key
    upload(session, "c")  # The lost files "a" and "b" stand in the uploader, too.
    assert session.is_stale
    session.start_uploader()

    assert session.uploader_key != old.uploader_key
    assert (names(session), session.n_lost) == (["c"], 2)
    upload(session, "d")
    assert session.n_lost == 0
