"""What a size says: enlarged, brought to another shape, or unlike what the model learned from."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bc_model.serving.bundle import Bundle
from bc_model.serving.sizes import about_enlarging, about_size, about_sizes, enlarged, size_facts
from benchmarks.passport import dummy_model_card


def pictures(*rows: tuple[int, int, int | None]) -> pd.DataFrame:
    """Return rows of (width_px, height_px, magnification)."""
    table = pd.DataFrame(rows, columns=["width_px", "height_px", "magnification"])
    return table.astype({"magnification": "Int64"})


@pytest.fixture
def bundle() -> Bundle:
    """Of a network that takes 160 x 240 px, and learned from frames and from squashed ones."""
    return bundle_with(
        (160, 240), (*[(224, 224, 200)] * 3, *[(700, 460, 100)] * 2, (700, 456, 100))
    )


def bundle_with(
    image_size: tuple[int, int], seen: tuple[tuple[int, int, int | None], ...]
) -> Bundle:
    """Return a bundle of a model that was trained on images of these sizes."""
    card = dummy_model_card(image_size)
    facts = size_facts(pictures(*seen))
    return Bundle(Path(), replace(card, input=replace(card.input, **facts)))


def test_sizes_of_frames_that_lost_their_shape_are_told_apart(bundle: Bundle) -> None:
    given = bundle.card.input
    assert given.training_sizes == ("224x224", "700x460", "700x456")
    assert given.reshaped_sizes == ("224x224",)
    assert size_facts(pictures((224, 224, 200), (224, 224, None)))["reshaped_sizes"] == ()
    # Without an official name nobody knows what shape it had.
    assert size_facts(pictures((224, 224, None)))["reshaped_sizes"] == ()


@pytest.mark.parametrize(
    ("width", "height", "times"),
    [(50, 50, 4.8), (240, 100, 1.6), (100, 160, 2.4), (480, 320, 0.5), (224, 224, 0.0)],
)
def test_the_longer_way_says_how_far_a_picture_is_enlarged(
    bundle: Bundle, width: int, height: int, times: float
) -> None:
    assert enlarged(width, height, bundle) == pytest.approx(times)
    assert bool(about_enlarging(width, height, bundle)) == (times > 1.5)


def test_what_was_enlarged_in_training_may_be_enlarged_as_much() -> None:
    bundle = bundle_with((224, 224), ((50, 50, None),))

    assert not about_enlarging(50, 49, bundle)  # 4.6 times, where 4.5 was in training
    assert "enlarged 9.0 times" in about_enlarging(25, 25, bundle)[0]
    rare = bundle_with((224, 224), (*[(700, 460, None)] * 2, (50, 50, None)))
    assert about_enlarging(60, 60, rare)


def test_a_field_of_the_size_of_a_squashed_frame_is_at_another_scale(bundle: Bundle) -> None:
    (caution,) = about_size(224, 224, False, bundle)
    assert caution.startswith("The model knows 224 x 224 pixels from whole BreakHis frames")
    assert about_size(224, 224, True, bundle) == ()
    assert about_size(700, 460, False, bundle) == ()
    assert about_size(350, 230, False, bundle) == ()  # a frame at half its size
    (caution,) = about_size(512, 512, False, bundle)
    assert "512 x 512 pixels; the model learned from pictures of 224 x 224 and 700 x 460" in caution


def test_a_set_is_told_what_each_of_its_pictures_would_be(bundle: Bundle) -> None:
    coarse, brought, other = about_sizes(
        pictures(
            (50, 50, None), (50, 50, None), (100, 100, None),
            (224, 224, None), (224, 224, 200), (700, 460, None), (512, 512, None), (512, 512, 40),
        ),
        bundle,
    )  # fmt: skip
    assert coarse == (
        "3 of 8 pictures are enlarged 2.4 to 4.8 times for the model, which learned from pictures "
        "of 224 x 224 and 700 x 460 and 700 x 456. Their estimates mean nothing."
    )
    assert brought.startswith("1 of 8 pictures have a size that the model knows from whole")
    assert other.startswith("2 of 8 pictures are of sizes or shapes other than")
    assert about_sizes(pictures((700, 460, 100), (224, 224, 200)), bundle) == ()
