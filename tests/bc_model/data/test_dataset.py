"""The manifest: every usable picture once, every other file with its reason."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bc_model.data.dataset import COLUMNS, Dataset, read_dataset
from bc_model.data.hashing import dhash
from bc_model.data.images import read_image
from bc_model.errors import DataError, FolderNotFoundError


def draw(path: Path, seed: int | None = None) -> Path:
    """Write a 32 x 32 picture of noise: of the seed, or of its own name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()) if seed is None else seed)
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return path


def official(root: Path, name: str, seed: int | None = None) -> Path:
    """Write a picture at its place in the official tree."""
    procedure, label, rest = name.split("_")
    code, year, slide, magnification, _ = rest.split("-")
    kind = {"B": "benign", "M": "malignant"}[label]
    folder = f"{procedure}_{label}_{code}_{year}-{slide}"
    return draw(
        root / "breast" / kind / procedure / code / folder / f"{magnification}X" / name, seed
    )


def reasons(dataset: Dataset) -> dict[str, str]:
    return {Path(row.path).name: row.reason for row in dataset.excluded.itertuples()}


B_1 = "SOB_B_A-14-100A-40-001.png"
B_2 = "SOB_B_F-14-200-100-001.png"
M_1 = "SOB_M_DC-14-300-200-001.png"
M_2 = "SOB_M_LC-14-400-400-001.png"


# The official tree


def test_a_row_says_what_the_name_and_the_pixels_say(tmp_path: Path) -> None:
    official(tmp_path, B_1)
    dataset = read_dataset(tmp_path)
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
    ("inside", "expected"),
    [
        (".", {B_1, B_2, M_1}),
        ("breast", {B_1, B_2, M_1}),
        ("breast/benign", {B_1, B_2}),
        ("breast/benign/SOB/A", {B_1}),
        ("breast/malignant/SOB/DC/SOB_M_DC_14-300/200X", {M_1}),
    ],
)
def test_the_official_tree_is_read_from_any_depth(
    tmp_path: Path, inside: str, expected: set[str]
) -> None:
    for name in (B_1, B_2, M_1):
        official(tmp_path, name)
    dataset = read_dataset(tmp_path / inside)
    assert {Path(path).name for path in dataset.images["path"]} == expected


def test_images_are_sorted_by_path(tmp_path: Path) -> None:
    for name in (M_2, B_2, M_1, B_1):
        official(tmp_path, name)
    paths = list(read_dataset(tmp_path).images["path"])
    assert paths == sorted(paths)


def test_one_foreign_name_in_an_official_tree_is_misnamed(tmp_path: Path) -> None:
    official(tmp_path, B_1)
    draw(tmp_path / "breast/benign/overview.png")
    dataset = read_dataset(tmp_path)
    assert len(dataset.images) == 1
    assert reasons(dataset) == {"overview.png": "misnamed"}


def test_a_malignant_name_in_the_benign_folder_is_misfiled(tmp_path: Path) -> None:
    official(tmp_path, B_1)
    draw(tmp_path / "breast/benign" / M_1)
    dataset = read_dataset(tmp_path)
    assert reasons(dataset) == {M_1: "misfiled"}
    assert "malignant" in dataset.excluded["detail"].iloc[0]


def test_no_bad_file_stops_the_others(tmp_path: Path) -> None:
    kept = official(tmp_path, B_1)
    kept.with_name("SOB_B_A-14-100A-40-002.png").write_bytes(b"")
    kept.with_name("SOB_B_A-14-100A-40-003.png").write_bytes(b"not a picture")
    kept.with_name("SOB_B_A-14-100A-40-004.png").write_bytes(kept.read_bytes()[:-300])
    Image.new("RGB", (31, 400)).save(kept.with_name("SOB_B_A-14-100A-40-005.png"))
    Image.new("I;16", (40, 40)).save(kept.with_name("SOB_B_A-14-100A-40-006.png"))
    dataset = read_dataset(tmp_path)
    assert [Path(path).name for path in dataset.images["path"]] == [B_1]
    assert reasons(dataset) == {
        "SOB_B_A-14-100A-40-002.png": "empty",
        "SOB_B_A-14-100A-40-003.png": "unreadable",
        "SOB_B_A-14-100A-40-004.png": "unreadable",
        "SOB_B_A-14-100A-40-005.png": "too small",
        "SOB_B_A-14-100A-40-006.png": "unsupported",
    }


