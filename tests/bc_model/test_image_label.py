"""Text on images: where it is and that it is readable."""

import numpy as np
import pytest

from bc_model.image_label import draw_text, mark_image


@pytest.mark.parametrize("size", [(460, 700), (64, 64), (100, 3000)])
def test_a_mark_changes_the_upper_left_corner_alone(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 128, np.uint8)
    marked = mark_image(image, "Blocked, shown anyway. Research use only.")
    changed = np.argwhere((marked != image).any(axis=2))
    assert changed.min(axis=0).tolist() == [0, 0]
    assert changed[:, 0].max() < size[0] * 0.9
    assert {0, 255} & set(np.unique(marked[0])) == {255}
    assert marked.min() < 128  # Dark letters, even if they are made smaller.
    assert (image == 128).all()


def test_a_tiny_image_has_no_mark() -> None:
    image = np.full((32, 700, 3), 128, np.uint8)
    assert (mark_image(image, "Blocked") == image).all()


def test_text_is_black_on_white_with_the_letter_mu() -> None:
    micro, empty = draw_text("\u00b5", 24), draw_text("\u25a1", 24)
    assert (micro.min(), micro.max()) == (0, 255)
    assert micro.shape != empty.shape or (micro != empty).any()
