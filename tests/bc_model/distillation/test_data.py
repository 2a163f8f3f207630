import dataclasses

import numpy as np
import pandas as pd
import pytest

from bc_model.data.dataset import read_dataset
from bc_model.data.synthetic import write_synthetic
from bc_model.distillation import data as source_module
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import extract_features
from bc_model.errors import DataError


def test_images_come_as_they_are_served_under_the_name_of_their_set(source):
    assert source.pixels.shape == (32, 32, 48, 3)
    assert source.table["path"].str.startswith("drawn/").all()
    assert set(source.table["magnification"]) == {100, 200}
    assert source.malignant.tolist() == (source.table["class"] == "malignant").tolist()
    np.testing.assert_array_equal(source.features[3], extract_features(source.pixels[3:4])[0])


def test_a_part_keeps_rows_pixels_and_features_together(source):
    chosen = np.zeros(len(source.table), bool)
    chosen[[2, 5]] = True

    subset = source.select(chosen)

    assert subset.table["path"].tolist() == source.table["path"].iloc[[2, 5]].tolist()
    assert subset.table.index.tolist() == [0, 1]
    np.testing.assert_array_equal(subset.pixels, source.pixels[[2, 5]])
    np.testing.assert_array_equal(subset.features, source.features[[2, 5]])


def test_another_magnification_is_refused(tmp_path):
    write_synthetic(tmp_path / "set", n_cases=2, images_per_case=1, size=(46, 70),
                    magnifications=(40,))  # fmt: skip

    with pytest.raises(DataError, match="100 and 200 times"):
        TrainingImages.read(tmp_path, ("set",), (32, 48))


def test_one_magnification_alone_is_refused(tmp_path):
    write_synthetic(tmp_path / "set", n_cases=2, images_per_case=1, size=(46, 70),
                    magnifications=(200,))  # fmt: skip

    with pytest.raises(DataError, match="no picture is at 100: give both sets"):
        TrainingImages.read(tmp_path, ("set",), (32, 48))


def test_a_case_that_one_set_alone_joins_with_another_is_refused(root, tmp_path, monkeypatch):
    dataset = read_dataset(root / "drawn")

    def torn(folder):
        images: pd.DataFrame = dataset.images.copy()
        images["group"] = ["joined" if i == 0 else g for i, g in enumerate(images["group"])]
        return dataclasses.replace(dataset, images=images)

    monkeypatch.setattr(source_module, "read_manifest", torn)
    with pytest.raises(DataError, match="is joined with another one in one set alone"):
        TrainingImages.read(root, ("drawn",), (32, 48))
