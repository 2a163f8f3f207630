"""Small files that are costly to decode: ``python -m benchmarks.bombs``.

`BOMBS` lists each file with the limit that it tests, the expected outcome, and its bounds. The
files are decoded in one process without limits of the operating system, so that the bounds of
`decode_image` are tested, not those of `DecodePool`. The exit code is 1 if the outcome of a file
differs, or if it costs more.
"""

from __future__ import annotations

import io
import multiprocessing
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import click
import numpy as np
from PIL import Image

from bc_model.data import decode_image
from bc_model.errors import ImageError
from bc_model.utils import silence_native_stderr
from benchmarks.peak_memory import measured_memory

MAX_MB = 300
MAX_S = 3.0
DECODED = "decoded"

_SIZE = (8000, 5000)
"""The largest number of pixels that is decoded at full resolution."""
_LARGEST = (16_000, 10_000)
"""The largest accepted number of pixels."""
_SHORT, _LONG = 3, 4


@dataclass(frozen=True)
class Bomb:
    """A costly file.

    Attributes
    ----------
    name : str
        Description, which begins with the format.
    limit : str
        What bounds the cost.
    make : callable
        Returns the content.
    refusal : str, optional
        Beginning of the message after the file name; None if the file is decoded.
    max_mb, max_s : float
        Bounds of the memory and of the processor time.
    is_slow : bool
        True if making the file takes seconds.
    """

    name: str
    limit: str
    make: Callable[[], bytes]
    refusal: str | None = None
    max_mb: float = MAX_MB
    max_s: float = MAX_S
    is_slow: bool = False

    @property
    def file_name(self) -> str:
        """A name with the suffix of the format."""
        return f"bomb.{self.name.split()[0].strip(',').lower()}"

    def find_breaches(self, cost: Cost) -> list[str]:
        """Return what differs from the expected outcome, or exceeds a bound."""
        expected = DECODED if self.refusal is None else f"{self.file_name} {self.refusal}"
        breaches = []
        if not cost.outcome.startswith(expected):
            breaches.append(f"'{cost.outcome}' instead of '{expected}'")
        if cost.seconds > self.max_s:
            breaches.append(f"{cost.seconds:.1f} s instead of {self.max_s:.1f} s")
        if cost.memory_mb > self.max_mb:
            breaches.append(f"{cost.memory_mb:.0f} MB instead of {self.max_mb:.0f} MB")
        return breaches


@dataclass(frozen=True)
class Cost:
    """The outcome of decoding a file, `DECODED` or an error, and its cost."""

    outcome: str
    seconds: float
    memory_mb: float


def measure_cost(data: bytes, name: str) -> Cost:
    """Return the cost of decoding a file in this process."""
    start_s, outcome = time.process_time(), DECODED
    with silence_native_stderr(), measured_memory() as memory:
        try:
            decode_image(data, name)
        except ImageError as error:
            outcome = str(error)
        except Exception as error:  # Reported as a breach.
            outcome = f"{type(error).__name__}: {error}"
    return Cost(outcome, time.process_time() - start_s, memory.growth_mb)


