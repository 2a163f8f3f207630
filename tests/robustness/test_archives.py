"""Archives of other programs are read or name a remedy that works; hostile ones end early."""

import gzip
import io
import os
import struct
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from bc_model.data import archives, generate_image
from bc_model.data.archives import Unpacked, open_archive, unpack
from bc_model.errors import ArchiveError

MAX_SECONDS = 3.0
BLOCK = tarfile.BLOCKSIZE


@pytest.fixture(scope="module")
def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(generate_image(malignant=False, seed=0, size=(32, 48))).save(buffer, "PNG")
    return buffer.getvalue()


def extract(path: Path) -> Unpacked:
    with open_archive(path, path.name) as archive:
        return unpack(archive, path.with_name(f"{path.name}-unpacked"))


def refuse(path: Path, content: bytes = b"") -> str:
    """Return the message of the refusal, which uses less than `MAX_SECONDS` of processor time."""
    if content:
        path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(ArchiveError) as refusal:
        extract(path)
    assert time.process_time() - started < MAX_SECONDS
    return str(refusal.value)


def write_zip(path: Path, png: bytes, *names: str, system: int = 3) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system = name, system
            archive.writestr(info, b"" if name.endswith(("/", "\\")) else png)
    return path


def repack(path: Path, name: str, png: bytes) -> None:
    """Pack the image as the remedy of a refusal says, and check that it is taken."""
    with zipfile.ZipFile(path.with_name("new.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, png)
    with tarfile.open(path.with_name("new.tar.gz"), "w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(png)
        tar.addfile(info, io.BytesIO(png))
    for new in ("new.zip", "new.tar.gz"):
        assert extract(path.with_name(new)).images == [name]


# Other programs


@pytest.mark.parametrize("system", [0, 10])
def test_zip_of_old_windows_program_has_its_backslashes_read_as_folders(
    tmp_path: Path, png: bytes, system: int
) -> None:
    path = write_zip(tmp_path / "a.zip", png, "benign\\", r"benign\x.png", system=system)
    assert extract(path) == Unpacked(["benign/x.png"], [])
    assert (tmp_path / "a.zip-unpacked/benign/x.png").read_bytes() == png


@pytest.mark.parametrize("name", [r"..\..\evil.png", r"\evils\x.png", r"C:\evil\x.png"])
def test_zip_of_old_windows_program_with_unsafe_path_is_refused(
    tmp_path: Path, png: bytes, name: str
) -> None:
    assert "invalid path" in refuse(write_zip(tmp_path / "a.zip", png, name, system=0))


def test_zip_with_backslashes_of_other_system_names_a_remedy_that_works(
    tmp_path: Path, png: bytes
) -> None:
    path = write_zip(tmp_path / "a.zip", png, r"benign\x.png")
    message = refuse(path)
    assert "contains the character '\\'" in message
    assert message.endswith("Pack the folder with 7-Zip as zip (method Deflate), or as tar.gz.")
    repack(path, "benign/x.png", png)


@pytest.mark.parametrize(
    ("code", "method"),
    [(9, "Deflate64, as Windows does above 2 GB"), (14, "LZMA"), (7, "method 7")],
)
def test_zip_with_other_compression_names_it_and_a_remedy_that_works(
    tmp_path: Path, png: bytes, code: int, method: str
) -> None:
    path = write_zip(tmp_path / "a.zip", png, "benign/x.png")
    data = path.read_bytes()
    for signature, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        for start in [i for i in range(len(data)) if data.startswith(signature, i)]:
            data = data[: start + offset] + struct.pack("<H", code) + data[start + offset + 2 :]
    message = refuse(path, data)
    assert f"Expected Deflate or none, got {method}. Pack the folder with 7-Zip" in message
    repack(path, "benign/x.png", png)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("scan 12:30/x.png", "contains the character ':'"),
        ("benign?/x.png", "contains the character '?'"),
        ("images /x.png", "a name ends with a space or dot"),
        ("et al./x.png", "a name ends with a space or dot"),
        ("a/../../x.png", "leads out of the archive"),
        ("/root/x.png", "leads out of the archive"),
        ("a" * 300 + ".png", "more than 400 characters, or 255 in a part"),
    ],
)
def test_unsafe_path_names_its_reason(tmp_path: Path, png: bytes, name: str, reason: str) -> None:
    message = refuse(write_zip(tmp_path / "a.zip", png, name))
    assert reason in message
    assert message.endswith("Rename the file or folder, and pack the folder again.")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tar_with_long_path_is_read(tmp_path: Path, png: bytes, form: int) -> None:
    name = "/".join(["benign", "f" * 90, "g" * 30, "ä" * 20 + ".png"])
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=form) as archive:
        info = tarfile.TarInfo(name)
        info.size, info.mtime = len(png), 1.5
        archive.addfile(info, io.BytesIO(png))
        archive.addfile(tarfile.TarInfo("notes.txt"))
    assert extract(tmp_path / "a.tar.gz") == Unpacked([name], [("notes.txt", "not an image")])


