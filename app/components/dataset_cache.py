"""Datasets that are read once for all pages and sessions, with a progress bar."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from bc_model.data import Dataset, cache_dir, fingerprint_folder, load_dataset, summarize_dataset

_REFRESH_S = 0.2


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
        Fingerprint of the folder when it was read.
    """

    dataset: Dataset
    summary: dict
    fingerprint: str


@dataclass
class _Slot:
    """Holder of a dataset; filled outside the cache, which would replay the progress bar."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    n_done: int = 0
    n_total: int = 0
    loaded: LoadedDataset | None = None


@st.cache_resource(max_entries=8, show_spinner=False)
def _get_slot(folder: str, fingerprint: str) -> _Slot:
    return _Slot()


def load_folder(folder: Path) -> LoadedDataset:
    """Return the dataset of a folder; the folder is read again only after it has changed.

    Raises
    ------
    BcModelError
        The folder contains no usable dataset.
    """
    fingerprint = fingerprint_folder(folder)
    slot = _get_slot(str(folder), fingerprint)
    place = st.empty()
    # If another session reads the folder, its progress is shown. The wait is split into short
    # intervals, so that a click can end it.
    while not slot.lock.acquire(timeout=_REFRESH_S):
        _show_progress(place, slot)
    try:
        if slot.loaded is None:
            slot.loaded = _load(folder, fingerprint, slot, place)
    finally:
        slot.lock.release()
        place.empty()
    return slot.loaded


def _load(folder: Path, fingerprint: str, slot: _Slot, place: DeltaGenerator) -> LoadedDataset:
    refreshed_s = time.monotonic()

    def show(n_done: int, n_total: int) -> None:
        nonlocal refreshed_s
        slot.n_done, slot.n_total = n_done, n_total
        if time.monotonic() - refreshed_s > _REFRESH_S:
            refreshed_s = time.monotonic()
            _show_progress(place, slot)  # A click on the page ends the reading here.

    dataset = load_dataset(folder, progress=show, cache_dir=cache_dir())
    return LoadedDataset(dataset, summarize_dataset(dataset), fingerprint)


def _show_progress(place: DeltaGenerator, slot: _Slot) -> None:
    proportion = slot.n_done / slot.n_total if slot.n_total else 0.0
    place.progress(proportion, f"Reading images: {slot.n_done:,} of {slot.n_total:,}")