@contextmanager
def measuring_process() -> Iterator[Callable[[Bomb], tuple[int, Cost]]]:
    """Yield a function that returns the size and the cost of a file, measured in a process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:

        def measure(bomb: Bomb) -> tuple[int, Cost]:
            data = bomb.make()
            return len(data), pool.submit(measure_cost, data, bomb.file_name).result()

        yield measure


# Makers.


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


@cache
def _compressed_zeros(n_bytes: int) -> bytes:
    return zlib.compress(bytes(n_bytes), 1)


def _png(
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
        pixels = _compressed_zeros(height * (1 + width * n_channels))
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            chunks,
            _chunk(b"IDAT", pixels),
            _chunk(b"IEND"),
        ]
    )


def _png_with_text(kind: bytes, prefix: bytes) -> bytes:
    return _png(chunks=_chunk(kind, prefix + _compressed_zeros(100_000_000)))


def _directory(fields: dict[int, tuple[int, int, int]], following: int = 0) -> bytes:
    entries = [
        struct.pack("<HHII", tag, kind, count, value)
        for tag, (kind, count, value) in sorted(fields.items())
    ]
    return struct.pack("<H", len(fields)) + b"".join(entries) + struct.pack("<I", following)


def _gray_fields(size: tuple[int, int], compression: int = 1) -> dict[int, tuple[int, int, int]]:
    """Return the fields of a grayscale TIFF with one strip, which begins at byte 8."""
    width, height = size
    return {
        256: (_LONG, 1, width),
        257: (_LONG, 1, height),
        258: (_SHORT, 1, 8),
        259: (_SHORT, 1, compression),
        262: (_SHORT, 1, 1),
        273: (_LONG, 1, 8),
        277: (_SHORT, 1, 1),
        278: (_LONG, 1, height),
        279: (_LONG, 1, width * height),
    }


def _tiff(fields: dict[int, tuple[int, int, int]], content: bytes) -> bytes:
    """Return a TIFF whose values begin at byte 8 and end with the directory."""
    content += bytes(-len(content) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + _directory(fields)


def _tiff_tile(size: tuple[int, int], tile: tuple[int, int], compression: int, n: int) -> bytes:
    fields = _gray_fields(size, compression) | {262: (_SHORT, 1, 2), 277: (_SHORT, 1, 3)}
    for tag in (273, 278, 279):
        del fields[tag]
    fields |= {322: (_LONG, 1, tile[0]), 323: (_LONG, 1, tile[1])}
    fields |= {324: (_LONG, 1, 8), 325: (_LONG, 1, n)}
    return _tiff(fields, np.random.default_rng(0).bytes(n))


def _tiff_jpeg() -> bytes:
    content = _jpeg((6000, 6000), scans=30)
    return _tiff(_gray_fields((6000, 6000), 7) | {279: (_LONG, 1, len(content))}, content)


def _tiff_chain(n: int) -> bytes:
    """Return a TIFF with `n` directories of 114 bytes, which all show the same pixels."""
    body = _directory(_gray_fields((64, 64)))[:-4]
    first, size = 8 + 64 * 64, len(body) + 4
    chain = np.empty(n, [("body", f"V{len(body)}"), ("next", "<u4")])
    chain["body"] = np.void(body)
    chain["next"] = first + size * np.arange(1, n + 1)
    return b"II*\0" + struct.pack("<I", first) + bytes(64 * 64) + chain.tobytes()


def _tiff_strips(n: int, *, n_declared: int, bytes_per_strip: int, compression: int = 1) -> bytes:
    """Return a TIFF with `n` strips of one row, which all begin at byte 8."""
    fields = _gray_fields((64, n), compression) | {278: (_LONG, 1, 1)}
    offsets = np.full(n_declared, 8, "<u4").tobytes()
    counts = np.full(n_declared, bytes_per_strip, "<u4").tobytes()
    fields |= {273: (_LONG, n_declared, 8), 279: (_LONG, n_declared, 8 + len(offsets))}
    return _tiff(fields, offsets + counts)


def _tiff_palette(n_colors: int) -> bytes:
    fields = _gray_fields((64, 64)) | {262: (_SHORT, 1, 3), 320: (_SHORT, n_colors, 8)}
    return _tiff(fields, bytes(2 * n_colors))


def _jpeg(size: tuple[int, int], *, scans: int = 0, progressive: bool = True) -> bytes:
    """Return a JPEG of 64 x 64 px that declares another size and repeats its last scan."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG", progressive=progressive, quality=90)
    data = stream.getvalue()
    frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data = data[: frame + 5] + struct.pack(">HH", size[1], size[0]) + data[frame + 9 :]
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def _stuffed_jpeg() -> bytes:
    """Return a JPEG with 30 million bytes 0xFF behind its pixels, none of which is a marker."""
    data = _jpeg((64, 64), progressive=False)
    return data[:-2] + b"\xff\0" * 30_000_000 + data[-2:]


def _large_jpeg(proportion: float, **options: object) -> bytes:
    """Return the beginning of a JPEG of the largest size."""
    stream = io.BytesIO()
    Image.new("RGB", _SIZE, (200, 150, 190)).save(stream, "JPEG", **options)
    return stream.getvalue()[: int(len(stream.getvalue()) * proportion)]


