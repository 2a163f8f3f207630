"""Mutations of valid files, for fuzzing: of bytes, and of the structure of each format.

Each function returns the changed content for a random generator, so that a seed repeats it.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

INTEGERS = (
    0, 1, 2, 7, 0x7F, 0x80, 0xFF, 255, 256, 0x7FFF, 0xFFFF, 65_500, 100_000,
    0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
)  # fmt: skip
"""Limits of integer types and of image formats."""

VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, -1e308, "", " ",
    "x" * 5000, "../../etc/passwd", "/dev/zero", "\0", "\u202e", "\ud800",
    "<script>alert(1)</script>", "NaN", "1e5", "2026-13-99T99:99:99", "bundled", "done", [], {},
    [[]], [None], {"a": 1}, {"": None},
)  # fmt: skip
"""JSON values of every type, at the limits of what a reader expects."""

TEXTS = (
    '{"a":',
    "NaN",
    "Infinity",
    "-1e999",
    '"\\ud800"',
    "[" * 50_000,
    '{"a":' * 50_000,
    "1" * 6000,
)
"""JSON texts that parsers refuse, or accept although the standard does not."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def mutate_bytes(rng: random.Random, data: bytes, donors: Sequence[bytes] = ()) -> bytes:
    """Change, delete, duplicate or insert bytes in one to thirty places.

    Parameters
    ----------
    rng : random.Random
        Source of all choices.
    data : bytes
        A valid file.
    donors : sequence of bytes
        Files to copy pieces from.
    """
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8, 30))):
        # Headers and directories are at the start or at the end of a file.
        size = len(result)
        start = rng.randrange(min(size, rng.choice((64, 256, 1024, size)) or 1) or 1)
        if size and rng.random() < 0.2:
            start = size - 1 - start
        end = start + rng.randrange(1, 200)
        match rng.randrange(9):
            case 0 if size:
                result[start] ^= 1 << rng.randrange(8)
            case 1:
                code = rng.choice((">I", "<I", ">H", "<H", "B"))
                value = rng.choice(INTEGERS) % (1 << 8 * struct.calcsize(code))
                result[start : start + struct.calcsize(code)] = struct.pack(code, value)
            case 2:
                del result[start + 1 :]
            case 3:
                del result[start:end]
            case 4:
                result[start:start] = result[start:end]
            case 5:
                result[start:start] = rng.randbytes(rng.randrange(1, 50))
            case 6 if donors:
                donor = rng.choice(donors)
                offset = rng.randrange(len(donor) or 1)
                result[start:end] = donor[offset : offset + end - start]
            case 7:
                result[start:end] = bytes(min(end, size) - min(start, size))
            case 8:
                result += rng.randbytes(rng.randrange(1, 500))
    return bytes(result)


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """Change values, types and keys of a JSON text, or its encoding, nesting and numbers."""
    try:
        value = json.loads(data)
    except ValueError:  # Mutated before.
        return mutate_bytes(rng, data)
    if rng.random() < 0.15:
        return mutate_bytes(rng, data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _mutate_value(rng, value)
    text = json.dumps(value)
    match rng.randrange(40):
        case 0:
            return text.encode("utf-16")
        case 1:
            return b"\xef\xbb\xbf" + text.encode()
        case 2:
            return text.replace("a", "\xe9").encode("latin-1")
        case 3 | 4:
            return _replace_number(rng, text).encode()
        case 5:
            return rng.choice(TEXTS).encode()
        case 6:
            return text.encode() * 2
    return text.encode()


def mutate_json_lines(rng: random.Random, data: bytes) -> bytes:
    """Change, repeat, delete or exchange lines of a file with one JSON text per line."""
    lines = data.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2))):
        line = rng.randrange(len(lines))
        match rng.randrange(6):
            case 0:
                lines.insert(line, lines[rng.randrange(len(lines))])
            case 1 if len(lines) > 1:
                del lines[line]
            case 2:
                other = rng.randrange(len(lines))
                lines[line], lines[other] = lines[other], lines[line]
            case 3:
                lines[line] = mutate_bytes(rng, lines[line])
            case _:
                lines[line] = mutate_json(rng, lines[line]) + b"\n"
    return b"".join(lines)


