"""Archives made by enemies and by careless people: what is refused, left out and kept."""

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

from bc_model.data import archives as archive_guards
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
        warnings.simplefilter("ignore")  # of names that stand twice
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


def take(path: Path, out: Path) -> Unpacked:
    with open_archive(path, path.name) as archive:
        return unpack(archive, out)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# What is kept and what is left out


@both
def test_images_come_out_as_they_went_in(tmp_path: Path, out: Path, make: Make) -> None:
    path = make(tmp_path / "a", [("set/", b""), (B, png(1)), (f"./{M}", png(2))])
    found = take(path, out)
    assert tree(out) == {B: png(1), M: png(2)}
    assert (found.images, found.skipped) == ([B, M], [])
    assert {stat.S_IMODE(path.stat().st_mode) & 0o111 for path in out.rglob("*.png")} == {0}


@both
def test_everything_else_is_left_out_and_listed(tmp_path: Path, out: Path, make: Make) -> None:
    foreign = {
        "set/README.txt": ("not a picture", b"by x"),
        "set/run.exe": ("not a picture", b"MZ"),
        "set/install.sh": ("not a picture", b"#!/bin/sh"),
        "set/noname": ("not a picture", PNG),
        "set/more.zip": ("archive inside", b"PK\x03\x04"),
        "set/more.tar.gz": ("archive inside", b"\x1f\x8b"),
        "__MACOSX/set/._a.png": ("hidden", PNG),
        "set/.git/a.png": ("hidden", PNG),
        "set/.DS_Store": ("hidden", b"x"),
        "set/program.png": ("not what its name says", b"MZ\x90\x00"),
        "set/empty.png": ("not what its name says", b""),
    }
    found = take(make(tmp_path / "a", [*((n, d) for n, (_, d) in foreign.items()), (B, PNG)]), out)
    assert tree(out) == {B: PNG}
    assert dict(found.skipped) == {name: reason for name, (reason, _) in foreign.items()}


@both
def test_a_image_too_large_to_be_read_is_left_out(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "MAX_FILE_MB", 0.01)
    found = take(make(tmp_path / "a", [(B, PNG + bytes(20_000)), (M, PNG)]), out)
    assert found.skipped == [(B, "too large")]
    assert tree(out) == {M: PNG}


@both
def test_progress_ends_near_the_size_of_the_archive(tmp_path: Path, out: Path, make: Make) -> None:
    path = make(tmp_path / "a", [(f"benign/{i}.png", png(i)) for i in range(30)])
    told: list[tuple[int, int]] = []
    with open_archive(path, "a") as archive:
        unpack(archive, out, progress=lambda done, total: told.append((done, total)))
    assert len(told) == 30
    assert {total for _, total in told} == {path.stat().st_size}
    assert told == sorted(told)
    assert 0.8 < told[-1][0] / told[-1][1] <= 1.0


def test_a_gz_that_says_its_own_name_is_told_by_its_bytes(tmp_path: Path, out: Path) -> None:
    take(make_tar(tmp_path / "pictures.zip", [(B, PNG)]), out)
    assert tree(out) == {B: PNG}


# Paths that lead out


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
        "../README.txt",  # though it would be left out
    ],
)
def test_a_path_that_leads_out_refuses_the_whole_archive(
    tmp_path: Path, out: Path, make: Make, name: str
) -> None:
    path = make(tmp_path / "a", [(B, PNG), (name, PNG)])
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ArchiveError, match=r"a holds the path .* leads out of its folder"):
        take(path, out)
    assert {p for p in set(tmp_path.rglob("*")) - before if not p.is_relative_to(out)} == set()
    assert set(tree(out)) <= {B}


def test_a_null_byte_in_a_zip_name(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "a", [(B, PNG), ("set/evilXpng", PNG)])
    path.write_bytes(path.read_bytes().replace(b"evilXpng", b"evil\0png"))
    with pytest.raises(ArchiveError, match="leads out of its folder"):
        take(path, out)


