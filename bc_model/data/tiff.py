"""Directories of TIFF structures: TIFF and BigTIFF files, and the EXIF data of other formats.

Reads no pixels. Every offset and count is checked against the data, and nothing is read twice.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAX_FIELDS = 4096
"""Largest number of fields in a directory. The TIFF standard defines fewer than 200 tags."""

_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4} | {
    16: 8, 17: 8, 18: 8,
}  # fmt: skip
_RATIONAL, _ASCII = 5, 2
_SUBFILE_TYPE, _REDUCED = 254, 1


class Field(NamedTuple):
    """One field of a directory: its type, number of values, and position in the file."""

    kind: int
    n_values: int
    position: int

    @property
    def n_bytes(self) -> int:
        """Size of the values; 0 for an unknown type."""
        return self.n_values * _SIZES.get(self.kind, 0)


class TiffStructure:
    """The byte order and the directories of a TIFF structure.

    Parameters
    ----------
    data : bytes
        Content that begins with the TIFF header.

    Raises
    ------
    ValueError
        The content does not begin with a TIFF header.
    """

    def __init__(self, data: bytes) -> None:
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        if order is None or len(data) < 16:
            raise ValueError("No TIFF header.")
        self.data = data
        self.order = order
        (version,) = struct.unpack_from(f"{order}H", data, 2)
        if version not in (42, 43):
            raise ValueError("No TIFF header.")
        self._is_big = version == 43
        offset_code, position = ("Q", 8) if self._is_big else ("I", 4)
        self._count_format = f"{order}{'Q' if self._is_big else 'H'}"
        self._entry_format = f"{order}HH{offset_code}{8 if self._is_big else 4}s"
        self._offset_format = f"{order}{offset_code}"
        (self.first_offset,) = struct.unpack_from(self._offset_format, data, position)

    def read_directory(self, offset: int) -> dict[int, Field]:
        """Return the fields of the directory at an offset, by tag; of equal tags, the first.

        Raises
        ------
        ValueError
            The directory is outside the data or has too many fields.
        """
        first, end = self._entries_range(offset)
        entry_size = struct.calcsize(self._entry_format)
        inline = struct.calcsize(self._offset_format)
        fields: dict[int, Field] = {}
        entries = struct.iter_unpack(self._entry_format, self.data[first:end])
        for i, (tag, kind, count, value) in enumerate(entries):
            position = first + (i + 1) * entry_size - inline
            if count * _SIZES.get(kind, 0) > inline:
                (position,) = struct.unpack(self._offset_format, value)
            fields.setdefault(tag, Field(kind, count, position))
        return fields

    def directory_offsets(self, max_directories: int) -> Iterator[int]:
        """Yield the offsets of the directories inside the data, at most `max_directories`."""
        offset, visited = self.first_offset, set[int]()
        while offset and offset not in visited and len(visited) < max_directories:
            try:
                _, end = self._entries_range(offset)
                (following,) = struct.unpack_from(self._offset_format, self.data, end)
            except struct.error:
                following = 0  # Some writers omit the last offset.
            except ValueError:
                return
            yield offset
            visited.add(offset)
            offset = following

    def page_offsets(self, max_directories: int) -> list[int]:
        """Return the offsets of the directories of images, without thumbnails and damaged ones.

        The first directory is always one of them.
        """
        offsets = list(self.directory_offsets(max_directories))
        return offsets[:1] + [offset for offset in offsets[1:] if not self._is_thumbnail(offset)]

    def isolate_directory(self, offset: int) -> bytes:
        """Return the data with the directory at an offset as the only one."""
        content = bytearray(self.data)
        struct.pack_into(self._offset_format, content, 8 if self._is_big else 4, offset)
        _, end = self._entries_range(offset)
        if end + struct.calcsize(self._offset_format) <= len(content):
            struct.pack_into(self._offset_format, content, end, 0)
        return bytes(content)

    def _is_thumbnail(self, offset: int) -> bool:
        """Return whether a directory is damaged or declares a reduced resolution."""
        try:
            field = self.read_directory(offset).get(_SUBFILE_TYPE)
            return bool(field and self.read_integers(field, 1)[0] & _REDUCED)
        except (ValueError, LookupError, struct.error):
            return True

    def read_bytes(self, field: Field) -> bytes:
        """Return the values of a field as they are stored, or raise `ValueError`."""
        content = self.data[field.position : field.position + field.n_bytes]
        if len(content) != field.n_bytes or not content:
            raise ValueError("A field is outside the data.")
        return content

    def read_integers(self, field: Field, max_values: int) -> tuple[int, ...]:
        """Return at most `max_values` integers of a field, or raise `ValueError`."""
        if field.kind not in _INTEGER_CODES:
            raise ValueError("A field has no integers.")
        field = field._replace(n_values=min(field.n_values, max_values))
        content = self.read_bytes(field)
        return struct.unpack(f"{self.order}{field.n_values}{_INTEGER_CODES[field.kind]}", content)

    def read_rational(self, field: Field) -> float:
        """Return the first fraction of a field, or raise `ValueError`."""
        if field.kind != _RATIONAL or not field.n_values:
            raise ValueError("A field has no fraction.")
        numerator, denominator = struct.unpack(
            f"{self.order}II", self.read_bytes(field._replace(n_values=1))
        )
        return numerator / denominator if denominator else 0.0

    def read_text(self, field: Field, max_bytes: int) -> str:
        """Return the beginning of a text, or raise `ValueError`."""
        if field.kind != _ASCII:
            raise ValueError("A field has no text.")
        content = self.read_bytes(field._replace(n_values=min(field.n_values, max_bytes)))
        return content.partition(b"\0")[0].decode("utf-8", "replace")

    def _entries_range(self, offset: int) -> tuple[int, int]:
        """Return where the fields of a directory begin and end."""
        try:
            (count,) = struct.unpack_from(self._count_format, self.data, offset)
        except (struct.error, OverflowError) as error:
            raise ValueError("A directory is outside the data.") from error
        first = offset + struct.calcsize(self._count_format)
        end = first + count * struct.calcsize(self._entry_format)
        if count > MAX_FIELDS or end > len(self.data):
            raise ValueError("A directory is outside the data.")
        return first, end


def read_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a TIFF structure, 1 to 8; 1 if it is missing or damaged."""
    try:
        structure = TiffStructure(data)
        field = structure.read_directory(structure.first_offset)[274]
        (orientation,) = structure.read_integers(field, 1)
    except (ValueError, KeyError):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def write_directory(structure: TiffStructure, fields: dict[int, tuple[int, int, bytes]]) -> bytes:
    """Return the data as a TIFF file with one directory, which contains only the given fields.

    `fields` are the type, the number of values and the stored values by tag. The data behind the
    header keep their positions, so that offsets remain valid. A BigTIFF file becomes a TIFF file.
    """
    order, data = structure.order, structure.data
    padding = bytes(-len(data) % 4)
    directory = len(data) + len(padding)
    position = directory + 2 + 12 * len(fields) + 4
    entries, values = [struct.pack(f"{order}H", len(fields))], []
    for tag in sorted(fields):
        kind, count, content = fields[tag]
        if len(content) > 4:
            content += bytes(-len(content) % 4)
            values.append(content)
            stored, position = struct.pack(f"{order}I", position), position + len(content)
        else:
            stored = content.ljust(4, b"\0")
        entries.append(struct.pack(f"{order}HHI", tag, kind, count) + stored)
    header = data[:2] + struct.pack(f"{order}HI", 42, directory)
    return b"".join([header, memoryview(data)[8:], padding, *entries, bytes(4), *values])
