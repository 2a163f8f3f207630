"""The model bundle: files that match the model card, lookup by path, and cache keys."""

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


def with_value(bundle: Bundle, field: str, value: float) -> Bundle:
    changed = dataclasses.replace(getattr(bundle.card, field), value=value)
    return dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, **{field: changed}))


def test_open_bundle_lists_exactly_the_files_of_the_directory(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {*FILES, MODEL_CARD_FILE}
    assert set(open_bundle(folder).card.files) == set(FILES)


@pytest.mark.parametrize("below", [".", "..", KERAS_FILE, MODEL_CARD_FILE])
def test_open_bundle_accepts_run_model_directory_and_file(folder: Path, below: str) -> None:
    assert open_bundle((folder / below).resolve()).folder == folder.resolve()


def test_open_bundle_accepts_a_string(folder: Path) -> None:
    assert open_bundle(str(folder)).folder == folder


def test_verify_with_unchanged_files_passes(folder: Path) -> None:
    open_bundle(folder).verify()


def test_bundle_properties_are_those_of_the_card(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.image_size == (32, 32)
    assert (bundle.threshold, bundle.temperature) == (0.5, 1.0)


@pytest.mark.parametrize("name", FILES)
def test_file_with_a_changed_byte_raises_bundle_error(folder: Path, name: str) -> None:
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
def test_file_that_is_missing_raises_bundle_error(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"has no file {name}"):
        open_bundle(folder).file(name)


def test_file_that_is_not_listed_raises_bundle_error(folder: Path) -> None:
    (folder / "extra.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"does not list the file extra"):
        open_bundle(folder).file("extra.bin")


def test_open_bundle_with_a_missing_path_raises_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        open_bundle(tmp_path / "gone")


def test_open_bundle_with_another_file_raises_model_error(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match=r"notes\.txt is not a model"):
        open_bundle(folder / "notes.txt")


def test_open_bundle_with_a_keras_file_without_card_raises_model_error(folder: Path) -> None:
    (folder / MODEL_CARD_FILE).unlink()
    with pytest.raises(ModelError, match="is not a model"):
        open_bundle(folder / KERAS_FILE)


def test_open_bundle_with_a_directory_without_card_raises_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no model_card\.json"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_open_bundle_with_an_invalid_card_raises_bundle_error(folder: Path, text: str) -> None:
    (folder / MODEL_CARD_FILE).write_text(text)
    with pytest.raises(BundleError, match="model card"):
        open_bundle(folder)


def test_open_bundle_with_a_path_in_the_card_raises_bundle_error(folder: Path) -> None:
    card = json.loads((folder / MODEL_CARD_FILE).read_text())
    card["files"]["../secret"] = "a" * 64
    (folder / MODEL_CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(BundleError, match="files"):
        open_bundle(folder)


def test_key_of_a_copy_is_equal(folder: Path, tiny_run: Run) -> None:
    assert open_bundle(folder).key == open_bundle(tiny_run.path).key


@pytest.mark.parametrize(("field", "value"), [("threshold", 0.6), ("temperature", 2.0)])
def test_key_depends_on_threshold_and_temperature(folder: Path, field: str, value: float) -> None:
    bundle = open_bundle(folder)
    assert with_value(bundle, field, value).key != bundle.key


def test_key_depends_on_every_file(folder: Path) -> None:
    bundle = open_bundle(folder)
    files = bundle.card.files | {"served.bin": "0" * 64}
    assert Bundle(folder, dataclasses.replace(bundle.card, files=files)).key != bundle.key


def test_file_sha256_returns_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # the example in FIPS 180-4
    assert file_sha256(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