def test_gzip_with_several_members_and_padding_is_read(tmp_path: Path, png: bytes) -> None:
    info = tarfile.TarInfo("benign/x.png")
    info.size = len(png)
    tar = info.tobuf() + png + bytes(-len(png) % BLOCK + 2 * BLOCK)
    parts = [gzip.compress(tar[i : i + 700]) for i in range(0, len(tar), 700)]
    (tmp_path / "a.tar.gz").write_bytes(b"".join([*parts, gzip.compress(b""), bytes(512)]))
    assert extract(tmp_path / "a.tar.gz").images == ["benign/x.png"]


# Hostile archives


def extended_header(content: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(content)
    return info.tobuf() + content + bytes(-len(content) % BLOCK)


HEADER = tarfile.TarInfo("benign/x.png").tobuf()
HOSTILE_TARS = {
    # A regular expression of `tarfile` takes hours for this header (CVE-2024-6232).
    "digits": extended_header(b"1" * 200_000),
    "many records": extended_header(b"6 a=b\n" * 170_000) + HEADER,
    "endless record": extended_header(b"0 a=b\n") + HEADER,
    "record beyond the end": extended_header(b"99 path=a\n") + HEADER,
    "negative size": extended_header(b"11 size=-1\n") + HEADER,
    "large header": extended_header(bytes(2**21), tarfile.GNUTYPE_LONGNAME) + HEADER,
}


@pytest.mark.parametrize("name", HOSTILE_TARS)
def test_tar_with_hostile_header_is_refused(tmp_path: Path, name: str) -> None:
    message = refuse(tmp_path / "a.tar.gz", gzip.compress(HOSTILE_TARS[name] + bytes(2 * BLOCK)))
    assert message == "a.tar.gz is damaged or incomplete. Copy or download it again."


@pytest.mark.parametrize(
    "tar",
    [
        extended_header(b"22 GNU.sparse.major=1\n") + HEADER,
        HEADER[:156] + b"S" + HEADER[157:],
    ],
)
def test_tar_with_sparse_file_is_refused(tmp_path: Path, tar: bytes) -> None:
    checksum = sum(tar[-BLOCK:][:148]) + 8 * 32 + sum(tar[-BLOCK:][156:])
    tar = tar[:-BLOCK] + tar[-BLOCK:][:148] + b"%06o\0 " % checksum + tar[-BLOCK:][156:]
    message = refuse(tmp_path / "a.tar.gz", gzip.compress(tar + bytes(2 * BLOCK)))
    assert "contains benign/x.png, which is a link or device" in message


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 20_000_000,  # a file name without end
        gzip.compress(b"") * 500_000,
    ],
    ids=["name", "members"],
)
def test_gzip_with_endless_header_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "is damaged or incomplete" in refuse(tmp_path / "a.tar.gz", content)


def test_gzip_bomb_ends_long_before_its_end(tmp_path: Path) -> None:
    info = tarfile.TarInfo("notes.txt")
    info.size = 2**33
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    start = packer.compress(info.tobuf(tarfile.GNU_FORMAT)) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, the same packed bytes can be repeated: 8 GB of zeros.
    zeros = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    message = refuse(tmp_path / "a.tar.gz", start + zeros * 500)
    assert "unpacks to too many bytes" in message


def test_zip_with_overlapping_files_is_refused(tmp_path: Path, png: bytes) -> None:
    path = write_zip(tmp_path / "a.zip", png, "benign/x.png")
    files, directory = path.read_bytes().split(b"PK\1\2")
    entry, end = directory.split(b"PK\5\6")
    entries = (b"PK\1\2" + entry) * 10
    end = end[:4] + struct.pack("<HHI", 10, 10, len(entries)) + end[12:]
    message = refuse(path, files + entries + b"PK\5\6" + end)
    assert message.startswith("a.zip contains files that share bytes.")


def test_zip_with_huge_directory_is_refused(tmp_path: Path) -> None:
    record = b"PK\1\2" + bytes(24) + struct.pack("<H", 6) + bytes(16)
    directory = b"".join(record + b"%06x" % number for number in range(120_000))
    end = struct.pack("<HHHHIIH", 0, 0, 65535, 65535, len(directory), 4, 0)
    message = refuse(tmp_path / "a.zip", b"PK\3\4" + directory + b"PK\5\6" + end)
    assert "has too many files. Expected at most 100,000 files" in message


@pytest.mark.parametrize("name", ["pipe", "device"])
def test_archive_that_is_no_regular_file_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero")}[name]
    with pytest.raises(ArchiveError, match=r"cannot be read \(Not a regular file\)"):
        extract(path)


def make_extended_headers(n: int) -> bytes:
    """Return a tar archive of long names that belong to no file."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, BLOCK
    return gzip.compress((info.tobuf(tarfile.GNU_FORMAT) + bytes(BLOCK)) * n, 1)


def test_headers_without_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_HEADERS", 30)
    assert "too many files" in refuse(tmp_path / "a", make_extended_headers(31))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE, tarfile.DIRTYPE])
def test_unpacking_can_be_stopped_between_headers_without_files(
    tmp_path: Path, kind: bytes
) -> None:
    class ClosedError(Exception):
        pass

    info = tarfile.TarInfo("a")
    info.type = kind
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) * 1000))
    n_calls = 0

    def stop(_: int, __: int) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 5:
            raise ClosedError

    with open_archive(path, "a") as archive, pytest.raises(ClosedError):
        unpack(archive, tmp_path / "out", progress=stop)
