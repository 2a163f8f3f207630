"""Mutated files at every intake: 200 of the cases of `benchmarks.fuzz`."""

import os
import random
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bc_model.data import DecodePool, decode_image, registry
from bc_model.errors import DataError, ImageError
from bc_model.jobs import STAGING_PREFIX
from bc_model.utils.io import DELETED_PREFIX
from benchmarks.fuzz import fuzz_intake
from benchmarks.intakes import INTAKES, Files, Intake

SEED = 0
CASES = 200


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: 200 cases of an intake write up to 1,000 files."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize("intake", INTAKES, ids=lambda intake: intake.name)
def test_mutated_files_are_accepted_or_refused_with_own_errors(
    intake: Intake, tmp_path: Path
) -> None:
    result = fuzz_intake(intake, range(CASES), SEED, tmp_path / "fuzz")
    repeat = f"python -m benchmarks.fuzz --cases 1 --intake {intake.name}"
    assert not result.breaches, "\n".join(f"{repeat} {breach}" for breach in result.breaches)
    assert result.n_cases == CASES
    assert result.refused


def _leave_file(folder: Path) -> None:
    (folder / "left.txt").touch()
    raise DataError("The file is refused.")


def _leave_folder(folder: Path, prefix: str) -> None:
    path = folder / "registry" / f"{prefix}1a2b3c4d" / "images" / "image.png"
    path.parent.mkdir(parents=True)
    path.touch()


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("read", "breach"),
    [
        (lambda folder: _raise(KeyError("epoch")), "KeyError: 'epoch'"),
        (lambda folder: _raise(OSError("disk")), "OSError: disk"),
        (lambda folder: warnings.warn("unused", stacklevel=1), "warning: unused"),
        (_leave_file, "files left behind: ['left.txt']"),
        (lambda folder: (folder / "a.tmp").touch(), "files left behind: ['a.tmp']"),
        *(
            (partial(_leave_folder, prefix=prefix), f"left behind: ['registry/{prefix}1a2b3c4d/")
            for prefix in (registry._STAGING_PREFIX, registry._REMOVED_PREFIX, STAGING_PREFIX,
                           DELETED_PREFIX)
        ),
        (lambda folder: (folder / "link").symlink_to("/"), "symbolic link"),
    ],
)  # fmt: skip
def test_fuzz_reports_a_reader_that_breaks_a_rule(
    read: Callable[[Path], object], breach: str, tmp_path: Path
) -> None:
    def read_mutated(folder: Path) -> object:
        return None if (folder / "a.json").read_bytes() == b"{}" else read(folder)

    intake = Intake("planted", lambda folder: [{"a.json": b"{}"}], read_mutated, (".json",))
    with warnings.catch_warnings():
        warnings.resetwarnings()
        result = fuzz_intake(intake, range(20), 0, tmp_path / "fuzz")
    assert breach in result.breaches[0]
    assert f"--seed 0 --first {result.n_cases - 1}" in result.breaches[-1]


def test_decode_pool_answers_mutated_images_as_the_decoder(tmp_path: Path) -> None:
    images = [intake for intake in INTAKES if intake.name in ("png", "jpeg", "tiff")]
    rng = random.Random(SEED)
    with DecodePool(n_workers=1) as pool:
        outcomes = set()
        for intake in images * 10:
            ((name, data),) = intake.mutate(rng, intake.make_seeds(tmp_path)).items()
            expected = _decode(decode_image, data, name)
            assert _decode(pool.decode, data, name) == expected
            outcomes.add(type(expected))
    assert outcomes == {bytes, str}


def _decode(decode: Callable[[bytes, str], np.ndarray], data: bytes, name: str) -> bytes | str:
    """Return the pixels, or the message of the refusal."""
    try:
        return decode(data, name).tobytes()
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("intake", INTAKES, ids=lambda intake: intake.name)
def test_mutations_repeat_with_their_seed_and_change_most_files(
    intake: Intake, tmp_path: Path
) -> None:
    seeds: list[Files] = intake.make_seeds(tmp_path)
    first, second = (
        [intake.mutate(random.Random(number), seeds) for number in range(30)] for _ in range(2)
    )
    assert first == second
    assert sum(files not in seeds for files in first) > 20
