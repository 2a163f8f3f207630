"""Decode PNG and TIFF files in bands of rows, so that memory never holds the full image.

Each band becomes a small file of its own, which the codec decodes as any other.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from PIL import Image

from bc_model.data.image_headers import UNCOMPRESSED
from bc_model.data.tiff import TiffStructure, write_directory

BAND_PIXELS = 2**19
"""Approximate size of a band. Strips and tiles of TIFF files are not divided, if compressed."""

Load = Callable[[bytes], Image.Image]
"""Decodes a file completely."""

_PNG_HEADER_BYTES = 33
"""The signature and the IHDR chunk."""
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_INFLATE_BYTES = 2**20
_WIDTH, _HEIGHT, _COMPRESSION, _CHANNELS, _PLANAR = 256, 257, 259, 277, 284
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325


def decode_bands(content: bytes, load: Load, multiple: int) -> Iterator[Image.Image]:
    """Yield the bands of an image from top to bottom.

    Parameters
    ----------
    content : bytes
        `ImageHeader.content` of a PNG file without interlacing, or of a TIFF file without old-style
        JPEG compression, with 8 bits per channel.
    load : callable
        Returns the image for the content of a file.
    multiple : int
        The height of all bands but the last is a multiple of this number.

    Raises
    ------
    ValueError, LookupError, struct.error, zlib.error
        The file is damaged or incomplete. Errors of `load` are raised as they are.
    """
    decode = _decode_png if content.startswith(b"\x89PNG") else _decode_tiff
    return decode(content, load, multiple)


def _decode_png(content: bytes, load: Load, multiple: int) -> Iterator[Image.Image]:
    width, height, _, color = struct.unpack_from(">IIBB", content, 16)
    row_bytes = 1 + width * _PNG_CHANNELS[color]
    n_rows = multiple * max(1, BAND_PIXELS // width // multiple)
    rows = _PngRows(content)
    # Most filters refer to the row above, which therefore becomes the first row of the next band.
    above = b""
    for top in range(0, height, n_rows):
        n_band = min(n_rows, height - top)
        pixels = [above, *rows.read(n_band * row_bytes)]
        n_above = 1 if above else 0
        image = load(rows.write_png(n_band + n_above, pixels))
        if image.size != (width, n_band + n_above):
            raise ValueError("A band has another size.")
        band = image.crop((0, n_above, width, n_band + n_above)) if n_above else image
        above = b"\0" + band.crop((0, n_band - 1, width, n_band)).tobytes()
        if len(above) != row_bytes:
            raise ValueError("A band has other channels.")
        yield band


class _PngRows:
    """The encoded rows of a PNG file, inflated as far as they are read."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._position = _PNG_HEADER_BYTES
        self._inflater = zlib.decompressobj()
        self._pending: bytes | memoryview = b""
        while self._kind() != b"IDAT":
            self._position += 12 + self._length()
        self._start = self._content[: self._position]

    def _length(self) -> int:
        return int.from_bytes(self._content[self._position : self._position + 4])

    def _kind(self) -> bytes:
        kind = bytes(self._content[self._position + 4 : self._position + 8])
        if not kind.strip(b"\0"):
            raise ValueError("The pixels are incomplete.")
        return kind

    def read(self, n_bytes: int) -> Iterator[bytes]:
        """Yield the next bytes in pieces, or raise `ValueError` if there are fewer."""
        while n_bytes:
            if not self._pending:
                if self._kind() != b"IDAT" or self._inflater.eof:
                    raise ValueError("The pixels are incomplete.")
                end = self._position + 8 + self._length()
                self._pending = self._content[self._position + 8 : end]
                self._position = end + 4
            piece = self._inflater.decompress(self._pending, min(n_bytes, _INFLATE_BYTES))
            self._pending = self._inflater.unconsumed_tail
            n_bytes -= len(piece)
            yield piece

    def write_png(self, height: int, pieces: list[bytes]) -> bytes:
        """Return a PNG file of some rows, without compression."""
        (width,) = struct.unpack_from(">I", self._start, 16)
        header = struct.pack(">II", width, height) + bytes(self._start[24:29])
        packer = zlib.compressobj(0)
        pixels = b"".join([*map(packer.compress, pieces), packer.flush()])
        chunks = [_write_chunk(b"IHDR", header), bytes(self._start[_PNG_HEADER_BYTES:])]
        chunks += [_write_chunk(b"IDAT", pixels), _write_chunk(b"IEND", b"")]
        return b"".join([bytes(self._start[:8]), *chunks])


