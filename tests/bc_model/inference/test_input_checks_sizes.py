"""Checks of the image size: upsampled, ambiguous, or unlike the training images."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bc_model.checks import make_check
from bc_model.inference.bundle import Bundle
from bc_model.inference.input_checks import (
    check_size,
    check_sizes,
    summarize_sizes,
    upsampling_factor,
)
from benchmarks.model_card import dummy_model_card


def images(*rows: tuple[int, int, int | None]) -> pd.DataFrame:
    """Return rows of (width_px, height_px, magnification)."""
    table = pd.DataFrame(rows, columns=["width_px", "height_px", "magnification"])
    return table.astype({"magnification": "Int64"})


def code_of(width: int, height: int, bundle: Bundle, *, official: bool = False) -> str | None:
    check = check_size(width, height, official, bundle)
    return check.code if check else None


@pytest.fixture
def bundle() -> Bundle:
    """Return a bundle with 160 x 240 px, trained on full frames and on resized frames."""
    return bundle_with(
        (160, 240), (*[(224, 224, 200)] * 3, *[(700, 460, 100)] * 2, (700, 456, 100))
    )


def bundle_with(
    image_size: tuple[int, int], seen: tuple[tuple[int, int, int | None], ...]
) -> Bundle:
    """Return a bundle of a model that was trained on images of these sizes."""
    card = dummy_model_card(image_size)
    sizes = summarize_sizes(images(*seen))
    return Bundle(Path(), replace(card, input=replace(card.input, **sizes)))


def test_summarize_sizes_lists_sizes_of_resized_frames(bundle: Bundle) -> None:
    given = bundle.card.input
    assert given.training_sizes == ("224x224", "700x460", "700x456")
    assert given.reshaped_sizes == ("224x224",)
    assert summarize_sizes(images((224, 224, 200), (224, 224, None)))["reshaped_sizes"] == ()
    # Without an official name, the original shape is unknown.
    assert summarize_sizes(images((224, 224, None)))["reshaped_sizes"] == ()


@pytest.mark.parametrize(
    ("width", "height", "factor"),
    [(50, 50, 4.8), (240, 100, 1.6), (100, 160, 2.4), (480, 320, 0.5), (224, 224, 0.0)],
)
def test_check_size_above_the_upsampling_limit_is_blocking(
    bundle: Bundle, width: int, height: int, factor: float
) -> None:
    assert upsampling_factor(width, height, bundle) == pytest.approx(factor)
    assert (code_of(width, height, bundle) == "BC105") == (factor > 1.5)


def test_check_size_with_upsampled_training_images_allows_the_same_factor() -> None:
    bundle = bundle_with((224, 224), ((50, 50, None),))

    assert code_of(50, 49, bundle) == "BC130"  # a factor of 4.6, and 4.5 in training
    check = check_size(25, 25, False, bundle)
    assert (check.code, check.params["factor"]) == ("BC105", pytest.approx(8.96))
    rare = bundle_with((224, 224), (*[(700, 460, None)] * 2, (50, 50, None)))
    assert code_of(60, 60, rare) == "BC105"


def test_check_size_with_the_size_of_a_resized_frame_is_ambiguous(bundle: Bundle) -> None:
    assert check_size(224, 224, False, bundle) == make_check("BC131", width_px=224, height_px=224)
    assert code_of(224, 224, bundle, official=True) is None
    assert code_of(700, 460, bundle) is None
    assert code_of(350, 230, bundle) is None  # a frame at half its size
    assert check_size(512, 512, False, bundle) == make_check(
        "BC130", width_px=512, height_px=512,
        training_sizes=["224 x 224", "700 x 460", "700 x 456"],
    )  # fmt: skip


def test_check_sizes_with_a_mixed_dataset_counts_each_check(bundle: Bundle) -> None:
    coarse, ambiguous, other = check_sizes(
        images(
            (50, 50, None), (50, 50, None), (100, 100, None),
            (224, 224, None), (224, 224, 200), (700, 460, None), (512, 512, None), (512, 512, 40),
        ),
        bundle,
    )  # fmt: skip
    assert coarse == make_check(
        "BC150", n_found=3, n_images=8, min_factor=2.4, max_factor=4.8,
        training_sizes=["224 x 224", "700 x 460", "700 x 456"],
    )  # fmt: skip
    assert ambiguous == make_check("BC151", n_found=1, n_images=8)
    assert (other.code, other.params["n_found"]) == ("BC152", 2)
    assert check_sizes(images((700, 460, 100), (224, 224, 200)), bundle) == ()
