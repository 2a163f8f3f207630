"""Views of one image: their pixels, and the spread of their probabilities."""

import numpy as np
import pytest

from bc_model.data.images import preprocess_image
from bc_model.inference.classifier import load_classifier
from bc_model.inference.views import MAX_SD, ViewSpread, make_views
from bc_model.training.run import Run


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)


def test_make_views_of_a_square_image_are_its_eight_symmetries(image: np.ndarray) -> None:
    views = dict(make_views(image, (50, 50)))
    assert len(views) == 12
    np.testing.assert_array_equal(views["original"], image)
    np.testing.assert_array_equal(views["rotated by 90°"], image.transpose(1, 0, 2)[::-1])
    np.testing.assert_array_equal(views["rotated by 180°"], image[::-1, ::-1])
    np.testing.assert_array_equal(views["mirrored"], image[:, ::-1])
    np.testing.assert_array_equal(views["mirrored and rotated by 180°"], image[::-1])
    symmetries = list(views.values())[:8]
    assert len({view.tobytes() for view in symmetries}) == 8
    # The same pixels in another order.
    assert {tuple(np.sort(view, axis=None)) for view in symmetries} == {
        tuple(np.sort(image, axis=None))
    }


def test_shifted_views_are_the_corners_of_the_field(image: np.ndarray) -> None:
    views = dict(make_views(image, (48, 48)))
    # 4 % of 50 px are 2 px.
    np.testing.assert_array_equal(views["shifted to the upper left"], image[:48, :48])
    np.testing.assert_array_equal(views["shifted to the lower right"], image[2:, 2:])
    np.testing.assert_array_equal(views["shifted to the lower left"], image[2:, :48])


def test_rotated_field_keeps_its_scale_and_shape() -> None:
    image = np.zeros((456, 700, 3), np.uint8)
    image[218:238, 300:400] = 255  # A horizontal bar of 20 x 100 px around the center.
    views = dict(make_views(image, (456, 700)))
    rotated = views["rotated by 90°"]
    assert rotated.shape == image.shape
    rows, columns = np.nonzero(rotated[..., 0])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (100, 20)
    # Beyond the short side, the tissue is mirrored at column 122 and at column 577.
    other = np.random.default_rng(1).integers(0, 256, image.shape, dtype=np.uint8)
    turned = dict(make_views(other, (456, 700)))["rotated by 270°"]
    np.testing.assert_array_equal(turned[:, 122:578], np.rot90(other, 3)[122:578])
    np.testing.assert_array_equal(turned[:, 121], turned[:, 123])
    np.testing.assert_array_equal(turned[:, 578], turned[:, 576])


@pytest.mark.parametrize("shape", [(460, 700), (300, 900), (17, 64)])
def test_first_view_is_the_input_of_the_prediction(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 256, (*shape, 3), dtype=np.uint8)
    views = dict(make_views(image, (64, 96)))
    np.testing.assert_array_equal(views["original"], preprocess_image(image, (64, 96)))
    assert {view.shape for view in views.values()} == {(64, 96, 3)}


def test_view_spread_equals_manual_values() -> None:
    spread = ViewSpread({"a": 0.2, "b": 0.4, "c": 0.6}, threshold=0.5)
    assert (spread.mean, spread.minimum, spread.maximum) == pytest.approx((0.4, 0.2, 0.6))
    assert spread.sd == pytest.approx(np.sqrt(0.08 / 3))
    (check,) = spread.checks
    assert check.code == "BC192"
    assert (check.params["n_malignant"], check.params["n_views"]) == (1, 3)


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ((0.1, 0.12), []),
        ((0.49, 0.5), ["BC192"]),  # One on each side of the threshold.
        ((0.1, 0.1 + 1.9 * MAX_SD), []),
        ((0.1, 0.1 + 2.1 * MAX_SD), ["BC192"]),
    ],
)
def test_view_spread_check_depends_on_classes_and_spread(
    values: tuple[float, float], codes: list[str]
) -> None:
    spread = ViewSpread({"a": values[0], "b": values[1]}, threshold=0.5)
    assert [check.code for check in spread.checks] == codes


def test_predict_views_starts_with_the_probability_of_the_prediction(tiny_run: Run) -> None:
    classifier = load_classifier(tiny_run.path)
    image = np.random.default_rng(4).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    spread = classifier.predict_views(image)
    expected = classifier.predict(image).prob_malignant
    assert spread.prob_malignant["original"] == pytest.approx(expected, abs=1e-6)
    assert spread.threshold == classifier.bundle.threshold
    even = classifier.predict_views(np.full((64, 96, 3), 200, np.uint8))
    assert even.sd == pytest.approx(0.0, abs=1e-6)
