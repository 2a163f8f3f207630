"""The trust test of a map: whether it shows what the prediction depends on.

The regions with the highest values of the map are removed step by step (deletion), or they are
shown alone first (insertion) [1]_. If the map is faithful, deletion lowers the evidence for the
predicted class early, and insertion raises it early. Random maps with the same values at other
places, and a blob in the center, are compared in the same way.

.. [1] Petsiuk, V., Das, A. and Saenko, K. "RISE: Randomized Input Sampling for Explanation of
   Black-box Models." BMVC 2018. https://arxiv.org/abs/1806.07421
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from scipy.stats import binomtest

from bc_model.checks import Check, make_check
from bc_model.contribution_map import ContributionMap
from bc_model.data.images import preprocess_image
from bc_model.errors import ConfigError
from bc_model.gradcam import resize_cells
from bc_model.inference.engine import Engine
from bc_model.inference.image_prediction import Prediction

T = TypeVar("T")

Margin = Callable[[np.ndarray], np.ndarray]
"""Returns the margins, shape (n,), of network inputs, shape (n, height, width, 3), uint8."""
Progress = Callable[[int, int], None]

N_RANDOM = 30
PROPORTIONS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""Removed proportions of the image for the tested map."""

_COARSE = (0.2,)
"""Proportion at which random maps are compared, so that 30 of them take few forward passes."""
_BATCH = 8
_BLUR = 0.06
"""Standard deviation of the blur that removes a region, relative to the width."""
_BLOB = 0.3
"""Standard deviation of the center blob, relative to each side."""
_CI_LEVEL, _ALPHA = 0.95, 0.05


