"""Hashes of images: SHA-256 of the pixels and difference hashes."""

import io

import numpy as np
import pytest
from PIL import Image

from bc_model.data.hashing import MAX_DISTANCE, dhash, has_near_duplicate, pixel_sha256
from bc_model.data.images import decode_image
from bc_model.data.synthetic import generate_image


def encode(rgb: np.ndarray, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, kind, **options)
    return buffer.getvalue()


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def test_pixel_sha256_is_equal_in_lossless_formats() -> None:
    png, tiff = (pixel_sha256(decode_image(encode(noise(), kind), "x")) for kind in ("PNG", "TIFF"))
    assert png == tiff


def test_pixel_sha256_changes_with_one_pixel() -> None:
    other = noise()
    other[3, 4, 1] ^= 1
    assert pixel_sha256(other) != pixel_sha256(noise())


def test_pixel_sha256_depends_on_shape() -> None:
    assert pixel_sha256(np.zeros((2, 8, 3), np.uint8)) != pixel_sha256(
        np.zeros((4, 4, 3), np.uint8)
    )


def test_pixel_sha256_is_independent_of_memory_layout() -> None:
    turned = np.ascontiguousarray(noise().transpose(1, 0, 2)).transpose(1, 0, 2)
    assert pixel_sha256(turned) == pixel_sha256(noise())


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
    for copy in (
        decode_image(encode(original, "JPEG", quality=92), "x"),
        decode_image(encode(small, "JPEG", quality=95), "x"),
        small,
    ):
        assert (dhash(original) ^ dhash(copy)).bit_count() <= MAX_DISTANCE
    other = generate_image(malignant=malignant, seed=seed + 100, case_seed=seed)
    assert (dhash(original) ^ dhash(other)).bit_count() > 6


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
