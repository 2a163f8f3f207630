"""The uploaded images of a session: held in memory within limits, also while another page is open.

Streamlit drops the files of an uploader when its page is left. Here they stay until they are
removed, until the session ends, or until the memory for images is full.
"""

import hashlib
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from app.server.session_memory import register_holder

MAX_SESSION_MB = 256
MAX_TOTAL_MB = 768
"""Limit for all sessions together."""


@dataclass(frozen=True, eq=False)
class HeldImage:
    """An uploaded image.

    Attributes
    ----------
    name : str
        File name.
    data : bytes
        Content of the file.
    sha256 : str
        Hash of the content, the key of every cache.
    file_id : str
        Identifier in the uploader.
    release : callable
        Frees the copy of the uploader.
    page : int, optional
        Selected page of a TIFF file. `data` contains this page only.
    original : HeldImage, optional
        The file with all pages, if a page was selected.
    """

    name: str
    data: bytes = field(repr=False)
    sha256: str
    file_id: str = ""
    release: Callable[[], None] = field(default=lambda: None, repr=False)
    page: int | None = None
    original: "HeldImage | None" = field(default=None, repr=False)


def hold_image(
    name: str, data: bytes, file_id: str = "", release: Callable[[], None] = lambda: None
) -> HeldImage:
    """Return an image with its hash."""
    return HeldImage(name, data, hashlib.sha256(data).hexdigest(), file_id, release)


class SessionImages:
    """The images of one session, in the order of their upload.

    Above a limit, the oldest images are evicted: those of this session first, then those of the
    session that was not used for the longest time.

    Parameters
    ----------
    n_lost : int
        Number of images that a former session of this tab held.
    n_uploaders : int
        Number of uploaders that the tab has shown.

    Attributes
    ----------
    evicted : list of str
        Names of the images that were evicted since the last upload.
    is_stale : bool
        True if the uploader in the browser may list files that are not held.
    """

    def __init__(self, n_lost: int = 0, n_uploaders: int = 1) -> None:
        self.evicted: list[str] = []
        self.n_lost = n_lost
        self.n_uploaders = n_uploaders
        self.is_stale = n_lost > 0
        self._images: list[HeldImage] = []
        self._used = time.monotonic()
        self._in_uploader: set[str] = set()
        with _lock:
            _sessions.add(self)

    @property
    def uploader_key(self) -> str:
        """Key of the current uploader. An uploader with a new key is empty."""
        return f"images-{self.n_uploaders}"

    @property
    def n_bytes(self) -> int:
        """Size of all images."""
        return sum(len(image.data) for image in self._images)

    def list_images(self) -> list[HeldImage]:
        """Return the images, and mark the session as used."""
        with _lock:
            self._used = time.monotonic()
            return list(self._images)

    def start_uploader(self) -> None:
        """Start an empty uploader, and free the copies of the current one."""
        if self._in_uploader or self.is_stale:
            self.n_uploaders += 1
        self.is_stale = False
        self._in_uploader = set()
        with _lock:
            images = list(self._images)
        for image in images:
            image.release()

    def update(self, uploads: dict[str, Callable[[], HeldImage]]) -> bool:
        """Add and remove images so that they equal the files in the uploader.

        Parameters
        ----------
        uploads : dict of str to callable
            Identifier of each file in the uploader, and a function that returns its image.

        Returns
        -------
        bool
            True if images were added.
        """
        removed = self._in_uploader - uploads.keys()
        added = [make() for file_id, make in uploads.items() if file_id not in self._in_uploader]
        self._in_uploader = set(uploads)
        with _lock:
            self._remove(lambda image: image.file_id in removed)
            if added:
                if not self.is_stale:
                    self.evicted, self.n_lost = [], 0
                # A file that is uploaded again replaces itself.
                new = {(image.name, image.sha256) for image in added}
                self._remove(lambda image: (image.name, image.sha256) in new)
                self._used = time.monotonic()
                self._images += added
                _evict(self)
        return bool(added)

    def remove(self, image: HeldImage) -> None:
        """Remove an image; the other images are no longer in the uploader."""
        with _lock:
            self._remove(lambda other: other is image)
        self.start_uploader()

    def dismiss_losses(self) -> None:
        """Forget which images were lost or evicted."""
        self.evicted, self.n_lost = [], 0

    def clear(self) -> None:
        """Remove all images."""
        with _lock:
            self._remove(lambda _: True)
        self.start_uploader()
        self.dismiss_losses()

    def _remove(self, condition: Callable[[HeldImage], bool]) -> None:
        for image in self._images:
            if condition(image):
                image.release()
        self._images = [image for image in self._images if not condition(image)]

    def _evict_oldest(self) -> None:
        image = self._images.pop(0)
        image.release()
        self.evicted.append(image.name)
        self.is_stale = self.is_stale or image.file_id in self._in_uploader


_sessions: weakref.WeakSet[SessionImages] = weakref.WeakSet()
_lock = threading.Lock()


def _list_contents() -> list[bytes]:
    with _lock:
        return [image.data for session in _sessions for image in session._images]


register_holder(_list_contents)


def _evict(session: SessionImages) -> None:
    """Evict the oldest images above the limits; the caller holds the lock."""
    while session.n_bytes > MAX_SESSION_MB * 2**20:
        session._evict_oldest()
    while sum(other.n_bytes for other in _sessions) > MAX_TOTAL_MB * 2**20:
        holders = [other for other in _sessions if other._images]
        min(holders, key=lambda other: other._used)._evict_oldest()