@dataclass(frozen=True)
class Curve:
    """Evidence for the predicted class at each of `PROPORTIONS`, relative to the image.

    Attributes
    ----------
    deletion, insertion : tuple of float
        1 for the unchanged image, and 0 for the image that is removed entirely.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]


@dataclass(frozen=True)
class Faithfulness:
    """The result of the trust test of one map.

    Attributes
    ----------
    curve, center : Curve
        Of the tested map, and of the center blob.
    score, center_score : float
        Insertion minus deletion, mean over the coarse proportions. Larger is better.
    random_scores : tuple of float
        Of the random maps.
    proportion : float
        Proportion of the random maps with a lower score.
    ci_low, ci_high : float
        Exact 95 % binomial interval of `proportion` (Clopper and Pearson).
    """

    curve: Curve
    center: Curve
    score: float
    center_score: float
    random_scores: tuple[float, ...]
    proportion: float
    ci_low: float
    ci_high: float

    @property
    def proportions(self) -> tuple[float, ...]:
        """Marked proportion of the image at each point of the curves."""
        return PROPORTIONS

    @property
    def is_better_than_random(self) -> bool:
        """True if a random map would have such a rank in at most 5 % of the cases."""
        return self.p_value <= _ALPHA

    @property
    def p_value(self) -> float:
        """Probability that a random map has at least this rank (one-sided permutation test)."""
        n_not_beaten = sum(score >= self.score for score in self.random_scores)
        return (1 + n_not_beaten) / (1 + len(self.random_scores))

    @property
    def checks(self) -> tuple[Check, ...]:
        """BC194 or BC195, and BC198 if the center blob has a higher score."""
        n_random = len(self.random_scores)
        code = "BC194" if self.is_better_than_random else "BC195"
        n_beaten = round(self.proportion * n_random)
        found = [make_check(code, n_beaten=n_beaten, n_random=n_random)]
        if self.center_score > self.score:
            found.append(make_check("BC198"))
        return tuple(found)


def measure_faithfulness(
    margin: Margin,
    pixels: np.ndarray,
    contribution: ContributionMap,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Faithfulness:
    """Compare a contribution map with random maps by deletion and insertion.

    Regions are removed by a strong blur, which keeps the mean color and adds no edges.

    Parameters
    ----------
    margin : callable
        Returns the margins of network inputs.
    pixels : ndarray of shape (height, width, 3), uint8
        Network input of the image.
    contribution : ContributionMap
        The tested map. Its values count toward the predicted class, that of the sign of its margin.
    seed : int
        Of the random maps.
    progress : callable, optional
        Called with the number of completed forward passes and of all. It may raise an exception,
        which ends the test.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    >>> cells = np.zeros((4, 4), np.float32)
    >>> cells[0] = 1.0
    >>> tested = ContributionMap(cells, 0.0, 0.0, 1.0)
    >>> def contrast_at_top(batch):
    ...     return batch[:, :8].astype(float).std(axis=(1, 2, 3))
    >>> measure_faithfulness(contrast_at_top, pixels, tested).proportion > 0.8
    True
    """
    rng = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    sign = 1.0 if contribution.margin >= 0 else -1.0
    cells = sign * contribution.cells
    maps = [_upsample(cells, contribution, height, width), _center_blob(height, width)]
    maps += [
        _upsample(rng.permutation(cells.ravel()).reshape(cells.shape), contribution, height, width)
        for _ in range(N_RANDOM)
    ]
    blurred = cv2.GaussianBlur(pixels, (0, 0), _BLUR * width)
    ranks = [_rank(values) for values in maps]
    inner = PROPORTIONS[1:-1]
    plan = [(i, p, way) for i in (0, 1) for p in inner for way in (True, False)]
    plan += [(i, p, way) for i in range(2, len(maps)) for p in _COARSE for way in (True, False)]
    inputs = (_mix(pixels, blurred, ranks[i] < p, is_deletion) for i, p, is_deletion in plan)
    ends = np.stack([pixels, blurred])
    whole, removed = sign * margin(ends).astype(np.float64)
    span = whole - removed if abs(whole - removed) > 1e-9 else 1.0
    n_total = len(plan) + len(ends)
    values: dict[tuple[int, float, bool], float] = {}
    for i in range(2):
        values |= {(i, 0.0, True): whole, (i, 0.0, False): removed}
        values |= {(i, 1.0, True): removed, (i, 1.0, False): whole}
    n_done = len(ends)
    for keys, batch in zip(_chunks(plan), _chunks(inputs), strict=True):
        found = sign * margin(np.stack(batch)).astype(np.float64)
        values |= dict(zip(keys, found.tolist(), strict=True))
        n_done += len(batch)
        if progress:
            progress(n_done, n_total)
    scores = [
        float(np.mean([values[i, p, False] - values[i, p, True] for p in _COARSE]))
        for i in range(len(maps))
    ]
    curves = [
        Curve(
            *(
                tuple(float((values[i, p, way] - removed) / span) for p in PROPORTIONS)
                for way in (True, False)
            )
        )
        for i in (0, 1)
    ]
    n_beaten = sum(score < scores[0] for score in scores[2:])
    interval = binomtest(n_beaten, N_RANDOM).proportion_ci(_CI_LEVEL, method="exact")
    return Faithfulness(
        curves[0], curves[1], scores[0], scores[1], tuple(scores[2:]), n_beaten / N_RANDOM,
        float(interval.low), float(interval.high),
    )  # fmt: skip


def measure_prediction_faithfulness(
    engine: Engine, image: np.ndarray, prediction: Prediction, *, progress: Progress | None = None
) -> Faithfulness:
    """Return the trust test of the contribution map of a prediction with one field of view.

    Parameters
    ----------
    engine : Engine
        The model.
    image : ndarray of shape (height, width, 3), uint8
        The image of the prediction, at its original size.
    prediction : Prediction
        Its prediction.
    progress : callable, optional
        See `measure_faithfulness`.

    Raises
    ------
    ConfigError
        The prediction has no contribution map, or several tiles.
    """
    if prediction.contribution is None or prediction.is_tiled:
        raise ConfigError(
            "The trust test needs a contribution map of one field of view. Expected a classified "
            f"image, got {len(prediction.tiles)} tiles. Cut out one field."
        )

    def margin(pixels: np.ndarray) -> np.ndarray:
        logits = engine.predict(pixels)
        return logits[:, 1] - logits[:, 0]

    pixels = preprocess_image(image, engine.bundle.image_size)
    return measure_faithfulness(margin, pixels, prediction.contribution, progress=progress)


def _upsample(
    cells: np.ndarray, contribution: ContributionMap, height: int, width: int
) -> np.ndarray:
    return resize_cells(cells.astype(np.float32), contribution.grid, height, width)


def _center_blob(height: int, width: int) -> np.ndarray:
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    blob: np.ndarray = np.exp(-(np.square(y) + np.square(x)) / (2 * (2 * _BLOB) ** 2))
    return blob


def _rank(values: np.ndarray) -> np.ndarray:
    """Return the proportion of pixels with a higher value, shape of `values`, in [0, 1)."""
    order = np.argsort(-values, axis=None, kind="stable")
    ranks = np.empty(values.size, np.float64)
    ranks[order] = np.arange(values.size) / values.size
    return ranks.reshape(values.shape)


def _mix(
    pixels: np.ndarray, blurred: np.ndarray, is_marked: np.ndarray, is_deletion: bool
) -> np.ndarray:
    shows_image = ~is_marked if is_deletion else is_marked
    return np.where(shows_image[..., None], pixels, blurred)


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == _BATCH:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
