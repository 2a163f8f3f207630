"""A drawn set on the shelf: whole or not at all."""

from pathlib import Path

import pytest

from bc_model.data.dataset import read_dataset
from bc_model.data.ingest import SOURCE, add_synthetic
from bc_model.errors import ConfigError, DataError

SMALL = {"n_cases": 4, "pictures_per_case": 2, "size": (32, 48)}


def test_a_drawn_set_can_be_read(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    added = add_synthetic("drawn", **SMALL, registry=tmp_path, progress=lambda *at: told.append(at))

    assert (added.dataset.kind, added.dataset.source, added.images) == ("stored", SOURCE, 8)
    assert told == [(done, 8) for done in range(1, 9)]
    dataset = read_dataset(added.dataset.images)
    assert (len(dataset.images), dataset.images["case"].nunique()) == (8, 4)


def test_a_drawing_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_synthetic("drawn", **SMALL, registry=tmp_path, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_numbers_out_of_range_and_names_that_are_none_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 2 cases"):
        add_synthetic("drawn", n_cases=1, registry=tmp_path)
    with pytest.raises(DataError, match="cannot be the name"):
        add_synthetic("../drawn", registry=tmp_path)
    assert list(tmp_path.iterdir()) == []
