"""The scale bar: length, position and readability."""

import numpy as np
import pytest

from bc_model.scale_bar import draw_scale_bar, find_bar_length


@pytest.mark.parametrize(
    ("width_px", "mpp", "expected"),
    [
        (700, 0.55, (50.0, 91)),  # A quarter is 96 um.
        (1000, 0.5, (100.0, 200)),  # A quarter is 125 um.
        (900, 0.25, (50.0, 200)),  # A quarter is 56 um.
        (400, 0.2, (20.0, 100)),  # A quarter is exactly 20 um.
        (800, 20.0, (2000.0, 100)),  # A quarter is 4000 um.
    ],
)
def test_the_length_is_the_largest_round_one_in_a_quarter(
    width_px: int, mpp: float, expected: tuple[float, int]
) -> None:
    assert find_bar_length(width_px, mpp) == expected


@pytest.mark.parametrize("value", [0, 255])
def test_the_bar_has_its_length_on_any_background(value: int) -> None:
    image = np.full((460, 700, 3), value, np.uint8)
    marked = draw_scale_bar(image, 0.55)
    plate = marked[-40:, -140:, 0]
    runs = []
    for row in plate:
        # Black pixels between the white ones of the plate.
        white = np.flatnonzero(row == 255)
        inside = row[white[0] : white[-1] + 1] if len(white) else row[:0]
        runs.append(int((inside == 0).sum()))
    assert max(runs) == 91
    assert np.array_equal(marked[:300], image[:300])


def test_a_small_image_is_unchanged() -> None:
    image = np.full((40, 300, 3), 200, np.uint8)
    assert np.array_equal(draw_scale_bar(image, 0.5), image)
