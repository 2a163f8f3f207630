"""One file over HTTP, with the standard library alone: gone on with after a break, and checked.

What has come is kept beside its `.json` note of what the server said of the file. The next request
asks for the rest, and starts again when the server has another file by now, or cannot send a rest.
"""

import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import filelock

from bc_model import __version__
from bc_model.data.archives import MAX_TOTAL_GB, require_room
from bc_model.errors import DownloadError
from bc_model.utils.io import write_text_atomic


@dataclass(frozen=True)
class Note:
    """What the server said of the file when its first byte was asked for.

    Attributes
    ----------
    url : str
    etag, last_modified : str
        As sent; empty where the server does not say.
    size : int or None
        Bytes in all; None where the server does not say.
    """

    url: str
    etag: str
    last_modified: str
    size: int | None

    @classmethod
    def of(cls, url: str, headers: Message) -> "Note":
        """Take down what an answer to a whole request says."""
        length = headers.get("Content-Length", "")
        size = int(length) if length.isascii() and length.isdigit() else None
        return cls(url, *_validators(headers), size)

    @classmethod
    def read(cls, part: Path, url: str) -> "Note | None":
        """Return the note beside a file, None when there is none for this address."""
        try:
            values: dict[str, Any] = json.loads(note_file(part).read_text(encoding="utf-8"))
            note = cls(**values)
            words = (note.url, note.etag, note.last_modified)
            good = all(isinstance(w, str) for w in words) and isinstance(note.size, int | None)
        except (OSError, ValueError, TypeError):
            return None
        return note if good and note.url == url else None

    def write(self, part: Path) -> None:
        """Put the note beside a file."""
        write_text_atomic(note_file(part), json.dumps(asdict(self)))

    @property
    def validator(self) -> str:
        """What `If-Range` takes: only a strong ETag will do, else the date, else nothing."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def goes_on(self, headers: Message, have: int) -> bool:
        """Tell whether a partial answer is the rest of the same file."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != have:
            return False
        if self.size is not None and match[2] not in ("*", str(self.size)):
            return False
        return self._is_same(headers)

    def is_whole(self, headers: Message, have: int) -> bool:
        """Tell from the answer to a request beyond the end whether nothing is missing."""
        match = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range", "").strip())
        whole = match is not None and int(match[1]) == have == self.size
        return whole and self._is_same(headers)

    def _is_same(self, headers: Message) -> bool:
        """Tell whether no validator that both answers bear has changed."""
        return all(
            not now or not then or now == then
            for now, then in zip(_validators(headers), (self.etag, self.last_modified), strict=True)
        )


def note_file(part: Path) -> Path:
    """Return where the note of a file is kept."""
    return part.with_suffix(".json")


def _validators(headers: Message) -> tuple[str, str]:
    return headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip()


OFFICIAL_URL = "http://www.inf.ufpr.br/vri/databases/BreaKHis_v1.tar.gz"
"""BreakHis, about 4 GB, by plain HTTP; the authors publish no checksum."""

TRIES = 5
"""Attempts in a row that bring nothing, before giving up."""
BACKOFF_S = 1.0
"""Before the second attempt; twice as long before each further one."""
TIMEOUT_S = 30.0
CHUNK = 2**20

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Fetched:
    """A file that came whole.

    Attributes
    ----------
    path : Path
    sha256 : str
    """

    path: Path
    sha256: str

    def forget(self) -> None:
        """Delete it: the next `fetch` starts again."""
        self.path.unlink(missing_ok=True)
        note_file(self.path).unlink(missing_ok=True)


class _BrokenDownloadError(Exception):
    """An attempt ended before the file did."""


def check_pin(sha256: str) -> str:
    """Return a pinned hash in small letters, '' for none.

    Raises
    ------
    DownloadError
        It is no SHA-256.
    """
    pin = sha256.strip().lower()
    if pin and not re.fullmatch("[0-9a-f]{64}", pin):
        raise DownloadError(f"A SHA-256 has 64 hexadecimal digits; '{sha256}' is none.")
    return pin


def check_address(url: str) -> str:
    """Return an address that can be asked for.

    Raises
    ------
    DownloadError
        It is none, or is neither http nor https.
    """
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        named = False
    if not named or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise DownloadError(
            f"{url!a} cannot be downloaded: an address begins with http:// or https:// and holds "
            "no blanks."
        )
    return url


