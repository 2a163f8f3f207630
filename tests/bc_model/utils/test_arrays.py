"""Files of arrays: refused before memory is allocated, and otherwise equal to `numpy.load`."""

import errno
import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from bc_model.errors import DataError
from bc_model.utils.arrays import map_npy, open_weights, read_npy, read_npz
from bc_model.utils.io import describe_error

ARRAYS = {
    "fortran": np.arange(6.0).reshape(2, 3).T,
    "text": np.array(["ab", "c"]),
    "number": np.array(3),
    "empty": np.zeros((0, 3), np.float32),
    "bool": np.array([True]),
}


def npy_header(*shape: int, dtype: str = "<f4") -> bytes:
    header = io.BytesIO()
    content = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, content)
    return header.getvalue()


def raw_header(text: bytes) -> bytes:
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


def write_zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_read_npz_returns_the_arrays_of_numpy(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert list(read_npz(tmp_path / "a.npz", ["text"])) == ["text"]


def test_read_npy_and_map_npy_return_the_array_of_numpy(tmp_path: Path) -> None:
    array = ARRAYS["fortran"]
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)
    np.testing.assert_array_equal(map_npy(tmp_path / "a.npy"), array)


BAD_ENTRIES = {
    "declared huge": npy_header(10**6, 10**7),
    "negative": npy_header(-1),
    "header without end": raw_header(b"{"),
    "header with a list as key": raw_header(b"{[]: 1}"),
    "header with keys of two types": raw_header(b"{1: 2, 'a': 3}"),
    "header with many signs": raw_header(b"-" * 9000 + b"1"),
    "header with many terms": raw_header(b"1+" * 4000 + b"1"),
    "short": npy_header(4) + bytes(12),
    "long": npy_header(4) + bytes(20),
    "pickle": npy_header(1, dtype="|O") + bytes(8),
    "complex": npy_header(1, dtype="<c8") + bytes(8),
    "no header": b"text",
    "nothing": b"",
}


@pytest.mark.parametrize("content", BAD_ENTRIES.values(), ids=list(BAD_ENTRIES))
def test_read_npz_other_content_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_npz(write_zip(tmp_path / "a.npz", {"a.npy": content}))
    (tmp_path / "a.npy").write_bytes(content)
    for read in (read_npy, map_npy):
        with pytest.raises(DataError):
            read(tmp_path / "a.npy")


def test_read_npz_compressed_array_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10**6))
    with pytest.raises(DataError, match="compressed array 'a'"):
        read_npz(tmp_path / "a.npz")


def test_read_npz_above_the_limit_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(10**5), b=np.zeros(1))
    with pytest.raises(DataError, match=r"a\.npz declares 1 MB\. Expected at most 0\.5 MB"):
        read_npz(tmp_path / "a.npz", max_bytes=2**19)
    assert list(read_npz(tmp_path / "a.npz", ["b"], max_bytes=8)) == ["b"]


def test_read_npz_missing_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(1))
    with pytest.raises(DataError, match="no array 'b'"):
        read_npz(tmp_path / "a.npz", ["b"])


def test_read_npz_changed_byte_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(1000))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        read_npz(tmp_path / "a.npz")


def test_read_npz_many_entries_are_refused_before_they_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x05\x06" + bytes(8) + (2**24).to_bytes(4, "little") + bytes(6))
    with pytest.raises(DataError, match="too many files"):
        read_npz(path)
    path.write_bytes(b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(18))
    with pytest.raises(DataError, match="too many files"):
        read_npz(path)


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
@pytest.mark.parametrize("read", [read_npz, read_npy, map_npy])
def test_read_named_pipe_is_refused_at_once(read: Callable, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(OSError, match="Not a regular file"):
        read(tmp_path / "a.npz")


# --- Weights ---


def one_dataset(**arguments: object) -> Callable[[h5py.File], object]:
    return lambda file: file.create_dataset("a/vars/0", **arguments)


def add_loop(file: h5py.File) -> None:
    group = file.create_group("a")
    group["again"] = group


def add_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "a", (3,))
    file.create_virtual_dataset("a", layout)


BAD_HDF5 = {
    "compressed": one_dataset(
        shape=(10**6, 10**6), dtype="f4", chunks=(10, 10), compression="gzip"
    ),
    "never written": one_dataset(shape=(10**6, 10**6), dtype="f4"),
    "other file": one_dataset(shape=(9,), dtype="u1", external=[("/etc/hostname", 0, 9)]),
    "virtual": add_virtual,
    "soft link": lambda file: file.__setitem__("a", h5py.SoftLink("/b")),
    "external link": lambda file: file.__setitem__("a", h5py.ExternalLink("b.h5", "/")),
    "loop": add_loop,
    "null": lambda file: file.create_dataset("a", data=h5py.Empty("f4")),
    "objects": one_dataset(shape=(1,), dtype=h5py.string_dtype()),
}


@pytest.mark.parametrize("write", BAD_HDF5.values(), ids=list(BAD_HDF5))
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_open_weights_other_arrays_are_refused(
    write: Callable[[h5py.File], object], suffix: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("bc_model.utils.arrays._MAX_HDF5_OBJECTS", 100)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        write(file)
    if suffix == ".keras":
        path = write_zip(tmp_path / "a.keras", {"model.weights.h5": path.read_bytes()})
    with pytest.raises(DataError), open_weights(path):
        pass


@pytest.mark.parametrize("name", ["a.h5", "a.keras"])
def test_open_weights_yields_a_file_with_the_arrays(name: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/vars/0"] = np.arange(3.0)
    write_zip(tmp_path / "a.keras", {"model.weights.h5": (tmp_path / "a.h5").read_bytes()})
    with open_weights(tmp_path / name) as path, h5py.File(path) as file:
        assert file["a/vars/0"][:].tolist() == [0.0, 1.0, 2.0]
    assert {path.name for path in tmp_path.iterdir()} == {"a.h5", "a.keras"}


BAD_ARCHIVES = {
    "compressed": ({"model.weights.h5": bytes(10**6)}, zipfile.ZIP_DEFLATED),
    "without weights": ({"config.json": b"{}"}, zipfile.ZIP_STORED),
    "other weights": ({"model.weights.h5": b"\x89HDF\r\n\x1a\n text"}, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize(("entries", "compression"), BAD_ARCHIVES.values(), ids=list(BAD_ARCHIVES))
def test_open_weights_other_archive_is_refused(
    entries: dict[str, bytes], compression: int, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "a.keras", entries, compression)
    with pytest.raises(DataError), open_weights(path):
        pass


def test_open_weights_without_room_for_a_copy_is_not_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip(tmp_path / "a.keras", {"model.weights.h5": bytes(100)})

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="bc-weights") as raised, open_weights(tmp_path / "a.keras"):
        pass
    assert describe_error(raised.value).startswith("The disk is full ('")


def test_open_weights_above_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(bytes(2**20))
    weights = open_weights(tmp_path / "a.h5", max_bytes=2**19)
    with pytest.raises(DataError, match=r"Expected at most 0\.5 MB"), weights:
        pass
