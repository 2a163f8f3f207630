"""Resumable download of one file over HTTP with a checksum.

The received part is kept beside a JSON file with the validators of the server. The next request
asks for the rest, and starts again if the file on the server has changed or ranges are missing.
"""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

import filelock

from bc_model import __version__
from bc_model.data.archives import CHUNK, MAX_TOTAL_GB
from bc_model.data.disk_space import require_free_space
from bc_model.errors import DownloadError, RecordError
from bc_model.utils.io import open_regular
from bc_model.utils.serialization import read_record, write_record

OFFICIAL_URL = "http://www.inf.ufpr.br/vri/databases/BreaKHis_v1.tar.gz"
"""BreakHis, about 4 GB. The authors publish no checksum and no HTTPS address."""

MAX_ATTEMPTS = 5
"""Number of consecutive attempts without a received byte before the download fails."""
BACKOFF_S = 1.0
"""Time before the second attempt; doubled before each further attempt."""
TIMEOUT_S = 30.0

_RETRIED_CODES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class DownloadedFile:
    """A complete file and the hash of its bytes."""

    path: Path
    sha256: str

    def delete(self) -> None:
        """Delete the file, so that the next `fetch` starts again."""
        _delete_partial(self.path)


@contextmanager
def fetch(
    url: str, folder: Path, *, sha256: str = "", progress: Callable[[int, int], None] | None = None
) -> Iterator[DownloadedFile]:
    """Download a file into a folder, and resume an earlier download of it.

    The file name is derived from the address, and redirects are followed. `progress` is called with
    the received bytes and the size of the file, or 0 if it is unknown. The address is locked until
    the block ends, and the file stays until it is deleted.

    Raises
    ------
    DownloadError
        The download fails `MAX_ATTEMPTS` times without a byte, the file is too large, the checksum
        differs, or the address is locked. The received part is kept.
    DataError
        The disk is full.
    """
    part = _partial_file(url, folder)
    with _locked(part, f"{url} is already being downloaded. Wait until it finishes."):
        _download(url, part, progress)
        with open_regular(part) as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 and actual != sha256:
            raise DownloadError(
                f"The checksum of {url} is wrong. Expected SHA-256 {sha256}, got {actual}. "
                f"Nothing was unpacked. Delete {part} to download the file again."
            )
        yield DownloadedFile(part, actual)


def discard_partial(url: str, folder: Path) -> None:
    """Delete the received part of a file; raise `DownloadError` during a download."""
    part = _partial_file(url, folder)
    with _locked(part, f"{url} is being downloaded. Cancel the download before you delete it."):
        _delete_partial(part)


def check_checksum(sha256: str) -> str:
    """Return a SHA-256 checksum in lower case, or '' for none; raise `DownloadError`."""
    checksum = sha256.strip().lower()
    if checksum and not re.fullmatch("[0-9a-f]{64}", checksum):
        raise DownloadError(
            f"Invalid SHA-256 checksum. Expected 64 hexadecimal digits, got '{sha256}'. Copy it "
            "again."
        )
    return checksum


