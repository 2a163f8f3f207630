"""Decoding, the field of view and preprocessing of images."""

import io
import os
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bc_model.data import image_decoder, image_headers
from bc_model.data.file_checks import check_file
from bc_model.data.images import decode_image, field_of_view, preprocess_image, read_image
from bc_model.errors import ImageError


def noise(height: int = 40, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(source: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    image = source if isinstance(source, Image.Image) else Image.fromarray(source)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return a PNG without pixels, which cannot be decoded beyond its header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def decode_invalid(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_image(data, "x.png")
    assert str(caught.value).startswith("x.png ")
    return caught.value


# Refused images


def test_decode_image_empty_file_is_refused() -> None:
    assert decode_invalid(b"").reason == "empty"


def test_decode_image_text_is_refused() -> None:
    error = decode_invalid(b"This is a text file.\n" * 20)
    assert error.reason == "unreadable"
    assert "is not an image" in str(error)


def test_decode_image_other_format_is_refused() -> None:
    assert decode_invalid(encode(noise(), "BMP")).reason == "unreadable"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("proportion", [0.1, 0.5, 0.9])
def test_decode_image_truncated_file_is_refused(kind: str, proportion: float) -> None:
    data = encode(noise(), kind)
    assert decode_invalid(data[: int(len(data) * proportion)]).reason == "unreadable"


@pytest.mark.parametrize("side", [20_000, 13_000])
def test_decode_image_too_many_pixels_is_refused_from_header(side: int) -> None:
    # 20,000 squared exceeds the limit of Pillow, and 13,000 squared only ours. The file has no
    # pixels, so decoding them would raise another error.
    start_s = time.perf_counter()
    assert decode_invalid(png_header(side, side)).reason == "too large"
    assert time.perf_counter() - start_s < 0.5


@pytest.mark.parametrize(("height", "width"), [(31, 400), (400, 31)])
def test_decode_image_too_small_is_refused(height: int, width: int) -> None:
    error = decode_invalid(encode(noise(height, width)))
    assert error.reason == "too small"
    assert f"{width} x {height}" in str(error)


def test_decode_image_smallest_size_is_accepted() -> None:
    assert decode_image(encode(noise(32, 32)), "x.png").shape == (32, 32, 3)


def test_decode_image_tiff_with_several_pages_returns_the_largest() -> None:
    small, large = Image.fromarray(noise(seed=1)), Image.fromarray(noise(seed=2)).resize((90, 70))
    data = encode(small, "TIFF", save_all=True, append_images=[large, small])
    np.testing.assert_array_equal(decode_image(data, "a.tif"), np.asarray(large))
    (check,) = check_file(data)
    assert (check.code, check.params) == ("BC167", {"page": 2, "n_pages": 3})


def test_decode_image_tiff_of_equal_pages_returns_the_first() -> None:
    pages = [Image.fromarray(noise(seed=seed)) for seed in (1, 2)]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(decode_image(data, "a.tif"), np.asarray(pages[0]))


def test_decode_image_tiff_with_a_thumbnail_has_one_page() -> None:
    image = Image.fromarray(noise())
    thumbnail = image.resize((200, 200))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    data = encode(image, "TIFF", save_all=True, append_images=[thumbnail])
    np.testing.assert_array_equal(decode_image(data, "a.tif"), np.asarray(image))
    assert check_file(data) == ()


def test_decode_image_of_a_slide_names_it() -> None:
    pages = [Image.fromarray(noise(seed=seed)) for seed in (1, 2)]
    data = encode(
        pages[0], "TIFF", save_all=True, append_images=pages[1:],
        tiffinfo={270: "Aperio Image Library v11.0|AppMag = 20|MPP = 0.499"},
    )  # fmt: skip
    error = decode_invalid(data)
    assert "is a whole slide" in str(error)
    assert "Export a field" in str(error)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3)], ids=["gray", "rgb"])
def test_decode_image_16_bit_is_converted_by_its_own_range(
    shape: tuple[int, ...], suffix: str
) -> None:
    # Many cameras store 12 bits in 16, whose upper bytes are almost black.
    values = np.full(shape, 4095, np.uint16)
    values[0, 0], values[1, 1] = 95, 1095
    data = cv2.imencode(suffix, values)[1].tobytes()
    rgb = decode_image(data, "a")
    assert (rgb[0, 0] == 0).all()
    assert (rgb[2, 2] == 255).all()
    assert (rgb[1, 1] == 64).all()  # 255 * (1095 - 95) / (4095 - 95) is 63.75.
    assert [check.code for check in check_file(data)] == ["BC165"]


def test_decode_image_16_bit_keeps_the_order_of_the_channels() -> None:
    values = np.zeros((40, 40, 3), np.uint16)
    values[..., 0], values[..., 1], values[..., 2] = 0, 30_000, 60_000  # Blue, green, red.
    for suffix in (".png", ".tiff"):
        rgb = decode_image(cv2.imencode(suffix, values)[1].tobytes(), "a")
        assert rgb[0, 0].tolist() == [255, 128, 0]


