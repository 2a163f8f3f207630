"""Bounds of an image file, read from its container before any pixel is decoded.

`read_header` walks the chunks, segments or directories of a PNG, JPEG or TIFF file, refuses files
that are unsupported or costly to decode, and returns the parts of the file that pixels depend on.
Decoders see only these parts, so metadata cannot harm them: a damaged color profile, comment or
EXIF block never refuses an image.
"""

import math
import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from bc_model.data.tiff import Field, TiffStructure, read_orientation, write_directory
from bc_model.errors import ImageError

MAX_FILE_MB = 200
"""A PNG file of 120 million pixels of tissue has about 200 MB."""
FULL_PIXELS = 40_000_000
"""Limit of the decoded pixels. Larger images are read at half of their resolution."""
LARGE_REDUCTION = 2
MAX_PIXELS = LARGE_REDUCTION**2 * FULL_PIXELS
MAX_PIXELS_PER_BYTE = 64
"""Of images above `FULL_PIXELS`: one byte for each block of JPEG. Tissue has 1 to 20 pixels."""
MAX_DEEP_PIXELS = 20_000_000
"""Limit with 16 bits per channel, which need three times the memory while they are converted."""
MIN_SIDE_PX = 32
MAX_SIDE_PX = 65_500
"""Largest side that JPEG encoders accept. The app shows every image as JPEG."""
MAX_PNG_CHUNKS = 100_000
"""A 200 MB file in chunks of 8 kB, the default of libpng, has 26,000 chunks."""
MAX_JPEG_SEGMENTS = 10_000
MAX_JPEG_SCANS = 100
"""Encoders write 1 to 15 scans."""
MAX_SCAN_PIXELS = 16 * FULL_PIXELS
"""Limit of scans times pixels: each scan visits every block of the image, even if it is empty."""
MAX_COEFFICIENT_MB = 240
"""Progressive JPEG keeps 2 bytes for each sample: three full channels of the largest image."""
MAX_TIFF_DIRECTORIES = 100
"""More are refused. The largest image is used, see `_TiffImage`."""
MAX_TIFF_TILE_PIXELS = 4096 * 4096
"""Tiles have 256 to 1024 px per side. Larger ones are accepted if they do not exceed the image."""
MAX_BAND_PIXELS = 16_000_000
"""Limit of a strip, or of a row of tiles, of an image that is decoded band by band."""
LARGE_PIXELS = 8_000_000
LARGE_FILE_MB = 16
"""Images up to these sizes are decoded in 0.2 s; see `is_large`."""
MAX_TIFF_PARTS = 2**18
"""Strips of one row, in four planes of the highest image."""

_DEFLATE_RATIO = 1032
"""Largest ratio of decoded to encoded bytes of Deflate, after its specification."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_PALETTE = 3
_TRANSPARENCY_BYTES = {0: {2}, 2: {6}, 3: set(range(1, 257))}
"""Sizes of a tRNS chunk by color type. Other types have an alpha channel instead."""
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Next marker in coded data, in which 0xFF is followed by 0x00 or by a restart marker."""
_OTHER_FORMATS = {
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive",
}

# Fields of a TIFF directory that pixels depend on.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _CHANNELS, _STRIP_ROWS, _STRIP_BYTES = 273, 277, 278, 279
_PLANAR, _ORIENTATION, _COLORS = 284, 274, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES = 338, 339, 347
_DESCRIPTION, _NDPI_VERSION, _CMYK = 270, 65420, 5
_PREMULTIPLIED, _SEPARATE = 1, 2
"""Meanings of an extra sample as an alpha channel."""
_DECODER_TAGS = (
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, _CHANNELS, _STRIP_ROWS, _PLANAR),
    *(292, 293, 317, _COLORS, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT),
    *(_JPEG_TABLES, *range(512, 522), 529, 530, 531, 532),
)
_MAX_FIELD_BYTES = 2**16
"""JPEG tables and color maps are smaller. Offsets and byte counts have their own limit."""

