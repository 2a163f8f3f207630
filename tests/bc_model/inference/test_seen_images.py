"""The list of what a model knows, and what looks the same as something on it."""

import numpy as np

from bc_model.inference.seen_images import SEEN_IMAGES_FILE, SeenImages, _read


def test_it_is_read_as_it_was_written(tmp_path) -> None:
    listed = SeenImages({"b" * 64: 2**64 - 1, "a" * 64: 0}, is_complete=True)
    file = tmp_path / SEEN_IMAGES_FILE
    file.write_text(listed.to_csv(), encoding="utf-8")

    assert listed.to_csv() == f"sha256,dhash\n{'a' * 64},{0:016x}\n{'b' * 64},{'f' * 16}\n"
    assert _read(file, "of the file") == listed.dhash


def test_a_field_that_darkens_to_one_side_looks_like_nothing() -> None:
    darkens, brightens, telling = 0b11, 2**64 - 1, 0xFF00FF
    listed = SeenImages({"a": darkens, "b": brightens, "c": telling}, is_complete=True)
    asked = np.array([0, darkens, brightens, telling, telling ^ 0b11, telling ^ 0b111], np.uint64)

    assert listed.near_duplicates(asked).tolist() == [False, False, False, True, True, False]
    assert SeenImages({}, is_complete=True).near_duplicates(asked).tolist() == [False] * 6
