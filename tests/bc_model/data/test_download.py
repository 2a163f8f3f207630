"""Downloads from a server that breaks connections, ignores ranges and changes the file."""

import hashlib
import json
from pathlib import Path

import pytest

from bc_model.data import disk_space, download
from bc_model.data.download import check_checksum, fetch
from bc_model.errors import DataError, DownloadError
from tests.file_server import CONTENT, OTHER, Server


def download_file(server: Server, folder: Path, **options: object) -> bytes:
    with fetch(server.url, folder, **options) as fetched:
        assert fetched.sha256 == hashlib.sha256(fetched.path.read_bytes()).hexdigest()
        return fetched.path.read_bytes()


def ranges(server: Server) -> list[str]:
    return [request.get("Range", "") for request in server.requests]


# Complete downloads


def test_fetch_complete_file_reports_progress(server: Server, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    assert download_file(server, tmp_path, progress=lambda *at: reported.append(at)) == CONTENT
    assert reported[-1] == (len(CONTENT), len(CONTENT))
    assert ranges(server) == [""]


def test_fetch_broken_connection_requests_rest(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000, 50_000]
    assert download_file(server, tmp_path) == CONTENT
    assert ranges(server) == ["", "bytes=100000-", "bytes=150000-"]
    assert [request.get("If-Range") for request in server.requests] == [None, '"one"', '"one"']


def test_fetch_stopped_download_is_resumed_by_next_call(server: Server, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), fetch(server.url, tmp_path, progress=stop):
        pass
    (part,) = tmp_path.glob("*.part")
    have = part.stat().st_size
    assert have > 0
    assert download_file(server, tmp_path) == CONTENT
    assert ranges(server)[1] == f"bytes={have}-"


def test_fetch_complete_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    download_file(server, tmp_path)
    reported: list[tuple[int, int]] = []
    assert download_file(server, tmp_path, progress=lambda *at: reported.append(at)) == CONTENT
    assert (ranges(server)[1], reported) == ("bytes=300000-", [])


def test_fetch_deleted_file_starts_again(server: Server, tmp_path: Path) -> None:
    with fetch(server.url, tmp_path) as fetched:
        fetched.delete()
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])
    download_file(server, tmp_path)
    assert ranges(server) == ["", ""]


def test_fetch_busy_server_is_retried(server: Server, tmp_path: Path) -> None:
    server.codes = [503, 429, 500]
    assert download_file(server, tmp_path) == CONTENT


def test_fetch_unknown_length_reports_zero_total(server: Server, tmp_path: Path) -> None:
    server.sends_length = False
    reported: list[tuple[int, int]] = []
    assert download_file(server, tmp_path, progress=lambda *at: reported.append(at)) == CONTENT
    assert {total for _, total in reported} <= {0}


def test_fetch_matching_checksum_is_accepted(server: Server, tmp_path: Path) -> None:
    assert download_file(server, tmp_path, sha256=hashlib.sha256(CONTENT).hexdigest()) == CONTENT


# Servers without ranges or with a changed file


def test_fetch_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.supports_ranges = False
    server.breaks = [200_000]
    assert download_file(server, tmp_path) == CONTENT
    assert ranges(server) == ["", "bytes=200000-"]


def test_fetch_changed_file_starts_again(server: Server, tmp_path: Path) -> None:
    break_off(server, tmp_path)
    server.content, server.etag = OTHER, '"two"'
    assert download_file(server, tmp_path) == OTHER


@pytest.mark.parametrize(
    ("content", "etag", "last_modified"),
    [
        (OTHER, '"one"', "Wed, 21 Oct 2015 07:28:00 GMT"),  # only the length differs
        (CONTENT[::-1], '"two"', "Wed, 21 Oct 2015 07:28:00 GMT"),
        (CONTENT[::-1], "", "Thu, 22 Oct 2015 07:28:00 GMT"),
    ],
)
def test_fetch_rest_of_changed_file_is_not_appended(
    server: Server, tmp_path: Path, content: bytes, etag: str, last_modified: str
) -> None:
    break_off(server, tmp_path)
    server.checks_if_range = False
    server.content, server.etag, server.last_modified = content, etag, last_modified
    assert download_file(server, tmp_path) == content


