"""Small files that are costly to decode: each is refused or decoded within its bounds.

The files are decoded in one process without limits of the operating system, so that the bounds of
`read_header` are tested, not those of `DecodePool`.
"""

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bc_model.data.image_headers import MAX_JPEG_SCANS, MAX_PNG_CHUNKS, MAX_TIFF_DIRECTORIES

MAX_MB = 300
MAX_CPU_S = 3.0
SIZE = (8000, 5000)
"""The largest accepted number of pixels."""

SHORT, LONG = 3, 4

MEASURE = """
import json, re, sys, time
from pathlib import Path
from PIL import JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from bc_model.data import decode_image

def rss_mb(key):
    return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

for line in sys.stdin:
    path = Path(line.rstrip("\\n"))
    data = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")
    before_mb, start_s = rss_mb("VmRSS"), time.process_time()
    try:
        answer = {"shape": decode_image(data, "x").shape}
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
        answer["reason"] = getattr(error, "reason", None)
    cpu_s = time.process_time() - start_s
    print(json.dumps(answer | {"cpu_s": cpu_s, "mb": rss_mb("VmHWM") - before_mb}), flush=True)
"""


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


@cache
def compressed_zeros(n_bytes: int) -> bytes:
    return zlib.compress(bytes(n_bytes), 1)


def png(
    size: tuple[int, int] = (64, 64),
    *,
    chunks: bytes = b"",
    pixels: bytes | None = None,
    color: int = 2,
) -> bytes:
    """Return a black PNG with further chunks."""
    width, height = size
    n_channels = {0: 1, 2: 3, 6: 4}[color]
    if pixels is None:
        pixels = compressed_zeros(height * (1 + width * n_channels))
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunks,
            chunk(b"IDAT", pixels),
            chunk(b"IEND"),
        ]
    )


def png_with_text(kind: bytes, prefix: bytes) -> bytes:
    return png(chunks=chunk(kind, prefix + compressed_zeros(100_000_000)))


def directory(fields: dict[int, tuple[int, int, int]], following: int = 0) -> bytes:
    entries = [
        struct.pack("<HHII", tag, kind, count, value)
        for tag, (kind, count, value) in sorted(fields.items())
    ]
    return struct.pack("<H", len(fields)) + b"".join(entries) + struct.pack("<I", following)


def gray_fields(size: tuple[int, int], compression: int = 1) -> dict[int, tuple[int, int, int]]:
    """Return the fields of a grayscale TIFF with one strip, which begins at byte 8."""
    width, height = size
    return {
        256: (LONG, 1, width),
        257: (LONG, 1, height),
        258: (SHORT, 1, 8),
        259: (SHORT, 1, compression),
        262: (SHORT, 1, 1),
        273: (LONG, 1, 8),
        277: (SHORT, 1, 1),
        278: (LONG, 1, height),
        279: (LONG, 1, width * height),
    }


