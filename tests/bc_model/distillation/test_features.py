import cv2
import numpy as np
import pytest
from scipy.stats import skew

from bc_model.distillation.features import N_FEATURES, extract_features

COLOR, HISTOGRAMS, ADJACENCY, PYRAMID = (
    slice(0, 18), slice(18, 66), slice(66, 228), slice(228, 264),
)  # fmt: skip


def doubled(image: np.ndarray) -> np.ndarray:
    """Return an image of twice the size, whose half-size version is the original."""
    return image.repeat(2, axis=0).repeat(2, axis=1)


def features_of(image: np.ndarray) -> np.ndarray:
    return extract_features(image[None])[0]


@pytest.fixture
def image() -> np.ndarray:
    noise = np.random.default_rng(3).normal(128.0, 60.0, (40, 56, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 1.0) * 1.5 - 60, 0, 255).astype(np.uint8)


def test_extract_features_color_statistics_match_numpy_and_scipy(image):
    found = features_of(doubled(image))
    values = image.reshape(-1, 3).astype(float)

    expected = [values.mean(axis=0), values.std(axis=0), skew(values)]
    expected += list(np.percentile(values, [10, 50, 90], axis=0, method="inverted_cdf"))
    np.testing.assert_allclose(found[COLOR], np.concatenate(expected), rtol=1e-5, atol=1e-5)


def test_extract_features_histograms_match_numpy(image):
    found = features_of(doubled(image))[HISTOGRAMS].reshape(3, 16)

    for proportion, channel in zip(found, np.moveaxis(image, 2, 0), strict=True):
        expected = np.histogram(channel, 16, (0, 256))[0] / channel.size
        np.testing.assert_allclose(proportion, expected, atol=1e-7)


def test_extract_features_adjacency_counts_neighbors():
    # A plus of value 200 on 0. Only the plus is above Otsu's threshold, with mean 200 and spread 0,
    # so all three ranges contain exactly the plus.
    image = np.zeros((40, 40, 3), np.uint8)
    for y, x in ((10, 10), (9, 10), (11, 10), (10, 9), (10, 11)):
        image[y, x] = 200

    found = features_of(doubled(image))[ADJACENCY].reshape(3, 3, 2, 9)

    # The center has 4 neighbors in the plus; each arm has the center and two arms.
    inside = [0, 0, 0, 4 / 5, 1 / 5, 0, 0, 0, 0]
    np.testing.assert_allclose(found[:, :, 0], np.broadcast_to(inside, (3, 3, 9)), atol=1e-7)
    # Outside, neighbors are counted one by one, without those beyond the edge.
    around = np.zeros(9)
    plus = image[..., 0] > 0
    for y in range(40):
        for x in range(40):
            if not plus[y, x]:
                block = ~plus[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                around[block.sum() - 1] += 1
    np.testing.assert_allclose(found[0, 0, 1], around / around.sum(), atol=1e-7)


def test_extract_features_fine_detail_is_in_the_first_pyramid_level(image):
    coarse = cv2.GaussianBlur(image, (0, 0), 3.0)

    fine_strength, coarse_strength = (
        features_of(doubled(p))[PYRAMID].reshape(4, 3, 3)[:, 0, 0] for p in (image, coarse)
    )

    difference = fine_strength - coarse_strength
    assert difference[0] > difference[1] > difference[2] > difference[3]


@pytest.mark.parametrize("value", [0, 128, 255])
def test_extract_features_uniform_image_is_finite(value):
    found = features_of(np.full((32, 32, 3), value, np.uint8))

    assert found.shape == (N_FEATURES,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_extract_features_do_not_depend_on_the_batch():
    images = np.random.default_rng(0).integers(0, 256, (70, 34, 40, 3), np.uint8)

    together = extract_features(images)

    for index in (0, 1, 63, 64, 69):
        np.testing.assert_array_equal(together[index], features_of(images[index]))