@pytest.mark.parametrize(
    ("etag", "last_modified", "if_range"),
    [
        ("", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ('W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("", "", None),
        ('W/"weak"', "", None),
    ],
)
def test_fetch_without_strong_etag_uses_date_or_starts_again(
    server: Server, tmp_path: Path, etag: str, last_modified: str, if_range: str | None
) -> None:
    server.etag, server.last_modified = etag, last_modified
    server.breaks = [1000]
    assert download_file(server, tmp_path) == CONTENT
    assert server.requests[1].get("If-Range") == if_range
    assert ("Range" in server.requests[1]) is (if_range is not None)


@pytest.mark.parametrize("validators", ["", "[]", '{"url": 1}', None])
def test_fetch_part_without_validators_starts_again(
    server: Server, tmp_path: Path, validators: str | None
) -> None:
    break_off(server, tmp_path)
    (file,) = tmp_path.glob("*.json")
    if validators is None:
        file.unlink()
    else:
        file.write_text(validators)
    server.requests.clear()
    assert download_file(server, tmp_path) == CONTENT
    assert ranges(server) == [""]


def test_fetch_part_longer_than_file_starts_again(server: Server, tmp_path: Path) -> None:
    download_file(server, tmp_path)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(CONTENT + b"more")
    assert download_file(server, tmp_path) == CONTENT


def break_off(server: Server, folder: Path) -> None:
    """Download only the first 100,000 bytes."""
    server.breaks = [100_000]
    server.codes = [200, 404]
    with pytest.raises(DownloadError, match="404"):
        download_file(server, folder)
    (part,) = folder.glob("*.part")
    assert part.read_bytes() == CONTENT[:100_000]


# Failures


def test_fetch_wrong_checksum_keeps_file_and_raises(server: Server, tmp_path: Path) -> None:
    checksum = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(DownloadError) as error, fetch(server.url, tmp_path, sha256=checksum):
        pytest.fail("The block must not run.")
    (part,) = tmp_path.glob("*.part")
    for word in (hashlib.sha256(CONTENT).hexdigest(), checksum, str(part)):
        assert word in str(error.value)
    assert part.read_bytes() == CONTENT
    # With the right checksum, the file is not downloaded again.
    download_file(server, tmp_path, sha256=hashlib.sha256(CONTENT).hexdigest())
    assert ranges(server) == ["", "bytes=300000-"]


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_fetch_refusal_is_not_retried(server: Server, tmp_path: Path, code: int) -> None:
    server.codes = [code] * 9
    with pytest.raises(DownloadError, match=rf"set\.tar\.gz cannot .* server answers {code} "):
        download_file(server, tmp_path)
    assert len(server.requests) == 1


def test_fetch_without_progress_ends_after_max_attempts(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000] + [0] * 20
    with pytest.raises(DownloadError, match=r"broke after 100,000 of 300,000 .* 0 MB are kept"):
        download_file(server, tmp_path)
    assert len(server.requests) == 1 + download.MAX_ATTEMPTS
    server.breaks = []
    assert download_file(server, tmp_path) == CONTENT


def test_fetch_unreachable_server_raises(server: Server, tmp_path: Path) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="cannot be reached"), fetch(url, tmp_path):
        pass


def test_fetch_redirect_to_local_file_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    server.redirect_url = (tmp_path / "secret").as_uri()
    (tmp_path / "into").mkdir()
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        download_file(server, tmp_path / "into")
    assert not list((tmp_path / "into").glob("*.part"))


@pytest.mark.parametrize(
    "url",
    [
        "", "BreaKHis", "file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x", "http://",
        "http://127.0.0.1:0/a", "http://127.0.0.1:port/a", "http://[::1/a", "http://a b/",
        "http://127.0.0.1/a\r\nX: y", "http://127.0.0.1/\u00e9",
    ],
)  # fmt: skip
def test_fetch_invalid_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="Expected http"), fetch(url, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_fetch_locked_address_is_refused(server: Server, tmp_path: Path) -> None:
    with (
        fetch(server.url, tmp_path),
        pytest.raises(DownloadError, match="is already being downloaded"),
        fetch(server.url, tmp_path),
    ):
        pass
    assert download_file(server, tmp_path) == CONTENT


def test_fetch_full_disk_raises_data_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "MIN_FREE_MB", 10**9)
    with pytest.raises(DataError, match=r"The download needs 1000000\.0 GB"):
        download_file(server, tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_fetch_too_large_file_is_stopped(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_TOTAL_GB", 1e-4)
    with pytest.raises(DownloadError, match="too large"):
        download_file(server, tmp_path)


def test_fetch_stores_validators_of_server(server: Server, tmp_path: Path) -> None:
    download_file(server, tmp_path)
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text()) == {
        "url": server.url, "etag": '"one"', "size": 300_000,
        "last_modified": "Wed, 21 Oct 2015 07:28:00 GMT",
    }  # fmt: skip


@pytest.mark.parametrize("checksum", ["abc", "g" * 64, "a" * 63, "a" * 65])
def test_check_checksum_invalid_text_is_refused(checksum: str) -> None:
    with pytest.raises(DownloadError, match=rf"64 hexadecimal digits, got '{checksum}'"):
        check_checksum(checksum)


def test_check_checksum_upper_case_is_normalized() -> None:
    assert check_checksum(" " + "AB" * 32 + "\n") == "ab" * 32
    assert check_checksum("") == ""
