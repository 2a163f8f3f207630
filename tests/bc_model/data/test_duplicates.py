"""Duplicates and near-duplicates: difference hashes and pairs."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bc_model.data.dataset import load_dataset
from bc_model.data.duplicates import MAX_LISTED, find_near_duplicates
from bc_model.data.hashing import MAX_DISTANCE, dhash, has_near_duplicate
from bc_model.data.synthetic import generate_image


def make_images(
    hashes: list[int], classes: str = "", cases: list[str] | None = None
) -> pd.DataFrame:
    """Return images '0', '1', ... with the given hashes, by default one malignant case each."""
    n = len(hashes)
    numbers = [str(i) for i in range(n)]
    case = numbers if cases is None else cases
    return pd.DataFrame(
        {
            "path": numbers,
            "dhash": np.array(hashes, np.uint64),
            "class": [{"b": "benign", "m": "malignant"}[letter] for letter in classes or "m" * n],
            "case": case,
            "group": case,
        }
    )


def compare_all(images: pd.DataFrame, max_distance: int) -> list[tuple[str, str, int]]:
    rows = list(zip(images["path"], images["dhash"], strict=True))
    return [
        (path, other, distance)
        for i, (path, first) in enumerate(rows)
        for other, second in rows[i + 1 :]
        if (distance := (int(first) ^ int(second)).bit_count()) <= max_distance
    ]


def jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


# The hash


def test_dhash_bit_is_set_if_brighter_than_left_neighbor() -> None:
    step = np.zeros((8, 9, 3), np.uint8)
    step[:, 1:] = 200  # One step up between the first two columns of each row.
    assert dhash(step) == int("10000000" * 8, 2)
    assert dhash(step[:, ::-1]) == 0
    ramp = np.repeat(np.arange(9, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
    assert dhash(ramp) == 2**64 - 1


def test_dhash_first_row_is_most_significant() -> None:
    image = np.zeros((8, 9, 3), np.uint8)
    image[0, 1:] = 200
    assert dhash(image) == 1 << 63


def test_dhash_image_of_one_color_is_zero() -> None:
    assert dhash(np.full((50, 70, 3), 128, np.uint8)) == 0


@pytest.mark.parametrize("malignant", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_dhash_resized_and_compressed_copies_are_near(seed: int, malignant: bool) -> None:
    original = generate_image(malignant=malignant, seed=seed, case_seed=seed)
    small = np.asarray(
        Image.fromarray(original).resize((224, 224), Image.Resampling.NEAREST)
    )  # As in public extracts.
    for copy in (jpeg(original, 92), jpeg(small, 95), small):
        assert (dhash(original) ^ dhash(copy)).bit_count() <= MAX_DISTANCE
    other = generate_image(malignant=malignant, seed=seed + 100, case_seed=seed)
    assert (dhash(original) ^ dhash(other)).bit_count() > 6


# The pairs


@pytest.mark.parametrize("block", [1, 7, 1000, 4_000_000])
def test_find_near_duplicates_compares_each_pair_once_for_any_block(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bc_model.data.hashing.BLOCK_ELEMENTS", block)
    rng = np.random.default_rng(3)
    # 40 hashes around 8 centers: many pairs within a few bits.
    hashes = [int(c) ^ (1 << int(bit)) for c in rng.integers(0, 2**63, 8)
              for bit in rng.integers(0, 64, 5)]  # fmt: skip
    images = make_images(hashes)
    found = find_near_duplicates(images)
    expected = compare_all(images, MAX_DISTANCE)
    assert len(expected) > 60
    assert found.counts == {
        "other class": 0, "other case": len(expected), "case unknown": 0, "same case": 0,
    }  # fmt: skip
    pairs = zip(found.pairs["path"], found.pairs["other"], found.pairs["distance"], strict=True)
    assert sorted(pairs) == sorted(expected)


def test_find_near_duplicates_pair_has_first_matching_relation() -> None:
    images = make_images([0] * 5, "bmmmm", ["1", "2", "2", "3", ""])
    found = find_near_duplicates(images)
    assert found.counts == {"other class": 4, "other case": 2, "case unknown": 3, "same case": 1}
    assert list(found.pairs["relation"].unique()) == [
        "other class", "other case", "case unknown", "same case",
    ]  # fmt: skip


def test_find_near_duplicates_cases_of_one_group_count_as_same_case() -> None:
    images = make_images([0, 0]).assign(group="0")
    assert find_near_duplicates(images).counts["same case"] == 1


def test_find_near_duplicates_distance_limit_is_inclusive() -> None:
    assert find_near_duplicates(make_images([0, 0b11])).counts["other case"] == 1
    assert find_near_duplicates(make_images([0, 0b111])).counts["other case"] == 0
    assert find_near_duplicates(make_images([0, 0b111]), max_distance=3).counts["other case"] == 1


def test_find_near_duplicates_fewer_than_two_images_have_no_pairs() -> None:
    for n in (0, 1):
        found = find_near_duplicates(make_images([7] * n))
        assert sum(found.counts.values()) == 0
        assert list(found.pairs.columns) == ["path", "other", "distance", "relation"]


def test_find_near_duplicates_counts_all_and_lists_first_pairs() -> None:
    found = find_near_duplicates(make_images([0] * 3000))
    assert found.counts["other case"] == 3000 * 2999 // 2
    assert len(found.pairs) == MAX_LISTED


@pytest.mark.real
def test_find_near_duplicates_finds_fields_in_several_public_extracts(
    real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folders = [real_data / f"breakhis_{name}" for name in ("200x_224", "100x", "originals")]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip(f"{real_data} lacks one of three extracts")
    cache = tmp_path_factory.getbasetemp() / "pixels"
    images = pd.concat([load_dataset(folder, cache_dir=cache).images for folder in folders])
    found = find_near_duplicates(images.reset_index(drop=True))
    stems = [found.pairs[column].map(lambda path: Path(path).stem) for column in ("path", "other")]
    # 25 fields are in two extracts under one name. No other pair is as near.
    assert (stems[0] == stems[1]).all()
    assert found.counts == {"other class": 0, "other case": 0, "case unknown": 0, "same case": 25}


def test_has_near_duplicate_agrees_with_single_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    known = generator.integers(0, 2**63, 40, np.uint64)
    flipped = np.uint64(1) << generator.integers(0, 63, (3, 60), np.uint64)
    hashes = known[generator.integers(0, 40, 60)].copy()
    for i, bits in enumerate(flipped):  # One third each: at most 1, 2 and 3 bits differ.
        hashes[20 * i :] ^= bits[20 * i :]
    expected = [any((int(a) ^ int(b)).bit_count() <= 2 for b in known) for a in hashes]

    assert 0 < sum(expected) < 60
    assert has_near_duplicate(hashes, known).tolist() == expected
    monkeypatch.setattr("bc_model.data.hashing.BLOCK_ELEMENTS", 100)
    assert has_near_duplicate(hashes, known).tolist() == expected
    assert has_near_duplicate(hashes, known[:0]).tolist() == [False] * 60
