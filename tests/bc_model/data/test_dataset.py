"""Loading a dataset: each usable image once, every other file with its reason."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bc_model.data.dataset import COLUMNS, Dataset, load_dataset
from bc_model.data.hashing import dhash
from bc_model.data.images import read_image
from bc_model.data.registry import link_folder
from bc_model.errors import DataError, FolderNotFoundError


def write_image(path: Path, seed: int | None = None) -> Path:
    """Write a 32 x 32 image of noise from a seed, by default its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()) if seed is None else seed)
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return path


def write_official(root: Path, name: str, seed: int | None = None) -> Path:
    """Write an image into the official tree."""
    procedure, label, rest = name.split("_")
    code, year, slide, magnification, _ = rest.split("-")
    kind = {"B": "benign", "M": "malignant"}[label]
    folder = f"{procedure}_{label}_{code}_{year}-{slide}"
    return write_image(
        root / "breast" / kind / procedure / code / folder / f"{magnification}X" / name, seed
    )


def reasons(dataset: Dataset) -> dict[str, str]:
    return {Path(row.path).name: row.reason for row in dataset.excluded.itertuples()}


B_1 = "SOB_B_A-14-100A-40-001.png"
B_2 = "SOB_B_F-14-200-100-001.png"
M_1 = "SOB_M_DC-14-300-200-001.png"
M_2 = "SOB_M_LC-14-400-400-001.png"


# The official tree


def test_load_dataset_row_contains_fields_of_name_and_pixels(tmp_path: Path) -> None:
    write_official(tmp_path, B_1)
    dataset = load_dataset(tmp_path)
    assert list(dataset.images.columns) == COLUMNS
    assert len(dataset.excluded) == 0
    row = dataset.images.iloc[0]
    assert row["path"] == f"breast/benign/SOB/A/SOB_B_A_14-100A/40X/{B_1}"
    assert (row["class"], row["subtype"], row["case"], row["section"], row["group"]) == (
        "benign", "adenosis", "100", "A", "100",
    )  # fmt: skip
    assert row["dhash"] == dhash(read_image(tmp_path / row["path"]))
    assert (row["year"], row["magnification"], row["width_px"], row["height_px"]) == (
        14,
        40,
        32,
        32,
    )


@pytest.mark.parametrize(
    ("subfolder", "expected"),
    [
        (".", {B_1, B_2, M_1}),
        ("breast", {B_1, B_2, M_1}),
        ("breast/benign", {B_1, B_2}),
        ("breast/benign/SOB/A", {B_1}),
        ("breast/malignant/SOB/DC/SOB_M_DC_14-300/200X", {M_1}),
    ],
)
def test_load_dataset_official_tree_is_read_at_any_depth(
    tmp_path: Path, subfolder: str, expected: set[str]
) -> None:
    for name in (B_1, B_2, M_1):
        write_official(tmp_path, name)
    dataset = load_dataset(tmp_path / subfolder)
    assert {Path(path).name for path in dataset.images["path"]} == expected


def test_load_dataset_sorts_images_by_path(tmp_path: Path) -> None:
    for name in (M_2, B_2, M_1, B_1):
        write_official(tmp_path, name)
    paths = list(load_dataset(tmp_path).images["path"])
    assert paths == sorted(paths)


