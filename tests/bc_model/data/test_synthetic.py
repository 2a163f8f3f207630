"""Synthetic images and datasets."""

from pathlib import Path

import numpy as np
import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.images import decode_image
from bc_model.data.synthetic import example_png, generate_dataset, generate_image
from bc_model.errors import ConfigError


def read_files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def nuclear_proportion(rgb: np.ndarray) -> float:
    """Return the proportion of pixels that are as dark as nuclei in the red channel."""
    return float((rgb[..., 0] < 160).mean())


def test_generate_dataset_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        generate_dataset(tmp_path / name, n_cases=2, images_per_case=2, size=(32, 48), seed=5)
    assert read_files(tmp_path / "a") == read_files(tmp_path / "b")


def test_generate_dataset_other_seed_gives_other_images(tmp_path: Path) -> None:
    for seed in (1, 2):
        generate_dataset(
            tmp_path / str(seed), n_cases=2, images_per_case=1, size=(32, 48), seed=seed
        )
    one, two = read_files(tmp_path / "1"), read_files(tmp_path / "2")
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)


def test_generate_dataset_all_images_can_be_loaded(tmp_path: Path) -> None:
    written = generate_dataset(
        tmp_path / "set", n_cases=5, images_per_case=2, size=(32, 48), magnifications=(40, 400)
    )
    dataset = load_dataset(tmp_path / "set")
    assert written == 5 * 2 * 2
    assert (len(dataset.images), len(dataset.excluded)) == (written, 0)
    cases = dataset.images.drop_duplicates("case")
    assert cases["class"].value_counts().to_dict() == {"benign": 2, "malignant": 3}
    assert set(dataset.images["magnification"]) == {40, 400}
    assert set(zip(dataset.images["height_px"], dataset.images["width_px"], strict=True)) == {
        (32, 48)
    }


def test_generate_image_has_requested_size() -> None:
    rgb = generate_image(malignant=True, seed=1, size=(40, 60))
    assert (rgb.shape, rgb.dtype) == ((40, 60, 3), np.uint8)


def test_generate_image_malignant_has_more_nuclei_and_is_darker() -> None:
    benign, malignant = (
        [generate_image(malignant=kind, seed=s, case_seed=s, size=(115, 175)) for s in range(6)]
        for kind in (False, True)
    )
    assert max(map(nuclear_proportion, benign)) < min(map(nuclear_proportion, malignant))
    assert np.mean(benign) > np.mean(malignant) + 10


def test_generate_image_case_seed_determines_stain() -> None:
    def stain(seed: int, case_seed: int) -> np.ndarray:
        return generate_image(malignant=False, seed=seed, case_seed=case_seed, size=(64, 96)).mean(
            axis=(0, 1)
        )

    within = np.abs(stain(1, 10) - stain(2, 10)).mean()
    between = np.mean([np.abs(stain(1, 10) - stain(1, other)).mean() for other in range(11, 17)])
    assert within < between


def test_example_png_is_fixed_and_has_official_size() -> None:
    png = example_png(malignant=True)
    assert png == example_png(malignant=True)
    assert decode_image(png, "example").shape == (460, 700, 3)


def test_generate_dataset_fills_empty_folder(tmp_path: Path) -> None:
    assert generate_dataset(tmp_path, n_cases=2, images_per_case=1, size=(32, 32)) == 2


def test_generate_dataset_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        generate_dataset(tmp_path, n_cases=2, images_per_case=1, size=(32, 32))
    assert read_files(tmp_path) == {"mine.txt": b"x"}


@pytest.mark.parametrize(
    "numbers", [{"n_cases": 1}, {"images_per_case": 0}, {"size": (31, 64)}], ids=str
)
def test_generate_dataset_number_out_of_range_writes_nothing(tmp_path: Path, numbers: dict) -> None:
    with pytest.raises(ConfigError, match="at least 2 cases, 1 image per case and 32 px"):
        generate_dataset(tmp_path / "set", **numbers)
    assert not (tmp_path / "set").exists()
