"""Downloads from a server that breaks off, forgets, lies and changes its mind."""

import hashlib
import json
from pathlib import Path

import pytest

from bc_model.data import archives as archive_guards
from bc_model.data import download
from bc_model.data.download import check_pin, fetch
from bc_model.errors import DataError, DownloadError
from tests.file_server import CONTENT, OTHER, Server


def bring(server: Server, folder: Path, **how: object) -> bytes:
    with fetch(server.url, folder, **how) as fetched:
        assert fetched.sha256 == hashlib.sha256(fetched.path.read_bytes()).hexdigest()
        return fetched.path.read_bytes()


def ranges(server: Server) -> list[str]:
    return [asked.get("Range", "") for asked in server.asked]


# What goes well


def test_a_file_comes_whole_and_the_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    assert bring(server, tmp_path, progress=lambda *at: told.append(at)) == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert ranges(server) == [""]


def test_a_line_that_breaks_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000, 50_000]
    assert bring(server, tmp_path) == CONTENT
    assert ranges(server) == ["", "bytes=100000-", "bytes=150000-"]
    assert [asked.get("If-Range") for asked in server.asked] == [None, '"one"', '"one"']


def test_a_stopped_download_is_gone_on_with_by_the_next_call(
    server: Server, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), fetch(server.url, tmp_path, progress=stop):
        pass
    (part,) = tmp_path.glob("*.part")
    have = part.stat().st_size
    assert have > 0
    server.content = CONTENT  # the same file
    assert bring(server, tmp_path) == CONTENT
    assert ranges(server)[1] == f"bytes={have}-"


def test_a_file_that_is_whole_is_not_brought_again(server: Server, tmp_path: Path) -> None:
    bring(server, tmp_path)
    told: list[tuple[int, int]] = []
    assert bring(server, tmp_path, progress=lambda *at: told.append(at)) == CONTENT
    assert (ranges(server)[1], told) == ("bytes=300000-", [])


def test_what_is_forgotten_starts_again(server: Server, tmp_path: Path) -> None:
    with fetch(server.url, tmp_path) as fetched:
        fetched.forget()
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])
    bring(server, tmp_path)
    assert ranges(server) == ["", ""]


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.codes = [503, 429, 500]
    assert bring(server, tmp_path) == CONTENT


def test_a_file_of_unknown_length(server: Server, tmp_path: Path) -> None:
    server.tells_length = False
    told: list[tuple[int, int]] = []
    assert bring(server, tmp_path, progress=lambda *at: told.append(at)) == CONTENT
    assert {total for _, total in told} <= {0}


def test_the_pin_fits(server: Server, tmp_path: Path) -> None:
    assert bring(server, tmp_path, sha256=hashlib.sha256(CONTENT).hexdigest()) == CONTENT


# A server without ranges, or with another file by now


def test_a_server_that_knows_no_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    server.breaks = [200_000]
    assert bring(server, tmp_path) == CONTENT
    assert ranges(server) == ["", "bytes=200000-"]


def test_a_file_that_changed_starts_again(server: Server, tmp_path: Path) -> None:
    break_off(server, tmp_path)
    server.content, server.etag = OTHER, '"two"'
    assert bring(server, tmp_path) == OTHER


@pytest.mark.parametrize(
    ("content", "etag", "last_modified"),
    [
        (OTHER, '"one"', "Wed, 21 Oct 2015 07:28:00 GMT"),  # another length alone
        (CONTENT[::-1], '"two"', "Wed, 21 Oct 2015 07:28:00 GMT"),
        (CONTENT[::-1], "", "Thu, 22 Oct 2015 07:28:00 GMT"),
    ],
)
def test_a_rest_of_another_file_is_not_put_behind_the_first(
    server: Server, tmp_path: Path, content: bytes, etag: str, last_modified: str
) -> None:
    break_off(server, tmp_path)
    server.honours_if_range = False
    server.content, server.etag, server.last_modified = content, etag, last_modified
    assert bring(server, tmp_path) == content