# Links and devices


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar(tmp_path: Path, out: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a", "w:gz") as archive:
        info = tarfile.TarInfo("set/benign/link.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ArchiveError, match=r"holds set/benign/link\.png, a link or device"):
        take(tmp_path / "a", out)
    assert tree(out) == {}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip(tmp_path: Path, out: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        info = zipfile.ZipInfo("set/benign/link.png")
        info.create_system = 3
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="a link or device"):
        take(tmp_path / "a", out)
    assert tree(out) == {}


# Names that stand twice


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
def test_a_name_that_stands_twice(
    tmp_path: Path, out: Path, make: Make, first: str, second: str
) -> None:
    path = make(tmp_path / "a", [(first, PNG), (second, PNG)])
    with pytest.raises(ArchiveError, match=r"a holds .* twice"):
        take(path, out)


# Bombs


@both
def test_an_archive_that_unpacks_to_far_more_than_it_is(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "RATIO_FLOOR_MB", 1)
    path = make(tmp_path / "a", [(B, PNG + bytes(4 * 2**20))])
    with pytest.raises(ArchiveError, match="unpacks to more than 100 times its size"):
        take(path, out)
    assert sum(map(len, tree(out).values())) <= 2 * 2**20


def test_a_bomb_among_what_is_left_out_stops_a_tar_too(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "RATIO_FLOOR_MB", 1)
    path = make_tar(tmp_path / "a", [("zeros.bin", bytes(8 * 2**20)), (B, PNG)])
    with pytest.raises(ArchiveError, match="unpacks to more than 100 times its size"):
        take(path, out)


@both
def test_images_that_pack_well_are_no_bomb_below_the_floor(
    tmp_path: Path, out: Path, make: Make
) -> None:
    white = PNG + bytes(4 * 2**20)
    assert take(make(tmp_path / "a", [(B, white)]), out).images == [B]


@both
def test_more_than_may_come_out_at_all(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "MAX_TOTAL_GB", 5e-6)
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        take(make(tmp_path / "a", [(B, PNG), (M, PNG)]), out)


@both
def test_more_files_than_a_set_has(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "MAX_ENTRIES", 3)
    files = [(f"benign/{i}.png", PNG) for i in range(4)]
    take(make(tmp_path / "a", files[:3]), out)
    with pytest.raises(ArchiveError, match="holds more than 3 files"):
        take(make(tmp_path / "b", files), tmp_path / "other")


def test_a_zip_whose_directory_is_endless_is_refused_before_it_is_read(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "MAX_DIRECTORY_MB", 0.01)
    path = make_zip(tmp_path / "a", [(f"{i}.png", b"") for i in range(300)])
    monkeypatch.setattr(zipfile, "ZipInfo", None)
    with pytest.raises(ArchiveError, match=r"or a list of them of more than 0\.01 MB"):
        take(path, out)


def test_the_headers_of_a_tar_do_not_pile_up(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a", [(f"{i}.png", b"") for i in range(12)])
    with open_archive(path, "a") as archive:
        held = [
            sum(type(one) is tarfile.TarInfo for one in gc.get_objects()) for _ in archive.entries
        ]
    assert len(held) == 12
    assert held[-1] - held[0] < 5


def test_a_zip_that_declares_less_than_it_holds(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "a", [(B, PNG)])
    data = bytearray(path.read_bytes())
    for start, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(start) + offset, len(PNG) - 100)
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="damaged or cut short"):
        take(path, out)


def test_a_tar_header_that_declares_gigabytes_of_name(tmp_path: Path, out: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4 * 2**30
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
    with pytest.raises(ArchiveError, match="damaged or cut short"):
        take(path, out)


# Not what it says


@pytest.mark.parametrize("data", [b"", b"P", b"Rar!\x1a\x07\x00", b"7z\xbc\xaf\x27\x1c", PNG])
def test_other_files_are_not_archives(tmp_path: Path, out: Path, data: bytes) -> None:
    (tmp_path / "set.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"set\.zip is not a zip or tar\.gz archive"):
        take(tmp_path / "set.zip", out)
    assert not out.exists()


def test_a_gz_of_something_else(tmp_path: Path, out: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"a letter" * 1000))
    with pytest.raises(ArchiveError, match="damaged or cut short"):
        take(tmp_path / "a", out)


def test_an_encrypted_zip(tmp_path: Path, out: Path) -> None:
    path = make_zip(tmp_path / "a", [(B, PNG)])
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="a is encrypted; pack the folder without a password"):
        take(path, out)


def test_a_zip_packed_by_another_method(tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(B, PNG)
    with pytest.raises(ArchiveError, match="by a method that is not read here"):
        take(tmp_path / "a", out)


@both
def test_an_archive_without_a_image(tmp_path: Path, out: Path, make: Make) -> None:
    path = make(tmp_path / "a", [("README.txt", b"x"), ("inner.zip", b"PK\x03\x04")])
    with pytest.raises(
        ArchiveError, match=r"no PNG, JPEG or TIFF picture among 2 files; archives inside it \(1\)"
    ):
        take(path, out)


@both
def test_an_empty_archive(tmp_path: Path, out: Path, make: Make) -> None:
    with pytest.raises(ArchiveError, match="no PNG, JPEG or TIFF picture among 0 files"):
        take(make(tmp_path / "a", []), out)


@both
@pytest.mark.parametrize("proportion", [0.1, 0.5, 0.9, 0.999])
def test_an_archive_cut_short(tmp_path: Path, out: Path, make: Make, proportion: float) -> None:
    path = make(tmp_path / "a", [(f"benign/{i}.png", png(i)) for i in range(5)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * proportion)])
    with pytest.raises(ArchiveError, match="damaged or cut short"):
        take(path, out)


def test_a_tar_whose_second_header_is_damaged_is_not_taken_for_a_short_one(
    tmp_path: Path, out: Path
) -> None:
    path = make_tar(tmp_path / "a", [(B, PNG), (M, PNG)])
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[data.index(b"set/malignant")] ^= 0xFF
    path.write_bytes(gzip.compress(data))
    with pytest.raises(ArchiveError, match="damaged or cut short"):
        take(path, out)


@both
def test_a_thousand_damaged_archives_end_in_a_sentence(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "RATIO_FLOOR_MB", 1)
    path = make(tmp_path / "a", [(B, png(1)), (M, png(2))])
    whole = path.read_bytes()
    rng = random.Random(7)
    refused = 0
    for number in range(500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            take(path, tmp_path / f"out{number}")
        except ArchiveError:
            refused += 1
    assert refused > 400


@both
def test_a_disk_without_room(
    tmp_path: Path, out: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "ROOM_TO_LEAVE_MB", 10**9)
    with pytest.raises(DataError, match=r"Unpacking needs 1000000\.0 GB in .* make room"):
        take(make(tmp_path / "a", [(B, PNG)]), out)
    assert not out.exists()


@both
def test_a_fault_of_whoever_watches_is_no_damage(tmp_path: Path, out: Path, make: Make) -> None:
    def fail(done: int, total: int) -> None:
        raise ValueError("mine")

    path = make(tmp_path / "a", [(B, PNG)])
    with open_archive(path, "a") as archive, pytest.raises(ValueError, match=r"^mine$"):
        unpack(archive, out, progress=fail)
