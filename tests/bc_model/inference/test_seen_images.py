"""Images seen in training: the list of a bundle, near-duplicates, and the images of a dataset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bc_model.checks import make_check
from bc_model.data.dataset import load_dataset
from bc_model.inference.bundle import Bundle, file_sha256, open_bundle
from bc_model.inference.seen_images import (
    SEEN_IMAGES_FILE,
    UNKNOWN_INITIALIZATION,
    SeenImages,
    SeenInTraining,
    _read_hashes,
    find_seen_images,
    read_seen_images,
)
from bc_model.training.run import Run


@pytest.fixture(scope="module")
def bundle(tiny_run: Run) -> Bundle:
    return open_bundle(tiny_run.path)


@pytest.fixture(scope="module")
def own(tiny_run: Run) -> str:
    """Return the hash of a training image of the model."""
    split = pd.read_csv(tiny_run.split_file, dtype=str)
    return str(split.loc[split["subset"] == "train", "sha256"].iloc[0])


def images(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Return rows of (sha256, case, group) with names that are not BreakHis names."""
    table = pd.DataFrame(rows, columns=["sha256", "case", "group"])
    return table.assign(path=[f"{i}.png" for i in range(len(rows))])


def test_find_seen_images_includes_all_images_of_a_seen_case(bundle: Bundle, own: str) -> None:
    seen = find_seen_images(
        bundle,
        images(
            (own, "a", "a"), ("1", "a", "a"),  # the same case
            ("2", "b", "a"),  # another case, which shares an image with it
            ("3", "c", "c"), ("4", "", ""),
        ),
    )  # fmt: skip

    assert seen.is_seen.tolist() == [True, True, True, False, False]
    assert seen.n_seen == 3
    assert seen.checks[0] == make_check("BC321", n_seen=3, n_images=5)


def test_find_seen_images_without_a_case_includes_only_the_image(bundle: Bundle, own: str) -> None:
    seen = find_seen_images(bundle, images((own, "", ""), ("1", "", "")))

    assert seen.is_seen.tolist() == [True, False]


def test_read_seen_images_lists_training_and_validation_images(
    bundle: Bundle, tiny_run: Run, synthetic_dataset: Path
) -> None:
    split = pd.read_csv(tiny_run.split_file, dtype=str)
    dataset = load_dataset(synthetic_dataset).images.set_index("sha256")
    listed = read_seen_images(bundle)

    assert listed is not None
    assert listed.is_complete
    assert set(listed.dhash) == set(split.loc[split["subset"] != "test", "sha256"])
    assert all(dataset["dhash"][sha256] == value for sha256, value in listed.dhash.items())


def near_duplicates(bundle: Bundle, n: int, n_images: int) -> pd.DataFrame:
    """Return `n_images` images; the hashes of the first `n` are near those of training images."""
    listed = read_seen_images(bundle)
    assert listed is not None
    hashes = np.array(list(listed.dhash.values()), np.uint64)
    unseen = next(
        x for x in np.arange(100, dtype=np.uint64) if np.bitwise_count(hashes ^ x).min() > 2
    )
    dhash = np.full(n_images, unseen)
    dhash[:n] = hashes[np.bitwise_count(hashes) > 20][0] ^ np.uint64(0b101)
    return images(*[(str(i), str(i), str(i)) for i in range(n_images)]).assign(dhash=dhash)


def test_find_seen_images_includes_near_duplicates(bundle: Bundle) -> None:
    seen = find_seen_images(bundle, near_duplicates(bundle, 2, 3))

    assert seen.is_seen.tolist() == [True, True, False]
    assert seen.checks == [
        make_check("BC322", n_seen=2, n_images=3),
        make_check("BC323", n_near_duplicates=2),
        make_check("BC325", n_unseen=1, n_images=3),
    ]


def test_merge_initial_adds_the_images_of_the_initial_weights(
    bundle: Bundle, tmp_path: Path
) -> None:
    initial = SeenImages({"f" * 64: 3}, is_complete=True)
    own = read_seen_images(bundle)
    assert own is not None

    assert seen_of(own, "f" * 64, bundle, tmp_path).n_seen == 0
    merged = own.merge_initial(initial)
    assert seen_of(merged, "f" * 64, bundle, tmp_path).n_seen == 1
    assert seen_of(merged, next(iter(own.dhash)), bundle, tmp_path).n_seen == 1
    for unknown in (own.merge_initial(None), own.merge_initial(merged.merge_initial(None))):
        checks = seen_of(unknown, "0" * 64, bundle, tmp_path).checks
        assert checks[-1] == UNKNOWN_INITIALIZATION


def test_find_seen_images_with_unknown_initial_weights_has_a_check_for_official_names(
    bundle: Bundle, tmp_path: Path
) -> None:
    named = images(("0" * 64, "12345", "12345")).assign(path="SOB_B_A-14-12345-200-001.png")
    for is_complete in (True, False):
        other = with_list(SeenImages({}, is_complete=is_complete), bundle, tmp_path)
        assert find_seen_images(other, named).checks == (
            [] if is_complete else [UNKNOWN_INITIALIZATION]
        )


def seen_of(listed: SeenImages, sha256: str, bundle: Bundle, folder: Path) -> SeenInTraining:
    """Return the result for one image and a model with another list."""
    return find_seen_images(with_list(listed, bundle, folder), images((sha256, "", "")))


def with_list(listed: SeenImages, bundle: Bundle, folder: Path) -> Bundle:
    (folder / SEEN_IMAGES_FILE).write_text(listed.to_csv(), encoding="utf-8")
    files = {SEEN_IMAGES_FILE: file_sha256(folder / SEEN_IMAGES_FILE)}
    data = replace(bundle.card.data, seen_images_complete=listed.is_complete)
    return Bundle(folder, replace(bundle.card, data=data, files=files))


def test_find_seen_images_without_a_list_has_a_check(bundle: Bundle, own: str) -> None:
    files = {name: sha for name, sha in bundle.card.files.items() if name != SEEN_IMAGES_FILE}
    without_list = Bundle(bundle.folder, replace(bundle.card, files=files))
    seen = find_seen_images(without_list, images((own, "a", "a")))

    assert seen.n_seen == 0
    assert seen.checks[0].code == "BC324"


def test_to_csv_then_read_returns_the_hashes(tmp_path: Path) -> None:
    listed = SeenImages({"b" * 64: 2**64 - 1, "a" * 64: 0}, is_complete=True)
    file = tmp_path / SEEN_IMAGES_FILE
    file.write_text(listed.to_csv(), encoding="utf-8")

    assert listed.to_csv() == f"sha256,dhash\n{'a' * 64},{0:016x}\n{'b' * 64},{'f' * 16}\n"
    assert _read_hashes(file, "of the file") == listed.dhash


def test_near_duplicates_ignores_hashes_of_almost_equal_bits() -> None:
    darker, brighter, mixed = 0b11, 2**64 - 1, 0xFF00FF
    listed = SeenImages({"a": darker, "b": brighter, "c": mixed}, is_complete=True)
    dhashes = np.array([0, darker, brighter, mixed, mixed ^ 0b11, mixed ^ 0b111], np.uint64)

    assert listed.near_duplicates(dhashes).tolist() == [False, False, False, True, True, False]
    assert SeenImages({}, is_complete=True).near_duplicates(dhashes).tolist() == [False] * 6
