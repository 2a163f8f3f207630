"""The drawn set: repeatable, readable like the real one, and with two classes that differ."""

from pathlib import Path

import numpy as np
import pytest

from bc_model.data.dataset import read_dataset
from bc_model.data.images import decode_image
from bc_model.data.synthetic import draw_image, example_png, write_synthetic
from bc_model.errors import ConfigError


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def nuclear_proportion(rgb: np.ndarray) -> float:
    """Return the share of pixels that are as dark as nuclei in the red channel."""
    return float((rgb[..., 0] < 160).mean())


def test_a_seed_draws_the_same_set_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_synthetic(tmp_path / name, n_cases=2, images_per_case=2, size=(32, 48), seed=5)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_another_seed_draws_another_set(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_synthetic(
            tmp_path / str(seed), n_cases=2, images_per_case=1, size=(32, 48), seed=seed
        )
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)


def test_the_manifest_takes_every_drawn_image(tmp_path: Path) -> None:
    written = write_synthetic(
        tmp_path / "set", n_cases=5, images_per_case=2, size=(32, 48), magnifications=(40, 400)
    )
    dataset = read_dataset(tmp_path / "set")
    assert written == 5 * 2 * 2
    assert (len(dataset.images), len(dataset.excluded)) == (written, 0)
    cases = dataset.images.drop_duplicates("case")
    assert cases["class"].value_counts().to_dict() == {"benign": 2, "malignant": 3}
    assert set(dataset.images["magnification"]) == {40, 400}
    assert set(zip(dataset.images["height_px"], dataset.images["width_px"], strict=True)) == {
        (32, 48)
    }


def test_a_image_is_rgb_of_the_size_asked_for() -> None:
    rgb = draw_image(malignant=True, seed=1, size=(40, 60))
    assert (rgb.shape, rgb.dtype) == ((40, 60, 3), np.uint8)


def test_malignant_images_hold_more_nucleus_and_are_darker() -> None:
    benign, malignant = (
        [draw_image(malignant=kind, seed=s, case_seed=s, size=(115, 175)) for s in range(6)]
        for kind in (False, True)
    )
    assert max(map(nuclear_proportion, benign)) < min(map(nuclear_proportion, malignant))
    assert np.mean(benign) > np.mean(malignant) + 10


def test_the_images_of_a_case_proportion_its_stain() -> None:
    def stain(seed: int, case_seed: int) -> np.ndarray:
        return draw_image(malignant=False, seed=seed, case_seed=case_seed, size=(64, 96)).mean(
            axis=(0, 1)
        )

    within = np.abs(stain(1, 10) - stain(2, 10)).mean()
    between = np.mean([np.abs(stain(1, 10) - stain(1, other)).mean() for other in range(11, 17)])
    assert within < between


def test_the_example_is_of_the_official_size_and_the_same_each_time() -> None:
    png = example_png(malignant=True)
    assert png == example_png(malignant=True)
    assert decode_image(png, "example").shape == (460, 700, 3)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert write_synthetic(tmp_path, n_cases=2, images_per_case=1, size=(32, 32)) == 2


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        write_synthetic(tmp_path, n_cases=2, images_per_case=1, size=(32, 32))
    assert contents(tmp_path) == {"mine.txt": b"x"}


@pytest.mark.parametrize(
    "numbers", [{"n_cases": 1}, {"pictures_per_case": 0}, {"size": (31, 64)}], ids=str
)
def test_numbers_out_of_range_write_nothing(tmp_path: Path, numbers: dict) -> None:
    with pytest.raises(ConfigError, match="at least 2 cases, 1 picture a case and 32 px"):
        write_synthetic(tmp_path / "set", **numbers)
    assert not (tmp_path / "set").exists()
