"""What a server said of a file that is being downloaded, and whether a rest still belongs to it."""

import json
import re
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from bc_model.files import write_text_atomic


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