def test_decode_image_16_bit_with_one_value_is_black() -> None:
    data = cv2.imencode(".png", np.full((40, 40), 700, np.uint16))[1].tobytes()
    assert decode_image(data, "a").max() == 0


def test_decode_image_16_bit_above_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_headers, "MAX_DEEP_PIXELS", 1000)
    for suffix in (".png", ".tiff"):
        data = cv2.imencode(suffix, np.full((40, 40), 700, np.uint16))[1].tobytes()
        error = decode_invalid(data)
        assert error.reason == "too large"
        assert "16 bits per channel" in str(error)


@pytest.mark.parametrize(
    ("file_format", "mode"),
    [
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("PNG", "L"),
        ("TIFF", "RGB"),
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
    ],
)
def test_decode_image_above_the_full_size_is_read_at_half_resolution(
    file_format: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_headers, "FULL_PIXELS", 5000)
    monkeypatch.setattr(image_decoder, "_STRIP_PIXELS", 1000)
    blocks = np.random.default_rng(0).integers(0, 5, (30, 41)).astype(np.uint8) * 50
    gray = np.kron(blocks, np.ones((4, 4), np.uint8))[:119, :163]  # 119 x 163 px: odd sides.
    data = encode(Image.fromarray(gray).convert(mode), file_format)
    rgb = decode_image(data, "a")
    assert rgb.shape == (60, 82, 3)
    means = gray[:118, :162].reshape(59, 2, 81, 2).mean(axis=(1, 3))
    assert np.abs(rgb[:59, :81, 1] - means).mean() < 6
    checks = {check.code: check.params for check in check_file(data)}
    assert checks["BC168"]["width_px"] == 163


def test_decode_image_at_half_resolution_keeps_orientation_and_transparency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_headers, "FULL_PIXELS", 5000)
    pixels = np.zeros((80, 120, 4), np.uint8)
    pixels[:40, :, 0], pixels[:, :, 3] = 255, 255  # The upper half is red.
    pixels[:, 60:, 3] = 0  # The right half is transparent.
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274] = 3  # Upside down.
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    rgb = decode_image(stream.getvalue(), "a")
    assert rgb.shape == (40, 60, 3)
    assert rgb[35, 55].tolist() == [255, 0, 0]
    assert rgb[5, 55].tolist() == [0, 0, 0]
    assert rgb[5, 5].tolist() == [255, 255, 255]


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_decode_image_cmyk_is_converted_and_said_so(file_format: str) -> None:
    data = encode(Image.new("CMYK", (40, 40), (0, 255, 0, 0)), file_format)
    red, green, blue = decode_image(data, "a")[0, 0].tolist()
    assert red > 200
    assert green < 60
    assert blue > 200
    assert [check.code for check in check_file(data)] == ["BC166"]


def test_read_image_too_large_file_is_refused_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    with path.open("wb") as stream:
        stream.truncate(2**40)  # It occupies no space, and would not fit into memory.
    with pytest.raises(ImageError, match=r"big\.png is too large.* got 1048576 MB") as caught:
        read_image(path)
    assert caught.value.reason == "too large"


def test_decode_image_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_headers, "MAX_FILE_MB", 0.001)
    assert decode_invalid(encode(noise())).reason == "too large"


def test_read_image_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"There is no image .*gone\.png"):
        read_image(tmp_path / "gone.png")


def test_read_image_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders.")
def test_read_image_named_pipe_raises_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ImageError, match="Not a regular file"):
        read_image(tmp_path / "x.png")


def test_decode_image_tiff_with_damaged_second_frame_returns_the_first() -> None:
    data = bytearray(encode(noise(), "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (n_tags,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * n_tags, len(data))
    data += struct.pack("<HI", 0, 0)  # A frame without a size.
    np.testing.assert_array_equal(decode_image(bytes(data), "a.tif"), noise())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_decode_image_mutated_file_raises_image_error_only(kind: str) -> None:
    content = encode(noise(), kind)
    rng = np.random.default_rng(5)
    for _ in range(200):
        data = bytearray(content)
        for position in rng.integers(0, min(len(data), 600), 4):
            data[position] = rng.integers(0, 256)
        try:
            assert decode_image(bytes(data), "x").dtype == np.uint8
        except ImageError:
            continue


# Decoded values


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_decode_image_lossless_format_keeps_values(kind: str) -> None:
    np.testing.assert_array_equal(decode_image(encode(noise(), kind), "x"), noise())


def test_decode_image_ignores_gamma_and_color_profile() -> None:
    chunks = PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 100_000))
    chunks.add(b"cHRM", struct.pack(">8I", *range(30_000, 38_000, 1_000)))
    for data in (encode(noise(), pnginfo=chunks), encode(noise(), icc_profile=b"any profile")):
        np.testing.assert_array_equal(decode_image(data, "x"), noise())


