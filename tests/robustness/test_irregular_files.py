"""Named pipes, devices, sockets and folders in place of files are refused at once."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.data import (
    add_dataset,
    fingerprint_folder,
    generate_dataset,
    list_datasets,
    load_dataset,
    make_thumbnail,
    read_fold_file,
    read_split,
    remove_dataset,
    store_fold_files,
)
from bc_model.errors import BcModelError
from bc_model.evaluation import read_predictions, read_report

TIMEOUT_S = 60


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)  # The path of a socket has at most 107 characters.


KINDS = {"pipe": make_pipe, "device": make_device_link, "socket": make_socket, "folder": Path.mkdir}
READERS: dict[str, Callable[[Path], object]] = {
    "fold file": read_fold_file,
    "stored fold file": lambda path: store_fold_files(path, path.parent / "registry"),
    "split": read_split,
    "predictions": read_predictions,
    "archive": lambda path: add_dataset(path, "new", registry=path.parent / "registry"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_reader_of_irregular_file_refuses_it(tmp_path: Path, reader: str, kind: str) -> None:
    KINDS[kind](path := tmp_path / "file.txt")
    started = time.monotonic()
    with pytest.raises((BcModelError, OSError)) as refusal:
        READERS[reader](path)
    assert time.monotonic() - started < 3
    reasons = ("regular file", "Is a directory", "No such device", "Invalid number", "no images")
    assert any(reason in str(refusal.value) for reason in reasons), refusal.value


@pytest.mark.parametrize("kind", KINDS)
def test_dataset_description_that_is_no_file_is_listed_as_damaged(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    KINDS[kind](tmp_path / "bad/dataset.json")
    datasets, problems = list_datasets(tmp_path)
    assert [dataset.name for dataset in datasets] == ["good"]
    assert [problem[:28] for problem in problems] == ["The dataset 'bad' is damaged"]
    remove_dataset("bad", tmp_path)
    assert list_datasets(tmp_path)[1] == []


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset in which some images are no files."""
    folder = tmp_path_factory.mktemp("images") / "set"
    generate_dataset(folder, n_cases=2, images_per_case=2, size=(64, 96))
    parent = next(folder.rglob("*.png")).parent
    for number, make in enumerate(KINDS.values(), start=901):
        make(parent / f"{next(folder.rglob('*.png')).name[:-7]}{number}.png")
    return folder


def test_load_dataset_counts_irregular_files_as_unreadable(images: Path, tmp_path: Path) -> None:
    dataset = load_dataset(images, cache_dir=tmp_path)
    assert len(dataset.images) == 4
    assert dataset.excluded["reason"].tolist() == ["unreadable"] * 3
    assert dataset.excluded["detail"].str.contains("regular file|No such device").all()
    assert fingerprint_folder(images) == fingerprint_folder(images)
    with pytest.raises(BcModelError, match="cannot be read"):
        make_thumbnail(images / dataset.excluded["path"][0], "0" * 64)


def test_report_that_is_no_file_is_refused(tmp_path: Path) -> None:
    make_pipe(tmp_path / "report.json")
    with pytest.raises(BcModelError, match="Not a regular file"):
        read_report(tmp_path)


def test_commands_on_irregular_files_end_with_a_result(images: Path, tmp_path: Path) -> None:
    """One process runs the commands, because TensorFlow and OpenVINO take seconds to start."""
    program = f"""
import sys
from bc_model.cli import main
for arguments in (
    ["audit", {str(images)!r}, "--json"],
    ["data", "add", {str(images)!r}, "--name", "linked"],
    ["explain", {str(images)!r}, "--model", "bundled", "--out", {str(tmp_path / "out")!r}],
):
    sys.argv = ["breast-histology", *arguments]
    try:
        main()
    except SystemExit as end:
        print("END", arguments[0], end.code, flush=True)
"""
    environment = os.environ | {"BC_DATASETS": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=True,
    )  # fmt: skip
    ends = [line for line in done.stdout.splitlines() if line.startswith("END")]
    assert ends == ["END audit None", "END data None", "END explain 1"], done
    assert "unreadable" in done.stdout
    assert done.stderr.count("cannot be read") >= 3
