"""Hostile images, small files with a high cost: ``python -m benchmarks.bombs``.

Each file is decoded in a process of its own. The exit code is 1 if a refusal takes more than 3 s or
300 MB.
"""

from __future__ import annotations

import io
import multiprocessing
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import click
from PIL import Image

from bc_model.data import decode_image, generate_image
from bc_model.errors import ImageError
from benchmarks.peak_memory import measured_memory

MAX_REFUSAL_S = 3.0
MAX_REFUSAL_MB = 300

_IFD_ENTRY = struct.Struct("<HHII")
_SHORT, _LONG = 3, 4


def _png(
    width: int, height: int, pixels: bytes, chunks: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """Return a PNG file in RGB with compressed pixels and further chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def _compressed_zeros(size: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    parts = [
        packer.compress(block[: min(len(block), size - i)]) for i in range(0, size, len(block))
    ]
    return b"".join(parts) + packer.flush()


def _tiff(entries: dict[int, tuple[int, int]], tail: bytes, next_directory: int = 0) -> bytes:
    """Return a TIFF file with one directory, whose entries have one value each, and other data."""
    directory = struct.pack("<H", len(entries)) + b"".join(
        _IFD_ENTRY.pack(tag, kind, 1, value) for tag, (kind, value) in sorted(entries.items())
    )
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", next_directory) + tail


def _gray_entries(side: int, data_offset: int) -> dict[int, tuple[int, int]]:
    """Return the entries of an uncompressed grayscale image in one strip."""
    return {
        256: (_LONG, side), 257: (_LONG, side), 258: (_SHORT, 8), 259: (_SHORT, 1),
        262: (_SHORT, 1), 273: (_LONG, data_offset), 277: (_SHORT, 1), 278: (_LONG, side),
        279: (_LONG, side * side),
    }  # fmt: skip


def huge_tile() -> bytes:
    """Return a TIFF of 64 x 64 pixels whose only tile has 26,000 x 26,000."""
    entries = _gray_entries(64, 0)
    for strip_tag in (273, 278, 279):
        del entries[strip_tag]
    start = 8 + 2 + 12 * (len(entries) + 4) + 4
    data = zlib.compress(bytes(10**6))
    entries |= {259: (_SHORT, 8), 322: (_LONG, 26_000), 323: (_LONG, 26_000)}
    entries |= {324: (_LONG, start), 325: (_LONG, len(data))}
    return _tiff(entries, data)


def directory_chain(n_directories: int) -> bytes:
    """Return a TIFF with a chain of directories, all of the same image."""
    start = 8 + 2 + 12 * 9 + 4
    entries = _gray_entries(64, start)
    size = 2 + 12 * len(entries) + 4
    first = start + 64 * 64
    body = _tiff(entries, b"")[8 : 8 + size - 4]
    chain = b"".join(
        body + struct.pack("<I", first + (i + 1) * size if i < n_directories - 1 else 0)
        for i in range(n_directories)
    )
    return _tiff(entries, bytes(64 * 64) + chain, first)


def progressive_scans(side: int, n_scans: int) -> bytes:
    """Return a progressive JPEG that repeats its last scan."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (200, 150, 190)).save(buffer, "JPEG", progressive=True)
    jpeg = buffer.getvalue()
    start = jpeg.rfind(b"\xff\xda")
    return jpeg[:-2] + jpeg[start:-2] * n_scans + jpeg[-2:]


def _field() -> bytes:
    """Return the compressed pixels of a normal image of 700 x 460 pixels."""
    rows = generate_image(malignant=True, seed=0, case_seed=0)
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows), 1)


BOMBS: dict[str, Callable[[], bytes]] = {
    "huge-tile.tif": huge_tile,
    "directories.tif": lambda: directory_chain(20_000),
    "scans.jpg": lambda: progressive_scans(6000, 200),
    "blank-40-megapixels.png": lambda: _png(8000, 5000, _compressed_zeros(5000 * 24_001)),
    "60000-pixels.png": lambda: _png(60_000, 60_000, zlib.compress(bytes(1000))),
    "million-chunks.png": lambda: _png(700, 460, _field(), [(b"abCd", b"")] * 10**6),
    "profile.png": lambda: _png(
        700, 460, _field(), [(b"iCCP", b"p\0\0" + _compressed_zeros(200_000_000))]
    ),
    "long-data.png": lambda: _png(700, 460, _compressed_zeros(300_000_000)),
}
"""File name to a function that returns the content, a few kB to 12 MB."""


@dataclass(frozen=True)
class Cost:
    """The cost of decoding one file; `refusal` is empty if it was decoded."""

    size: int
    refusal: str
    seconds: float
    memory_mb: float

    @property
    def is_within_limits(self) -> bool:
        """True if the file was decoded, or refused within the limits."""
        return not self.refusal or (
            self.seconds <= MAX_REFUSAL_S and self.memory_mb <= MAX_REFUSAL_MB
        )


def measure_cost(data: bytes, name: str) -> Cost:
    """Return the cost of decoding a file in this process."""
    start_s, refusal = time.process_time(), ""
    with measured_memory() as memory:
        try:
            decode_image(data, name)
        except ImageError as error:
            refusal = str(error)
    return Cost(len(data), refusal, time.process_time() - start_s, memory.growth_mb)


@click.command()
def main() -> None:
    """Decode hostile images, and print their cost."""
    is_within_limits = True
    context = multiprocessing.get_context("spawn")
    for name, make in BOMBS.items():
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            cost = pool.submit(measure_cost, make(), name).result()
        is_within_limits = is_within_limits and cost.is_within_limits
        click.echo(
            f"{name:<26}{cost.size / 1e6:>8.3f} MB{cost.seconds:>8.2f} s{cost.memory_mb:>8.0f} MB  "
            f"{cost.refusal or 'decoded'}"
        )
    if not is_within_limits:
        sys.exit(1)


if __name__ == "__main__":
    main()