@cache
def _dense_png(size: tuple[int, int]) -> bytes:
    """Return a PNG with noise in each 256th byte, which compresses less than a blank one."""
    width, height = size
    rows = np.zeros((1000, 1 + 3 * width), np.uint8)
    rows[:, 1::256] = np.random.default_rng(0).integers(0, 256, rows[:, 1::256].shape)
    packer = zlib.compressobj(1)
    pieces = [packer.compress(rows.tobytes()) for _ in range(height // 1000)]
    return _png(size, pixels=b"".join([*pieces, packer.flush()]))


def _truncated_png() -> bytes:
    data = _png(_SIZE)
    return data[: len(data) // 2]


_COSTLY = "is too costly to decode: "
_DAMAGED = "is damaged or incomplete."
_LARGE = "is too large."

BOMBS = (
    Bomb("PNG of 40 million pixels", "pixels", partial(_png, _SIZE)),
    Bomb("PNG with alpha of 40 million pixels", "pixels", partial(_png, _SIZE, color=6)),
    Bomb("PNG of 160 million pixels without content", "content", partial(_png, _LARGEST),
         f"{_COSTLY}it has more than 64 pixels per byte.", is_slow=True),
    Bomb("PNG of 160 million pixels", "pixels", partial(_dense_png, _LARGEST), max_s=8.0,
         is_slow=True),
    Bomb("PNG of 160 million pixels, cut", "pixels",
         lambda: _dense_png(_LARGEST)[:2_600_000], _DAMAGED, is_slow=True),
    Bomb("PNG, half of it", "pixels", _truncated_png, _DAMAGED),
    Bomb("PNG of 3,600 million pixels", "pixels", partial(_png, (60_000, 60_000), pixels=b""),
         _LARGE),
    Bomb("PNG without pixels", "pixels", partial(_png, _SIZE, pixels=bytes(1000)), _DAMAGED),
    Bomb("PNG, pixels behind the last", "pixel data",
         lambda: _png(pixels=_compressed_zeros(10**8))),
    Bomb("PNG, 100 million bytes of text", "metadata", partial(_png_with_text, b"zTXt", b"k\0\0")),
    Bomb("PNG, unpacked text", "metadata", partial(_png_with_text, b"iTXt", b"k\0\1\0\0\0")),
    Bomb("PNG, color profile", "metadata", partial(_png_with_text, b"iCCP", b"k\0\0")),
    Bomb("PNG of 5 million chunks", "chunks", lambda: _png(chunks=_chunk(b"abCd") * 5_000_000),
         f"{_COSTLY}it has more than 100,000 chunks."),
    Bomb("PNG of 99,000 empty pixel chunks", "chunks",
         lambda: _png(chunks=_chunk(b"IDAT") * 99_000)),
    Bomb("PNG too high", "side", partial(_png, (32, 65_501)), _LARGE),
    Bomb("JPEG of 4,295 million pixels", "pixels", partial(_jpeg, (65_535, 65_535)), _LARGE),
    Bomb("JPEG of 200 scans", "scans", partial(_jpeg, (64, 64), scans=200),
         f"{_COSTLY}it has more than 100 progressive scans."),
    Bomb("JPEG of 30 scans of 36 million pixels", "scans", partial(_jpeg, (6000, 6000), scans=30),
         f"{_COSTLY}it has more than 17 progressive scans."),
    Bomb("JPEG of 60 MB of stuffed bytes", "segments", _stuffed_jpeg),
    Bomb("JPEG, declared larger", "pixels", partial(_jpeg, _SIZE, progressive=False), _DAMAGED),
    Bomb("JPEG, progressive, declared larger", "coefficients", partial(_jpeg, _SIZE), _DAMAGED),
    Bomb("JPEG, progressive, half of it", "coefficients",
         partial(_large_jpeg, 0.5, progressive=True), _DAMAGED, is_slow=True),
    Bomb("JPEG, half of it", "pixels", partial(_large_jpeg, 0.5), _DAMAGED, is_slow=True),
    Bomb("TIFF of one tile larger than the image", "tile size",
         partial(_tiff_tile, (64, 64), (26_000, 26_000), 8, 1000),
         f"{_COSTLY}its tiles are larger than the image."),
    *(
        Bomb(f"TIFF of a tile without data, compression {i}", "tile data",
             partial(_tiff_tile, _SIZE, (8000, 5008), i, 10_000), _DAMAGED)
        for i in (1, 5, 8, 32773)
    ),
    *(
        Bomb(f"TIFF of a large damaged tile, compression {i}", "tile data",
             partial(_tiff_tile, _SIZE, (8000, 5008), i, n), _DAMAGED)
        for i, n in ((5, 100_000), (8, 200_000), (34925, 1000), (50000, 1000))
    ),
    Bomb("TIFF of 30,000 directories", "directories", partial(_tiff_chain, 30_000),
         "contains at least 100 images."),
    Bomb("TIFF of 500,000 directories", "directories", partial(_tiff_chain, 500_000),
         "contains at least 100 images.", is_slow=True),
    Bomb("TIFF of 3 million strips for 64 rows", "strips",
         partial(_tiff_strips, 64, n_declared=3_000_000, bytes_per_strip=64)),
    Bomb("TIFF of 36 million tiles", "tiles", partial(_tiff_tile, (6000, 6000), (1, 1), 1, 1000),
         f"{_COSTLY}it has more than 262,144 strips or tiles."),
    Bomb("TIFF of overlapping strips", "strip data",
         partial(_tiff_strips, 60_000, n_declared=60_000, bytes_per_strip=400_000, compression=5),
         f"{_COSTLY}its strips or tiles overlap."),
    Bomb("TIFF of JPEG with 30 scans of 36 million pixels", "scans", _tiff_jpeg,
         f"{_COSTLY}it has too many progressive scans."),
    Bomb("TIFF of a large palette", "field size", partial(_tiff_palette, 10_000_000), _DAMAGED),
)  # fmt: skip
"""All files, a few bytes to 60 MB."""


@click.command()
def main() -> None:
    """Decode costly files, and print their outcome and cost."""
    has_breaches = False
    with measuring_process() as measure:
        for bomb in BOMBS:
            size, cost = measure(bomb)
            click.echo(
                f"{bomb.name:<48}{bomb.limit:<14}{size / 1e6:>7.3f} MB{cost.seconds:>7.2f} s"
                f"{cost.memory_mb:>6.0f} MB  {cost.outcome.partition('. ')[0]}"
            )
            for breach in bomb.find_breaches(cost):
                has_breaches = True
                click.echo(f"  breach: {breach}")
    if has_breaches:
        sys.exit(1)


if __name__ == "__main__":
    main()
