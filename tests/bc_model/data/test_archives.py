"""Extraction from valid, careless and malicious archives."""

import gc
import gzip
import io
import random
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bc_model.data import archives as archives
from bc_model.data import disk_space
from bc_model.data.archives import Unpacked, open_archive, unpack
from bc_model.errors import ArchiveError, DataError

B = "set/benign/SOB_B_A-14-100-40-001.png"
M = "set/malignant/SOB_M_DC-14-300-40-001.png"


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (32, 32), random.Random(seed).randbytes(3072)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()
Files = list[tuple[str, bytes]]


def make_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # For duplicate names.
        for name, data in files:
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            archive.addfile(info, io.BytesIO(data))
    return path


both = pytest.mark.parametrize("make", [make_zip, make_tar])
Make = Callable[[Path, Files], Path]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def extract(path: Path, out: Path) -> Unpacked:
    with open_archive(path, path.name) as archive:
        return unpack(archive, out)


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# Images and skipped files


@both
def test_unpack_images_writes_unchanged_bytes(tmp_path: Path, out: Path, make: Make) -> None:
    path = make(tmp_path / "a", [("set/", b""), (B, png(1)), (f"./{M}", png(2))])
    found = extract(path, out)
    assert read_tree(out) == {B: png(1), M: png(2)}
    assert (found.images, found.skipped) == ([B, M], [])
    assert {stat.S_IMODE(path.stat().st_mode) & 0o111 for path in out.rglob("*.png")} == {0}


@both
def test_unpack_other_files_are_skipped_with_reason(tmp_path: Path, out: Path, make: Make) -> None:
    foreign = {
        "set/README.txt": ("not an image", b"by x"),
        "set/run.exe": ("not an image", b"MZ"),
        "set/install.sh": ("not an image", b"#!/bin/sh"),
        "set/noname": ("not an image", PNG),
        "set/more.zip": ("nested archive", b"PK\x03\x04"),
        "set/more.tar.gz": ("nested archive", b"\x1f\x8b"),
        "__MACOSX/set/._a.png": ("hidden", PNG),
        "set/.git/a.png": ("hidden", PNG),
        "set/.DS_Store": ("hidden", b"x"),
        "set/program.png": ("invalid content", b"MZ\x90\x00"),
        "set/empty.png": ("invalid content", b""),
    }
    found = extract(
        make(tmp_path / "a", [*((n, d) for n, (_, d) in foreign.items()), (B, PNG)]), out
    )
    assert read_tree(out) == {B: PNG}
    assert dict(found.skipped) == {name: reason for name, (reason, _) in foreign.items()}


@both
def test_unpack_too_large_image_is_skipped(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_MB", 0.01)
    found = extract(make(tmp_path / "a", [(B, PNG + bytes(20_000)), (M, PNG)]), out)
    assert found.skipped == [(B, "too large")]
    assert read_tree(out) == {M: PNG}


@both
def test_unpack_progress_ends_near_archive_size(tmp_path: Path, out: Path, make: Make) -> None:
    path = make(tmp_path / "a", [(f"benign/{i}.png", png(i)) for i in range(30)])
    reported: list[tuple[int, int]] = []
    with open_archive(path, "a") as archive:
        unpack(archive, out, progress=lambda done, total: reported.append((done, total)))
    assert len(reported) == 31  # Before each file, and at the end.
    assert {total for _, total in reported} == {path.stat().st_size}
    assert reported == sorted(reported)
    assert 0.8 < reported[-1][0] / reported[-1][1] <= 1.0


def test_open_archive_wrong_suffix_detects_format_from_bytes(tmp_path: Path, out: Path) -> None:
    extract(make_tar(tmp_path / "images.zip", [(B, PNG)]), out)
    assert read_tree(out) == {B: PNG}


# Unsafe paths


@both
@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "set/../../evil.png",
        "set/..",
        "/etc/evil.png",
        "//host/share/evil.png",
        "C:/evil.png",
        "C:evil.png",
        "set\\..\\evil.png",
        "\\evil.png",
        "set//evil.png",
        "set/evil.png:stream",
        "set/evil\n.png",
        "set /evil.png",
        "set./evil.png",
        "a" * 252 + ".png",
        "\u00e4" * 150 + ".png",  # 304 bytes
        "/".join(["abc"] * 120) + ".png",
        "../README.txt",  # refused although it would be skipped
    ],
)
def test_unpack_unsafe_path_refuses_archive(
    tmp_path: Path, out: Path, make: Make, name: str
) -> None:
    path = make(tmp_path / "a", [(B, PNG), (name, PNG)])
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ArchiveError, match="a contains the invalid path"):
        extract(path, out)
    assert {p for p in set(tmp_path.rglob("*")) - before if not p.is_relative_to(out)} == set()
    assert set(read_tree(out)) <= {B}