def mutate_table(rng: random.Random, data: bytes, separator: bytes) -> bytes:
    """Change cells, rows and columns of a table with one row per line."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, data)
    rows = [line.split(separator) for line in data.splitlines()]
    for _ in range(rng.choice((1, 1, 2, 8))):
        number = rng.randrange(len(rows))
        row = rows[number]
        column = rng.randrange(len(row) or 1)
        match rng.randrange(8):
            case 0:
                rows.insert(number, list(rows[rng.randrange(len(rows))]))
            case 1 if len(rows) > 1:
                del rows[number]
            case 2:
                rows = [[*r[:column], *r[column + 1 :]] for r in rows]
            case 3:
                row.insert(column, b"x")
            case 4:
                rows[number] = [b'"' + row[0], *row[1:]] if row else row
            case _ if row:
                row[column] = rng.choice(
                    (b"", b" ", b"-1", b"1e999", b"nan", b"\xff\xfe", b"\0", b"x" * 5000, b"../x",
                     b'"', b"=1+1", "\u202e".encode(), row[rng.randrange(len(row))])
                )  # fmt: skip
    return b"\n".join(separator.join(row) for row in rows) + b"\n"


def mutate_png(rng: random.Random, data: bytes, donors: Sequence[bytes] = ()) -> bytes:
    """Change, repeat, delete or insert chunks of a PNG file, mostly with valid checksums."""
    if rng.random() < 0.25:
        return mutate_bytes(rng, data, donors)
    chunks = list(_png_chunks(data))
    for _ in range(rng.choice((1, 1, 2, 4))):
        number = rng.randrange(len(chunks))
        kind, body = chunks[number]
        match rng.randrange(7):
            case 0:
                chunks.insert(number, chunks[rng.randrange(len(chunks))])
            case 1 if len(chunks) > 1:
                del chunks[number]
            case 2:
                kinds = (
                    b"iCCP",
                    b"zTXt",
                    b"tEXt",
                    b"eXIf",
                    b"tRNS",
                    b"PLTE",
                    b"acTL",
                    b"gAMA",
                    b"abCd",
                )
                packed = b"name\0\0" + zlib.compress(bytes(rng.choice((10, 10**6, 10**7))), 9)
                body = rng.choice((b"", packed, rng.randbytes(40)))
                chunks.insert(rng.randrange(len(chunks) + 1), (rng.choice(kinds), body))
            case 3:
                fields = bytearray(chunks[0][1].ljust(13, b"\0"))
                if rng.random() < 0.5:
                    struct.pack_into(">I", fields, rng.choice((0, 4)), rng.choice(INTEGERS))
                else:
                    fields[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
                chunks[0] = chunks[0][0], bytes(fields)
            case 4 if kind == b"IDAT":
                with suppress(zlib.error):  # Mutated before.
                    pixels = zlib.decompressobj().decompress(body, 2**22)
                    chunks[number] = kind, zlib.compress(mutate_bytes(rng, pixels), 1)
            case _:
                chunks[number] = kind, mutate_bytes(rng, body)
    is_damaged = rng.random() < 0.1
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body) & 0xFFFF_FFFF) + kind + body
        + struct.pack(">I", zlib.crc32(kind + body) ^ is_damaged)
        for kind, body in chunks
    )  # fmt: skip


def mutate_jpeg(rng: random.Random, data: bytes, donors: Sequence[bytes] = ()) -> bytes:
    """Change, repeat, delete or exchange segments of a JPEG file."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, data, donors)
    segments = list(_jpeg_segments(data))
    for _ in range(rng.choice((1, 1, 2, 4))):
        number = rng.randrange(len(segments))
        match rng.randrange(5):
            case 0:
                copies = rng.choice((1, 1, 2, 100))
                segments[number:number] = [segments[rng.randrange(len(segments))]] * copies
            case 1 if len(segments) > 1:
                del segments[number]
            case 2:
                other = rng.randrange(len(segments))
                segments[number], segments[other] = segments[other], segments[number]
            case _:
                head, body = segments[number][:4], bytearray(segments[number][4:])
                if body:
                    body[rng.randrange(min(len(body), 32))] = rng.choice(INTEGERS) & 0xFF
                segments[number] = head + body
    return b"".join(segments)