def test_load_dataset_other_name_in_official_tree_is_invalid(tmp_path: Path) -> None:
    write_official(tmp_path, B_1)
    write_image(tmp_path / "breast/benign/overview.png")
    dataset = load_dataset(tmp_path)
    assert len(dataset.images) == 1
    assert reasons(dataset) == {"overview.png": "invalid name"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders.")
def test_load_dataset_named_pipe_is_unreadable(tmp_path: Path) -> None:
    write_image(tmp_path / "benign/a.png")
    os.mkfifo(tmp_path / "benign/x.png")
    dataset = load_dataset(tmp_path)
    assert len(dataset.images) == 1
    assert reasons(dataset) == {"x.png": "unreadable"}
    assert "Not a regular file" in dataset.excluded["detail"].iloc[0]


def test_load_dataset_malignant_name_in_benign_folder_is_label_mismatch(tmp_path: Path) -> None:
    write_official(tmp_path, B_1)
    write_image(tmp_path / "breast/benign" / M_1)
    dataset = load_dataset(tmp_path)
    assert reasons(dataset) == {M_1: "label mismatch"}
    assert "malignant" in dataset.excluded["detail"].iloc[0]


def test_load_dataset_unusable_files_do_not_stop_reading(tmp_path: Path) -> None:
    kept = write_official(tmp_path, B_1)
    kept.with_name("SOB_B_A-14-100A-40-002.png").write_bytes(b"")
    kept.with_name("SOB_B_A-14-100A-40-003.png").write_bytes(b"not an image")
    kept.with_name("SOB_B_A-14-100A-40-004.png").write_bytes(kept.read_bytes()[:-300])
    Image.new("RGB", (31, 400)).save(kept.with_name("SOB_B_A-14-100A-40-005.png"))
    Image.new("F", (40, 40)).save(kept.with_name("SOB_B_A-14-100A-40-006.tif"))
    dataset = load_dataset(tmp_path)
    assert [Path(path).name for path in dataset.images["path"]] == [B_1]
    assert reasons(dataset) == {
        "SOB_B_A-14-100A-40-002.png": "empty",
        "SOB_B_A-14-100A-40-003.png": "unreadable",
        "SOB_B_A-14-100A-40-004.png": "unreadable",
        "SOB_B_A-14-100A-40-005.png": "too small",
        "SOB_B_A-14-100A-40-006.tif": "unsupported",
    }


def test_load_dataset_ignores_hidden_and_other_files(tmp_path: Path) -> None:
    kept = write_official(tmp_path, B_1)
    kept.with_name("._" + B_1).write_bytes(b"a macOS file")
    write_image(tmp_path / ".cache" / B_2)
    (tmp_path / "readme.txt").write_text("not an image")
    dataset = load_dataset(tmp_path)
    assert (len(dataset.images), len(dataset.excluded)) == (1, 0)


@pytest.mark.skipif(os.name != "posix", reason="file names are UTF-8")
def test_load_dataset_path_not_utf8_is_excluded_and_printable(tmp_path: Path) -> None:
    kept = write_official(tmp_path, B_1)
    folder = kept.parent / os.fsdecode(b"Pr\xe4parat")
    write_image(folder / B_2)
    write_image(kept.with_name(os.fsdecode(b"\xe4.png")), seed=1)
    dataset = load_dataset(tmp_path)
    assert [Path(path).name for path in dataset.images["path"]] == [B_1]
    assert reasons(dataset) == {B_2: "invalid name", "\\udce4.png": "invalid name"}
    assert "Pr\\udce4parat/" in " ".join(dataset.excluded["detail"])
    json.dumps(dataset.excluded.to_dict("list"), ensure_ascii=False).encode()


# One folder per class


def test_load_dataset_class_folders_give_class_only(tmp_path: Path) -> None:
    write_image(tmp_path / "Benign/deeper/a.png")
    write_image(tmp_path / "MALIGNANT/b.jpg")
    images = load_dataset(tmp_path).images
    assert list(images["class"]) == ["benign", "malignant"]
    assert list(images["case"]) == list(images["section"]) == ["", ""]
    assert set(images["subtype"]) == {"unknown"}
    assert images[["year", "magnification"]].isna().all(axis=None)


@pytest.mark.parametrize("name", ["benign", "Benign", "BENIGN"])
def test_load_dataset_root_may_be_class_folder(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name / "a.png")
    assert list(load_dataset(tmp_path / name).images["class"]) == ["benign"]


def test_load_dataset_image_outside_class_folders_is_invalid(tmp_path: Path) -> None:
    write_image(tmp_path / "benign/a.png")
    write_image(tmp_path / "b.png")
    assert reasons(load_dataset(tmp_path)) == {"b.png": "invalid name"}


def test_load_dataset_image_in_both_class_folders_is_invalid(tmp_path: Path) -> None:
    write_image(tmp_path / "benign/a.png")
    write_image(tmp_path / "benign/malignant/b.png")
    assert reasons(load_dataset(tmp_path)) == {"b.png": "invalid name"}


# Duplicates


def test_load_dataset_duplicate_in_case_is_excluded(tmp_path: Path) -> None:
    write_official(tmp_path, "SOB_B_A-14-100A-40-001.png", seed=1)
    write_official(tmp_path, "SOB_B_A-14-100A-40-002.png", seed=1)
    dataset = load_dataset(tmp_path)
    assert len(dataset.images) == 1
    assert reasons(dataset) == {"SOB_B_A-14-100A-40-002.png": "duplicate"}
    assert B_1 in dataset.excluded["detail"].iloc[0]


def test_load_dataset_lists_duplicates_with_kept_image(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_official(tmp_path, f"SOB_B_A-14-100A-40-00{number}.png", seed=1)
    write_official(tmp_path, M_1)
    dataset = load_dataset(tmp_path)
    folder = "breast/benign/SOB/A/SOB_B_A_14-100A/40X"
    assert dataset.duplicates.to_dict("list") == {
        "path": [f"{folder}/SOB_B_A-14-100A-40-00{number}.png" for number in (2, 3)],
        "duplicate_of": [f"{folder}/{B_1}"] * 2,
    }


def test_load_dataset_cases_with_shared_image_are_one_group(tmp_path: Path) -> None:
    write_official(tmp_path, "SOB_B_A-14-100-40-001.png", seed=1)
    write_official(tmp_path, "SOB_B_A-14-200-40-001.png", seed=1)
    write_official(tmp_path, "SOB_B_A-14-200-40-002.png", seed=2)
    write_official(tmp_path, "SOB_B_A-14-300-40-001.png", seed=3)
    dataset = load_dataset(tmp_path)
    assert dict(zip(dataset.images["case"], dataset.images["group"], strict=True)) == {
        "100": "100", "200": "100", "300": "300",
    }  # fmt: skip


def test_load_dataset_chain_of_shared_images_is_one_group(tmp_path: Path) -> None:
    # Cases 100 and 300 share an image, and cases 300 and 200 another one.
    for case, sequence, seed in [(100, 1, 1), (300, 1, 1), (300, 2, 2), (200, 1, 2), (200, 2, 3)]:
        write_official(tmp_path, f"SOB_B_A-14-{case}-40-{sequence:03d}.png", seed)
    assert set(load_dataset(tmp_path).images["group"]) == {"100"}


def test_load_dataset_conflicting_labels_exclude_both_images(tmp_path: Path) -> None:
    write_official(tmp_path, B_1, seed=1)
    write_official(tmp_path, M_1, seed=1)
    write_official(tmp_path, B_2)
    dataset = load_dataset(tmp_path)
    assert [Path(path).name for path in dataset.images["path"]] == [B_2]
    assert reasons(dataset) == {B_1: "conflicting labels", M_1: "conflicting labels"}


def test_load_dataset_conflicting_labels_detail_names_one_image_per_class(tmp_path: Path) -> None:
    for number in range(1, 6):
        write_official(tmp_path, f"SOB_B_A-14-100-40-{number:03d}.png", seed=1)
    write_official(tmp_path, M_1, seed=1)
    write_official(tmp_path, B_2)
    excluded = load_dataset(tmp_path).excluded
    (detail,) = set(excluded["detail"])
    first, last = excluded["path"].iloc[[0, -1]]
    assert detail.endswith(f"have different labels: {first}, {last} and 4 more.")


def test_load_dataset_case_13412_counts_once_with_unknown_subtype(tmp_path: Path) -> None:
    for code in ("DC", "LC"):
        for sequence in (1, 2):
            write_official(tmp_path, f"SOB_M_{code}-14-13412-40-{sequence:03d}.png", seed=sequence)
    dataset = load_dataset(tmp_path)
    assert len(dataset.images) == 2
    assert set(dataset.images["subtype"]) == {"unknown"}
    assert set(dataset.images["case"]) == {"13412"}
    assert set(dataset.excluded["reason"]) == {"duplicate"}


def test_load_dataset_section_with_two_subtypes_is_unknown(tmp_path: Path) -> None:
    write_official(tmp_path, "SOB_M_DC-14-500-40-001.png")
    write_official(tmp_path, "SOB_M_MC-14-500-40-001.png")
    assert set(load_dataset(tmp_path).images["subtype"]) == {"unknown"}


def test_load_dataset_sections_of_case_may_have_two_subtypes(tmp_path: Path) -> None:
    write_official(tmp_path, "SOB_B_F-14-29960AB-40-001.png")
    write_official(tmp_path, "SOB_B_A-14-29960CD-40-001.png")
    images = load_dataset(tmp_path).images
    assert set(images["subtype"]) == {"fibroadenoma", "adenosis"}
    assert set(images["case"]) == {"29960"}


# Sources


def test_load_dataset_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError, match=r"folder .*gone"):
        load_dataset(tmp_path / "gone")


def test_load_dataset_registered_name_reads_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "registry"))
    write_official(tmp_path / "images", B_1)
    link_folder(tmp_path / "images", "my-data", tmp_path / "registry")
    dataset = load_dataset("my-data")
    assert dataset.root == (tmp_path / "images").resolve()
    assert len(dataset.images) == 1