def test_unpack_null_byte_in_zip_name_is_refused(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "a", [(B, PNG), ("set/evilXpng", PNG)])
    path.write_bytes(path.read_bytes().replace(b"evilXpng", b"evil\0png"))
    with pytest.raises(ArchiveError, match="invalid path"):
        extract(path, out)


# Links and devices


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_unpack_link_or_device_in_tar_is_refused(tmp_path: Path, out: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a", "w:gz") as archive:
        info = tarfile.TarInfo("set/benign/link.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(
        ArchiveError, match=r"contains set/benign/link\.png, which is a link or device"
    ):
        extract(tmp_path / "a", out)
    assert read_tree(out) == {}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_unpack_link_or_device_in_zip_is_refused(tmp_path: Path, out: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        info = zipfile.ZipInfo("set/benign/link.png")
        info.create_system = 3
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="a link or device"):
        extract(tmp_path / "a", out)
    assert read_tree(out) == {}


# Duplicate paths


@both
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (B, B),
        (B, f"./{B}"),
        (B, B.upper().replace(".PNG", ".png")),
        ("set/\u00e9.png", "set/e\u0301.png"),
        ("set/a.png", "set/a.png/b.png"),
        ("set/a.png/b.png", "set/a.png"),
    ],
)
def test_unpack_duplicate_path_is_refused(
    tmp_path: Path, out: Path, make: Make, first: str, second: str
) -> None:
    path = make(tmp_path / "a", [(first, PNG), (second, PNG)])
    with pytest.raises(ArchiveError, match=r"a contains .* twice"):
        extract(path, out)


# Size limits


@both
def test_unpack_high_ratio_is_refused(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FLOOR_MB", 1)
    path = make(tmp_path / "a", [(B, PNG + bytes(4 * 2**20))])
    with pytest.raises(ArchiveError, match="at most 100 times its size"):
        extract(path, out)
    assert sum(map(len, read_tree(out).values())) <= 2 * 2**20


def test_unpack_high_ratio_in_skipped_tar_entry_is_refused(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FLOOR_MB", 1)
    path = make_tar(tmp_path / "a", [("zeros.bin", bytes(8 * 2**20)), (B, PNG)])
    with pytest.raises(ArchiveError, match="at most 100 times its size"):
        extract(path, out)


@both
def test_unpack_high_ratio_below_floor_is_accepted(tmp_path: Path, out: Path, make: Make) -> None:
    white = PNG + bytes(4 * 2**20)
    assert extract(make(tmp_path / "a", [(B, white)]), out).images == [B]


@both
def test_unpack_above_total_size_is_refused(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_TOTAL_GB", 5e-6)
    with pytest.raises(ArchiveError, match="unpacks to too many bytes"):
        extract(make(tmp_path / "a", [(B, PNG), (M, PNG)]), out)


@both
def test_unpack_too_many_files_is_refused(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 3)
    files = [(f"benign/{i}.png", PNG) for i in range(4)]
    extract(make(tmp_path / "a", files[:3]), out)
    with pytest.raises(ArchiveError, match="at most 3 files"):
        extract(make(tmp_path / "b", files), tmp_path / "other")


def test_open_archive_huge_zip_directory_is_refused_before_parsing(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_DIRECTORY_MB", 0.01)
    path = make_zip(tmp_path / "a", [(f"{i}.png", b"") for i in range(300)])
    monkeypatch.setattr(zipfile, "ZipInfo", None)
    with pytest.raises(ArchiveError, match=r"a directory of at most 0\.01 MB"):
        extract(path, out)


def test_open_archive_tar_headers_are_not_kept_in_memory(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a", [(f"{i}.png", b"") for i in range(12)])
    with open_archive(path, "a") as archive:
        n_headers = [
            sum(type(item) is tarfile.TarInfo for item in gc.get_objects()) for _ in archive.entries
        ]
    assert len(n_headers) == 12
    assert n_headers[-1] - n_headers[0] < 5


def test_unpack_zip_with_too_small_declared_size_is_refused(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "a", [(B, PNG)])
    data = bytearray(path.read_bytes())
    for start, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(start) + offset, len(PNG) - 100)
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="damaged or incomplete"):
        extract(path, out)


def test_unpack_tar_with_huge_declared_name_is_refused(tmp_path: Path, out: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4 * 2**30
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
    with pytest.raises(ArchiveError, match="damaged or incomplete"):
        extract(path, out)


# Damaged and other files


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "other content"),
        (b"P", "other content"),
        (PNG, "other content"),
        (b"Rar!\x1a\x07\x00", "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"MZ\x90\x00PK\x03\x04", "a program, such as a self-extracting archive"),
    ],
)
def test_open_archive_other_format_is_refused(
    tmp_path: Path, out: Path, data: bytes, found: str
) -> None:
    (tmp_path / "set.zip").write_bytes(data)
    message = rf"set\.zip is not a zip or tar\.gz archive\. Expected one of these, got {found}\."
    with pytest.raises(ArchiveError, match=message):
        extract(tmp_path / "set.zip", out)
    assert not out.exists()


def test_unpack_gzip_without_tar_is_refused(tmp_path: Path, out: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"some text" * 1000))
    with pytest.raises(ArchiveError, match="damaged or incomplete"):
        extract(tmp_path / "a", out)


def test_unpack_encrypted_zip_is_refused(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "a", [(B, PNG)])
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"a is encrypted\. Pack the folder without a password"):
        extract(path, out)


