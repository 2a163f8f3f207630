"""A folder of images, read once for all pages and sessions, with a progress bar."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from bc_model.data import Dataset, cache_dir, fingerprint_folder, load_dataset, summarize_dataset

_TOLD_EVERY_S = 0.2


@dataclass(frozen=True)
class Reading:
    """The contents of a folder.

    Attributes
    ----------
    manifest : Manifest
        Shared by all sessions; it must not be modified.
    found : dict
        The counts of `summarize_dataset`.
    fingerprint : str
        Fingerprint of the folder when it was read.
    """

    dataset: Dataset
    found: dict
    fingerprint: str


@dataclass
class _Slot:
    """Holder of the contents; filled outside the cache, which would replay the progress bar."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    done: int = 0
    total: int = 0
    reading: Reading | None = None


@st.cache_resource(max_entries=8, show_spinner=False)
def _slot(folder: str, fingerprint: str) -> _Slot:
    return _Slot()


def read_folder(folder: Path) -> Reading:
    """Return the contents of a folder; it is read again only after it has changed.

    Raises
    ------
    BcModelError
        The folder contains no usable dataset.
    """
    fingerprint = fingerprint_folder(folder)
    slot = _slot(str(folder), fingerprint)
    place = st.empty()
    # If another session reads the folder, its progress is shown. The wait is split into short
    # intervals, so that a click can end it.
    while not slot.lock.acquire(timeout=_TOLD_EVERY_S):
        _draw(place, slot)
    try:
        if slot.reading is None:
            slot.reading = _read(folder, fingerprint, slot, place)
    finally:
        slot.lock.release()
        place.empty()
    return slot.reading


def _read(folder: Path, fingerprint: str, slot: _Slot, place: DeltaGenerator) -> Reading:
    told_s = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told_s
        slot.done, slot.total = done, total
        if time.monotonic() - told_s > _TOLD_EVERY_S:
            told_s = time.monotonic()
            _draw(place, slot)  # A click elsewhere ends the reading here.

    dataset = load_dataset(folder, progress=tell, cache_dir=cache_dir())
    return Reading(dataset, summarize_dataset(dataset), fingerprint)


def _draw(place: DeltaGenerator, slot: _Slot) -> None:
    proportion = slot.done / slot.total if slot.total else 0.0
    place.progress(proportion, f"Reading images: {slot.done:,} of {slot.total:,}")
