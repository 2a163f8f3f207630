"""Files of arrays, whose declared sizes are checked before memory is allocated.

`numpy.load` and Keras allocate the shapes that a file declares, and inflate any content. These
functions read regular files only, without pickle and without compression, so that the arrays are
never larger than the file.
"""

import errno
import shutil
import tempfile
import tokenize
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from bc_model.errors import DataError
from bc_model.utils.io import open_regular

MAX_BYTES = 2**30
"""Default limit of a file of arrays."""

_MAX_HEADER_BYTES = 10_000
_MAX_DIRECTORY_BYTES = 2**20
_MAX_HDF5_OBJECTS = 10_000
"""EfficientNetB0 with the state of its optimizer has about 1,500 groups and arrays."""
_END_OF_ZIP_BYTES, _ZIP64_BYTES = 22, 20
_KERAS_WEIGHTS = "model.weights.h5"


def read_npz(
    path: str | Path, names: Iterable[str] | None = None, *, max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """Return arrays of a ``.npz`` file that `numpy.savez` wrote.

    Parameters
    ----------
    path : str or Path
    names : iterable of str, optional
        Names of the arrays to read. The default is all arrays of the file.
    max_bytes : int
        Largest total size of these arrays.

    Raises
    ------
    OSError
        The file cannot be read or is not a regular file.
    DataError
        An array is missing, damaged, compressed, not numeric or text, or the arrays are too large.
    """
    path = Path(path)
    try:
        with open_regular(path) as stream, _open_zip(stream) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            chosen = {name: entries[name] for name in (entries if names is None else names)}
            n_bytes = sum(entry.file_size for entry in chosen.values())
            if n_bytes > max_bytes + len(chosen) * _MAX_HEADER_BYTES:
                raise _too_large(path, n_bytes, max_bytes)
            arrays = {}
            for name, entry in chosen.items():
                # `numpy.savez` does not compress. A few kB could inflate to gigabytes.
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise DataError(f"{path.name} contains the compressed array '{name}'.")
                with archive.open(entry) as content:
                    arrays[name] = _read_array(content, entry.file_size, path)
            return arrays
    except KeyError as error:
        raise DataError(f"{path.name} contains no array {error}.") from error
    # NumPy and zipfile raise these for damaged files.
    except (ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def read_npy(path: str | Path, *, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """Return the array of a ``.npy`` file of at most `max_bytes`; raises as `read_npz`."""
    path = Path(path)
    try:
        with open_regular(path) as stream:
            n_bytes = stream.seek(0, 2)
            stream.seek(0)
            if n_bytes > max_bytes + _MAX_HEADER_BYTES:
                raise _too_large(path, n_bytes, max_bytes)
            return _read_array(stream, n_bytes, path)
    except (ValueError, EOFError) as error:
        raise _damaged(path, error) from error


def map_npy(path: str | Path) -> np.ndarray:
    """Return the array of a ``.npy`` file, read from the disk on access; raises as `read_npz`."""
    path = Path(path)
    try:
        with open_regular(path) as stream:
            shape, is_fortran, dtype = _read_header(stream)
            start, n_bytes = stream.tell(), stream.seek(0, 2)
            _require_size(path, shape, dtype, n_bytes - start)
            array: np.ndarray = np.memmap(
                stream, dtype, "r", start, shape, "F" if is_fortran else "C"
            )
            return array
    except (ValueError, EOFError) as error:
        raise _damaged(path, error) from error


@contextmanager
def open_weights(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Iterator[Path]:
    """Yield the HDF5 file in a ``.keras`` file, or an ``.h5`` file itself, for Keras to load.

    Raises
    ------
    OSError
        The file cannot be read or is not a regular file.
    DataError
        The file is damaged, has more than `max_bytes`, or contains compressed arrays, links to
        other files, or arrays that are larger than the file.
    """
    path = Path(path)
    with open_regular(path) as stream, tempfile.TemporaryDirectory(prefix="bc-weights-") as folder:
        n_bytes = stream.seek(0, 2)
        if n_bytes > max_bytes:
            raise _too_large(path, n_bytes, max_bytes)
        try:
            if path.suffix == ".keras":
                # HDF5 seeks backwards, which is 50 times slower inside of an archive.
                path = Path(folder, _KERAS_WEIGHTS)
                _extract_stored(stream, path)
            _check_hdf5(path)
        except DataError:
            raise
        except Exception as error:  # h5py raises many types for a damaged file.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise OSError(error.errno, error.strerror, error.filename or folder) from error
            raise DataError(f"It is not a readable file of weights ({error}).") from error
        yield path


def _extract_stored(stream: IO[bytes], path: Path) -> None:
    with _open_zip(stream) as archive:
        entry = archive.getinfo(_KERAS_WEIGHTS)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise DataError("Its weights are compressed.")
        with archive.open(entry) as content, path.open("wb") as target:
            shutil.copyfileobj(content, target)


def _check_hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "r") as file:
        n_bytes, n_declared = path.stat().st_size, 0
        for dataset in _walk_hdf5(file):
            name, shape = dataset.name, dataset.shape
            if dataset.external is not None or dataset.is_virtual:
                raise DataError(f"The array {name} refers to another file.")
            # Keras writes contiguous arrays. Chunks can be compressed, or larger than the array.
            if shape is None or dataset.dtype.hasobject or dataset.chunks is not None:
                raise DataError(f"The array {name} is compressed or not numeric.")
            n_declared += dataset.nbytes
            if dataset.id.get_storage_size() != dataset.nbytes or n_declared > n_bytes:
                raise DataError(f"The array {name} of the shape {shape} is larger than the file.")


def _walk_hdf5(file: Any) -> Iterator[Any]:
    """Yield the arrays of a file; a group that contains itself ends at the limit."""
    import h5py

    groups, n_objects = [file], 0
    while groups:
        group = groups.pop()
        for name in group:
            n_objects += 1
            if n_objects > _MAX_HDF5_OBJECTS:
                raise DataError(f"Expected at most {_MAX_HDF5_OBJECTS:,} arrays and groups.")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise DataError(f"'{name}' is a link.")
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append(item)
            else:
                yield item


def _open_zip(stream: IO[bytes]) -> zipfile.ZipFile:
    """Open an archive without a comment, as NumPy and Keras write it, with a small directory.

    Reading a directory of a million entries takes seconds, and each can inflate.
    """
    n_bytes = stream.seek(0, 2)
    stream.seek(max(0, n_bytes - _END_OF_ZIP_BYTES - _ZIP64_BYTES))
    tail = stream.read()
    end = tail[-_END_OF_ZIP_BYTES:]
    if not end.startswith(b"PK\x05\x06") or len(end) < _END_OF_ZIP_BYTES:
        raise DataError("The archive is incomplete.")
    # Only archives of more than 2 GB need the fields of ZIP64, which replace those of `end`.
    is_zip64 = tail.startswith(b"PK\x06\x07") and n_bytes < 2**31
    if is_zip64 or int.from_bytes(end[12:16], "little") > _MAX_DIRECTORY_BYTES:
        raise DataError("The archive contains too many files.")
    stream.seek(0)
    return zipfile.ZipFile(stream)


def _read_array(stream: IO[bytes], n_bytes: int, path: Path) -> np.ndarray:
    shape, is_fortran, dtype = _read_header(stream)
    _require_size(path, shape, dtype, n_bytes - stream.tell())
    array = np.empty(shape, dtype, "F" if is_fortran else "C")
    # The transpose of an array in Fortran order is in C order, as `readinto` needs it.
    flat: Any = (array.T if is_fortran else array).reshape(-1).view(np.uint8)
    view = memoryview(flat)
    n_read = 0
    while n_read < len(view):
        chunk = stream.read(min(2**20, len(view) - n_read))
        if not chunk:
            raise EOFError("the file ends early")
        view[n_read : n_read + len(chunk)] = chunk
        n_read += len(chunk)
    stream.read(1)  # A reader of archives compares the checksum at the end of an entry.
    return array


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format is not supported")
    try:
        shape, is_fortran, dtype = read(stream, max_header_size=_MAX_HEADER_BYTES)
    except (SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError) as error:
        # NumPy parses the header as Python, and handles only some errors of the parser.
        raise ValueError(f"the header is damaged: {error}") from error
    if dtype.hasobject or dtype.kind not in "biufU":
        raise ValueError(f"an array has the type {dtype}")
    return shape, is_fortran, dtype


def _require_size(path: Path, shape: tuple[int, ...], dtype: np.dtype, n_bytes: int) -> None:
    declared = dtype.itemsize
    for side in shape:
        declared *= side
    if min(shape, default=0) < 0 or declared != n_bytes:
        raise ValueError(f"an array declares {declared:,} bytes and has {n_bytes:,}")


def _too_large(path: Path, n_bytes: int, max_bytes: int) -> DataError:
    return DataError(
        f"{path.name} declares {n_bytes / 2**20:,.0f} MB. Expected at most "
        f"{max_bytes / 2**20:,.3g} MB."
    )


def _damaged(path: Path, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"{path.name} is not a readable NumPy file ({error}).")
