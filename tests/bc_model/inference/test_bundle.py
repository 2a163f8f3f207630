"""The model bundle: files that match the model card, lookup by path, and cache keys."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.errors import BundleError, ModelError
from bc_model.inference.bundle import (
    KERAS_FILE,
    SERVED_FILES,
    Bundle,
    file_sha256,
    list_bundles,
    open_bundle,
)
from bc_model.inference.model_card import MODEL_CARD_FILE, write_model_card
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


def test_key_of_the_same_directory_is_equal(folder: Path) -> None:
    assert open_bundle(folder).key == open_bundle(folder.parent).key


def test_key_of_a_copy_differs(folder: Path, tiny_run: Run) -> None:
    """The texts of a prediction name its model, and each copy is verified."""
    assert open_bundle(folder).key != open_bundle(tiny_run.path).key


def test_key_depends_on_every_text_of_the_card(folder: Path) -> None:
    before = open_bundle(folder)
    write_model_card(folder, dataclasses.replace(before.card, limits="Other limits."))
    assert open_bundle(folder).key != before.key


@pytest.mark.parametrize("name", FILES)
def test_key_depends_on_the_files_on_the_disk(folder: Path, name: str) -> None:
    before, path = open_bundle(folder).key, folder / name
    stat = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert open_bundle(folder).key != before


def test_file_is_verified_again_after_it_has_changed(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.file("head.npz") == folder / "head.npz"
    (folder / "head.npz").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"head\.npz"):
        bundle.file("head.npz")


@pytest.mark.skipif(os.name == "nt", reason="no sparse files")
def test_file_above_the_limit_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / "head.npz").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(BundleError, match=r"has 1,048,576 MB\. Expected at most 256 MB"):
        open_bundle(folder).file("head.npz")


def add_text(folder: Path) -> None:
    (folder / MODEL_CARD_FILE).write_text("{")


def add_other_encoding(folder: Path) -> None:
    (folder / MODEL_CARD_FILE).write_bytes(b"\xff")


def add_directory(folder: Path) -> None:
    (folder / MODEL_CARD_FILE).mkdir()


def add_broken_link(folder: Path) -> None:
    (folder / MODEL_CARD_FILE).symlink_to(folder / "gone")


def add_endless_link(folder: Path) -> None:
    (folder / MODEL_CARD_FILE).symlink_to(folder / MODEL_CARD_FILE)


def add_named_pipe(folder: Path) -> None:
    os.mkfifo(folder / MODEL_CARD_FILE)


DAMAGES = (
    add_text, add_other_encoding, add_directory, add_broken_link, add_endless_link, add_named_pipe,
)  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
@pytest.mark.parametrize("damage", DAMAGES)
def test_list_bundles_reports_a_damaged_card_and_lists_the_others(
    damage: Callable[[Path], None], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "damaged" / "model").mkdir(parents=True)
    damage(tmp_path / "damaged" / "model")
    for other in (".deleted/model", "empty/model"):
        (tmp_path / other).mkdir(parents=True)
    shutil.copy(folder / MODEL_CARD_FILE, tmp_path / ".deleted" / "model")
    (tmp_path / "file").write_text("")
    bundles, problems = list_bundles(tmp_path, tmp_path / "no models")
    assert [bundle.folder for bundle in bundles] == [folder]
    assert len(problems) == 1
    assert str(tmp_path / "damaged" / "model") in problems[0]


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