@contextmanager
def fetch(
    url: str,
    folder: Path,
    *,
    sha256: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Fetched]:
    """Bring a file into a folder, going on with what an earlier call brought.

    Parameters
    ----------
    url : str
        http or https, also after being sent on to another address.
    folder : Path
        Where the file is kept, under a name of its own for each address.
    sha256 : str
        Compared with the whole file when given.
    progress : callable, optional
        Called with (bytes that are here, bytes in all or 0 where the server does not say). What
        it raises ends the download; what has come is kept.

    Yields
    ------
    Fetched
        Nobody else can fetch the same address until the block ends. The file stays until
        `Fetched.forget`.

    Raises
    ------
    DownloadError
        The server refuses or cannot be reached, the line breaks `TRIES` times without a byte, the
        file is larger than 20 GB, someone else fetches it, or its hash is another one.
    DataError
        The disk has no room.
    """
    part = _subset(url, folder)
    try:
        with filelock.FileLock(part.with_suffix(".lock"), timeout=0):
            _bring(url, part, progress)
            with part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 and found != sha256:
                raise DownloadError(
                    f"{url} brought other bytes than were asked for: SHA-256 is {found}, not "
                    f"{sha256}. Nothing was unpacked; the file is kept as {part}. Delete it to "
                    "download it again."
                )
            yield Fetched(part, found)
    except filelock.Timeout as error:
        raise DownloadError(f"{url} is being downloaded already; wait until it is here.") from error


def discard_partial(url: str, folder: Path) -> None:
    """Delete what has come of an address: the next `fetch` starts again.

    Raises
    ------
    DownloadError
        Somebody fetches it.
    """
    part = _subset(url, folder)
    try:
        with filelock.FileLock(part.with_suffix(".lock"), timeout=0):
            _start_again(part)
    except filelock.Timeout as error:
        raise DownloadError(f"{url} is being downloaded; cancel that first.") from error


def _subset(url: str, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(check_address(url).encode()).hexdigest()[:16]}.part"


def _bring(url: str, part: Path, progress: Callable[[int, int], None] | None) -> None:
    """Attempt until the file is whole or nothing more comes."""
    idle = 0
    while True:
        before = _size(part)
        try:
            _attempt(url, part, progress)
            return
        except _BrokenDownloadError as broken:
            reason = str(broken)
        idle = 0 if _size(part) > before else idle + 1
        if idle == TRIES:
            raise DownloadError(
                f"{url} cannot be downloaded: {reason}. {_size(part) / 1e6:,.0f} MB are kept; "
                "the next try goes on from there."
            )
        time.sleep(BACKOFF_S * 2 ** max(0, idle - 1))


def _attempt(url: str, part: Path, progress: Callable[[int, int], None] | None) -> None:
    """Ask once, for the rest or for all, and write what comes; raise `_Broken` if it is not all."""
    note = Note.read(part, url)
    have = _size(part) if note and note.validator else 0
    headers = {"User-Agent": f"breast-histology-classifier/{__version__}"}
    headers["Accept-Encoding"] = "identity"
    if note and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": note.validator}
    try:
        with _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as got:
            if got.status == 206:
                if note is None or not note.goes_on(got.headers, have):
                    _start_again(part)
                    raise _BrokenDownloadError("the server has another file by now")
            else:
                have = 0
                _start_again(part)
                note = Note.of(url, got.headers)
                note.write(part)
            _receive(got, part, have, note.size, progress)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and note and note.is_whole(error.headers, have):
                return
            if error.code == 416:
                _start_again(part)
            elif error.code not in _RETRIED:
                raise DownloadError(
                    f"{url} cannot be downloaded: the server answers {error.code} {error.reason}."
                ) from error
            raise _BrokenDownloadError(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _BrokenDownloadError(f"the server cannot be reached ({error.reason})") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _BrokenDownloadError(f"the line broke ({type(error).__name__})") from error


def _receive(
    got: http.client.HTTPResponse,
    part: Path,
    have: int,
    size: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Append what the server sends, and see that all of it came."""
    require_room(part.parent, (size or have) - have, "The download")
    told = 0
    with part.open("ab") as file:
        while chunk := _read(got):
            have += len(chunk)
            if have > MAX_TOTAL_GB * 1e9:
                raise DownloadError(
                    f"The download has more than {MAX_TOTAL_GB} GB; that is no set of pictures."
                )
            file.write(chunk)
            if progress and (have - told >= CHUNK or have == size):
                told = have
                progress(have, size or 0)
    # `read` in pieces does not tell a line that broke from the end of the file.
    if size is not None and have != size:
        raise _BrokenDownloadError(f"the line broke after {have:,} of {size:,} bytes")


def _read(got: http.client.HTTPResponse) -> bytes:
    try:
        # What is there, not what fills a piece: bytes before a break are not lost.
        return got.read1(CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _BrokenDownloadError(f"the line broke ({type(error).__name__})") from error


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that knows http and https alone: no files of this machine, no ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler, urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _start_again(part: Path) -> None:
    note_file(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)