def tiff(fields: dict[int, tuple[int, int, int]], content: bytes) -> bytes:
    """Return a TIFF whose values begin at byte 8 and end with the directory."""
    content += bytes(-len(content) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory(fields)


def tiff_tile(size: tuple[int, int], tile: tuple[int, int], compression: int, n: int) -> bytes:
    fields = gray_fields(size, compression) | {262: (SHORT, 1, 2), 277: (SHORT, 1, 3)}
    for tag in (273, 278, 279):
        del fields[tag]
    fields |= {322: (LONG, 1, tile[0]), 323: (LONG, 1, tile[1])}
    fields |= {324: (LONG, 1, 8), 325: (LONG, 1, n)}
    return tiff(fields, np.random.default_rng(0).bytes(n))


def tiff_jpeg() -> bytes:
    content = jpeg((6000, 6000), scans=30)
    return tiff(gray_fields((6000, 6000), 7) | {279: (LONG, 1, len(content))}, content)


def tiff_chain(n: int) -> bytes:
    """Return a TIFF with `n` directories of 114 bytes, which all show the same pixels."""
    body = directory(gray_fields((64, 64)))[:-4]
    first, size = 8 + 64 * 64, len(body) + 4
    chain = np.empty(n, [("body", f"V{len(body)}"), ("next", "<u4")])
    chain["body"] = np.void(body)
    chain["next"] = first + size * np.arange(1, n + 1)
    return b"II*\0" + struct.pack("<I", first) + bytes(64 * 64) + chain.tobytes()


def tiff_strips(n: int, *, n_declared: int, bytes_per_strip: int, compression: int = 1) -> bytes:
    """Return a TIFF with `n` strips of one row, which all begin at byte 8."""
    fields = gray_fields((64, n), compression) | {278: (LONG, 1, 1)}
    offsets = np.full(n_declared, 8, "<u4").tobytes()
    counts = np.full(n_declared, bytes_per_strip, "<u4").tobytes()
    fields |= {273: (LONG, n_declared, 8), 279: (LONG, n_declared, 8 + len(offsets))}
    return tiff(fields, offsets + counts)


def tiff_palette(n_colors: int) -> bytes:
    fields = gray_fields((64, 64)) | {262: (SHORT, 1, 3), 320: (SHORT, n_colors, 8)}
    return tiff(fields, bytes(2 * n_colors))


def jpeg(size: tuple[int, int], *, scans: int = 0, progressive: bool = True) -> bytes:
    """Return a JPEG of 64 x 64 px that declares another size and repeats its last scan."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG", progressive=progressive, quality=90)
    data = stream.getvalue()
    frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data = data[: frame + 5] + struct.pack(">HH", size[1], size[0]) + data[frame + 9 :]
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def stuffed_jpeg() -> bytes:
    """Return a JPEG with 30 million bytes 0xFF behind its pixels, none of which is a marker."""
    data = jpeg((64, 64), progressive=False)
    return data[:-2] + b"\xff\0" * 30_000_000 + data[-2:]


def large_jpeg(proportion: float, **options: object) -> bytes:
    """Return the beginning of a JPEG of the largest size."""
    stream = io.BytesIO()
    Image.new("RGB", SIZE, (200, 150, 190)).save(stream, "JPEG", **options)
    return stream.getvalue()[: int(len(stream.getvalue()) * proportion)]


def truncated_png() -> bytes:
    data = png(SIZE)
    return data[: len(data) // 2]


@dataclass(frozen=True)
class Bomb:
    """A file, and the beginning of the expected refusal; None if it is accepted."""

    name: str
    make: Callable[[], bytes]
    refusal: str | None


COSTLY = "x is too costly to decode: "
DAMAGED = "x is damaged or incomplete."
LARGE = "x is too large."

BOMBS = [
    Bomb("PNG of 40 million pixels", partial(png, SIZE), None),
    Bomb("PNG with alpha of 40 million pixels", partial(png, SIZE, color=6), None),
    Bomb("PNG, half of it", truncated_png, DAMAGED),
    Bomb("PNG of 3,600 million pixels", partial(png, (60_000, 60_000), pixels=b""), LARGE),
    Bomb("PNG without pixels", partial(png, SIZE, pixels=bytes(1000)), DAMAGED),
    Bomb("PNG, pixels behind the last", partial(png, pixels=compressed_zeros(10**8)), None),
    Bomb("PNG, 200 million bytes of text", partial(png_with_text, b"zTXt", b"k\0\0"), None),
    Bomb("PNG, unpacked text", partial(png_with_text, b"iTXt", b"k\0\1\0\0\0"), None),
    Bomb("PNG, color profile", partial(png_with_text, b"iCCP", b"k\0\0"), None),
    Bomb(
        "PNG of 5 million chunks",
        lambda: png(chunks=chunk(b"abCd") * 5_000_000),
        f"{COSTLY}it has more than {MAX_PNG_CHUNKS:,} chunks.",
    ),
    Bomb("PNG of 99,000 empty pixel chunks", lambda: png(chunks=chunk(b"IDAT") * 99_000), None),
    Bomb("PNG too high", partial(png, (32, 65_501)), LARGE),
    Bomb("JPEG of 4,295 million pixels", partial(jpeg, (65_535, 65_535)), LARGE),
    Bomb(
        "JPEG of 200 scans",
        partial(jpeg, (64, 64), scans=200),
        f"{COSTLY}it has more than {MAX_JPEG_SCANS} progressive scans.",
    ),
    Bomb(
        "JPEG of 30 scans of 36 million pixels",
        partial(jpeg, (6000, 6000), scans=30),
        f"{COSTLY}it has more than 17 progressive scans.",
    ),
    Bomb("JPEG of 60 MB of stuffed bytes", stuffed_jpeg, None),
    Bomb("JPEG, declared larger", partial(jpeg, SIZE, progressive=False), DAMAGED),
    Bomb("progressive JPEG, declared larger", partial(jpeg, SIZE), DAMAGED),
    Bomb(
        "TIFF of one tile larger than the image",
        partial(tiff_tile, (64, 64), (26_000, 26_000), 8, 1000),
        f"{COSTLY}its tiles are larger than the image.",
    ),
    *(
        Bomb(f"TIFF of a tile without data, compression {i}", make, DAMAGED)
        for i in (1, 5, 8, 32773)
        for make in [partial(tiff_tile, SIZE, (8000, 5008), i, 10_000)]
    ),
    *(
        Bomb(f"TIFF of a large damaged tile, compression {i}", make, DAMAGED)
        for i, n in ((5, 100_000), (8, 200_000), (34925, 1000), (50000, 1000))
        for make in [partial(tiff_tile, SIZE, (8000, 5008), i, n)]
    ),
    Bomb(
        "TIFF of 30,000 directories",
        partial(tiff_chain, 30_000),
        f"x contains at least {MAX_TIFF_DIRECTORIES} images.",
    ),
    Bomb(
        "TIFF of 3 million strips for 64 rows",
        partial(tiff_strips, 64, n_declared=3_000_000, bytes_per_strip=64),
        None,
    ),
    Bomb(
        "TIFF of 36 million tiles",
        partial(tiff_tile, (6000, 6000), (1, 1), 1, 1000),
        f"{COSTLY}it has more than 262,144 strips or tiles.",
    ),
    Bomb(
        "TIFF of overlapping strips",
        partial(tiff_strips, 60_000, n_declared=60_000, bytes_per_strip=400_000, compression=5),
        f"{COSTLY}its strips or tiles overlap.",
    ),
    Bomb(
        "TIFF of JPEG with 30 scans of 36 million pixels",
        tiff_jpeg,
        f"{COSTLY}it has too many progressive scans.",
    ),
    Bomb("TIFF of a large palette", partial(tiff_palette, 10_000_000), DAMAGED),
]

SLOW_BOMBS = [
    Bomb(
        "TIFF of 500,000 directories",
        partial(tiff_chain, 500_000),
        f"x contains at least {MAX_TIFF_DIRECTORIES} images.",
    ),
    Bomb("progressive JPEG, half of it", partial(large_jpeg, 0.5, progressive=True), DAMAGED),
    Bomb("JPEG, half of it", partial(large_jpeg, 0.5), DAMAGED),
]


class Meter:
    """A process that decodes files and measures the cost."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "bomb"
        self.process = subprocess.Popen(
            [sys.executable, "-c", MEASURE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, data: bytes) -> dict:
        self._path.write_bytes(data)
        assert self.process.stdin
        assert self.process.stdout
        print(self._path, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("The peak of the memory can be measured on Linux only.")
    meter = Meter(tmp_path_factory.mktemp("bombs"))
    with meter.process:
        yield meter
        meter.process.stdin.close()


def check_bomb(bomb: Bomb, meter: Meter) -> None:
    answer = meter.measure(bomb.make())
    if bomb.refusal is None:
        assert "shape" in answer, answer
    else:
        assert answer["error"] == "ImageError"
        assert answer["message"].startswith(bomb.refusal)
    assert answer["cpu_s"] < MAX_CPU_S
    assert answer["mb"] < MAX_MB


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name)
def test_bomb_stays_within_bounds(bomb: Bomb, meter: Meter) -> None:
    check_bomb(bomb, meter)


@pytest.mark.slow
@pytest.mark.parametrize("bomb", SLOW_BOMBS, ids=lambda bomb: bomb.name)
def test_slow_bomb_stays_within_bounds(bomb: Bomb, meter: Meter) -> None:
    check_bomb(bomb, meter)