_COLOR_SPACES = {
    **{0: "", 1: "", 2: "", 3: "", 5: "", 6: ""},
    **{8: "CIELAB", 9: "ICCLAB", 10: "ITULAB", 32803: "color filter array (raw camera data)"},
    **{32844: "LogL", 32845: "LogLuv", 34892: "linear raw camera data"},
}
_COMPRESSIONS = {
    **{1: "", 2: "", 3: "", 4: "", 5: "", 6: "", 7: "", 8: "", 32773: "", 32946: "", 34925: ""},
    **{50000: "", 50001: "WebP", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000"},
    **{34892: "lossy JPEG", 34887: "LERC", 50002: "JPEG XL", 52546: "JPEG XL"},
}
UNCOMPRESSED, _OLD_JPEG = 1, 6
_COMPRESSION_RATIOS = {
    UNCOMPRESSED: 1,
    5: 4096,
    8: _DEFLATE_RATIO,
    32773: 64,
    32946: _DEFLATE_RATIO,
}
"""Largest ratio of decoded to encoded bytes, for codings with a known one."""


@dataclass(frozen=True)
class ImageHeader:
    """What the container of an image file declares.

    Attributes
    ----------
    width_px, height_px : int
        Size of the stored image, before the orientation is applied.
    orientation : int
        EXIF orientation, 1 to 8.
    content : bytes
        The file without metadata.
    codec_bytes : int
        Memory that a decoder needs besides the decoded image.
    is_premultiplied : bool
        Whether the colors are stored multiplied by the alpha channel. `content` declares otherwise.
    bits : {8, 16}
        Bits per channel; 8 for fewer as well.
    is_cmyk : bool
        Whether the colors are those of a printer.
    page, n_pages : int
        Number of the image in the file, from 1, and number of images without thumbnails.
    """

    width_px: int
    height_px: int
    orientation: int
    content: bytes
    codec_bytes: int = 0
    is_premultiplied: bool = False
    bits: int = 8
    is_cmyk: bool = False
    page: int = 1
    n_pages: int = 1

    @property
    def reduction(self) -> int:
        """How many pixels in each direction become one when the image is read: 1 or 2."""
        return _find_reduction(self.width_px, self.height_px)

    @property
    def decoded_size(self) -> tuple[int, int]:
        """Width and height of the decoded image before the orientation is applied, px."""
        return _reduced_size(self.width_px, self.height_px)


def _find_reduction(width_px: int, height_px: int) -> int:
    return LARGE_REDUCTION if width_px * height_px > FULL_PIXELS else 1


def _reduced_size(width_px: int, height_px: int) -> tuple[int, int]:
    reduction = _find_reduction(width_px, height_px)
    return -(-width_px // reduction), -(-height_px // reduction)


def read_header(data: bytes, name: str) -> ImageHeader:
    """Return the header of an image file.

    Parameters
    ----------
    data : bytes
        Content of the file.
    name : str
        Name of the image in error messages.

    Raises
    ------
    ImageError
        The file is empty, damaged, too large, too small, unsupported or costly to decode.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Export the image again.", "empty")
    require_file_size(len(data), name)
    try:
        if data.startswith(_PNG_SIGNATURE):
            return _require_content(_read_png(data, name), name)
        if data.startswith(b"\xff\xd8"):
            return _require_content(_read_jpeg(data, name), name)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _require_content(_TiffImage(data, name).header(), name)
    except (ValueError, LookupError, ArithmeticError, struct.error) as error:
        if isinstance(error, ImageError):
            raise
        raise damaged(name) from error
    raise _other_format(data, name)


def read_reduction(data: bytes, name: str = "") -> int:
    """Return `ImageHeader.reduction` of an image file; 1 for a file that cannot be read."""
    try:
        return read_header(data, name).reduction
    except ImageError:
        return 1


def is_large(data: bytes) -> bool:
    """Return whether decoding may take long, by the declared size; False if there is none."""
    return len(data) > LARGE_FILE_MB * 2**20 or count_declared_pixels(data) > LARGE_PIXELS


def count_declared_pixels(data: bytes) -> int:
    """Return the number of pixels that a file declares; 0 if there is none.

    It costs less than `read_header` and checks nothing.
    """
    try:
        if data.startswith(_PNG_SIGNATURE):
            width, height = struct.unpack_from(">II", data, 16)
        elif data.startswith(b"\xff\xd8"):
            width, height = _find_jpeg_size(data)
        else:
            structure = TiffStructure(data)
            offsets = structure.directory_offsets(MAX_TIFF_DIRECTORIES)
            return max(_count_tiff_pixels(structure, offset) for offset in offsets)
    except (ValueError, LookupError, struct.error):
        return 0
    return int(width * height)


def _count_tiff_pixels(structure: TiffStructure, offset: int) -> int:
    with suppress(ValueError, LookupError, struct.error):
        fields = structure.read_directory(offset)
        (width,), (height,) = (structure.read_integers(fields[tag], 1) for tag in (_WIDTH, _HEIGHT))
        return width * height
    return 0


def _find_jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    for _ in range(1000):
        marker = _JPEG_MARKER.search(data, position)
        if not marker:
            break
        position, code = marker.start(), data[marker.start() + 1]
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        (length,) = struct.unpack_from(">H", data, position + 2)
        position += 2 + (0 if code in (0x01, 0xD8) else length)
    raise ValueError("No size.")


def require_file_size(n_bytes: int, name: str) -> None:
    """Raise `ImageError` if a file has more than `MAX_FILE_MB`."""
    if n_bytes > MAX_FILE_MB * 2**20:
        raise ImageError(
            f"{name} is too large. Expected at most {MAX_FILE_MB} MB, got {n_bytes / 2**20:.0f} "
            "MB. Save a smaller field of view.",
            "too large",
        )


def damaged(name: str) -> ImageError:
    """Return the error for a file whose content cannot be decoded."""
    return ImageError(f"{name} is damaged or incomplete. Copy or export the image again.")


def unsupported(name: str, expected: str, received: str, remedy: str) -> ImageError:
    """Return the error for a pixel format that the library does not read."""
    return ImageError(
        f"{name} has an unsupported pixel format. Expected {expected}, got {received}. {remedy}",
        "unsupported",
    )


def _too_costly(name: str, what: str) -> ImageError:
    return ImageError(
        f"{name} is too costly to decode: {what}. Open it in an image editor and save it as PNG.",
        "unsupported",
    )


def _require_deep_size(width: int, height: int, name: str) -> None:
    _require_pixels(width, height, MAX_DEEP_PIXELS, name, " for 16 bits per channel")


def _require_full_size(width: int, height: int, name: str, obstacle: str) -> None:
    """Raise `ImageError` for an image that is too large to be decoded at its full resolution.

    `obstacle` is what prevents a lower resolution, such as 'an interlaced PNG'; '' for nothing.
    """
    if obstacle:
        _require_pixels(width, height, FULL_PIXELS, name, f" for {obstacle}")


def _require_pixels(width: int, height: int, limit: int, name: str, condition: str = "") -> None:
    if width * height > limit:
        raise ImageError(
            f"{name} is too large{condition}. Expected at most {limit // 10**6} million pixels, "
            f"got {width * height / 1e6:,.0f} million. Save a smaller field of view.",
            "too large",
        )


def _require_content(header: ImageHeader, name: str) -> ImageHeader:
    """Return the header, or raise `ImageError` if a large image has hardly any content."""
    n_pixels = header.width_px * header.height_px
    if header.reduction > 1 and n_pixels > MAX_PIXELS_PER_BYTE * len(header.content):
        raise _too_costly(name, f"it has more than {MAX_PIXELS_PER_BYTE} pixels per byte")
    return header


def _several_images(name: str, count: str) -> ImageError:
    return ImageError(
        f"{name} contains {count} images. Expected one. Save each image as its own file.",
        "unsupported",
    )


def _more_bits(name: str, bits: int) -> ImageError:
    return unsupported(
        name, "8 bits per channel", f"{bits} bits", "Save the image as 8-bit RGB, for example PNG."
    )


def _other_format(data: bytes, name: str) -> ImageError:
    kind = next((kind for magic, kind in _OTHER_FORMATS.items() if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "a WebP image"
    elif data[4:8] == b"ftyp":
        kind = "an HEIC, AVIF or video file"
    elif data[128:132] == b"DICM":
        kind = "a DICOM file"
    if kind:
        return ImageError(
            f"{name} is {kind}. Expected PNG, JPEG or TIFF content. Save the image as PNG."
        )
    return ImageError(
        f"{name} is not an image. Expected PNG, JPEG or TIFF content. Export the image again."
    )


def _require_size(width: int, height: int, name: str) -> None:
    _require_pixels(width, height, MAX_PIXELS, name)
    if math.prod(_reduced_size(width, height)) > FULL_PIXELS:  # Odd sides are rounded up.
        raise ImageError(
            f"{name} is too large. Expected at most {MAX_PIXELS // 10**6} million pixels with even "
            f"sides, got {width:,} x {height:,}. Save a smaller field of view.",
            "too large",
        )
    if max(width, height) > MAX_SIDE_PX:
        raise ImageError(
            f"{name} is too large. Expected at most {MAX_SIDE_PX:,} pixels per side, got "
            f"{width:,} x {height:,}. Save a smaller field of view.",
            "too large",
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(
            f"{name} is too small. Expected at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels, got "
            f"{width} x {height}. Export a larger image.",
            "too small",
        )


def _read_png(data: bytes, name: str) -> ImageHeader:
    start = struct.unpack_from(">I4sIIBBBBB", data, 8)
    length, kind, width, height, bits, color, _, _, interlacing = start
    if kind != b"IHDR" or length != 13 or color not in _PNG_CHANNELS:
        raise damaged(name)
    _require_size(width, height, name)
    obstacle = "an interlaced PNG" if interlacing else "fewer than 8 bits" if bits < 8 else ""
    _require_full_size(width, height, name, obstacle)
    codec_bytes = 0
    if bits > 8:
        _require_deep_size(width, height, name)
        codec_bytes = 2 * width * height * _PNG_CHANNELS[color]
    kept = [data[:33]]  # The signature and the IHDR chunk.
    position, n_chunks, pixels_start, n_frames, orientation = 33, 0, 0, 1, 1
    while position + 8 <= len(data):
        n_chunks += 1
        if n_chunks > MAX_PNG_CHUNKS:
            raise _too_costly(name, f"it has more than {MAX_PNG_CHUNKS:,} chunks")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind == b"IDAT":
            pixels_start = pixels_start or position
        elif pixels_start:
            break  # The pixels end here.
        elif kind == b"IHDR":
            raise damaged(name)  # A second size would replace the one that was checked.
        elif kind == b"PLTE":
            if color == _PNG_PALETTE and 3 <= length <= 768 and length % 3 == 0:
                kept.append(data[position:end])  # Only a suggestion for other color types.
        elif kind in (b"tRNS", b"eXIf", b"acTL") and _is_intact(data, position, length):
            if kind == b"tRNS" and length in _TRANSPARENCY_BYTES.get(color, ()):
                kept.append(data[position:end])
            elif kind == b"eXIf":
                orientation = read_orientation(data[position + 8 : end - 4])
            elif kind == b"acTL" and length == 8:
                (n_frames,) = struct.unpack_from(">I", data, position + 8)
        position = end
    position = min(position, len(data))
    n_encoded = position - pixels_start
    n_decoded = height * (width * bits * _PNG_CHANNELS[color] // 8)
    has_colors = color != _PNG_PALETTE or any(part[4:8] == b"PLTE" for part in kept)
    if not pixels_start or not has_colors or n_decoded > n_encoded * _DEFLATE_RATIO:
        raise damaged(name)
    if n_frames > 1 and data.find(b"fdAT", position) >= 0:
        raise _several_images(name, f"{n_frames:,}")
    pixels = memoryview(data)[pixels_start:position]
    content = b"".join([*kept, pixels, b"\0\0\0\0IEND\xaeB`\x82"])
    return ImageHeader(width, height, orientation, content, codec_bytes, bits=max(8, bits))


def _is_intact(data: bytes, position: int, length: int) -> bool:
    """Return whether the checksum of a PNG chunk is correct."""
    end = position + 8 + length
    checksum = data[end : end + 4]
    return checksum == zlib.crc32(memoryview(data)[position + 4 : end]).to_bytes(4, "big")


def _read_jpeg(data: bytes, name: str) -> ImageHeader:
    kept = [b"\xff\xd8"]
    position, n_segments, n_scans, orientation = 2, 0, 0, None
    frame: _JpegFrame | None = None
    is_multiscan = False
    pixels_start = 0
    # Before the first scan, segments follow each other; junk between them is skipped.
    while marker := _JPEG_MARKER.search(data, position):
        n_segments += 1
        if n_segments > MAX_JPEG_SEGMENTS:
            raise _too_costly(name, f"it has more than {MAX_JPEG_SEGMENTS:,} segments")
        start, code = marker.start(), data[marker.start() + 1]
        if code == 0xD9:  # End of the image; a phone may append others.
            position = start + 2
            break
        if code in (0x01, 0xD8):  # Markers without a length.
            position = start + 2
            continue
        (length,) = struct.unpack_from(">H", data, start + 2)
        position = start + 2 + length
        body = data[start + 4 : position]
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            if frame:
                raise damaged(name)
            frame = _read_jpeg_frame(code, body, name)
        elif code == 0xDA:
            n_scans += 1
            pixels_start = pixels_start or start
            if frame:
                is_multiscan |= body[0] < frame.n_channels
                _require_few_scans(n_scans, frame.width * frame.height, name)
        elif code == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = orientation or read_orientation(body[6:])
        if not pixels_start and _is_used_by_jpeg_decoder(code, body):
            kept.append(data[start:position])
    else:
        position = len(data)
    if not frame or not pixels_start:
        raise damaged(name)
    # The shortest codes have one bit: for each block, one code in the first scan of a progressive
    # image, and else two. Decoders show less data as a gray area.
    n_codes = frame.n_samples / 64 * {0xC0: 2, 0xC1: 2, 0xC2: 1}.get(frame.code, 0)
    if 8 * (position - pixels_start) < n_codes:
        raise damaged(name)
    codec_bytes = 2 * frame.n_samples if is_multiscan else 0
    if codec_bytes > MAX_COEFFICIENT_MB * 10**6:
        raise _too_costly(name, "it is a large progressive JPEG")
    content = b"".join([*kept, memoryview(data)[pixels_start:position]])
    return ImageHeader(
        frame.width, frame.height, orientation or 1, content, codec_bytes,
        is_cmyk=frame.n_channels == 4,
    )  # fmt: skip


class _JpegFrame(NamedTuple):
    code: int
    width: int
    height: int
    n_channels: int
    n_samples: int


def _read_jpeg_frame(code: int, body: bytes, name: str) -> _JpegFrame:
    """Return the start-of-frame segment, or raise `ImageError` if it is not supported."""
    bits, height, width, n_channels = struct.unpack_from(">BHHB", body)
    remedy = "Save the image as 8-bit RGB, for example PNG."
    if code not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise unsupported(name, "baseline or progressive JPEG", "lossless JPEG", remedy)
    if bits != 8:
        raise _more_bits(name, bits)
    if n_channels not in (1, 3, 4):
        raise unsupported(name, "1, 3 or 4 channels", f"{n_channels}", remedy)
    _require_size(width, height, name)
    n_samples = width * height * _sampling_ratio(body[7 : 6 + 3 * n_channels : 3], n_channels)
    return _JpegFrame(code, width, height, n_channels, round(n_samples))


def _require_few_scans(n_scans: int, n_pixels: int, name: str) -> None:
    if n_scans > MAX_JPEG_SCANS or n_scans * n_pixels > MAX_SCAN_PIXELS:
        limit = min(MAX_JPEG_SCANS, MAX_SCAN_PIXELS // n_pixels)
        raise _too_costly(name, f"it has more than {limit} progressive scans")


def _sampling_ratio(sampling: bytes, n_channels: int) -> float:
    """Return the number of samples per pixel of a JPEG file."""
    factors = [(factor >> 4, factor & 15) for factor in sampling]
    if len(factors) != n_channels or not all(1 <= a <= 4 and 1 <= b <= 4 for a, b in factors):
        raise ValueError("Invalid sampling factors.")
    largest = max(a for a, _ in factors) * max(b for _, b in factors)
    return sum(a * b for a, b in factors) / largest


def _is_used_by_jpeg_decoder(code: int, body: bytes) -> bool:
    """Return whether colors depend on a segment. Short JFIF and Adobe segments are ignored."""
    if code == 0xE0:
        return len(body) >= 14 and body.startswith(b"JFIF\0")
    if code == 0xEE:
        return len(body) >= 12 and body.startswith(b"Adobe")
    return not 0xE1 <= code <= 0xEF and code != 0xFE


class _TiffImage:
    """The largest image of a TIFF file, whose values are checked in the order of the methods.

    Directories that declare a reduced resolution are thumbnails and do not count. Of equally large
    images, the first is used.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.structure = TiffStructure(data)
        self.fields, self.page, self.n_pages = self._choose_page()
        self.width = self._integer(_WIDTH)
        self.height = self._integer(_HEIGHT)
        self.compression = self._integer(_COMPRESSION, 1)
        self.color_space = self._integer(_PHOTOMETRIC, 0)
        # JPEG compression stores three channels even where the field is missing.
        is_jpeg_color = self.compression == 6 and self.color_space in (2, 6)
        self.n_channels = self._integer(_CHANNELS, 3 if is_jpeg_color else 1)

    def header(self) -> ImageHeader:
        """Return the header, or raise `ImageError`."""
        self._require_no_slide()
        _require_size(self.width, self.height, self.name)
        n_bits = self._require_pixel_format()
        offsets_tag, counts_tag, n_parts, part_pixels = self._parts()
        if part_pixels > max(MAX_TIFF_TILE_PIXELS, _round_up(self.width) * _round_up(self.height)):
            raise _too_costly(self.name, "its tiles are larger than the image")
        # Each tile of JPEG data may have many progressive scans.
        n_scans = self.structure.data.count(b"\xff\xda") if self.compression in (6, 7) else 0
        if n_scans * part_pixels > MAX_SCAN_PIXELS:
            raise _too_costly(self.name, "it has too many progressive scans")
        obstacle = self._find_obstacle(n_bits)
        _require_full_size(self.width, self.height, self.name, obstacle)
        if n_parts > MAX_TIFF_PARTS:
            raise _too_costly(self.name, f"it has more than {MAX_TIFF_PARTS:,} strips or tiles")
        parts = {offsets_tag: self._numbers(offsets_tag, n_parts)}
        if counts_tag in self.fields:
            parts[counts_tag] = self._numbers(counts_tag, n_parts)
        elif self.compression != UNCOMPRESSED:
            raise damaged(self.name)
        self._require_enough_data(parts.get(counts_tag, ()), n_bits)
        orientation = self._integer(_ORIENTATION, 1)
        return ImageHeader(
            self.width,
            self.height,
            orientation if 1 <= orientation <= 8 else 1,
            write_directory(self.structure, self._decoder_fields(parts)),
            part_pixels * n_bits // 8,
            self._integer(_EXTRA_SAMPLES, 0) == _PREMULTIPLIED,
            16 if n_bits // self.n_channels > 8 else 8,
            self.color_space == _CMYK,
            self.page,
            self.n_pages,
        )

    def _choose_page(self) -> tuple[dict[int, Field], int, int]:
        """Return the directory of the largest image, its number, and the number of images."""
        offsets = list(self.structure.directory_offsets(MAX_TIFF_DIRECTORIES))
        if len(offsets) == MAX_TIFF_DIRECTORIES:
            raise _several_images(self.name, f"at least {MAX_TIFF_DIRECTORIES}")
        first = self.structure.read_directory(self.structure.first_offset)
        # A damaged further directory does not refuse the first image.
        others = self.structure.page_offsets(MAX_TIFF_DIRECTORIES)[1:]
        pages = [first, *(self.structure.read_directory(offset) for offset in others)]
        areas = [self._read(page, _WIDTH, 0) * self._read(page, _HEIGHT, 0) for page in pages]
        largest = areas.index(max(areas))
        return pages[largest], largest + 1, len(pages)

    def _require_no_slide(self) -> None:
        text = ""
        with suppress(ValueError, KeyError):
            text = self.structure.read_text(self.fields[_DESCRIPTION], 64)
        if (text.startswith("Aperio") and self.n_pages > 1) or _NDPI_VERSION in self.fields:
            raise ImageError(
                f"{self.name} is a whole slide. Expected one field of view. Export a field as PNG "
                "or TIFF from the slide viewer.",
                "unsupported",
            )

    def _require_pixel_format(self) -> int:
        """Return the number of bits of a pixel."""
        remedy = "Save the image as 8-bit RGB."
        if not 1 <= self.n_channels <= 6:
            raise unsupported(self.name, "1 to 6 channels", f"{self.n_channels}", remedy)
        bits = self._numbers(_BITS, self.n_channels) if _BITS in self.fields else (1,)
        if _SAMPLE_FORMAT in self.fields:
            formats = self._numbers(_SAMPLE_FORMAT, self.n_channels)
            kinds = {2: "signed integers", 3: "floating-point numbers", 5: "complex integers"}
            kinds[6] = "complex numbers"
            for kind in formats:
                if kind in kinds:
                    received = f"{max(bits)}-bit {kinds[kind]}"
                    raise unsupported(self.name, "8-bit unsigned integers", received, remedy)
        if max(bits) > 8:
            is_deep = set(bits) == {16} and self.color_space in (0, 1, 2) and self.n_channels <= 4
            if not is_deep:
                raise _more_bits(self.name, max(bits))
            _require_deep_size(self.width, self.height, self.name)
        if space := _COLOR_SPACES.get(self.color_space, f"color space {self.color_space}"):
            expected = "RGB, grayscale, palette or CMYK colors"
            raise unsupported(self.name, expected, space, remedy)
        if coding := _COMPRESSIONS.get(self.compression, f"compression {self.compression}"):
            expected = "no, LZW, Deflate, PackBits or JPEG compression"
            raise unsupported(self.name, expected, coding, "Save the image as PNG.")
        if _COLORS in self.fields and self.fields[_COLORS].n_values > 3 * 2**8:
            raise damaged(self.name)
        return sum(bits) if len(bits) == self.n_channels else self.n_channels * max(bits)

    def _find_obstacle(self, n_bits: int) -> str:
        """Return why the image cannot be decoded band by band; '' if it can."""
        if self.compression == _OLD_JPEG:
            return "old-style JPEG compression"
        if n_bits != 8 * self.n_channels:
            return "channels without 8 bits"
        if _STRIP_OFFSETS not in self.fields:
            n_rows = self._integer(_TILE_HEIGHT)
        elif self.compression == UNCOMPRESSED:
            return ""  # Its strips can be divided.
        else:
            n_rows = min(self._integer(_STRIP_ROWS, self.height), self.height)
        return (
            f"strips or tiles of {n_rows:,} rows" if n_rows * self.width > MAX_BAND_PIXELS else ""
        )

    def _parts(self) -> tuple[int, int, int, int]:
        """Return the tags of the offsets and byte counts, and the number and pixels of parts.

        The parts are tiles or strips.
        """
        n_planes = self.n_channels if self._integer(_PLANAR, 1) == 2 else 1
        if _STRIP_OFFSETS in self.fields:
            rows = min(self._integer(_STRIP_ROWS, self.height), self.height)
            n_parts = n_planes * -(-self.height // rows)
            return _STRIP_OFFSETS, _STRIP_BYTES, n_parts, self.width * rows
        width, height = self._integer(_TILE_WIDTH), self._integer(_TILE_HEIGHT)
        n_parts = n_planes * -(-self.width // width) * -(-self.height // height)
        return _TILE_OFFSETS, _TILE_BYTES, n_parts, width * height

    def _require_enough_data(self, counts: tuple[int, ...], n_bits: int) -> None:
        n_encoded = len(self.structure.data)
        if self.compression != UNCOMPRESSED:  # Its byte counts follow from the size.
            # Equal tiles may share their data, but not so often that reading them never ends.
            if sum(counts) > MAX_FILE_MB * 2**20:
                raise _too_costly(self.name, "its strips or tiles overlap")
            n_encoded = min(n_encoded, sum(counts))
        ratio = _COMPRESSION_RATIOS.get(self.compression)
        # Two of three channels in YCbCr may be stored at a small fraction of the resolution.
        n_decoded = self.width * self.height * n_bits // (24 if self.color_space == 6 else 8)
        if ratio and n_decoded > n_encoded * ratio:
            raise damaged(self.name)

    def _decoder_fields(
        self, parts: dict[int, tuple[int, ...]]
    ) -> dict[int, tuple[int, int, bytes]]:
        fields = {}
        for tag in _DECODER_TAGS:
            if (field := self.fields.get(tag)) and field.n_values:
                if field.n_bytes > _MAX_FIELD_BYTES:
                    raise damaged(self.name)
                if tag == _EXTRA_SAMPLES:
                    # Where the alpha channel is 0 everywhere, dividing by it would lose the colors.
                    meanings = self._numbers(tag, self.n_channels)
                    fields[tag] = self._pack(
                        tuple(_SEPARATE if m == _PREMULTIPLIED else m for m in meanings)
                    )
                elif field.kind in (16, 18):  # Eight bytes, in BigTIFF only.
                    fields[tag] = self._pack(self.structure.read_integers(field, field.n_values))
                else:
                    fields[tag] = field.kind, field.n_values, self.structure.read_bytes(field)
        return fields | {tag: self._pack(numbers) for tag, numbers in parts.items()}

    def _pack(self, numbers: tuple[int, ...]) -> tuple[int, int, bytes]:
        return 4, len(numbers), struct.pack(f"{self.structure.order}{len(numbers)}I", *numbers)

    def _numbers(self, tag: int, max_values: int) -> tuple[int, ...]:
        return self.structure.read_integers(self.fields[tag], max_values)

    def _integer(self, tag: int, default: int | None = None) -> int:
        """Return the first value of a field; a missing or damaged optional field is the default."""
        return self._read(self.fields, tag, default)

    def _read(self, fields: dict[int, Field], tag: int, default: int | None) -> int:
        try:
            (number,) = self.structure.read_integers(fields[tag], 1)
        except (ValueError, KeyError):
            if default is None:
                raise
            return default
        return number


def _round_up(side_px: int) -> int:
    """Return the side rounded up to a multiple of 16, as tiles are."""
    return -(-side_px // 16) * 16
