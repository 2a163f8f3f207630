"""Near twins: copies at another size or compression are found, other pictures are not."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bc_model.data.dataset import read_dataset
from bc_model.data.duplicates import MAX_LISTED, find_near_duplicates
from bc_model.data.hashing import MAX_DISTANCE, dhash, near_any
from bc_model.data.synthetic import draw_image


def frame(hashes: list[int], classes: str = "", cases: list[str] | None = None) -> pd.DataFrame:
    """Return pictures '0', '1', ... of the hashes; one malignant case each unless said."""
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


def by_hand(images: pd.DataFrame, max_distance: int) -> list[tuple[str, str, int]]:
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


def test_a_bit_says_brighter_than_the_left_neighbor() -> None:
    step = np.zeros((8, 9, 3), np.uint8)
    step[:, 1:] = 200  # one step upwards between the first two columns of each row
    assert dhash(step) == int("10000000" * 8, 2)
    assert dhash(step[:, ::-1]) == 0
    ramp = np.repeat(np.arange(9, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
    assert dhash(ramp) == 2**64 - 1


def test_the_rows_are_in_order() -> None:
    image = np.zeros((8, 9, 3), np.uint8)
    image[0, 1:] = 200
    assert dhash(image) == 1 << 63


def test_a_image_of_one_color_is_nought() -> None:
    assert dhash(np.full((50, 70, 3), 128, np.uint8)) == 0


@pytest.mark.parametrize("malignant", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_copy_at_another_size_and_compression_is_near(seed: int, malignant: bool) -> None:
    original = draw_image(malignant=malignant, seed=seed, case_seed=seed)
    small = np.asarray(
        Image.fromarray(original).resize((224, 224), Image.Resampling.NEAREST)
    )  # as public extracts do
    for copy in (jpeg(original, 92), jpeg(small, 95), small):
        assert (dhash(original) ^ dhash(copy)).bit_count() <= MAX_DISTANCE
    other = draw_image(malignant=malignant, seed=seed + 100, case_seed=seed)
    assert (dhash(original) ^ dhash(other)).bit_count() > 6


# The pairs


@pytest.mark.parametrize("block", [1, 7, 1000, 4_000_000])
def test_every_pair_is_compared_once_whatever_the_block(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bc_model.data.hashing._BLOCK_ELEMENTS", block)
    rng = np.random.default_rng(3)
    # 40 hashes around 8 centres: many pairs within a few bits.
    hashes = [int(c) ^ (1 << int(bit)) for c in rng.integers(0, 2**63, 8)
              for bit in rng.integers(0, 64, 5)]  # fmt: skip
    images = frame(hashes)
    found = find_near_duplicates(images)
    expected = by_hand(images, MAX_DISTANCE)
    assert len(expected) > 60
    assert found.counts == {
        "other class": 0, "other case": len(expected), "case unknown": 0, "same case": 0,
    }  # fmt: skip
    told = zip(found.pairs["path"], found.pairs["other"], found.pairs["distance"], strict=True)
    assert sorted(told) == sorted(expected)


def test_a_pair_is_of_one_relation_the_most_alarming_first() -> None:
    images = frame([0] * 5, "bmmmm", ["1", "2", "2", "3", ""])
    found = find_near_duplicates(images)
    assert found.counts == {"other class": 4, "other case": 2, "case unknown": 3, "same case": 1}
    assert list(found.pairs["relation"].unique()) == [
        "other class", "other case", "case unknown", "same case",
    ]  # fmt: skip


def test_cases_of_one_group_count_as_one() -> None:
    images = frame([0, 0]).assign(group="0")
    assert find_near_duplicates(images).counts["same case"] == 1


def test_the_distance_is_the_limit() -> None:
    assert find_near_duplicates(frame([0, 0b11])).counts["other case"] == 1
    assert find_near_duplicates(frame([0, 0b111])).counts["other case"] == 0
    assert find_near_duplicates(frame([0, 0b111]), max_distance=3).counts["other case"] == 1


def test_no_images_and_one_image_have_no_pairs() -> None:
    for n in (0, 1):
        found = find_near_duplicates(frame([7] * n))
        assert sum(found.counts.values()) == 0
        assert list(found.pairs.columns) == ["path", "other", "distance", "relation"]


def test_a_set_of_blank_images_is_counted_whole_and_listed_in_part() -> None:
    found = find_near_duplicates(frame([0] * 3000))
    assert found.counts["other case"] == 3000 * 2999 // 2
    assert len(found.pairs) == MAX_LISTED


@pytest.mark.real
def test_one_field_in_several_public_extracts_is_found(
    real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folders = [real_data / f"breakhis_{name}" for name in ("200x_224", "100x", "originals")]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip(f"the three extracts are not all in {real_data}")
    cache = tmp_path_factory.getbasetemp() / "pixels"
    images = pd.concat([read_dataset(folder, cache=cache).images for folder in folders])
    found = find_near_duplicates(images.reset_index(drop=True))
    stems = [found.pairs[column].map(lambda path: Path(path).stem) for column in ("path", "other")]
    # 25 fields stand in two extracts under one name; nothing else is that near.
    assert (stems[0] == stems[1]).all()
    assert found.counts == {"other class": 0, "other case": 0, "case unknown": 0, "same case": 25}


def test_near_any_agrees_with_comparing_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    known = generator.integers(0, 2**63, 40, np.uint64)
    flipped = np.uint64(1) << generator.integers(0, 63, (3, 60), np.uint64)
    hashes = known[generator.integers(0, 40, 60)].copy()
    for i, bits in enumerate(flipped):  # a third each: 1, 2 and 3 bits off, or fewer
        hashes[20 * i :] ^= bits[20 * i :]
    by_hand = [any((int(a) ^ int(b)).bit_count() <= 2 for b in known) for a in hashes]

    assert 0 < sum(by_hand) < 60
    assert near_any(hashes, known).tolist() == by_hand
    monkeypatch.setattr("bc_model.data.hashing._BLOCK_ELEMENTS", 100)
    assert near_any(hashes, known).tolist() == by_hand
    assert near_any(hashes, known[:0]).tolist() == [False] * 60