def test_decode_image_transparent_pixels_become_white() -> None:
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:16] = (200, 100, 0, 255)
    rgb = decode_image(encode(rgba), "x")
    assert (rgb[:16] == (200, 100, 0)).all()
    assert (rgb[16:] == 255).all()


def test_decode_image_partial_transparency_is_blended_with_white() -> None:
    rgba = np.full((32, 32, 4), (0, 0, 0, 51), np.uint8)  # 51 / 255 = 0.2 of black on white
    rgba[0] = 0
    rgb = decode_image(encode(rgba), "x")
    assert (rgb[0] == 255).all()
    assert (rgb[1:] == 204).all()


def test_decode_image_palette_with_transparent_color() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.paste(0, (0, 0, 32, 16))
    rgb = decode_image(encode(image, transparency=0), "x")
    assert (rgb[:16] == 255).all()
    assert (rgb[16:] == (10, 20, 30)).all()


def test_decode_image_gray_has_three_equal_channels() -> None:
    gray = noise()[..., 0]
    np.testing.assert_array_equal(decode_image(encode(gray), "x"), np.stack([gray] * 3, axis=-1))


def test_decode_image_applies_exif_orientation() -> None:
    raw = np.zeros((32, 64, 3), np.uint8)
    raw[0] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # Row 0 is the right side.
    rgb = decode_image(encode(raw, exif=exif), "x")
    assert rgb.shape == (64, 32, 3)
    assert (rgb[:, -1] == (255, 0, 0)).all()
    assert not rgb[:, :-1].any()


# Field of view


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (460, 700, (2, 0, 456, 700)),
        (456, 700, (0, 0, 456, 700)),
        (230, 350, (1, 0, 228, 350)),  # half the size: 456 / 2
        (228, 350, (0, 0, 228, 350)),
        (224, 224, (0, 0, 224, 224)),
        (700, 460, (0, 0, 700, 460)),  # portrait
        (460, 720, (0, 7, 460, 706)),  # wide: 460 * 700 / 456 = 706.1, and (720 - 706) / 2
        (1000, 1100, (0, 0, 1000, 1100)),
    ],
)
def test_field_of_view_returns_box(height: int, width: int, box: tuple[int, int, int, int]) -> None:
    assert field_of_view(height, width) == box


@pytest.mark.parametrize("height", range(452, 470))
def test_field_of_view_is_inside_image(height: int) -> None:
    top, left, field_height, field_width = field_of_view(height, 700)
    assert min(top, left) >= 0
    assert top + field_height <= height
    assert left + field_width <= 700


# Preprocessing


def test_preprocess_image_official_heights_have_same_field() -> None:
    frame = noise(460, 700)
    full, cropped = (preprocess_image(image, (96, 128)) for image in (frame, frame[2:458]))
    assert full.shape == (96, 128, 3)
    np.testing.assert_array_equal(full, cropped)


@pytest.mark.parametrize("padding", [0, 255])
def test_preprocess_image_removes_padding_of_official_frame(padding: int) -> None:
    frame = noise(460, 700)
    padded = frame.copy()
    padded[:2] = padded[-2:] = padding
    np.testing.assert_array_equal(
        preprocess_image(padded, (64, 64)), preprocess_image(frame, (64, 64))
    )


def test_preprocess_image_of_input_size_is_unchanged() -> None:
    np.testing.assert_array_equal(preprocess_image(noise(64, 64), (64, 64)), noise(64, 64))


def test_preprocess_image_shrinking_averages_areas() -> None:
    channel = np.array([[0, 4, 10, 10], [8, 12, 10, 10], [100, 100, 0, 0], [100, 100, 255, 255]])
    rgb = np.repeat(channel[..., None], 3, axis=-1).astype(np.uint8)
    # (0+4+8+12)/4, (10*4)/4, (100*4)/4, (0+0+255+255)/4 = 127.5, rounded to even
    expected = np.array([[6, 10], [100, 128]])
    np.testing.assert_array_equal(preprocess_image(rgb, (2, 2))[..., 0], expected)


def test_preprocess_image_shrinking_has_no_aliasing() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (preprocess_image(stripes, (32, 32)) == 100).all()


def test_preprocess_image_upsampling_stays_in_range() -> None:
    rgb = np.full((32, 32, 3), 50, np.uint8)
    rgb[:, 16:] = 90
    large = preprocess_image(rgb, (64, 64))
    assert large.shape == (64, 64, 3)
    assert (large.min(), large.max()) == (50, 90)


def test_preprocess_image_keeps_channel_order() -> None:
    rgb = np.full((460, 700, 3), (230, 120, 10), np.uint8)
    assert (preprocess_image(rgb, (32, 32)) == (230, 120, 10)).all()