def test_hidden_and_other_files_are_not_looked_at(tmp_path: Path) -> None:
    kept = official(tmp_path, B_1)
    kept.with_name("._" + B_1).write_bytes(b"a macOS dropping")
    draw(tmp_path / ".cache" / B_2)
    (tmp_path / "readme.txt").write_text("not a picture, and does not say so")
    dataset = read_dataset(tmp_path)
    assert (len(dataset.images), len(dataset.excluded)) == (1, 0)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_path_that_is_no_text_is_left_out_and_spelled(tmp_path: Path) -> None:
    kept = official(tmp_path, B_1)
    folder = kept.parent / os.fsdecode(b"Pr\xe4parat")
    draw(folder / B_2)
    draw(kept.with_name(os.fsdecode(b"\xe4.png")), seed=1)
    dataset = read_dataset(tmp_path)
    assert [Path(path).name for path in dataset.images["path"]] == [B_1]
    assert reasons(dataset) == {B_2: "misnamed", "\\udce4.png": "misnamed"}
    assert "Pr\\udce4parat/" in " ".join(dataset.excluded["detail"])
    json.dumps(dataset.excluded.to_dict("list"), ensure_ascii=False).encode()


# A folder per class


def test_a_folder_per_class_gives_the_class_and_nothing_else(tmp_path: Path) -> None:
    draw(tmp_path / "Benign/deeper/a.png")
    draw(tmp_path / "MALIGNANT/b.jpg")
    images = read_dataset(tmp_path).images
    assert list(images["class"]) == ["benign", "malignant"]
    assert list(images["case"]) == list(images["section"]) == ["", ""]
    assert set(images["subtype"]) == {"unknown"}
    assert images[["year", "magnification"]].isna().all(axis=None)


@pytest.mark.parametrize("name", ["benign", "Benign", "BENIGN"])
def test_one_class_folder_itself_may_be_pointed_at(tmp_path: Path, name: str) -> None:
    draw(tmp_path / name / "a.png")
    assert list(read_dataset(tmp_path / name).images["class"]) == ["benign"]


def test_a_image_beside_the_class_folders_is_misnamed(tmp_path: Path) -> None:
    draw(tmp_path / "benign/a.png")
    draw(tmp_path / "b.png")
    assert reasons(read_dataset(tmp_path)) == {"b.png": "misnamed"}


def test_a_image_under_both_class_names_is_misnamed(tmp_path: Path) -> None:
    draw(tmp_path / "benign/a.png")
    draw(tmp_path / "benign/malignant/b.png")
    assert reasons(read_dataset(tmp_path)) == {"b.png": "misnamed"}


# Twins


def test_the_same_pixels_of_one_case_count_once(tmp_path: Path) -> None:
    official(tmp_path, "SOB_B_A-14-100A-40-001.png", seed=1)
    official(tmp_path, "SOB_B_A-14-100A-40-002.png", seed=1)
    dataset = read_dataset(tmp_path)
    assert len(dataset.images) == 1
    assert reasons(dataset) == {"SOB_B_A-14-100A-40-002.png": "duplicate"}
    assert B_1 in dataset.excluded["detail"].iloc[0]