def mutate_tiff(rng: random.Random, data: bytes, donors: Sequence[bytes] = ()) -> bytes:
    """Change tags, types, counts and values of the first directory of a TIFF file."""
    result = bytearray(data)
    directory = struct.unpack_from("<I", data, 4)[0]
    if rng.random() < 0.25 or data[:2] != b"II" or directory + 2 > len(data):
        return mutate_bytes(rng, data, donors)
    n_entries = struct.unpack_from("<H", data, directory)[0]
    for _ in range(rng.choice((1, 1, 2, 4))):
        entry = directory + 2 + 12 * rng.randrange(n_entries)
        match rng.randrange(8):
            case 0:
                tags = (
                    256,
                    257,
                    258,
                    259,
                    262,
                    273,
                    277,
                    278,
                    279,
                    317,
                    322,
                    323,
                    324,
                    325,
                    338,
                    339,
                )
                struct.pack_into("<H", result, entry, rng.choice(tags))
            case 1:
                struct.pack_into("<H", result, entry + 2, rng.choice((*range(14), 16, 255)))
            case 2:
                struct.pack_into("<I", result, entry + 4, rng.choice(INTEGERS))
            case 3:
                following = (directory, 8, len(data) - 6, rng.choice(INTEGERS))
                struct.pack_into(
                    "<I", result, directory + 2 + 12 * n_entries, rng.choice(following)
                )
            case 4:
                struct.pack_into("<H", result, directory, rng.choice((0, 1, n_entries + 1, 0xFFFF)))
            case _:
                values = (*INTEGERS, 5, 6, 8, 16, 32, 34_712, 50_001, len(data), directory)
                struct.pack_into("<I", result, entry + 8, rng.choice(values))
    return bytes(result)


