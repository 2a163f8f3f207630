"""Bytes to pixels: what is refused and how, what a file's numbers become, and the common field."""

import io
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bc_model.data import images as images
from bc_model.data.hashing import pixel_sha256
from bc_model.data.images import decode_image, field_box, preprocess_image, read_image
from bc_model.errors import ImageError


def noise(height: int = 40, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Write a PNG that promises pixels and holds none: decoding it must fail."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_image(data, "x.png")
    assert str(caught.value).startswith("x.png ")
    return caught.value


# What is refused


def test_an_empty_file() -> None:
    assert refusal(b"").reason == "empty"


def test_a_text_named_png() -> None:
    error = refusal(b"Dear colleague, please find the picture attached.\n" * 20)
    assert error.reason == "unreadable"
    assert "whatever its name says" in str(error)


def test_a_format_that_is_not_on_the_list() -> None:
    assert refusal(encode(noise(), "BMP")).reason == "unreadable"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("proportion", [0.1, 0.5, 0.9])
def test_a_truncated_image(kind: str, proportion: float) -> None:
    data = encode(noise(), kind)
    assert refusal(data[: int(len(data) * proportion)]).reason == "unreadable"


@pytest.mark.parametrize("side", [20_000, 7_000])
def test_a_image_too_large_is_refused_from_its_header(side: int) -> None:
    # 20,000 squared is above Pillow's own limit, 7,000 squared only above ours. The file holds no
    # pixels: had they been asked for, it would be called damaged.
    began = time.perf_counter()
    assert refusal(png_header(side, side)).reason == "too large"
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(("height", "width"), [(31, 400), (400, 31)])
def test_a_image_too_small(height: int, width: int) -> None:
    error = refusal(encode(noise(height, width)))
    assert error.reason == "too small"
    assert f"{width} x {height}" in str(error)


def test_a_image_just_large_enough_is_read() -> None:
    assert decode_image(encode(noise(32, 32)), "x.png").shape == (32, 32, 3)


def test_a_tiff_of_several_frames() -> None:
    frames = [Image.fromarray(noise(seed=seed)) for seed in (1, 2)]
    error = refusal(encode(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    assert error.reason == "unsupported"
    assert "holds 2 pictures" in str(error)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3)], ids=["grey", "rgb"])
def test_a_16_bit_image(shape: tuple[int, ...], suffix: str) -> None:
    # Many cameras store 12 bits in 16: the upper bytes alone would be an almost black picture.
    _, data = cv2.imencode(suffix, np.full(shape, 4095, np.uint16))
    assert refusal(data.tobytes()).reason == "unsupported"


def test_a_file_too_big_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(encode(noise()))
    monkeypatch.setattr(images, "MAX_FILE_MB", 0.001)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("the file was read"))
    with pytest.raises(ImageError, match=r"big\.png has") as caught:
        read_image(path)
    assert caught.value.reason == "too large"


def test_bytes_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FILE_MB", 0.001)
    assert refusal(encode(noise())).reason == "too large"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"There is no picture .*gone\.png"):
        read_image(tmp_path / "gone.png")


def test_a_folder_is_not_a_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


def test_a_tiff_whose_second_frame_is_damaged() -> None:
    data = bytearray(encode(noise(), "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (n_tags,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * n_tags, len(data))
    data += struct.pack("<HI", 0, 0)  # a frame that does not even say its size
    assert refusal(bytes(data)).reason in ("unreadable", "unsupported")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_damage_anywhere_is_a_image_error_or_a_image(kind: str) -> None:
    whole = encode(noise(), kind)
    rng = np.random.default_rng(5)
    for _ in range(200):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 600), 4):
            data[place] = rng.integers(0, 256)
        try:
            assert decode_image(bytes(data), "x").dtype == np.uint8
        except ImageError:
            continue


# What the numbers become


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_lossless_image_keeps_its_numbers(kind: str) -> None:
    np.testing.assert_array_equal(decode_image(encode(noise(), kind), "x"), noise())


def test_gamma_and_color_profile_are_ignored() -> None:
    chunks = PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 100_000))
    chunks.add(b"cHRM", struct.pack(">8I", *range(30_000, 38_000, 1_000)))
    for data in (encode(noise(), pnginfo=chunks), encode(noise(), icc_profile=b"any profile")):
        np.testing.assert_array_equal(decode_image(data, "x"), noise())


def test_transparent_pixels_are_laid_on_white() -> None:
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:16] = (200, 100, 0, 255)
    rgb = decode_image(encode(rgba), "x")
    assert (rgb[:16] == (200, 100, 0)).all()
    assert (rgb[16:] == 255).all()