def test_load_dataset_file_instead_of_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError):
        load_dataset(write_image(tmp_path / "a.png"))


def test_load_dataset_folder_without_images_raises(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="contains no images"):
        load_dataset(tmp_path)


def test_load_dataset_no_usable_image_reports_reasons(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"None of the 2 image files .* \(2 invalid name\)"):
        load_dataset(tmp_path)


def test_load_dataset_progress_counts_all_files(tmp_path: Path) -> None:
    write_official(tmp_path, B_1)
    write_official(tmp_path, M_1).write_bytes(b"")
    write_official(tmp_path, M_2)
    reported = []
    load_dataset(tmp_path, progress=lambda done, total: reported.append((done, total)))
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_load_dataset_stopped_reading_is_resumed_from_cache(
    synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = shutil.copytree(synthetic_dataset, tmp_path / "images", copy_function=shutil.copy2)
    for path in images.rglob("*.png"):
        os.utime(path, (1e9, 1e9))  # Files that have just changed are not cached.
    read_paths: list[Path] = []

    def read_slowly(path: Path, **_: object) -> np.ndarray:
        read_paths.append(path)
        time.sleep(0.02)
        return read_image(path)

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("bc_model.data.hashing.read_image", read_slowly)
    with pytest.raises(KeyboardInterrupt):
        load_dataset(images, progress=stop, cache_dir=tmp_path / "cache")
    n_stopped = len(read_paths)
    assert 4 <= n_stopped < 30
    assert len(load_dataset(images, cache_dir=tmp_path / "cache").images) == 30
    assert len(read_paths) == 30


@pytest.mark.real
def test_load_dataset_public_extract_has_694_images_of_36_cases(real_data: Path) -> None:
    folder = real_data / "breakhis_200x_224"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    dataset = load_dataset(folder)
    images = dataset.images
    assert len(images) == 694
    assert images["case"].nunique() == 36
    assert images.loc[images["class"] == "benign", "case"].nunique() == 8
    assert set(images["magnification"]) == {200}
