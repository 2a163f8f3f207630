import dataclasses

import numpy as np
import pandas as pd
import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.synthetic import generate_dataset
from bc_model.distillation import data as data_module
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import extract_features
from bc_model.errors import DataError


def test_read_preprocesses_images_and_prefixes_paths(source):
    assert source.pixels.shape == (32, 32, 48, 3)
    assert source.table["path"].str.startswith("synthetic/").all()
    assert set(source.table["magnification"]) == {100, 200}
    assert source.malignant.tolist() == (source.table["class"] == "malignant").tolist()
    np.testing.assert_array_equal(source.features[3], extract_features(source.pixels[3:4])[0])


def test_select_keeps_rows_pixels_and_features_together(source):
    mask = np.zeros(len(source.table), bool)
    mask[[2, 5]] = True

    subset = source.select(mask)

    assert subset.table["path"].tolist() == source.table["path"].iloc[[2, 5]].tolist()
    assert subset.table.index.tolist() == [0, 1]
    np.testing.assert_array_equal(subset.pixels, source.pixels[[2, 5]])
    np.testing.assert_array_equal(subset.features, source.features[[2, 5]])


def test_read_other_magnification_raises(tmp_path):
    generate_dataset(tmp_path / "set", n_cases=2, images_per_case=1, size=(46, 70),
                    magnifications=(40,))  # fmt: skip

    with pytest.raises(DataError, match="a magnification of 100X and 200X"):
        TrainingImages.read(tmp_path, ("set",), (32, 48))


def test_read_missing_magnification_raises(tmp_path):
    generate_dataset(tmp_path / "set", n_cases=2, images_per_case=1, size=(46, 70),
                    magnifications=(200,))  # fmt: skip

    with pytest.raises(DataError, match="No image at 100X"):
        TrainingImages.read(tmp_path, ("set",), (32, 48))


def test_read_different_groups_in_datasets_raise(root, tmp_path, monkeypatch):
    dataset = load_dataset(root / "synthetic")

    def read_with_joined_case(folder):
        images: pd.DataFrame = dataset.images.copy()
        images["group"] = ["joined" if i == 0 else g for i, g in enumerate(images["group"])]
        return dataclasses.replace(dataset, images=images)

    monkeypatch.setattr(data_module, "load_dataset", read_with_joined_case)
    with pytest.raises(DataError, match="is joined with another case in only one dataset"):
        TrainingImages.read(root, ("synthetic",), (32, 48))
