"""Pages of TIFF files: sizes, pixels of each page, thumbnails, and other formats."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bc_model.data.file_checks import check_file
from bc_model.data.image_scale import read_scale
from bc_model.data.images import decode_image, read_image
from bc_model.data.synthetic import example_png
from bc_model.data.tiff_pages import list_pages, select_page
from bc_model.errors import ImageError

SIZES = ((60, 40), (90, 70), (50, 80))


def make_pages() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for width, height in SIZES]


def make_tiff(*, is_big: bool = False, thumbnail: int | None = None) -> bytes:
    """Return a file with three pages, one of which may declare a reduced resolution."""
    first, *others = (Image.fromarray(page) for page in make_pages())
    for number, image in enumerate(others, start=2):
        image.encoderinfo = {"tiffinfo": {254: 1}} if number == thumbnail else {}
    stream = io.BytesIO()
    first.save(stream, "TIFF", save_all=True, append_images=others, big_tiff=is_big)
    return stream.getvalue()


@pytest.mark.parametrize("is_big", [False, True])
def test_each_page_has_its_size_and_its_pixels(is_big: bool) -> None:
    data = make_tiff(is_big=is_big)
    pages = list_pages(data)
    assert [(page.number, page.width_px, page.height_px) for page in pages] == [
        (i, *size) for i, size in enumerate(SIZES, start=1)
    ]
    for page, expected in zip(pages, make_pages(), strict=True):
        content = select_page(data, page.number)
        assert np.array_equal(decode_image(content, "a.tif"), expected)
        assert len(list_pages(content)) == 1
    # The default is the largest page.
    assert np.array_equal(decode_image(data, "a.tif"), make_pages()[1])


def test_thumbnails_are_not_counted() -> None:
    data = make_tiff(thumbnail=2)
    assert [(page.number, page.width_px) for page in list_pages(data)] == [(1, 60), (2, 50)]
    assert np.array_equal(decode_image(select_page(data, 2), "a.tif"), make_pages()[2])


def test_a_file_of_one_image_has_only_its_first_page() -> None:
    png = example_png(malignant=False)
    assert list_pages(png) == ()
    assert select_page(png, 1) == png
    for page in (0, 2):
        with pytest.raises(ImageError, match=f"a.png has no page {page}. Expected 1 to 1"):
            select_page(png, page, "a.png")


def test_read_image_and_checks_use_the_page(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(make_tiff())
    assert read_image(path, page=3).shape == (80, 50, 3)
    with pytest.raises(ImageError, match=r"scan.tif has no page 4. Expected 1 to 3"):
        read_image(path, page=4)
    for page, expected in ((None, 2), (3, 3)):
        (check,) = check_file(path.read_bytes(), "scan.tif", page)
        assert (check.code, check.params) == ("BC167", {"page": expected, "n_pages": 3})


def test_the_scale_is_that_of_the_page() -> None:
    small, large = (Image.fromarray(page) for page in make_pages()[:2])
    large.encoderinfo = {"resolution": 20_000, "resolution_unit": "cm"}
    stream = io.BytesIO()
    small.save(
        stream, "TIFF", save_all=True, append_images=[large], resolution=10_000,
        resolution_unit="cm",
    )  # fmt: skip
    data = stream.getvalue()
    found = [read_scale(data), *(read_scale(select_page(data, page)) for page in (1, 2))]
    assert [scale and scale.mpp_x for scale in found] == pytest.approx([0.5, 1.0, 0.5])


def test_damaged_directories_end_the_list() -> None:
    data = make_tiff()
    for end in range(8, len(data), 997):
        for page in list_pages(data[:end]):
            assert page.width_px > 0