def check_url(url: str) -> str:
    """Return an HTTP or HTTPS address unchanged; raise `DownloadError` for other texts."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # The port is not a number.
        is_valid = False
    if not is_valid or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise DownloadError(
            f"Invalid address {url!a}. Expected http:// or https:// and no spaces. Correct the "
            "address."
        )
    return url


@dataclass(frozen=True)
class _Validators:
    """What the server sent about a file with its first byte; empty or None if missing."""

    url: str
    etag: str
    last_modified: str
    size: int | None

    @classmethod
    def from_headers(cls, url: str, headers: Message) -> "_Validators":
        """Return the validators in the response to a request for the complete file."""
        length = headers.get("Content-Length", "")
        size = int(length) if length.isascii() and length.isdigit() else None
        return cls(url, *_read_validators(headers), size)

    @classmethod
    def read(cls, part: Path, url: str) -> "_Validators | None":
        """Return the validators beside a file, or None if they are missing, damaged or foreign."""
        try:
            stored = read_record(_validators_file(part), cls)
        except (OSError, RecordError):
            return None
        return stored if stored.url == url else None

    def write(self, part: Path) -> None:
        """Write the validators beside a file."""
        write_record(_validators_file(part), self)

    @property
    def if_range(self) -> str:
        """The value of `If-Range`: a strong ETag, else the date, else ''."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def continues(self, headers: Message, n_received: int) -> bool:
        """Return whether a partial response is the rest of the same file."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != n_received:
            return False
        if self.size is not None and match[2] not in ("*", str(self.size)):
            return False
        return self._is_same_file(headers)

    def is_complete(self, headers: Message, n_received: int) -> bool:
        """Return whether the response to a request beyond the end shows a complete file."""
        match = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range", "").strip())
        is_complete = match is not None and int(match[1]) == n_received == self.size
        return is_complete and self._is_same_file(headers)

    def _is_same_file(self, headers: Message) -> bool:
        """Return whether no validator that both responses contain has changed."""
        stored = (self.etag, self.last_modified)
        return all(
            not new or not old or new == old
            for new, old in zip(_read_validators(headers), stored, strict=True)
        )


class _FailedAttemptError(Exception):
    """An attempt ended before the file was complete, and another one may succeed."""


def _download(url: str, part: Path, progress: Callable[[int, int], None] | None) -> None:
    """Attempt until the file is complete, or until attempts receive nothing."""
    n_idle = 0
    while True:
        before = _file_size(part)
        try:
            _attempt(url, part, progress)
            return
        except _FailedAttemptError as failure:
            reason = str(failure)
        n_idle = 0 if _file_size(part) > before else n_idle + 1
        if n_idle == MAX_ATTEMPTS:
            raise DownloadError(
                f"{url} cannot be downloaded ({reason}). {_file_size(part) / 1e6:,.0f} MB are "
                "kept. Try again to resume the download."
            )
        time.sleep(BACKOFF_S * 2 ** max(0, n_idle - 1))


def _attempt(url: str, part: Path, progress: Callable[[int, int], None] | None) -> None:
    """Request the rest or the complete file once; raise `_FailedAttemptError` on failure."""
    stored = _Validators.read(part, url)
    n_received = _file_size(part) if stored and stored.if_range else 0
    headers = {
        "User-Agent": f"breast-histology-classifier/{__version__}",
        "Accept-Encoding": "identity",
    }
    if stored and n_received:
        headers |= {"Range": f"bytes={n_received}-", "If-Range": stored.if_range}
    request = urllib.request.Request(url, headers=headers)
    try:
        with _make_opener().open(request, timeout=TIMEOUT_S) as response:
            if response.status == 206:
                if stored is None or not stored.continues(response.headers, n_received):
                    _delete_partial(part)
                    raise _FailedAttemptError("the file on the server has changed")
            else:
                n_received = 0
                _delete_partial(part)
                stored = _Validators.from_headers(url, response.headers)
                stored.write(part)
            _receive(response, part, n_received, stored.size, progress)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and stored and stored.is_complete(error.headers, n_received):
                return
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 416:
                _delete_partial(part)
            elif error.code not in _RETRIED_CODES:
                raise DownloadError(
                    f"{url} cannot be downloaded ({reason}). Check the address."
                ) from error
            raise _FailedAttemptError(reason) from error
    except urllib.error.URLError as error:
        raise _FailedAttemptError(f"the server cannot be reached: {error.reason}") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _FailedAttemptError(f"the connection broke: {type(error).__name__}") from error


def _receive(
    response: http.client.HTTPResponse,
    part: Path,
    n_received: int,
    size: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Append the response to the file, and check that it is complete."""
    require_free_space(part.parent, (size or n_received) - n_received, "The download")
    n_reported = 0
    with part.open("ab") as file:
        while chunk := _read_chunk(response):
            n_received += len(chunk)
            if n_received > MAX_TOTAL_GB * 1e9:
                raise DownloadError(
                    f"The file is too large. Expected at most {MAX_TOTAL_GB} GB, got more. Check "
                    "the address."
                )
            file.write(chunk)
            if progress and (n_received - n_reported >= CHUNK or n_received == size):
                n_reported = n_received
                progress(n_received, size or 0)
    # Reading in chunks does not distinguish a broken connection from the end of the file.
    if size is not None and n_received != size:
        raise _FailedAttemptError(f"the connection broke after {n_received:,} of {size:,} bytes")


def _read_chunk(response: http.client.HTTPResponse) -> bytes:
    try:
        # `read1` returns the available bytes, so that none are lost when the connection breaks.
        return response.read1(CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _FailedAttemptError(f"the connection broke: {type(error).__name__}") from error


def _make_opener() -> urllib.request.OpenerDirector:
    """Return an opener for HTTP and HTTPS only: no local files and no FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler, urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _read_validators(headers: Message) -> tuple[str, str]:
    return headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip()


@contextmanager
def _locked(part: Path, message: str) -> Iterator[None]:
    """Hold the lock of a download; raise `DownloadError` with a message if it is taken."""
    try:
        with filelock.FileLock(part.with_suffix(".lock"), timeout=0):
            yield
    except filelock.Timeout as error:
        raise DownloadError(message) from error


def _partial_file(url: str, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(check_url(url).encode()).hexdigest()[:16]}.part"


def _validators_file(part: Path) -> Path:
    return part.with_suffix(".json")


def _file_size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _delete_partial(part: Path) -> None:
    _validators_file(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)