def _write_chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)])


class _Parts(NamedTuple):
    """The strips or tiles of a TIFF file, in rows of parts."""

    offsets_tag: int
    counts_tag: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    n_planes: int
    n_columns: int
    height_px: int
    """Height of each part; the last strip may be lower."""

    @property
    def n_rows(self) -> int:
        return len(self.offsets) // self.n_planes // self.n_columns

    def select(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the offsets and sizes of some rows of parts, plane by plane."""
        n_plane = self.n_rows * self.n_columns
        numbers = [
            plane * n_plane + i
            for plane in range(self.n_planes)
            for i in range(first * self.n_columns, last * self.n_columns)
        ]
        return [(self.offsets[i], self.counts[i]) for i in numbers]


def _decode_tiff(content: bytes, load: Load, multiple: int) -> Iterator[Image.Image]:
    structure = TiffStructure(content)
    directory = structure.read_directory(structure.first_offset)
    fields = {
        tag: (field.kind, field.n_values, structure.read_bytes(field))
        for tag, field in directory.items()
    }

    def read(tag: int, default: int) -> int:
        return structure.read_integers(directory[tag], 1)[0] if tag in directory else default

    width, height = read(_WIDTH, 0), read(_HEIGHT, 0)
    parts = _find_parts(structure, read, width, height)
    step = 1 if parts.height_px % multiple == 0 else multiple
    n_rows = step * max(1, BAND_PIXELS // (width * parts.height_px) // step)
    for first in range(0, parts.n_rows, n_rows):
        last = min(first + n_rows, parts.n_rows)
        n_band = min(last * parts.height_px, height) - first * parts.height_px
        data = [content[:4] + bytes(12)]
        offsets, counts, position = [], [], 16
        for offset, count in parts.select(first, last):
            data.append(content[offset : offset + count])
            offsets.append(position)
            counts.append(count)
            position += count
        changed = {_HEIGHT: [n_band], parts.offsets_tag: offsets, parts.counts_tag: counts}
        if parts.offsets_tag == _STRIP_OFFSETS:
            changed[_STRIP_ROWS] = [parts.height_px]
        packed = {
            tag: (4, len(numbers), struct.pack(f"{structure.order}{len(numbers)}I", *numbers))
            for tag, numbers in changed.items()
        }
        image = load(write_directory(TiffStructure(b"".join(data)), fields | packed))
        if image.size != (width, n_band):
            raise ValueError("A band has another size.")
        yield image


def _find_parts(
    structure: TiffStructure, read: Callable[[int, int], int], width: int, height: int
) -> _Parts:
    """Return the parts of an image; a strip without compression becomes strips of few rows."""
    is_tiled = _STRIP_OFFSETS not in structure.read_directory(structure.first_offset)
    tags = (_TILE_OFFSETS, _TILE_BYTES) if is_tiled else (_STRIP_OFFSETS, _STRIP_BYTES)
    n_channels = read(_CHANNELS, 1)
    n_planes = n_channels if read(_PLANAR, 1) == 2 else 1
    pixel_bytes = n_channels // n_planes
    part_width = read(_TILE_WIDTH, 0) if is_tiled else width
    part_height = read(_TILE_HEIGHT, 0) if is_tiled else min(read(_STRIP_ROWS, height), height)
    n_columns, n_rows = -(-width // part_width), -(-height // part_height)
    n_parts = n_planes * n_columns * n_rows
    directory = structure.read_directory(structure.first_offset)
    offsets = structure.read_integers(directory[tags[0]], n_parts)
    if len(offsets) != n_parts:
        raise ValueError("Strips or tiles are missing.")
    if read(_COMPRESSION, 1) != UNCOMPRESSED:
        counts = structure.read_integers(directory[tags[1]], n_parts)
        return _Parts(*tags, offsets, counts, n_planes, n_columns, part_height)
    row_bytes = part_width * pixel_bytes
    if is_tiled:
        counts = (row_bytes * part_height,) * n_parts
        return _Parts(*tags, offsets, counts, n_planes, n_columns, part_height)
    # Rows of pixels, so that strips of any height form bands.
    starts = [
        offsets[plane * n_rows + row // part_height] + row % part_height * row_bytes
        for plane in range(n_planes)
        for row in range(height)
    ]
    return _Parts(*tags, tuple(starts), (row_bytes,) * len(starts), n_planes, 1, 1)
