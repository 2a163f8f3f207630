"""A model folder is what its passport says, byte for byte, or it is not used."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from bc_model.errors import BundleError, ModelError
from bc_model.inference.bundle import KERAS_FILE, SERVED_FILES, Bundle, file_sha256, open_bundle
from bc_model.inference.model_card import MODEL_CARD_FILE
from bc_model.inference.seen_images import SEEN_IMAGES_FILE
from bc_model.training.run import Run

FILES = (KERAS_FILE, *SERVED_FILES, SEEN_IMAGES_FILE)


@pytest.fixture
def folder(tiny_run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run.model_dir, tmp_path / "run" / "model"))


def with_value(bundle: Bundle, subset: str, value: float) -> Bundle:
    changed = dataclasses.replace(getattr(bundle.card, subset), value=value)
    return dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, **{subset: changed}))


def test_a_bundle_holds_its_files_and_nothing_else(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {*FILES, MODEL_CARD_FILE}
    assert set(open_bundle(folder).card.files) == set(FILES)


@pytest.mark.parametrize("below", [".", "..", KERAS_FILE, MODEL_CARD_FILE])
def test_it_opens_by_run_by_folder_and_by_file(folder: Path, below: str) -> None:
    assert open_bundle((folder / below).resolve()).folder == folder.resolve()


def test_a_path_may_be_given_as_text(folder: Path) -> None:
    assert open_bundle(str(folder)).folder == folder


def test_an_untouched_bundle_is_verified(folder: Path) -> None:
    open_bundle(folder).verify()


def test_its_figures_are_the_cards(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.image_size == (32, 32)
    assert (bundle.threshold, bundle.temperature) == (0.5, 1.0)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_refused_by_name(folder: Path, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    bundle = open_bundle(folder)
    with pytest.raises(BundleError, match=name):
        bundle.file(name)
    with pytest.raises(BundleError, match=name):
        bundle.verify()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"lacks its file {name}"):
        open_bundle(folder).file(name)


def test_a_file_that_the_card_does_not_list_is_refused(folder: Path) -> None:
    (folder / "extra.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"does not list extra\.bin"):
        open_bundle(folder).file("extra.bin")


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        open_bundle(tmp_path / "gone")


def test_a_file_that_is_no_model_is_refused(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match=r"notes\.txt is not a model"):
        open_bundle(folder / "notes.txt")


def test_a_keras_file_without_a_card_is_refused(folder: Path) -> None:
    (folder / MODEL_CARD_FILE).unlink()
    with pytest.raises(ModelError, match="is not a model"):
        open_bundle(folder / KERAS_FILE)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no model_card\.json"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_card_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / MODEL_CARD_FILE).write_text(text)
    with pytest.raises(BundleError, match="model card"):
        open_bundle(folder)


def test_a_card_cannot_reach_outside_its_folder(folder: Path) -> None:
    card = json.loads((folder / MODEL_CARD_FILE).read_text())
    card["files"]["../secret"] = "a" * 64
    (folder / MODEL_CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(BundleError, match="files"):
        open_bundle(folder)


def test_the_key_is_the_same_for_a_copy(folder: Path, tiny_run: Run) -> None:
    assert open_bundle(folder).key == open_bundle(tiny_run.path).key


@pytest.mark.parametrize(("subset", "value"), [("threshold", 0.6), ("temperature", 2.0)])
def test_the_key_changes_with_what_changes_a_prediction(
    folder: Path, subset: str, value: float
) -> None:
    bundle = open_bundle(folder)
    assert with_value(bundle, subset, value).key != bundle.key


def test_the_key_changes_with_a_file(folder: Path) -> None:
    bundle = open_bundle(folder)
    files = bundle.card.files | {"served.bin": "0" * 64}
    assert Bundle(folder, dataclasses.replace(bundle.card, files=files)).key != bundle.key


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180
    assert file_sha256(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
