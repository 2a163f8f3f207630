"""A full, read-only or too deep disk: one sentence with a remedy, and nothing half-written."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from bc_model.data import (
    add_dataset,
    add_synthetic,
    generate_dataset,
    list_downloads,
    load_dataset,
    remove_dataset,
    run_download,
    start_download,
    store_fold_contents,
)
from bc_model.data.disk_space import explain_write_errors, require_free_space
from bc_model.data.registry import staging_folder
from bc_model.errors import BcModelError, DataError
from tests.file_server import Server

resource = pytest.importorskip("resource", reason="needs the limits of POSIX")

FOLDS = [
    (
        f"fold{fold}.txt",
        b"".join(
            f"SOB_B_A-14-22549AB-40-{number:03d}.png|40|{fold}|{subset}\n".encode()
            for number, subset in enumerate(["train", "test"] * n, start=1)
        ),
    )
    for fold, n in ((1, 1), (2, 2))
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "synthetic"
    generate_dataset(folder, n_cases=4, images_per_case=1, size=(32, 48))
    return folder


@pytest.fixture(scope="module")
def archive(images: Path) -> Path:
    return Path(shutil.make_archive(str(images), "zip", images))


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    (tmp_path / "registry").mkdir()
    return tmp_path / "registry"


Write = Callable[[Path, Path, Path], object]
WRITES: dict[str, Write] = {
    "link": lambda registry, images, archive: add_dataset(images, "new", registry=registry),
    "unpack": lambda registry, images, archive: add_dataset(archive, "new", registry=registry),
    "generate": lambda registry, images, archive: add_synthetic(
        "new", n_cases=4, images_per_case=2, size=(32, 48), registry=registry
    ),
    "generate in a folder": lambda registry, images, archive: generate_dataset(
        registry / "new", n_cases=4, images_per_case=2, size=(32, 48)
    ),
    "folds": lambda registry, images, archive: store_fold_contents(FOLDS, registry),
}
"""Everything that writes to the dataset registry from files of the user."""


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """Let every write beyond a size fail in the kernel, as on a full disk, for each file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def list_tree(folder: Path) -> list[str]:
    """Return the files and folders, without locks and empty system folders."""
    hidden = {".folds", ".downloads"}
    paths = (path for path in folder.rglob("*") if not path.name.endswith(".lock"))
    return [path.relative_to(folder).as_posix() for path in paths if path.name not in hidden]


@pytest.mark.parametrize("free_bytes", [0, 100])
@pytest.mark.parametrize("name", WRITES)
def test_write_to_full_disk_leaves_nothing(
    registry: Path, images: Path, archive: Path, name: str, free_bytes: int
) -> None:
    with full_disk(free_bytes), pytest.raises(BcModelError, match=r"failed\. File too large \('/"):
        WRITES[name](registry, images, archive)
    assert list_tree(registry) == []
    WRITES[name](registry, images, archive)


@pytest.mark.parametrize("name", [name for name in WRITES if name != "folds"])
def test_folder_on_full_disk_leaves_nothing(
    registry: Path, images: Path, archive: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(DataError, match=r"failed\. The disk is full .* Free disk space"):
        WRITES[name](registry, images, archive)
    assert list_tree(registry) == []


@pytest.mark.parametrize("start", [start_download, run_download])
def test_download_that_cannot_be_created_leaves_nothing(
    registry: Path, start: Callable[..., object]
) -> None:
    with full_disk(0), pytest.raises(BcModelError, match="File too large"):
        start("new", url="http://127.0.0.1:1/set.zip", registry=registry)
    assert list_tree(registry) == []


def test_download_to_full_disk_keeps_the_received_part_and_says_why(
    registry: Path, archive: Path, server: Server
) -> None:
    server.content = archive.read_bytes()
    with full_disk(5000), pytest.raises(DataError, match=r"The download failed\. File too large"):
        run_download("new", url=server.url, registry=registry)
    (download,) = list_downloads(registry)
    assert (download.state, download.message[:20]) == ("failed", "The download failed.")
    assert [path.stat().st_size for path in registry.rglob("*.part")] == [5000]
    assert run_download("new", url=server.url, registry=registry).n_images == 4
    assert server.requests[-1]["Range"] == "bytes=5000-"


def test_load_dataset_on_full_disk_only_loses_the_cache(images: Path, tmp_path: Path) -> None:
    with full_disk(0):
        dataset = load_dataset(images, cache_dir=tmp_path / "cache")
    assert len(dataset.images) == 4
    assert list_tree(tmp_path / "cache") == []


def test_remove_dataset_error_is_a_sentence(
    registry: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dataset(images, "new", registry=registry)

    def fail(path: Path, _: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(DataError, match=r"Removing the dataset 'new' failed\. The disk is read"):
        remove_dataset("new", registry)


def test_generate_without_room_states_needed_and_free_space(
    registry: Path, images: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=600_000_000))
    message = r"needs 1\.\d GB in .*, but only 0\.6 GB are free\. Free disk space, or choose"
    with pytest.raises(DataError, match=f"Generating the dataset {message}"):
        add_synthetic("new", n_cases=100, images_per_case=10, registry=registry)
    with pytest.raises(DataError, match="Generating"):
        generate_dataset(registry / "a" / "b", n_cases=100, images_per_case=10)
    with pytest.raises(DataError, match=f"The download {message}"):
        require_free_space(registry / "missing", 600_000_000, "The download")
    assert list_tree(registry) == []


def test_unpack_stops_when_others_fill_the_disk(
    registry: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([10**12, 10**12, 10**12, 0, 0, 0])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    with pytest.raises(DataError, match=r"Unpacking needs .* only 0\.0 GB are free"):
        add_dataset(archive, "new", registry=registry)
    assert list_tree(registry) == []


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EINVAL, errno.ENAMETOOLONG])
def test_path_too_long_for_windows_names_limit_and_remedy(registry: Path, code: int) -> None:
    file = registry / "images" / ("a" * 300 + ".png")
    with (
        pytest.raises(DataError, match=r"has \d+ characters, and Windows allows 259\. Set BC_DATA"),
        explain_write_errors("Adding the dataset 'new'", registry),
    ):
        raise OSError(code, os.strerror(code), str(file))


def test_staging_folder_is_hardly_longer_than_the_shortest_name(registry: Path) -> None:
    with staging_folder(registry / "BreaKHis_v1") as staging:
        assert len(staging.name) <= len("BreaKHis_v1") + 2


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, "Permission denied", "/elsewhere/images.zip"),
        OSError(errno.EPIPE, "Broken pipe"),
        OSError("encoder error"),
    ],
)
def test_error_of_another_file_is_raised_unchanged(registry: Path, error: OSError) -> None:
    with pytest.raises(OSError) as raised, explain_write_errors("Adding", registry):  # noqa: PT011
        raise error
    assert raised.value is error
