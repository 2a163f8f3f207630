"""Decoding in bands: the same pixels as from the full image, and refusal of damaged files."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bc_model.data import image_bands, image_headers
from bc_model.data.image_headers import count_declared_pixels, read_header
from bc_model.data.images import decode_image
from bc_model.errors import ImageError

RGBA = np.random.default_rng(0).integers(0, 256, (119, 163, 4), dtype=np.uint8)
"""Odd sides, which are rounded up."""
RGB = np.ascontiguousarray(RGBA[..., :3])
EXPECTED = np.asarray(Image.fromarray(RGB).reduce(2))
"""Means of 2 x 2 pixels, of the full image."""


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_headers, "FULL_PIXELS", 5000)
    monkeypatch.setattr(image_bands, "BAND_PIXELS", 3000)
    monkeypatch.setattr(image_bands, "_INFLATE_BYTES", 700)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def split_strips(plane: np.ndarray, rows: int) -> list[np.ndarray]:
    return [plane[top : top + rows] for top in range(0, len(plane), rows)]


def split_tiles(plane: np.ndarray, side: int) -> list[np.ndarray]:
    height, width = plane.shape[:2]
    padding = ((0, -height % side), (0, -width % side), (0, 0))[: plane.ndim]
    padded = np.pad(plane, padding)
    return [
        padded[top : top + side, left : left + side]
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def write_tiff(
    *, rows: int = 0, tile: int = 0, planar: bool = False, deflate: bool = False, order: str = "<"
) -> bytes:
    """Return `RGB` as a TIFF file of strips or tiles."""
    planes = [RGB[..., i] for i in range(3)] if planar else [RGB]
    split = split_tiles if tile else split_strips
    arrays = [part for plane in planes for part in split(plane, tile or rows)]
    parts = [array.tobytes() for array in arrays]
    if deflate:
        parts = [zlib.compress(part) for part in parts]
    body = b"".join(parts)
    body += bytes(-len(body) % 4)
    sizes = list(map(len, parts))
    offsets = [8 + sum(sizes[:i]) for i in range(len(sizes))]
    lists = len(body) + 8
    body += struct.pack(f"{order}{len(offsets)}I", *offsets)
    body += struct.pack(f"{order}{len(sizes)}I", *sizes)
    assert len(offsets) > 1
    fields = {256: 163, 257: 119, 258: 8, 259: 8 if deflate else 1, 262: 2, 277: 3}
    fields |= {284: 2 if planar else 1}
    fields |= {322: tile, 323: tile} if tile else {278: rows}
    entries = {tag: (4, 1, value) for tag, value in fields.items()}
    entries[258] = (3, 3, len(body) + 8)
    body += struct.pack(f"{order}4H", 8, 8, 8, 0)
    entries[324 if tile else 273] = (4, len(offsets), lists)
    entries[325 if tile else 279] = (4, len(sizes), lists + 4 * len(offsets))
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(
        struct.pack(f"{order}HHII", tag, *entry) for tag, entry in sorted(entries.items())
    )
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", 8 + len(body)) + body + directory + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("layout", [{"rows": 1}, {"rows": 7}, {"rows": 100}, {"tile": 16}])
def test_decode_tiff_in_bands_returns_means_of_the_full_image(
    layout: dict, planar: bool, deflate: bool, order: str
) -> None:
    data = write_tiff(**layout, planar=planar, deflate=deflate, order=order)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), RGB)
    np.testing.assert_array_equal(decode_image(data, "x.tif"), EXPECTED)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", None])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P"])
def test_decode_tiff_of_pillow_in_bands_returns_means(mode: str, compression: str | None) -> None:
    image = Image.fromarray(RGB).convert(mode)
    data = encode(image, "TIFF", compression=compression, tiffinfo={278: 8})
    full = image.convert("RGB") if mode == "P" else image
    expected = np.asarray(full.reduce(2).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data, "x.tif"), expected)


def test_decode_tiff_of_jpeg_strips_returns_means() -> None:
    smooth = Image.fromarray(RGB).resize((20, 15)).resize((163, 119))
    data = encode(smooth, "TIFF", compression="jpeg", quality=95, tiffinfo={278: 16})
    expected = np.asarray(smooth.reduce(2)).astype(float)
    assert np.abs(decode_image(data, "x.tif") - expected).mean() < 3


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
@pytest.mark.parametrize("level", [0, 6])
def test_decode_png_in_bands_returns_means_of_the_full_image(mode: str, level: int) -> None:
    image = Image.fromarray(RGB).resize((40, 30)).resize((163, 119)).convert(mode)
    data = encode(image, "PNG", compress_level=level)
    full = image.convert("RGB") if mode == "P" else image
    expected = np.asarray(full.reduce(2).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data, "x.png"), expected)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_decode_png_in_bands_ignores_constant_alpha(alpha: int) -> None:
    pixels = RGBA.copy()
    pixels[..., 3] = alpha
    data = encode(Image.fromarray(pixels), "PNG")
    np.testing.assert_array_equal(decode_image(data, "x.png"), EXPECTED)


def split_pixel_chunk(data: bytes, size: int) -> bytes:
    """Return a PNG whose pixel chunk is divided; some chunks are empty."""
    start = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, start)
    pixels = data[start + 8 : start + 8 + length]
    pieces = [pixels[i : i + size] for i in range(0, length, size)]
    chunks = [image_bands._write_chunk(b"IDAT", piece) for piece in [b"", *pieces, b""]]
    return data[:start] + b"".join(chunks) + data[start + 12 + length :]


@pytest.mark.parametrize("size", [1, 999])
def test_decode_png_of_many_chunks_returns_means(size: int) -> None:
    data = split_pixel_chunk(encode(Image.fromarray(RGB), "PNG"), size)
    np.testing.assert_array_equal(decode_image(data, "x.png"), EXPECTED)


@pytest.mark.parametrize("proportion", [0.3, 0.9])
@pytest.mark.parametrize("size", [500, 2**20])
def test_decode_truncated_large_png_is_refused(size: int, proportion: float) -> None:
    data = split_pixel_chunk(encode(Image.fromarray(RGB), "PNG"), size)
    with pytest.raises(ImageError, match="x is damaged or incomplete"):
        decode_image(data[: int(len(data) * proportion)], "x")


@pytest.mark.parametrize("layout", [{"rows": 7}, {"tile": 16}])
def test_decode_large_tiff_with_overwritten_pixels_is_refused(layout: dict) -> None:
    data = write_tiff(**layout, deflate=True)
    with pytest.raises(ImageError, match="x is damaged or incomplete"):
        decode_image(data[:5000] + bytes(5000) + data[10_000:], "x")


@pytest.mark.parametrize("layout", [{"rows": 7}, {"tile": 16}])
def test_decode_large_tiff_with_part_outside_the_file_is_refused(layout: dict) -> None:
    data = bytearray(write_tiff(**layout))
    (directory,) = struct.unpack_from("<I", data, 4)
    field = data.index(struct.pack("<HH", 324 if "tile" in layout else 273, 4), directory)
    (offsets,) = struct.unpack_from("<I", data, field + 8)
    struct.pack_into("<I", data, offsets + 8, len(data) + 1000)
    with pytest.raises(ImageError, match="x is damaged or incomplete"):
        decode_image(bytes(data), "x")


def test_decode_large_interlaced_png_is_refused() -> None:
    data = bytearray(encode(Image.fromarray(RGB), "PNG"))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(ImageError, match=r"is too large for an interlaced PNG\. Expected"):
        decode_image(bytes(data), "x.png")


def test_decode_large_compressed_strip_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_headers, "MAX_BAND_PIXELS", 5000)
    assert decode_image(write_tiff(rows=100), "x.tif").shape == (60, 82, 3)
    with pytest.raises(ImageError, match="is too large for strips or tiles of 100 rows"):
        decode_image(write_tiff(rows=100, deflate=True), "x.tif")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decode_large_image_without_content_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_headers, "MAX_PIXELS_PER_BYTE", 8)
    data = encode(Image.new("RGB", (240, 80)), kind)
    with pytest.raises(ImageError, match="it has more than 8 pixels per byte") as caught:
        decode_image(data, "x")
    assert caught.value.reason == "unsupported"
    assert decode_image(encode(Image.new("RGB", (60, 80)), kind), "x").shape == (80, 60, 3)


def test_decoded_size_of_odd_sides_stays_within_the_limit() -> None:
    data = encode(Image.new("L", (139, 143)), "PNG")  # 19,877 of 20,000 pixels, but 70 x 72.
    with pytest.raises(ImageError, match="with even sides, got 139 x 143"):
        read_header(data, "x.png")


def test_count_declared_pixels_counts_the_largest_page() -> None:
    pages = [Image.new("L", size) for size in ((20, 10), (50, 40), (8, 8))]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert count_declared_pixels(data) == 2000
    assert count_declared_pixels(encode(pages[1], "JPEG")) == 2000
    assert count_declared_pixels(b"no image") == 0
