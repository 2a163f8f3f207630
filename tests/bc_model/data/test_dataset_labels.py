"""Datasets with a label mapping: labels come from folder names."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bc_model.data import dataset as dataset_module
from bc_model.data.dataset import load_dataset, parse_label_mapping
from bc_model.errors import ConfigError, DataError, FolderNotFoundError

MAPPING = {"0": "benign", "1": "malignant"}


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Write patients p and q with labels 0 and 1, three images each, and one duplicate."""
    rng = np.random.default_rng(0)
    for patient in ("p", "q"):
        for label in ("0", "1"):
            folder = tmp_path / "set" / patient / label
            folder.mkdir(parents=True)
            for k in range(3):
                pixels = rng.integers(0, 256, (50, 50, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    duplicate = tmp_path / "set/q/0/duplicate.png"
    duplicate.write_bytes((tmp_path / "set/p/0/0.png").read_bytes())
    return tmp_path / "set"


def test_load_dataset_labels_give_class_only(patches: Path) -> None:
    (patches / "p/1/bad.png").write_bytes(b"not an image")
    reported: list[tuple[int, int]] = []
    dataset = load_dataset(patches, labels=MAPPING, progress=lambda *done: reported.append(done))
    assert len(dataset.images) == 12
    assert dataset.images["class"].value_counts().to_dict() == {"benign": 6, "malignant": 6}
    assert set(dataset.images["case"]) == {""}
    assert dataset.images["magnification"].isna().all()
    assert dataset.images[["width_px", "height_px"]].drop_duplicates().to_numpy().tolist() == [
        [50, 50]
    ]
    assert dict(zip(dataset.excluded["path"], dataset.excluded["reason"], strict=True)) == {
        "p/1/bad.png": "unreadable", "q/0/duplicate.png": "duplicate",
    }  # fmt: skip
    assert reported[-1] == (14, 14)


def test_load_dataset_case_above_names_case(patches: Path) -> None:
    dataset = load_dataset(patches, labels=MAPPING, case_above=True)
    assert dataset.images.groupby("case").size().to_dict() == {"p": 6, "q": 6}
    with pytest.raises(DataError, match=r"names the case of 0/0.png"):
        load_dataset(patches / "p", labels=MAPPING, case_above=True)


def test_load_dataset_root_may_be_label_folder(patches: Path) -> None:
    dataset = load_dataset(patches / "p" / "1", labels=MAPPING)
    assert set(dataset.images["class"]) == {"malignant"}


def test_load_dataset_unmapped_label_is_refused(patches: Path) -> None:
    (patches / "p/2").mkdir()
    (patches / "p/2/x.png").write_bytes((patches / "p/0/0.png").read_bytes())
    with pytest.raises(DataError) as caught:
        load_dataset(patches, labels=MAPPING)
    message = str(caught.value)
    assert "1 of 14 images" in message
    assert "The first is '2' of p/2/x.png" in message
    assert "\n" not in message


@pytest.mark.skipif(os.name != "posix", reason="file names are UTF-8")
def test_load_dataset_labeled_path_not_utf8_is_excluded_and_printable(patches: Path) -> None:
    image = (patches / "p/0/0.png").read_bytes()
    (patches / "p/0" / os.fsdecode(b"\xe4.png")).write_bytes(image)
    excluded = load_dataset(patches, labels=MAPPING).excluded.set_index("path")
    assert excluded["reason"]["p/0/\\udce4.png"] == "invalid name"
    label = patches / "p" / os.fsdecode(b"\xe4")
    label.mkdir()
    (label / "x.png").write_bytes(image)
    with pytest.raises(DataError, match=r"The first is '\\udce4' of p/\\udce4/x.png"):
        load_dataset(patches, labels=MAPPING)


@pytest.mark.parametrize("text", ["", "0", "0=", "=benign", "0=cancer", "0=benign,0=malignant"])
def test_parse_label_mapping_invalid_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="0=benign,1=malignant"):
        parse_label_mapping(text)


def test_parse_label_mapping_ignores_spaces_and_case() -> None:
    assert parse_label_mapping("Gutartig = Benign , 1=MALIGNANT") == {
        "Gutartig": "benign",
        "1": "malignant",
    }


@pytest.mark.parametrize(
    ("text", "missing"),
    [("0=benign,1=benign", "malignant"), ("1=malignant", "benign")],
)
def test_parse_label_mapping_missing_class_is_refused(text: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"'{text}' has no label for the class {missing}"):
        parse_label_mapping(text)


def test_load_dataset_labeled_source_without_usable_images_raises(tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError, match="There is no folder"):
        load_dataset(tmp_path / "gone", labels=MAPPING)
    with pytest.raises(DataError, match="contains no images"):
        load_dataset(tmp_path, labels=MAPPING)
    (tmp_path / "0").mkdir()
    (tmp_path / "0/x.png").write_bytes(b"")
    with pytest.raises(DataError, match="None of the 1 image files"):
        load_dataset(tmp_path, labels=MAPPING)


@pytest.mark.real
def test_load_dataset_real_patches_have_one_case(real_data: Path) -> None:
    dataset = load_dataset(real_data / "idc_patches", labels=MAPPING, case_above=True)
    assert len(dataset.images) + len(dataset.excluded) == 478
    assert set(dataset.images["case"]) == {"14082"}


def test_load_dataset_stopped_reading_skips_remaining_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        path = tmp_path / "01"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    read_paths, read_fingerprint = [], dataset_module.read_fingerprint

    def read_slowly(path: Path, *args: Any, **options: Any) -> Any:
        read_paths.append(path)
        time.sleep(0.005)
        return read_fingerprint(path, *args, **options)

    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset_module, "read_fingerprint", read_slowly)
    with pytest.raises(KeyboardInterrupt):
        load_dataset(tmp_path, labels=MAPPING, progress=stop)
    assert len(read_paths) < 100
