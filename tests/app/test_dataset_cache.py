"""Datasets that are read once for all sessions."""

import threading
import time
from pathlib import Path

import pytest
import streamlit as st

from app.components import dataset_cache
from app.components.dataset_cache import load_folder
from bc_model.errors import DataError

LOAD = "app.components.dataset_cache.load_dataset"


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    st.cache_resource.clear()


def test_load_folder_ends_the_reading_when_no_session_waits(synthetic_dataset, monkeypatch):
    ended = threading.Event()

    def read_slowly(folder: Path, *, progress, **_):
        try:
            for n_done in range(1000):
                progress(n_done, 1000)
                time.sleep(0.01)
        finally:
            ended.set()

    def close_tab(*_: object) -> None:
        raise KeyboardInterrupt  # As Streamlit does at the next element, not an Exception.

    monkeypatch.setattr(LOAD, read_slowly)
    monkeypatch.setattr(dataset_cache, "_show_progress", close_tab)
    monkeypatch.setattr(dataset_cache, "_ABANDONED_S", 0.3)
    with pytest.raises(KeyboardInterrupt):
        load_folder(synthetic_dataset)

    assert ended.wait(3.0)


def test_load_folder_while_a_read_hangs_leaves_other_folders_and_sessions_free(
    synthetic_dataset, tmp_path, monkeypatch
):
    hanging, release, shown = tmp_path / "hanging", threading.Event(), threading.Event()
    hanging.mkdir()
    real = dataset_cache.load_dataset

    def read(folder: Path, **options):
        if folder == hanging:
            release.wait(10)
        return real(folder, **options)

    monkeypatch.setattr(LOAD, read)
    monkeypatch.setattr(dataset_cache, "cache_dir", lambda: None)
    monkeypatch.setattr(dataset_cache, "_show_progress", lambda *_: shown.set())
    errors: list[Exception] = []

    def wait_for_it() -> None:
        try:
            load_folder(hanging)
        except DataError as error:
            errors.append(error)

    sessions = [threading.Thread(target=wait_for_it, daemon=True) for _ in range(2)]
    for session in sessions:
        session.start()
    assert shown.wait(3.0)  # Both sessions refresh their page, so a click reaches them.
    assert len(load_folder(synthetic_dataset).dataset.images) == 30

    release.set()
    for session in sessions:
        session.join(3.0)
    assert len(errors) == 2  # The folder has no images, which both sessions are informed of.


def test_load_folder_after_an_error_reads_again(synthetic_dataset, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise DataError("The disk is away.")

    monkeypatch.setattr(LOAD, fail)
    with pytest.raises(DataError, match="The disk is away"):
        load_folder(synthetic_dataset)
    monkeypatch.undo()
    monkeypatch.setattr(dataset_cache, "cache_dir", lambda: None)

    assert len(load_folder(synthetic_dataset).dataset.images) == 30
    assert load_folder(synthetic_dataset) is load_folder(synthetic_dataset)
