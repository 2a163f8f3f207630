"""What a model knows of a set: its own pictures, copies of them, and the cases of these."""

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
    find_seen_images,
    read_seen_images,
)
from bc_model.training.run import Run


@pytest.fixture(scope="module")
def bundle(tiny_run: Run) -> Bundle:
    return open_bundle(tiny_run.path)


@pytest.fixture(scope="module")
def own(tiny_run: Run) -> str:
    """The hash of a picture that the model learned from."""
    split = pd.read_csv(tiny_run.split_file, dtype=str)
    return str(split.loc[split["subset"] == "train", "sha256"].iloc[0])


def images(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Return rows of (sha256, case, group), with names of no grammar."""
    table = pd.DataFrame(rows, columns=["sha256", "case", "group"])
    return table.assign(path=[f"{i}.png" for i in range(len(rows))])


def test_of_a_case_that_it_has_seen_a_image_of_it_knows_all(bundle: Bundle, own: str) -> None:
    known = find_seen_images(
        bundle,
        images(
            (own, "a", "a"), ("1", "a", "a"),  # the same case
            ("2", "b", "a"),  # another one, which shares a picture with it
            ("3", "c", "c"), ("4", "", ""),
        ),
    )  # fmt: skip

    assert known.is_seen.tolist() == [True, True, True, False, False]
    assert known.n_seen == 3
    assert known.checks[0] == make_check("BC321", n_seen=3, n_images=5)


def test_without_a_case_a_image_says_nothing_of_others(bundle: Bundle, own: str) -> None:
    known = find_seen_images(bundle, images((own, "", ""), ("1", "", "")))

    assert known.is_seen.tolist() == [True, False]


def test_the_list_holds_what_was_not_for_test(
    bundle: Bundle, tiny_run: Run, drawn_set: Path
) -> None:
    split = pd.read_csv(tiny_run.split_file, dtype=str)
    dataset = load_dataset(drawn_set).images.set_index("sha256")
    listed = read_seen_images(bundle)

    assert listed is not None
    assert listed.is_complete
    assert set(listed.dhash) == set(split.loc[split["subset"] != "test", "sha256"])
    assert all(dataset["dhash"][sha256] == value for sha256, value in listed.dhash.items())


def near_duplicates(bundle: Bundle, n: int, of: int) -> pd.DataFrame:
    """Return pictures of which some look the same as the model's own, by their hashes."""
    listed = read_seen_images(bundle)
    assert listed is not None
    known = np.array(list(listed.dhash.values()), np.uint64)
    stranger = next(
        one for one in np.arange(100, dtype=np.uint64) if np.bitwise_count(known ^ one).min() > 2
    )
    dhash = np.full(of, stranger)
    dhash[:n] = known[np.bitwise_count(known) > 20][0] ^ np.uint64(0b101)
    return images(*[(str(i), str(i), str(i)) for i in range(of)]).assign(dhash=dhash)


def test_copies_of_its_images_are_known(bundle: Bundle) -> None:
    known = find_seen_images(bundle, near_duplicates(bundle, 2, 3))

    assert known.is_seen.tolist() == [True, True, False]
    assert known.checks == [
        make_check("BC322", n_seen=2, n_images=3),
        make_check("BC323", n_near_duplicates=2),
        make_check("BC325", n_unseen=1, n_images=3),
    ]


def test_what_the_first_weights_knew_is_known(bundle: Bundle, tmp_path: Path) -> None:
    first = SeenImages({"f" * 64: 3}, is_complete=True)
    own = read_seen_images(bundle)
    assert own is not None

    assert known_of(own, "f" * 64, bundle, tmp_path).n_seen == 0
    begun = own.merge_initial(first)
    assert known_of(begun, "f" * 64, bundle, tmp_path).n_seen == 1
    assert known_of(begun, next(iter(own.dhash)), bundle, tmp_path).n_seen == 1
    for unknown in (own.merge_initial(None), own.merge_initial(begun.merge_initial(None))):
        checks = known_of(unknown, "0" * 64, bundle, tmp_path).checks
        assert checks[-1] == UNKNOWN_INITIALIZATION


def test_weights_of_which_nobody_can_tell_are_told_of_official_names_too(
    bundle: Bundle, tmp_path: Path
) -> None:
    named = images(("0" * 64, "12345", "12345")).assign(path="SOB_B_A-14-12345-200-001.png")
    for whole in (True, False):
        other = with_list(SeenImages({}, is_complete=whole), bundle, tmp_path)
        assert find_seen_images(other, named).checks == ([] if whole else [UNKNOWN_INITIALIZATION])


def known_of(listed: SeenImages, sha256: str, bundle: Bundle, folder: Path) -> SeenInTraining:
    """Ask a model with another list about one picture."""
    return find_seen_images(with_list(listed, bundle, folder), images((sha256, "", "")))


def with_list(listed: SeenImages, bundle: Bundle, folder: Path) -> Bundle:
    (folder / SEEN_IMAGES_FILE).write_text(listed.to_csv(), encoding="utf-8")
    files = {SEEN_IMAGES_FILE: file_sha256(folder / SEEN_IMAGES_FILE)}
    data = replace(bundle.card.data, seen_images_complete=listed.is_complete)
    return Bundle(folder, replace(bundle.card, data=data, files=files))


def test_a_model_without_a_list_says_that_nobody_can_tell(bundle: Bundle, own: str) -> None:
    files = {name: sha for name, sha in bundle.card.files.items() if name != SEEN_IMAGES_FILE}
    older = Bundle(bundle.folder, replace(bundle.card, files=files))
    known = find_seen_images(older, images((own, "a", "a")))

    assert known.n_seen == 0
    assert known.checks[0].code == "BC324"