def test_half_transparent_pixels_mix_with_white() -> None:
    rgba = np.full((32, 32, 4), (0, 0, 0, 51), np.uint8)  # 51 / 255 = 0.2 of black on white
    assert (decode_image(encode(rgba), "x") == 204).all()


def test_a_palette_with_a_transparent_color() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.paste(0, (0, 0, 32, 16))
    rgb = decode_image(encode(image, transparency=0), "x")
    assert (rgb[:16] == 255).all()
    assert (rgb[16:] == (10, 20, 30)).all()


def test_a_gray_image_has_three_equal_channels() -> None:
    gray = noise()[..., 0]
    np.testing.assert_array_equal(decode_image(encode(gray), "x"), np.stack([gray] * 3, axis=-1))


def test_exif_orientation_turns_the_image_upright() -> None:
    raw = np.zeros((32, 64, 3), np.uint8)
    raw[0] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # "row 0 is the right-hand side"
    rgb = decode_image(encode(raw, exif=exif), "x")
    assert rgb.shape == (64, 32, 3)
    assert (rgb[:, -1] == (255, 0, 0)).all()
    assert not rgb[:, :-1].any()


# The hash of the pixels


def test_the_same_pixels_have_one_hash_in_any_lossless_format() -> None:
    png, tiff = (pixel_sha256(decode_image(encode(noise(), k), "x")) for k in ("PNG", "TIFF"))
    assert png == tiff


def test_one_other_pixel_is_another_hash() -> None:
    other = noise()
    other[3, 4, 1] ^= 1
    assert pixel_sha256(other) != pixel_sha256(noise())


def test_the_shape_is_part_of_the_hash() -> None:
    assert pixel_sha256(np.zeros((2, 8, 3), np.uint8)) != pixel_sha256(
        np.zeros((4, 4, 3), np.uint8)
    )


def test_the_hash_does_not_depend_on_the_layout_in_memory() -> None:
    turned = np.ascontiguousarray(noise().transpose(1, 0, 2)).transpose(1, 0, 2)
    assert pixel_sha256(turned) == pixel_sha256(noise())


# The common field


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
def test_the_field_of(height: int, width: int, box: tuple[int, int, int, int]) -> None:
    assert field_box(height, width) == box


@pytest.mark.parametrize("height", range(452, 470))
def test_the_field_lies_in_the_image(height: int) -> None:
    top, left, field_height, field_width = field_box(height, 700)
    assert min(top, left) >= 0
    assert top + field_height <= height
    assert left + field_width <= 700


# The input of the network


def test_both_official_heights_show_the_same_field() -> None:
    frame = noise(460, 700)
    high, low = (preprocess_image(picture, (96, 128)) for picture in (frame, frame[2:458]))
    assert high.shape == (96, 128, 3)
    np.testing.assert_array_equal(high, low)


@pytest.mark.parametrize("padding", [0, 255])
def test_a_border_in_the_trimmed_rows_never_reaches_the_network(padding: int) -> None:
    frame = noise(460, 700)
    padded = frame.copy()
    padded[:2] = padded[-2:] = padding
    np.testing.assert_array_equal(
        preprocess_image(padded, (64, 64)), preprocess_image(frame, (64, 64))
    )


def test_a_image_of_the_input_size_is_left_as_it_is() -> None:
    np.testing.assert_array_equal(preprocess_image(noise(64, 64), (64, 64)), noise(64, 64))


def test_shrinking_averages_areas() -> None:
    channel = np.array([[0, 4, 10, 10], [8, 12, 10, 10], [100, 100, 0, 0], [100, 100, 255, 255]])
    rgb = np.repeat(channel[..., None], 3, axis=-1).astype(np.uint8)
    # (0+4+8+12)/4, (10*4)/4, (100*4)/4, (0+0+255+255)/4 = 127.5, rounded to even
    expected = np.array([[6, 10], [100, 128]])
    np.testing.assert_array_equal(preprocess_image(rgb, (2, 2))[..., 0], expected)


def test_fine_stripes_shrink_to_gray_and_not_to_stripes() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (preprocess_image(stripes, (32, 32)) == 100).all()


def test_enlarging_stays_between_the_neighbors() -> None:
    rgb = np.full((32, 32, 3), 50, np.uint8)
    rgb[:, 16:] = 90
    large = preprocess_image(rgb, (64, 64))
    assert large.shape == (64, 64, 3)
    assert (large.min(), large.max()) == (50, 90)


def test_the_channels_keep_their_order() -> None:
    rgb = np.full((460, 700, 3), (230, 120, 10), np.uint8)
    assert (preprocess_image(rgb, (32, 32)) == (230, 120, 10)).all()
