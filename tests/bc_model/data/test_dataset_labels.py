"""Datasets with a label mapping: labels come from folder names."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bc_model.data import dataset as dataset_module
from bc_model.data.dataset import load_dataset
from bc_model.data.dataset_rules import parse_rules
from bc_model.errors import DataError, FolderNotFoundError

LABELS = "0=benign,1=malignant"
RULES = parse_rules(LABELS)


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
    dataset = load_dataset(patches, rules=RULES, progress=lambda *done: reported.append(done))
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


def test_load_dataset_the_folder_above_names_the_case(patches: Path) -> None:
    rules = parse_rules(LABELS, "folder:2")
    dataset = load_dataset(patches, rules=rules)
    assert dataset.images.groupby("case").size().to_dict() == {"p": 6, "q": 6}
    assert dataset.rules == rules
    # The folder of the dataset counts, too.
    assert set(load_dataset(patches / "p", rules=rules).images["case"]) == {"p"}


def test_load_dataset_excludes_a_file_without_a_case(patches: Path) -> None:
    (patches / "0").mkdir()
    (patches / "0/x.png").write_bytes((patches / "p/0/1.png").read_bytes())
    excluded = load_dataset(patches, rules=parse_rules(LABELS, "regex:/([pq])/")).excluded
    assert dict(zip(excluded["path"], excluded["reason"], strict=True)) == {
        "0/x.png": "no case", "q/0/duplicate.png": "duplicate",
    }  # fmt: skip


def test_load_dataset_root_may_be_label_folder(patches: Path) -> None:
    dataset = load_dataset(patches / "p" / "1", rules=RULES)
    assert set(dataset.images["class"]) == {"malignant"}


def test_load_dataset_lists_files_without_a_label(patches: Path) -> None:
    (patches / "p/2").mkdir()
    (patches / "p/2/x.png").write_bytes((patches / "p/0/0.png").read_bytes())
    dataset = load_dataset(patches, rules=RULES)
    assert len(dataset.images) == 12
    row = dataset.excluded.set_index("path").loc["p/2/x.png"]
    assert (row["reason"], row["detail"]) == (
        "no label", "No label of 0=benign,1=malignant matches a folder or the name.",
    )  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="file names are UTF-8")
def test_load_dataset_labeled_path_not_utf8_is_excluded_and_printable(patches: Path) -> None:
    image = (patches / "p/0/0.png").read_bytes()
    (patches / "p/0" / os.fsdecode(b"\xe4.png")).write_bytes(image)
    excluded = load_dataset(patches, rules=RULES).excluded.set_index("path")
    assert excluded["reason"]["p/0/\\udce4.png"] == "invalid name"
    label = patches / "p" / os.fsdecode(b"\xe4")
    label.mkdir()
    (label / "x.png").write_bytes(image)
    excluded = load_dataset(patches, rules=RULES).excluded.set_index("path")
    assert excluded["reason"]["p/\\udce4/x.png"] == "no label"


def test_load_dataset_labeled_source_without_usable_images_raises(tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError, match="There is no folder"):
        load_dataset(tmp_path / "gone", rules=RULES)
    with pytest.raises(DataError, match="contains no images"):
        load_dataset(tmp_path, rules=RULES)
    (tmp_path / "0").mkdir()
    (tmp_path / "0/x.png").write_bytes(b"")
    with pytest.raises(DataError, match="None of the 1 image files"):
        load_dataset(tmp_path, rules=RULES)


@pytest.mark.real
def test_load_dataset_real_patches_have_one_case(real_data: Path) -> None:
    dataset = load_dataset(real_data / "idc_patches", rules=parse_rules(LABELS, "folder:2"))
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
        load_dataset(tmp_path, rules=RULES, progress=stop)
    assert len(read_paths) < 100
