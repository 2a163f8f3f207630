"""Thumbnails of images and their cache."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bc_model.data.hashing import pixel_sha256
from bc_model.data.images import make_thumbnail
from bc_model.data.synthetic import generate_image
from bc_model.errors import ImageError


@pytest.fixture
def image_file(tmp_path: Path) -> tuple[Path, str]:
    rgb = generate_image(malignant=True, seed=1, size=(92, 140))
    Image.fromarray(rgb).save(tmp_path / "a.png")
    return tmp_path / "a.png", pixel_sha256(rgb)


def open_jpeg(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image


def test_make_thumbnail_fits_square_and_resembles_image(image_file: tuple[Path, str]) -> None:
    image = open_jpeg(make_thumbnail(*image_file, side_px=70))
    assert image.size == (70, 46)
    original = Image.open(image_file[0]).resize((70, 46), Image.Resampling.LANCZOS)
    gray = [np.asarray(item.convert("L"), float).ravel() for item in (image, original)]
    assert np.corrcoef(*gray)[0, 1] > 0.97


def test_make_thumbnail_small_image_is_not_upsampled(image_file: tuple[Path, str]) -> None:
    assert open_jpeg(make_thumbnail(*image_file, side_px=500)).size == (140, 92)


def test_make_thumbnail_of_highest_image_has_a_width(tmp_path: Path) -> None:
    Image.new("RGB", (32, 65_500)).save(tmp_path / "high.png")
    assert open_jpeg(make_thumbnail(tmp_path / "high.png", "0" * 64)).size == (1, 192)


def test_make_thumbnail_is_cached_by_pixel_hash(
    image_file: tuple[Path, str], tmp_path: Path
) -> None:
    path, sha256 = image_file
    first = make_thumbnail(path, sha256, cache_dir=tmp_path / "cache")
    path.unlink()
    assert make_thumbnail(tmp_path / "moved.png", sha256, cache_dir=tmp_path / "cache") == first
    with pytest.raises(ImageError):
        make_thumbnail(path, sha256, side_px=64, cache_dir=tmp_path / "cache")


@pytest.mark.skipif(os.name == "nt", reason="the error is another one")
def test_make_thumbnail_cache_write_error_is_ignored(
    image_file: tuple[Path, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    assert make_thumbnail(*image_file, cache_dir=tmp_path / "file") == make_thumbnail(*image_file)


@pytest.mark.parametrize("sha256", ["", "../" * 22, "A" * 64, "a" * 63])
def test_make_thumbnail_invalid_hash_raises(image_file: tuple[Path, str], sha256: str) -> None:
    with pytest.raises(ValueError, match="Invalid thumbnail"):
        make_thumbnail(image_file[0], sha256)


@pytest.mark.parametrize("side_px", [0, 15, 1025])
def test_make_thumbnail_side_out_of_range_raises(
    image_file: tuple[Path, str], side_px: int
) -> None:
    with pytest.raises(ValueError, match="Invalid thumbnail"):
        make_thumbnail(*image_file, side_px=side_px)
