"""Synthetic datasets in the registry."""

from pathlib import Path

import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.ingest import SYNTHETIC_SOURCE, add_synthetic
from bc_model.errors import ConfigError, DataError

SMALL = {"n_cases": 4, "images_per_case": 2, "size": (32, 48)}


def test_add_synthetic_dataset_can_be_loaded(tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    result = add_synthetic(
        "synthetic", **SMALL, registry=tmp_path, progress=lambda *at: reported.append(at)
    )

    assert (result.dataset.kind, result.dataset.source, result.n_images) == (
        "stored",
        SYNTHETIC_SOURCE,
        8,
    )
    assert reported == [(done, 8) for done in range(1, 9)]
    dataset = load_dataset(result.dataset.images_dir)
    assert (len(dataset.images), dataset.images["case"].nunique()) == (8, 4)


def test_add_synthetic_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_synthetic("synthetic", **SMALL, registry=tmp_path, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_add_synthetic_invalid_argument_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 2 cases"):
        add_synthetic("synthetic", n_cases=1, registry=tmp_path)
    with pytest.raises(DataError, match="Invalid dataset name"):
        add_synthetic("../synthetic", registry=tmp_path)
    assert list(tmp_path.iterdir()) == []
