"""Recolored and blurred images."""

import numpy as np

from bc_model.data.image_operations import blur, fluorescence_like, ihc_like


def test_ihc_like_tissue_is_brown_and_glass_stays_bright() -> None:
    image = np.full((8, 8, 3), 255, np.uint8)
    image[:4] = (200, 120, 170)
    red, green, blue = ihc_like(image)[0, 0].tolist()
    assert red > green > blue
    assert ihc_like(image)[7, 7].min() > 240


def test_fluorescence_like_glass_is_black_and_nuclei_are_blue() -> None:
    image = np.full((8, 8, 3), 255, np.uint8)
    image[:4] = (90, 60, 130)
    found = fluorescence_like(image)
    assert found[7, 7].max() < 8
    assert found[0, 0, 2] > found[0, 0, 0]


def test_blur_of_a_point_is_a_gaussian() -> None:
    image = np.zeros((31, 31, 3), np.uint8)
    image[15, 15] = 255
    found = blur(image, 1.0)
    # 255 / (2 pi) at the center.
    assert abs(int(found[15, 15, 0]) - 41) <= 1
    assert found[15, 14, 0] == found[14, 15, 0] < found[15, 15, 0]