def mutate_zip(rng: random.Random, data: bytes, donors: Sequence[bytes] = ()) -> bytes:
    """Change fields and names in the directory and in the headers of a zip archive."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, data, donors)
    result = bytearray(data)
    # Offset and size of the fields: flags, method, times, checksum, sizes, lengths, attributes.
    central = (
        (8, 2),
        (10, 2),
        (16, 4),
        (20, 4),
        (24, 4),
        (28, 2),
        (30, 2),
        (32, 2),
        (38, 4),
        (42, 4),
    )
    local = ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))
    end = ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2))
    records = [
        (offset, fields)
        for signature, fields in ((b"PK\1\2", central), (b"PK\3\4", local), (b"PK\5\6", end))
        for offset in _find_all(data, signature)
    ]
    for _ in range(rng.choice((1, 1, 2, 4))):
        offset, fields = rng.choice(records)
        if rng.random() < 0.3 and fields is not end:
            size = 46 if fields is central else 30
            length = struct.unpack_from("<H", data, offset + (28 if fields is central else 26))[0]
            names = (
                b"../../x.png",
                b"/etc/x.png",
                b"C:\\x.png",
                b"a\0b.png",
                b"\xff\xfe.png",
                b"con.png",
            )
            name = rng.choice(names).ljust(length, b"y")[:length]
            result[offset + size : offset + size + length] = name
            continue
        position, width = rng.choice(fields)
        # Methods, and the type of a symbolic link, are values that readers treat specially.
        value = rng.choice((*INTEGERS, 8, 9, 12, 14, 99, 0o120777 << 16)) & ((1 << 8 * width) - 1)
        result[offset + position : offset + position + width] = value.to_bytes(width, "little")
    return bytes(result)


def mutate_stored_zip(rng: random.Random, data: bytes, donors: Sequence[bytes] = ()) -> bytes:
    """Change one file in a zip archive without compression, mostly with a valid checksum."""
    if rng.random() < 0.3:
        return mutate_zip(rng, data, donors)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    chosen = rng.choice(list(contents))
    match rng.randrange(8):
        case 0:
            del contents[chosen]
        case 1:
            contents[rng.choice(("kernel_9", "x.npy", "../x", chosen + "x"))] = contents[chosen]
        case _:
            contents[chosen] = mutate_bytes(rng, contents[chosen], list(contents.values()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def mutate_tar_gz(rng: random.Random, data: bytes, donors: Sequence[bytes] = ()) -> bytes:
    """Change header fields of a compressed tar archive, mostly with valid checksums."""
    if rng.random() < 0.2:
        return mutate_bytes(rng, data, donors)
    blocks = bytearray(gzip.decompress(data))
    headers = [i for i in range(0, len(blocks), 512) if blocks[i + 257 : i + 262] == b"ustar"]
    if rng.random() < 0.2 or not headers:
        return gzip.compress(mutate_bytes(rng, bytes(blocks)), 1, mtime=0)
    for _ in range(rng.choice((1, 1, 2, 4))):
        header = rng.choice(headers)
        match rng.randrange(5):
            case 0:
                blocks[header + 156] = rng.choice(b"\x000123456789xgLKSDNVAZ")
            case 1:
                texts = (b"-1", b"77777777777", b"00000000000", b"zzz", b"\x80" + b"\xff" * 11)
                blocks[header + 124 : header + 136] = rng.choice(texts).ljust(12, b"\0")[:12]
            case 2:
                names = (
                    b"../../x.png",
                    b"/etc/x.png",
                    b"a/../b.png",
                    b"\xff.png",
                    b"benign\\x.png",
                    b"",
                )
                blocks[header : header + 100] = rng.choice(names).ljust(100, b"\0")
            case 3:
                link = rng.choice((b"../../x", b"/etc/passwd", b"x"))
                blocks[header + 157 : header + 257] = link.ljust(100, b"\0")
            case 4:
                blocks[header + rng.randrange(512)] = rng.choice(INTEGERS) & 0xFF
        if rng.random() < 0.9:
            blocks[header + 148 : header + 156] = b" " * 8
            checksum = sum(blocks[header : header + 512])
            blocks[header + 148 : header + 156] = b"%06o\0 " % checksum
    return gzip.compress(bytes(blocks), 1, mtime=0)


def _mutate_value(rng: random.Random, value: Any) -> Any:
    """Change one node of a JSON value, in place unless it is the root."""
    # Containers of `VALUES` are shared, and a later mutation would change them.
    new = copy.deepcopy(rng.choice(VALUES))
    nodes = list(_walk(value)) if isinstance(value, (dict, list)) else []
    if not nodes or rng.random() < 0.02:
        return new
    parent, key = rng.choice(nodes)
    match rng.randrange(8):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice(("extra", "value", "state", "", "x" * 3000))] = new
        case 1:
            parent.append(new)
        case 2 if isinstance(parent, dict):
            parent[f"{key} "] = parent.pop(key)
        case 3:
            parent[key] = [parent[key]]
        case 4:
            parent[key] = str(parent[key])
        case _:
            parent[key] = new
    return value


def _walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key of every node below a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _walk(value[key])


def _replace_number(rng: random.Random, text: str) -> str:
    """Replace a value by a text that is not valid JSON, or is valid and extreme."""
    start = text.find(": ", rng.randrange(len(text)))
    ends = [i for i in (text.find(c, start + 1) for c in ",}]") if i > 0]
    return text[: start + 2] + rng.choice(TEXTS) + text[min(ends) :] if start > 0 and ends else text


def _find_all(data: bytes, part: bytes) -> Iterator[int]:
    start = data.find(part)
    while start >= 0:
        yield start
        start = data.find(part, start + 1)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the content of each chunk of a valid PNG file."""
    position = len(PNG_SIGNATURE)
    while position < len(data):
        length = struct.unpack_from(">I", data, position)[0]
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """Yield the start marker, the segments with their coded data, and the end marker."""
    yield data[:2]
    position = 2
    while position < len(data) - 2:
        end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        if data[position + 1] == 0xDA:
            # Coded data ends at a marker that is no stuffed byte and no restart marker.
            while not (data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
        yield data[position:end]
        position = end
    yield data[-2:]
