"""The spread of the probability over views of one image that show the same tissue.

Tissue has no orientation, and a field has no fixed position. A probability that changes with the
orientation or with a small shift depends on chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from bc_model.checks import Check, make_check
from bc_model.data.images import crop_to_field, preprocess_image
from bc_model.inference.engine import Engine, compute_prob_malignant

SHIFT = 0.02
"""Shift of a view in each direction, as a proportion of the side of the field."""
MAX_SD = 0.1
"""Largest standard deviation of the probabilities without check BC192."""


@dataclass(frozen=True)
class ViewSpread:
    """The probabilities of several views of one image.

    Attributes
    ----------
    prob_malignant : dict of str to float
        Probability in [0, 1] of each view, after temperature scaling. The first is the image as it
        is, followed by its rotations and mirror images, and by four shifted views.
    threshold : float
        Probability from which a view is predicted malignant.
    """

    prob_malignant: dict[str, float]
    threshold: float

    @property
    def mean(self) -> float:
        """Mean probability."""
        return float(np.mean(self._values))

    @property
    def sd(self) -> float:
        """Standard deviation of the probabilities over the views."""
        return float(np.std(self._values))

    @property
    def minimum(self) -> float:
        """Smallest probability."""
        return min(self._values)

    @property
    def maximum(self) -> float:
        """Largest probability."""
        return max(self._values)

    @property
    def n_malignant(self) -> int:
        """Number of views that are predicted malignant."""
        return sum(value >= self.threshold for value in self._values)

    @property
    def checks(self) -> tuple[Check, ...]:
        """BC192 if the views have different classes or a standard deviation above `MAX_SD`."""
        n_views = len(self._values)
        if self.n_malignant in (0, n_views) and self.sd <= MAX_SD:
            return ()
        return (
            make_check(
                "BC192",
                minimum=self.minimum,
                maximum=self.maximum,
                sd=self.sd,
                n_malignant=self.n_malignant,
                n_views=n_views,
            ),
        )

    @property
    def _values(self) -> list[float]:
        return list(self.prob_malignant.values())


def predict_views(engine: Engine, image: np.ndarray) -> ViewSpread:
    """Return the probabilities of the eight dihedral and four shifted views of one image.

    Parameters
    ----------
    engine : Engine
        The model.
    image : ndarray of shape (height, width, 3), uint8
        RGB image at its original size.

    Raises
    ------
    ModelError
        The logits are not finite.

    See Also
    --------
    make_views : Return the views themselves.

    Examples
    --------
    >>> from bc_model.inference import load_classifier
    >>> spread = load_classifier("bundled").predict_views(np.full((460, 700, 3), 200, np.uint8))
    >>> len(spread.prob_malignant)
    12
    """
    bundle = engine.bundle
    views = dict(make_views(image, bundle.image_size))
    logits = engine.predict(np.stack(list(views.values())))
    prob = compute_prob_malignant(logits, bundle.temperature)
    return ViewSpread(dict(zip(views, map(float, prob), strict=True)), bundle.threshold)


def make_views(image: np.ndarray, image_size: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the model input of each view; the first is the image as it is.

    A field that is rotated by 90 degrees has another shape. It is cropped along its long side and
    mirrored at its short side to the original shape, so that the scale stays the same. A shifted
    view is a crop of 96 % of each side in a corner of the field, so its center is shifted by 2 % in
    both directions and it is magnified by 4 %.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image at its original size.
    image_size : (int, int)
        Height and width of the model input, px.

    Examples
    --------
    >>> views = dict(make_views(np.zeros((460, 700, 3), np.uint8), (224, 336)))
    >>> list(views)[:3], list(views)[-1]
    (['original', 'rotated by 90°', 'rotated by 180°'], 'shifted to the lower right')
    """
    field = crop_to_field(image)
    height, width = field.shape[:2]
    for name, base in (("", field), ("mirrored", field[:, ::-1])):
        for quarter in range(4):
            rotated = f"rotated by {90 * quarter}°" if quarter else ""
            label = " and ".join(filter(None, (name, rotated))) or "original"
            view = _fit_shape(np.rot90(base, quarter), height, width)
            yield label, preprocess_image(view, image_size)
    top, left = round(2 * SHIFT * height), round(2 * SHIFT * width)
    for vertical, y_px in (("upper", 0), ("lower", top)):
        for horizontal, x_px in (("left", 0), ("right", left)):
            view = field[y_px : height - top + y_px, x_px : width - left + x_px]
            # Not cropped again, because a crop keeps the aspect ratio up to rounding.
            yield f"shifted to the {vertical} {horizontal}", preprocess_image(view, image_size)


def _fit_shape(field: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crop an image about its center, or continue it by mirroring, to a shape."""
    top, left = max(0, field.shape[0] - height) // 2, max(0, field.shape[1] - width) // 2
    field = np.ascontiguousarray(field[top : top + height, left : left + width])
    rows, columns = height - field.shape[0], width - field.shape[1]
    if rows or columns:
        field = cv2.copyMakeBorder(
            field, rows // 2, rows - rows // 2, columns // 2, columns - columns // 2,
            cv2.BORDER_REFLECT_101,
        )  # fmt: skip
    return field
