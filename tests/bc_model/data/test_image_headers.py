"""Containers of image files: reasons of refusals, and metadata that never refuse an image."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from bc_model.data.image_headers import is_large, read_header
from bc_model.data.images import decode_image
from bc_model.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


def encode(kind: str, image: Image.Image = IMAGE, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


PNG, JPEG, TIFF = encode("PNG"), encode("JPEG"), encode("TIFF")
MIB = bytes(2**20)


def chunk(kind: bytes, body: bytes, *, is_intact: bool = True) -> bytes:
    checksum = zlib.crc32(kind + body) ^ (not is_intact)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png_with(kind: bytes, body: bytes, **options: bool) -> bytes:
    """Return a PNG with a chunk between the header and the pixels."""
    return PNG[:33] + chunk(kind, body, **options) + PNG[33:]


def jpeg_with(code: int, body: bytes) -> bytes:
    """Return a JPEG with a segment at the beginning."""
    return JPEG[:2] + struct.pack(">BBH", 0xFF, code, len(body) + 2) + body + JPEG[2:]


def tiff_with(fields: dict[int, tuple[int, int, int]], data: bytes = TIFF) -> bytes:
    """Return a TIFF with other fields (type, number of values, value) in its directory."""
    (offset,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, offset)
    entries = {
        tag: (kind, n, value)
        for tag, kind, n, value in struct.iter_unpack(
            "<HHII", data[offset + 2 : offset + 2 + 12 * count]
        )
    } | fields
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries)
    )
    data += bytes(-len(data) % 2)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory + bytes(4)


def exif(orientation: int) -> bytes:
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)


# Metadata


@pytest.mark.parametrize(
    "data",
    [
        png_with(b"iCCP", b"icc\0\0" + zlib.compress(MIB + b"0")),
        png_with(b"zTXt", b"Camera\0\0" + zlib.compress(MIB + b"0")),
        png_with(b"iTXt", b"Camera\0\1\0\0\0" + zlib.compress(MIB + b"0")),
        png_with(b"tEXt", b"Camera\0" + b"a" * (2**20 + 1)),
        png_with(b"tEXt", b"a\0b", is_intact=False),
        png_with(b"iCCP", b"icc\0\0no zlib data"),
        png_with(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03"),
        png_with(b"eXIf", exif(6), is_intact=False),
        png_with(b"tRNS", b"\0"),
        png_with(b"tRNS", b"\0\0\0\0\0\0", is_intact=False),
        png_with(b"PLTE", b"\0"),
        png_with(b"pHYs", b""),
        png_with(b"gAMA", b"\0"),
        png_with(b"acTL", struct.pack(">II", 10_000, 0)),  # Without a second frame.
        PNG.replace(chunk(b"IEND", b""), b""),
        PNG + b"appended",
    ],
)
def test_png_metadata_never_refuse_image(data: bytes) -> None:
    np.testing.assert_array_equal(decode_image(data, "x"), PIXELS)


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with(0xE0, b"JFIF\0"),
        jpeg_with(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        jpeg_with(0xE1, b"Exif\0\0" + exif(9)),
        jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'"),
        jpeg_with(0xE2, b"ICC_PROFILE\0"),
        jpeg_with(0xE2, b"MPF\0MM\0*\0\0\0\x08\0\x01"),
        jpeg_with(0xED, b"Photoshop 3.0\x008BIM\x04"),
        jpeg_with(0xEE, b"Adobe"),
        jpeg_with(0xFE, b""),
        JPEG[:2] + b"\0\0junk" + JPEG[2:],
        JPEG + JPEG,
    ],
)
def test_jpeg_metadata_never_refuse_image(data: bytes) -> None:
    np.testing.assert_array_equal(decode_image(data, "x"), decode_image(JPEG, "x"))


OUTSIDE = 0xFFFFFF00


@pytest.mark.parametrize(
    "fields",
    [
        {270: (2, 100, OUTSIDE)},
        {700: (1, 0xFFFFFFF0, 8)},
        {34675: (7, 500, OUTSIDE)},
        {282: (5, 1, OUTSIDE), 283: (77, 1, 0)},
        {274: (3, 1, 99)},
        {34665: (4, 1, OUTSIDE)},
        {65000: (3, 3, OUTSIDE)},
        {279: (4, 1, 0)},
        {279: (4, 1, OUTSIDE)},
    ],
    ids=str,
)
def test_tiff_metadata_never_refuse_image(fields: dict) -> None:
    np.testing.assert_array_equal(decode_image(tiff_with(fields), "x"), PIXELS)


def test_tiff_offset_behind_the_end_is_no_second_image() -> None:
    data = bytearray(tiff_with({}))
    data[-4:] = struct.pack("<I", OUTSIDE)
    np.testing.assert_array_equal(decode_image(bytes(data), "x"), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_the_same_in_all_formats(orientation: int) -> None:
    turned = Image.new("RGB", (64, 48))
    turned.paste((255, 255, 255), (0, 0, 32, 16))
    stream = io.BytesIO()
    turned.save(stream, "PNG")
    png = stream.getvalue()[:33] + chunk(b"eXIf", exif(orientation)) + stream.getvalue()[33:]
    tiff = tiff_with({274: (3, 1, orientation)}, encode("TIFF", turned))
    jpeg = encode("JPEG", turned, quality=100, exif=b"Exif\0\0" + exif(orientation))
    expected = decode_image(png, "x")
    assert expected.shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3))
    assert expected[0 if orientation in (1, 2, 5, 6) else -1, :, 0].any()
    np.testing.assert_array_equal(decode_image(tiff, "x"), expected)
    np.testing.assert_allclose(decode_image(jpeg, "x"), expected, atol=2)


def test_tiff_big_and_big_endian_keeps_pixels() -> None:
    rows = PIXELS.tobytes()
    values = [(256, 64), (257, 48), (258, 8), (262, 1), (273, 16), (277, 1), (278, 48), (279, 3072)]
    fields = b"".join(struct.pack(">HHQQ", tag, 16, 1, value) for tag, value in values)
    offset = 16 + len(rows)
    header = b"MM\0+" + struct.pack(">HHQ", 8, 0, offset)
    data = header + rows + struct.pack(">Q", len(values)) + fields + bytes(8)
    expected = np.frombuffer(rows[:3072], np.uint8).reshape(48, 64)
    np.testing.assert_array_equal(decode_image(data, "x")[..., 0], expected)


# Alpha channels


@pytest.mark.parametrize("alpha", [0, 128, 255])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_constant_alpha_is_ignored(kind: str, alpha: int) -> None:
    image = IMAGE.copy()
    image.putalpha(alpha)
    np.testing.assert_array_equal(decode_image(encode(kind, image), "x"), PIXELS)


def test_tiff_four_samples_of_unknown_meaning_keep_colors() -> None:
    image = IMAGE.copy()
    image.putalpha(0)
    data = encode("TIFF", image)
    assert 338 in Image.open(io.BytesIO(data)).tag_v2
    data = data.replace(
        struct.pack("<HHIHH", 338, 3, 1, 2, 0), struct.pack("<HHIHH", 65000, 3, 1, 2, 0)
    )
    assert 338 not in Image.open(io.BytesIO(data)).tag_v2
    np.testing.assert_array_equal(decode_image(data, "x"), PIXELS)


def test_tiff_premultiplied_alpha_of_zero_keeps_colors() -> None:
    image = IMAGE.copy()
    image.putalpha(0)
    data = encode("TIFF", image).replace(
        struct.pack("<HHIHH", 338, 3, 1, 2, 0), struct.pack("<HHIHH", 338, 3, 1, 1, 0)
    )
    np.testing.assert_array_equal(decode_image(data, "x"), PIXELS)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_png_transparent_color_of_all_pixels_is_ignored(mode: str) -> None:
    image = Image.new("RGB", (40, 40), (90, 80, 200))
    image = image.quantize(1) if mode == "P" else image.convert(mode)
    color = image.getpixel((0, 0))
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(
        decode_image(encode("PNG", image, transparency=color), "x"), expected
    )


# Refusals


def lossless_jpeg() -> bytes:
    start = JPEG.index(b"\xff\xc0")
    return JPEG[:start] + b"\xff\xc3" + JPEG[start + 2 :]


def jpeg_of_12_bits() -> bytes:
    start = JPEG.index(b"\xff\xc0")
    return JPEG[: start + 4] + b"\x0c" + JPEG[start + 5 :]


def opencv_tiff(dtype: type) -> bytes:
    return cv2.imencode(".tif", PIXELS.astype(dtype))[1].tobytes()


REMEDY_RGB = "Save the image as 8-bit RGB"


@pytest.mark.parametrize(
    ("data", "reason", "remedy"),
    [
        (opencv_tiff(np.float32), "got 32-bit floating-point numbers", REMEDY_RGB),
        (encode("TIFF", IMAGE.convert("F")), "got 32-bit floating-point numbers", REMEDY_RGB),
        (encode("TIFF", IMAGE.convert("I")), "got 32-bit signed integers", REMEDY_RGB),
        (tiff_with({339: (3, 1, 2)}), "got 8-bit signed integers", REMEDY_RGB),
        (tiff_with({262: (3, 1, 8)}), "got CIELAB", REMEDY_RGB),
        (encode("TIFF", Image.new("LAB", (40, 40))), "got CIELAB", REMEDY_RGB),
        (tiff_with({262: (3, 1, 32803)}), "got color filter array", REMEDY_RGB),
        (tiff_with({262: (3, 1, 99)}), "got color space 99", REMEDY_RGB),
        (tiff_with({277: (3, 1, 9)}), "got 9", REMEDY_RGB),
        (tiff_with({259: (3, 1, 33003)}), "got JPEG 2000", "Save the image as PNG"),
        (tiff_with({259: (3, 1, 50001)}), "got WebP", "Save the image as PNG"),
        (tiff_with({259: (3, 1, 60000)}), "got compression 60000", "Save the image as PNG"),
        (lossless_jpeg(), "got lossless JPEG", REMEDY_RGB),
        (jpeg_of_12_bits(), "got 12 bits", REMEDY_RGB),
        (
            encode("PNG", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
            "contains 2 images",
            "Save each image as its own file",
        ),
    ],
)
def test_unsupported_image_names_reason_and_remedy(data: bytes, reason: str, remedy: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data, "x")
    assert caught.value.reason == "unsupported"
    assert reason in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encode("GIF"), "a GIF image"),
        (encode("BMP"), "a BMP image"),
        (encode("WEBP"), "a WebP image"),
        (encode("JPEG2000"), "a JPEG 2000 image"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "an HEIC, AVIF or video file"),
        (bytes(128) + b"DICM" + bytes(100), "a DICOM file"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04", "a zip archive"),
    ],
)
def test_other_format_is_named(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=f"^x is {kind}. Expected PNG, JPEG or TIFF"):
        read_header(data, "x")


@pytest.mark.parametrize(
    "data",
    [
        PNG.replace(b"IDAT", b"iDAT"),
        PNG.replace(zlib.crc32(PNG[12:29]).to_bytes(4, "big"), b"\0\0\0\0"),
        PNG[:33] + PNG[8:],
        encode("PNG", IMAGE.quantize(9)).replace(b"PLTE", b"pLTE"),
        JPEG[: JPEG.index(b"\xff\xda")],
        JPEG.replace(b"\xff\xda", JPEG[JPEG.index(b"\xff\xc0") :][:19] + b"\xff\xda"),
        tiff_with({256: (3, 0, 0)}),
        tiff_with({273: (4, 1, OUTSIDE)}),
        tiff_with({258: (3, 3, OUTSIDE)}),
        tiff_with({322: (3, 1, 0), 273: (77, 1, 0)}),
        TIFF[:4] + struct.pack("<I", OUTSIDE) + TIFF[8:],
    ],
    ids=range(11),
)
def test_damaged_critical_part_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^x is damaged or incomplete"):
        decode_image(data, "x")


@pytest.mark.parametrize(("width", "height"), [(32, 65_501), (65_501, 32)])
def test_side_that_jpeg_cannot_encode_is_refused(width: int, height: int) -> None:
    with pytest.raises(ImageError, match=r"at most 65,500 pixels per side") as caught:
        decode_image(encode("PNG", Image.new("L", (width, height))), "x")
    assert caught.value.reason == "too large"


def test_largest_side_is_decoded() -> None:
    image = Image.new("L", (32, 65_500))
    assert decode_image(encode("PNG", image), "x").shape == (65_500, 32, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize(("height", "expected"), [(2000, False), (2001, True)])
def test_is_large_by_declared_pixels(kind: str, height: int, expected: bool) -> None:
    data = encode(kind, Image.new("L", (4000, height)))
    assert is_large(data) == expected


@pytest.mark.parametrize("data", [b"", b"text", PNG[:20], JPEG[:100], TIFF[:8]])
def test_is_large_without_size_is_false(data: bytes) -> None:
    assert not is_large(data)


def test_is_large_by_size_of_file() -> None:
    assert is_large(PNG + bytes(2**24))