def test_unpack_unsupported_zip_compression_is_refused(tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(B, PNG)
    with pytest.raises(ArchiveError, match="unsupported compression"):
        extract(tmp_path / "a", out)


@both
def test_unpack_archive_without_images_is_refused(tmp_path: Path, out: Path, make: Make) -> None:
    path = make(tmp_path / "a", [("README.txt", b"x"), ("inner.zip", b"PK\x03\x04")])
    with pytest.raises(
        ArchiveError, match=r"got 2 other files\. Unpack the nested archives \(1\) first"
    ):
        extract(path, out)


@both
def test_unpack_empty_archive_is_refused(tmp_path: Path, out: Path, make: Make) -> None:
    with pytest.raises(ArchiveError, match="got 0 other files"):
        extract(make(tmp_path / "a", []), out)


@both
@pytest.mark.parametrize("proportion", [0.1, 0.5, 0.9, 0.999])
def test_unpack_truncated_archive_is_refused(
    tmp_path: Path, out: Path, make: Make, proportion: float
) -> None:
    path = make(tmp_path / "a", [(f"benign/{i}.png", png(i)) for i in range(5)])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * proportion)])
    with pytest.raises(ArchiveError, match="damaged or incomplete"):
        extract(path, out)


def test_unpack_tar_with_damaged_second_header_is_refused(tmp_path: Path, out: Path) -> None:
    path = make_tar(tmp_path / "a", [(B, PNG), (M, PNG)])
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[data.index(b"set/malignant")] ^= 0xFF
    path.write_bytes(gzip.compress(data))
    with pytest.raises(ArchiveError, match="damaged or incomplete"):
        extract(path, out)


@both
def test_unpack_mutated_archives_raise_archive_error_only(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FLOOR_MB", 1)
    path = make(tmp_path / "a", [(B, png(1)), (M, png(2))])
    content = path.read_bytes()
    rng = random.Random(7)
    n_refused = 0
    for number in range(500):
        data = bytearray(content)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            extract(path, tmp_path / f"out{number}")
        except ArchiveError:
            n_refused += 1
    assert n_refused > 400


@both
def test_unpack_full_disk_raises_data_error(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "MIN_FREE_MB", 10**9)
    with pytest.raises(DataError, match=r"Unpacking needs 1000000\.0 GB in .* Free disk space"):
        extract(make(tmp_path / "a", [(B, PNG)]), out)
    assert not out.exists()


@both
def test_unpack_error_in_progress_is_raised_unchanged(
    tmp_path: Path, out: Path, make: Make
) -> None:
    def fail(done: int, total: int) -> None:
        raise ValueError("progress")

    path = make(tmp_path / "a", [(B, PNG)])
    with open_archive(path, "a") as archive, pytest.raises(ValueError, match=r"^progress$"):
        unpack(archive, out, progress=fail)