def test_a_duplicate_is_listed_with_the_image_that_was_kept(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        official(tmp_path, f"SOB_B_A-14-100A-40-00{number}.png", seed=1)
    official(tmp_path, M_1)
    dataset = read_dataset(tmp_path)
    folder = "breast/benign/SOB/A/SOB_B_A_14-100A/40X"
    assert dataset.duplicates.to_dict("list") == {
        "path": [f"{folder}/SOB_B_A-14-100A-40-00{number}.png" for number in (2, 3)],
        "twin_of": [f"{folder}/{B_1}"] * 2,
    }


def test_two_cases_that_proportion_a_image_are_one_group(tmp_path: Path) -> None:
    official(tmp_path, "SOB_B_A-14-100-40-001.png", seed=1)
    official(tmp_path, "SOB_B_A-14-200-40-001.png", seed=1)
    official(tmp_path, "SOB_B_A-14-200-40-002.png", seed=2)
    official(tmp_path, "SOB_B_A-14-300-40-001.png", seed=3)
    dataset = read_dataset(tmp_path)
    assert dict(zip(dataset.images["case"], dataset.images["group"], strict=True)) == {
        "100": "100", "200": "100", "300": "300",
    }  # fmt: skip


def test_joining_goes_along_a_chain_of_cases(tmp_path: Path) -> None:
    # 100 shares a picture with 300, and 300 another one with 200.
    for case, sequence, seed in [(100, 1, 1), (300, 1, 1), (300, 2, 2), (200, 1, 2), (200, 2, 3)]:
        official(tmp_path, f"SOB_B_A-14-{case}-40-{sequence:03d}.png", seed)
    assert set(read_dataset(tmp_path).images["group"]) == {"100"}


def test_pixels_filed_as_benign_and_as_malignant_are_left_out_twice(tmp_path: Path) -> None:
    official(tmp_path, B_1, seed=1)
    official(tmp_path, M_1, seed=1)
    official(tmp_path, B_2)
    dataset = read_dataset(tmp_path)
    assert [Path(path).name for path in dataset.images["path"]] == [B_2]
    assert reasons(dataset) == {B_1: "contradiction", M_1: "contradiction"}


def test_a_contradiction_of_many_names_one_of_each_class(tmp_path: Path) -> None:
    for number in range(1, 6):
        official(tmp_path, f"SOB_B_A-14-100-40-{number:03d}.png", seed=1)
    official(tmp_path, M_1, seed=1)
    official(tmp_path, B_2)
    excluded = read_dataset(tmp_path).excluded
    (detail,) = set(excluded["detail"])
    first, last = excluded["path"].iloc[[0, -1]]
    assert detail.endswith(f"as malignant: {first}, {last} and 4 more")


def test_case_13412_under_two_subtypes_counts_once_and_has_none(tmp_path: Path) -> None:
    for code in ("DC", "LC"):
        for sequence in (1, 2):
            official(tmp_path, f"SOB_M_{code}-14-13412-40-{sequence:03d}.png", seed=sequence)
    dataset = read_dataset(tmp_path)
    assert len(dataset.images) == 2
    assert set(dataset.images["subtype"]) == {"unknown"}
    assert set(dataset.images["case"]) == {"13412"}
    assert set(dataset.excluded["reason"]) == {"duplicate"}


def test_a_section_with_two_subtypes_has_none(tmp_path: Path) -> None:
    official(tmp_path, "SOB_M_DC-14-500-40-001.png")
    official(tmp_path, "SOB_M_MC-14-500-40-001.png")
    assert set(read_dataset(tmp_path).images["subtype"]) == {"unknown"}


def test_two_sections_of_a_case_may_have_two_subtypes(tmp_path: Path) -> None:
    official(tmp_path, "SOB_B_F-14-29960AB-40-001.png")
    official(tmp_path, "SOB_B_A-14-29960CD-40-001.png")
    images = read_dataset(tmp_path).images
    assert set(images["subtype"]) == {"fibroadenoma", "adenosis"}
    assert set(images["case"]) == {"29960"}


# The folder itself


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError, match=r"no folder .*gone"):
        read_dataset(tmp_path / "gone")


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError):
        read_dataset(draw(tmp_path / "a.png"))


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="holds no PNG, JPEG or TIFF"):
        read_dataset(tmp_path)


def test_nothing_usable_says_how_many_and_why(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"None of the 2 picture files .* \(2 misnamed\)"):
        read_dataset(tmp_path)


def test_progress_counts_every_file_to_the_end(tmp_path: Path) -> None:
    official(tmp_path, B_1)
    official(tmp_path, M_1).write_bytes(b"")
    official(tmp_path, M_2)
    told = []
    read_dataset(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_reading_that_is_stopped_ends_at_once_and_is_gone_on_with(
    drawn_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = shutil.copytree(drawn_set, tmp_path / "images", copy_function=shutil.copy2)
    for path in images.rglob("*.png"):
        os.utime(path, (1e9, 1e9))  # what has just changed is not remembered
    read: list[Path] = []

    def slowly(path: Path) -> np.ndarray:
        read.append(path)
        time.sleep(0.02)
        return read_image(path)

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("bc_model.data.dataset.read_picture", slowly)
    with pytest.raises(KeyboardInterrupt):
        read_dataset(images, progress=stop, cache=tmp_path / "cache")
    stopped = len(read)
    assert 4 <= stopped < 30
    assert len(read_dataset(images, cache=tmp_path / "cache").images) == 30
    assert len(read) == 30


@pytest.mark.real
def test_a_public_extract_has_694_images_of_36_cases(real_data: Path) -> None:
    folder = real_data / "breakhis_200x_224"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    dataset = read_dataset(folder)
    images = dataset.images
    assert len(images) == 694
    assert images["case"].nunique() == 36
    assert images.loc[images["class"] == "benign", "case"].nunique() == 8
    assert set(images["magnification"]) == {200}
