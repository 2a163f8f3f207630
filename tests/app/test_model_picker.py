"""The model selection: damaged models are reported, and results are never mixed up."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.components import model_picker
from app.components.model_picker import load_engine, show_model_details, show_training_data
from bc_model.errors import BundleError
from bc_model.inference import Bundle, open_bundle
from bc_model.inference.model_card import MODEL_CARD_FILE, write_model_card
from bc_model.training.run import Run
from tests.app.helpers import texts
from tests.bc_model.inference.model_cards import mutated_bundles


@pytest.fixture
def copied(finished_run: Run) -> Bundle:
    model_picker._load_engine_once.clear()
    shutil.copytree(finished_run.path, finished_run.path.with_name("copied"))
    return open_bundle(finished_run.path.with_name("copied"))


def damage(bundle: Bundle) -> None:
    path = bundle.folder / "served.bin"
    path.write_bytes(path.read_bytes()[::-1])


def test_engine_of_a_copy_with_an_edited_card_has_the_texts_of_the_copy(
    finished_run: Run, copied: Bundle
) -> None:
    original = open_bundle(finished_run.path)
    write_model_card(copied.folder, replace(copied.card, limits="Other limits."))
    edited = open_bundle(copied.folder)
    for bundle in (original, edited, original):
        assert load_engine(bundle).bundle.card == bundle.card
    assert load_engine(original) is not load_engine(edited)
    assert load_engine(original) is load_engine(open_bundle(finished_run.path))


def test_damaged_copy_is_refused_after_the_original_was_loaded(
    finished_run: Run, copied: Bundle
) -> None:
    load_engine(open_bundle(finished_run.path))
    damage(copied)
    with pytest.raises(BundleError, match=r"served\.bin in .* does not match its model card"):
        load_engine(open_bundle(copied.folder))


def test_model_that_is_damaged_after_it_was_loaded_is_refused(copied: Bundle) -> None:
    load_engine(open_bundle(copied.folder))
    damage(copied)
    with pytest.raises(BundleError, match=r"served\.bin in .* does not match its model card"):
        load_engine(open_bundle(copied.folder))


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
def test_page_with_a_named_pipe_as_model_card_shows_the_other_models(
    finished_run: Run, runs: Path, open_page: Callable[..., AppTest]
) -> None:
    (runs / "damaged" / "model").mkdir(parents=True)
    os.mkfifo(runs / "damaged" / "model" / MODEL_CARD_FILE)
    app = open_page("classify")
    assert "Not a regular file" in texts(app.warning)
    assert app.selectbox(key="model").options == ["finished"]


def test_mutated_model_cards_are_refused_or_shown(tmp_path: Path) -> None:
    n_shown = 0
    for bundle in mutated_bundles(200, tmp_path / "model", seed=1):
        show_training_data(bundle)
        show_model_details(bundle)
        n_shown += 1
    assert n_shown > 5
