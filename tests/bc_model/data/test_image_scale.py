"""The scale in the metadata of image files."""

import io
import struct
import time

import pytest
from PIL import Image

from bc_model.data.image_scale import read_scale

IMAGE = Image.new("RGB", (40, 32), (200, 150, 190))


def encode(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    IMAGE.save(stream, kind, **options)
    return stream.getvalue()


def encode_tiff(fields: dict[int, object], **options: object) -> bytes:
    return encode("TIFF", tiffinfo=fields, **options)


OME = '<OME xmlns="x"><Pixels PhysicalSizeX="{}" PhysicalSizeXUnit="{}" PhysicalSizeY="0.4"/></OME>'
IMAGEJ = "ImageJ=1.54f\nunit=micron\nloop=false\n"


@pytest.mark.parametrize(
    ("data", "mpp", "source"),
    [
        (encode_tiff({270: OME.format("0.25", "&#181;m")}), (0.25, 0.4), "OME-XML"),
        (encode_tiff({270: OME.format("250", "nm")}), (0.25, 0.4), "OME-XML"),
        (encode_tiff({270: "Aperio Image|AppMag = 20|MPP = 0.4990"}), (0.499, 0.499), "Aperio"),
        (encode_tiff({282: 20_000.0, 283: 10_000.0, 296: 3}), (0.5, 1.0), "TIFF resolution"),
        (encode_tiff({282: 50_800.0, 283: 50_800.0, 296: 2}), (0.5, 0.5), "TIFF resolution"),
        (encode_tiff({270: IMAGEJ, 282: 4.0, 283: 2.0, 296: 1}), (0.25, 0.5), "ImageJ"),
        (encode("PNG", dpi=(50_800, 25_400)), (0.5, 1.0), "PNG pHYs"),
        (encode("JPEG", dpi=(50_800, 50_800)), (0.5, 0.5), "JPEG density"),
    ],
)
def test_read_scale_of_microscope_returns_scale(
    data: bytes, mpp: tuple[float, float], source: str
) -> None:
    scale = read_scale(data)
    assert scale is not None
    assert (scale.mpp_x, scale.mpp_y) == pytest.approx(mpp)
    assert scale.mpp == pytest.approx(sum(mpp) / 2)
    assert scale.source == source


def test_read_scale_big_tiff_returns_scale() -> None:
    data = encode_tiff({282: 20_000.0, 283: 20_000.0, 296: 3}, big_tiff=True)
    scale = read_scale(data)
    assert scale is not None
    assert scale.mpp == pytest.approx(0.5)


@pytest.mark.parametrize("dpi", [72, 96, 300, 1200])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_read_scale_default_of_software_is_ignored(kind: str, dpi: int) -> None:
    assert read_scale(encode(kind, dpi=(dpi, dpi))) is None


def test_read_scale_turned_image_swaps_axes() -> None:
    scale = read_scale(encode_tiff({274: 6, 282: 20_000.0, 283: 10_000.0, 296: 3}))
    assert scale is not None
    assert (scale.mpp_x, scale.mpp_y) == pytest.approx((1.0, 0.5))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        encode("PNG"),
        encode("JPEG"),
        encode("TIFF"),
        encode_tiff({270: OME.format("0", "\u00b5m")}),
        encode_tiff({270: OME.format("0.25", "parsec")}),
        encode_tiff({270: "MPP = 1e999"}),
        encode_tiff({282: 0.0, 283: 0.0, 296: 3}),
        encode_tiff({282: 20_000.0, 283: 20_000.0, 296: 1}),
        encode("PNG", dpi=(50_800, 50_800)).replace(b"pHYs", b"pHYx"),
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIB", 9, b"pHYs", 0, 0, 1),
    ],
)
def test_read_scale_without_valid_scale_returns_none(data: bytes) -> None:
    assert read_scale(data) is None


def test_read_scale_truncated_file_never_raises() -> None:
    for data in (
        encode_tiff({270: OME.format("0.25", "nm"), 282: 20_000.0, 283: 20_000.0, 296: 3}),
        encode("PNG", dpi=(50_800, 50_800)),
        encode("JPEG", dpi=(50_800, 50_800)),
    ):
        for n_bytes in range(0, len(data), 7):
            read_scale(data[:n_bytes])


@pytest.mark.parametrize(
    "text",
    [
        '<OME PhysicalSizeX="' + "1" * 500_000,
        '<OME PhysicalSizeX="' + "1" * 60_000,
        '<OME PhysicalSizeX="' * 25_000,
        '<OME PhysicalSizeX="0.25" PhysicalSizeXUnit="' + "u" * 500_000,
        "MPP = " + "1" * 500_000 + "e",
        "MPP" + " " * 500_000,
        "MPP \t" * 100_000,
        "ImageJ=1\nunit=um" + " " * 500_000 + "x",
        "ImageJ=1\n" + "unit=um\n\n x" * 50_000,
    ],
    ids=lambda text: text[:30],
)
def test_read_scale_of_a_long_description_takes_milliseconds(text: str) -> None:
    data = encode_tiff({270: text, 282: 0.0, 283: 0.0})
    start_s = time.process_time()
    assert read_scale(data) is None
    assert time.process_time() - start_s < 0.1
