import dataclasses

import numpy as np
import pandas as pd
import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.synthetic import generate_dataset
from bc_model.distillation import data as data_module
from bc_model.distillation.data import TrainingImages
from bc_model.errors import DataError


def test_read_preprocesses_images_and_prefixes_paths(source):
    assert source.pixels.shape == (32, 32, 48, 3)
    assert source.table["path"].str.startswith("synthetic/").all()
    assert set(source.table["magnification"]) == {100, 200}
    assert source.malignant.tolist() == (source.table["class"] == "malignant").tolist()
    assert source.frames[3].shape == (91, 140, 3)  # the official aspect ratio
    assert not source.is_extra.any()


def test_select_keeps_rows_pixels_and_frames_together(source):
    mask = np.zeros(len(source.table), bool)
    mask[[2, 5]] = True

    subset = source.select(mask)

    assert subset.table["path"].tolist() == source.table["path"].iloc[[2, 5]].tolist()
    assert subset.table.index.tolist() == [0, 1]
    np.testing.assert_array_equal(subset.pixels, source.pixels[[2, 5]])
    assert subset.frames[1] is source.frames[5]


def test_read_extra_images_of_any_magnification_are_not_evaluated(root):
    source = TrainingImages.read(root, ("synthetic",), (32, 48), ("extra",))

    assert source.is_extra.sum() == 8
    assert set(source.table.loc[source.is_extra, "magnification"]) == {40, 400}
    evaluated = source.evaluated
    assert set(evaluated.table["magnification"]) == {100, 200}
    assert len(evaluated.frames) == len(source.frames) - 8


def test_read_extra_image_without_a_case_raises(root, monkeypatch):
    read = data_module.load_dataset

    def read_without_cases(folder):
        dataset = read(folder)
        if folder.name != "extra":
            return dataset
        return dataclasses.replace(dataset, images=dataset.images.assign(case=""))

    monkeypatch.setattr(data_module, "load_dataset", read_without_cases)
    with pytest.raises(DataError, match="has no case"):
        TrainingImages.read(root, ("synthetic",), (32, 48), ("extra",))


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