@pytest.mark.parametrize(
    ("etag", "last_modified", "if_range"),
    [
        ("", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ('W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("", "", None),
        ('W/"weak"', "", None),
    ],
)
def test_without_a_strong_etag_the_date_tells_and_without_both_nothing_does(
    server: Server, tmp_path: Path, etag: str, last_modified: str, if_range: str | None
) -> None:
    server.etag, server.last_modified = etag, last_modified
    server.breaks = [1000]
    assert bring(server, tmp_path) == CONTENT
    assert server.asked[1].get("If-Range") == if_range
    assert ("Range" in server.asked[1]) is (if_range is not None)


@pytest.mark.parametrize("note", ["", "[]", '{"url": 1}', None])
def test_a_part_without_its_note_starts_again(
    server: Server, tmp_path: Path, note: str | None
) -> None:
    break_off(server, tmp_path)
    (file,) = tmp_path.glob("*.json")
    if note is None:
        file.unlink()
    else:
        file.write_text(note)
    server.asked.clear()
    assert bring(server, tmp_path) == CONTENT
    assert ranges(server) == [""]


def test_a_part_longer_than_the_file_starts_again(server: Server, tmp_path: Path) -> None:
    bring(server, tmp_path)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(CONTENT + b"more")
    assert bring(server, tmp_path) == CONTENT


def break_off(server: Server, folder: Path) -> None:
    """Bring a hundred thousand bytes and no more."""
    server.breaks = [100_000]
    server.codes = [200, 404]
    with pytest.raises(DownloadError, match="404"):
        bring(server, folder)
    (part,) = folder.glob("*.part")
    assert part.read_bytes() == CONTENT[:100_000]


# What cannot be brought


def test_other_bytes_than_pinned_are_kept_and_not_given(server: Server, tmp_path: Path) -> None:
    pin = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(DownloadError) as told, fetch(server.url, tmp_path, sha256=pin):
        pytest.fail("the block must not begin")
    (part,) = tmp_path.glob("*.part")
    for word in (hashlib.sha256(CONTENT).hexdigest(), pin, str(part)):
        assert word in str(told.value)
    assert part.read_bytes() == CONTENT
    # The right pin finds it there.
    bring(server, tmp_path, sha256=hashlib.sha256(CONTENT).hexdigest())
    assert ranges(server) == ["", "bytes=300000-"]


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_not_asked_again(server: Server, tmp_path: Path, code: int) -> None:
    server.codes = [code] * 9
    with pytest.raises(DownloadError, match=rf"set\.tar\.gz cannot .* server answers {code} "):
        bring(server, tmp_path)
    assert len(server.asked) == 1


def test_a_line_that_brings_nothing_ends_after_some_tries(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000] + [0] * 20
    with pytest.raises(DownloadError, match=r"broke after 100,000 of 300,000 .* 0 MB are kept"):
        bring(server, tmp_path)
    assert len(server.asked) == 1 + download.TRIES
    server.breaks = []
    assert bring(server, tmp_path) == CONTENT


def test_a_server_that_is_not_there(server: Server, tmp_path: Path) -> None:
    gone = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="cannot be reached"), fetch(gone, tmp_path):
        pass


def test_sent_on_to_a_file_of_this_machine(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    server.to = (tmp_path / "secret").as_uri()
    (tmp_path / "into").mkdir()
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        bring(server, tmp_path / "into")
    assert not list((tmp_path / "into").glob("*.part"))


@pytest.mark.parametrize(
    "url",
    [
        "", "BreaKHis", "file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x", "http://",
        "http://127.0.0.1:0/a", "http://127.0.0.1:port/a", "http://[::1/a", "http://a b/",
        "http://127.0.0.1/a\r\nX: y", "http://127.0.0.1/\u00e9",
    ],
)  # fmt: skip
def test_what_is_no_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="begins with http"), fetch(url, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_download_of_a_file_at_a_time(server: Server, tmp_path: Path) -> None:
    with (
        fetch(server.url, tmp_path),
        pytest.raises(DownloadError, match="is being downloaded already"),
        fetch(server.url, tmp_path),
    ):
        pass
    assert bring(server, tmp_path) == CONTENT


def test_a_disk_without_room(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "ROOM_TO_LEAVE_MB", 10**9)
    with pytest.raises(DataError, match=r"The download needs 1000000\.0 GB"):
        bring(server, tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_a_file_without_end_is_stopped(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_TOTAL_GB", 1e-4)
    with pytest.raises(DownloadError, match="more than"):
        bring(server, tmp_path)


def test_the_note_says_what_the_server_said(server: Server, tmp_path: Path) -> None:
    bring(server, tmp_path)
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text()) == {
        "url": server.url, "etag": '"one"', "size": 300_000,
        "last_modified": "Wed, 21 Oct 2015 07:28:00 GMT",
    }  # fmt: skip


@pytest.mark.parametrize("pin", ["abc", "g" * 64, "a" * 63, "a" * 65])
def test_a_pin_that_is_none(pin: str) -> None:
    with pytest.raises(DownloadError, match=rf"64 hexadecimal digits; '{pin}'"):
        check_pin(pin)


def test_a_pin_in_capital_letters() -> None:
    assert check_pin(" " + "AB" * 32 + "\n") == "ab" * 32
    assert check_pin("") == ""
