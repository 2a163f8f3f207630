import numpy as np
import pytest

from bc_model.data.stain import STAIN_COLUMNS, optical_density, stain_statistics
from bc_model.data.synthetic import draw_picture
from bc_model.serving.input_gate import knows_stain, stain_warnings, strange_stain

PICTURES = np.stack([draw_picture(malignant=bool(i % 2), seed=i)[:160, :240] for i in range(12)])


@pytest.fixture
def passport() -> dict:
    """Of a model that learned from drawn pictures."""
    found = np.quantile(stain_statistics(PICTURES), (0.01, 0.5, 0.99), axis=0)
    columns = {name: found[:, i].tolist() for i, name in enumerate(STAIN_COLUMNS)}
    return {"input": {"statistics": {"quantiles": [0.01, 0.5, 0.99]} | columns}}


def test_what_a_model_learned_from_passes(passport):
    assert [stain_warnings(one, passport) for one in PICTURES] == [()] * len(PICTURES)


def test_a_blank_picture_is_too_even(passport):
    (sentence,) = stain_warnings(np.full((160, 240, 3), (244, 230, 240), np.uint8), passport)

    assert "eosin more even" in sentence
    assert "other colours more even" in sentence
    assert sentence.endswith("do not rely on the estimate.")


@pytest.mark.parametrize(("difference", "grey"), [(0, True), (3, True), (5, False)])
def test_a_grey_picture_has_no_colour(passport, difference, grey):
    picture = np.repeat(PICTURES[0][:, :, 1:2] // 2 + 60, 3, axis=2)
    picture[:, :, 0] += np.uint8(difference)

    assert ("no colour" in " ".join(stain_warnings(picture, passport))) == grey


def test_how_far_a_picture_may_lie_outside_is_as_told(passport):
    # A statistic that has 0 to 2 around 1 in training may lie between -0.5 and 2.5.
    picture = PICTURES[0]
    eosin = optical_density(picture[::2, ::2].reshape(-1, 3))[:, 1].mean()
    for median, expected in ((eosin + 1.4, False), (eosin + 1.6, True), (eosin - 1.4, False),
                             (eosin - 1.6, True)):  # fmt: skip
        passport["input"]["statistics"]["eosin_mean"] = [median - 1.0, median, median + 1.0]
        word = "eosin paler" if median > eosin else "eosin stronger"
        assert (word in " ".join(stain_warnings(picture, passport))) == expected


def test_what_is_strange_is_named_from_statistics_alone(passport):
    known = stain_statistics(PICTURES[:1])[0]
    assert strange_stain(known, False, passport) == []
    assert strange_stain(known, True, passport) == ["no colour"]

    known[STAIN_COLUMNS.index("eosin_mean")] += 1.0
    known[STAIN_COLUMNS.index("residual_sd")] = -1.0
    assert strange_stain(known, False, passport) == ["eosin stronger", "other colours more even"]


def test_a_passport_without_statistics_says_nothing():
    assert not knows_stain({"input": {}})
    assert stain_warnings(np.zeros((8, 8, 3), np.uint8), {"input": {}}) == ()
