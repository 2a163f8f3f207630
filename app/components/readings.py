"""A folder of pictures read once for all pages and sessions, with a bar while it is being read."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from bc_model.data.audit import audit_manifest, folder_fingerprint
from bc_model.data.manifest import Manifest, read_manifest
from bc_model.data.sets import cache_folder

_TOLD_EVERY_S = 0.2


@dataclass(frozen=True)
class Reading:
    """What a folder holds.

    Attributes
    ----------
    manifest : Manifest
        Shared by all sessions: nobody changes it.
    found : dict
        As `audit_manifest` counts.
    fingerprint : str
        Of the folder, as it was read.
    """

    manifest: Manifest
    found: dict
    fingerprint: str


@dataclass
class _Slot:
    """Where a folder's reading goes; filled outside the cache, which would replay the bar."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    done: int = 0
    total: int = 0
    reading: Reading | None = None


@st.cache_resource(max_entries=8, show_spinner=False)
def _slot(folder: str, fingerprint: str) -> _Slot:
    return _Slot()


def read_folder(folder: Path) -> Reading:
    """Return what a folder holds, reading it when it is new or has changed.

    Raises
    ------
    BcModelError
        It cannot be used.
    """
    fingerprint = folder_fingerprint(folder)
    slot = _slot(str(folder), fingerprint)
    place = st.empty()
    # Another session may be reading it: then its progress is ours. The wait is cut into pieces, so
    # that a click can end it.
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
            _draw(place, slot)  # a click elsewhere ends the reading here; the next one goes on

    manifest = read_manifest(folder, progress=tell, cache=cache_folder())
    return Reading(manifest, audit_manifest(manifest), fingerprint)


def _draw(place: DeltaGenerator, slot: _Slot) -> None:
    share = slot.done / slot.total if slot.total else 0.0
    place.progress(share, f"Reading the pictures: {slot.done:,} of {slot.total:,}")
