"""Datasets that are read once for all pages and sessions, with a progress bar.

A thread of its own reads a dataset. Sessions only wait for it, so that a click, a closed tab or the
end of the server does not wait for a slow disk. The reading ends when no session waits for it.
"""

import threading
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.decoding import decode_dataset_image
from app.components.paths import require_links_inside
from bc_model.data import (
    NO_RULES,
    Dataset,
    DatasetRules,
    cache_dir,
    fingerprint_folder,
    load_dataset,
    summarize_dataset,
)

_REFRESH_S = 0.2
_ABANDONED_S = 3.0
"""Seconds without a waiting session after which the reading ends. A click reruns a page sooner."""


@dataclass(frozen=True)
class LoadedDataset:
    """A dataset and its summary.

    Attributes
    ----------
    dataset : Dataset
        Shared by all sessions; it must not be modified.
    summary : dict
        The counts of `summarize_dataset`.
    fingerprint : str
        Fingerprint of the folder when it was read, and of the rules.
    """

    dataset: Dataset
    summary: dict
    fingerprint: str


class _AbandonedError(Exception):
    """No session waits for the dataset any more."""


@dataclass
class _Slot:
    """Holder of a dataset and of its reading, which the sessions share."""

    lock: threading.Lock = field(default_factory=threading.Lock)  # Never held during a read.
    reading: Future[LoadedDataset] | None = None
    n_done: int = 0
    n_total: int = 0
    waited_s: float = 0.0

    def join(self, folder: Path, fingerprint: str, rules: DatasetRules) -> Future[LoadedDataset]:
        """Return the current reading, or start one if there is none or if the last one failed."""
        with self.lock:
            self.waited_s = time.monotonic()
            if self.reading is None or (self.reading.done() and self.reading.exception()):
                self.n_done = self.n_total = 0
                self.reading = Future()
                arguments = (self, self.reading, folder, fingerprint, rules)
                threading.Thread(target=_read, args=arguments, daemon=True).start()
            return self.reading

    def update(self, n_done: int, n_total: int) -> None:
        """Note the progress; end the reading if no session waits for it."""
        self.n_done, self.n_total = n_done, n_total
        with self.lock:
            if time.monotonic() - self.waited_s > _ABANDONED_S:
                self.reading = None  # The next session starts again, from the cache on disk.
                raise _AbandonedError


@st.cache_resource(max_entries=8, show_spinner=False)
def _get_slot(folder: str, fingerprint: str) -> _Slot:
    return _Slot()


def load_folder(folder: Path, rules: DatasetRules = NO_RULES) -> LoadedDataset:
    """Return the dataset of a folder; the folder is read again only after it has changed.

    Parameters
    ----------
    folder : Path
        Folder of the images.
    rules : DatasetRules
        Class and case of each image.

    Raises
    ------
    BcModelError
        The folder contains no usable dataset.
    """
    fingerprint = fingerprint_folder(folder) + (f" {rules}" if rules != NO_RULES else "")
    require_links_inside(folder)
    slot = _get_slot(str(folder), fingerprint)
    place = st.empty()
    try:
        while True:
            reading = slot.join(folder, fingerprint, rules)
            if wait([reading], timeout=_REFRESH_S).done:
                with suppress(_AbandonedError):  # This session was too busy to wait for it.
                    return reading.result()
            else:
                _show_progress(place, slot)  # A click on the page ends the waiting here.
    finally:
        place.empty()


def _read(
    slot: _Slot,
    reading: Future[LoadedDataset],
    folder: Path,
    fingerprint: str,
    rules: DatasetRules,
) -> None:
    try:
        dataset = load_dataset(
            folder,
            rules=rules,
            progress=slot.update,
            cache_dir=cache_dir(),
            decode=decode_dataset_image,
        )
        reading.set_result(LoadedDataset(dataset, summarize_dataset(dataset), fingerprint))
    except BaseException as error:  # The sessions that wait show it.
        reading.set_exception(error)


def _show_progress(place: DeltaGenerator, slot: _Slot) -> None:
    proportion = slot.n_done / slot.n_total if slot.n_total else 0.0
    place.progress(proportion, f"Reading images: {slot.n_done:,} of {slot.n_total:,}")
