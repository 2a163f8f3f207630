"""Thumbnails: small, shaped as the picture, and made once."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bc_model.data.hashing import pixel_sha256
from bc_model.data.images import thumbnail
from bc_model.data.synthetic import draw_image
from bc_model.errors import ImageError


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, str]:
    rgb = draw_image(malignant=True, seed=1, size=(92, 140))
    Image.fromarray(rgb).save(tmp_path / "a.png")
    return tmp_path / "a.png", pixel_sha256(rgb)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image


def test_a_thumbnail_fits_the_square_and_looks_like_the_image(picture: tuple[Path, str]) -> None:
    image = opened(thumbnail(*picture, side_px=70))
    assert image.size == (70, 46)
    original = Image.open(picture[0]).resize((70, 46), Image.Resampling.LANCZOS)
    gray = [np.asarray(one.convert("L"), float).ravel() for one in (image, original)]
    assert np.corrcoef(*gray)[0, 1] > 0.97


def test_a_small_image_is_not_enlarged(picture: tuple[Path, str]) -> None:
    assert opened(thumbnail(*picture, side_px=500)).size == (140, 92)


def test_it_is_kept_by_the_pixels_and_not_made_again(
    picture: tuple[Path, str], tmp_path: Path
) -> None:
    path, sha256 = picture
    first = thumbnail(path, sha256, cache=tmp_path / "cache")
    path.unlink()
    assert thumbnail(tmp_path / "moved.png", sha256, cache=tmp_path / "cache") == first
    with pytest.raises(ImageError):
        thumbnail(path, sha256, side_px=64, cache=tmp_path / "cache")


@pytest.mark.skipif(os.name == "nt", reason="a file in the way is told otherwise")
def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    picture: tuple[Path, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    assert thumbnail(*picture, cache=tmp_path / "file") == thumbnail(*picture)


@pytest.mark.parametrize("sha256", ["", "../" * 22, "A" * 64, "a" * 63])
def test_what_is_no_hash_names_no_file(picture: tuple[Path, str], sha256: str) -> None:
    with pytest.raises(ValueError, match="no thumbnail"):
        thumbnail(picture[0], sha256)


@pytest.mark.parametrize("side_px", [0, 15, 1025])
def test_a_side_out_of_range(picture: tuple[Path, str], side_px: int) -> None:
    with pytest.raises(ValueError, match="no thumbnail"):
        thumbnail(*picture, side_px=side_px)
