"""The trust test of a map: whether it shows what the prediction depends on.

The regions with the highest values of the map are removed step by step (deletion), or they are
shown alone first (insertion) [1]_. If the map is faithful, deletion lowers the evidence for the
class early, and insertion raises it early. Misplaced copies of the map, mirrored and shifted at
random, and a blob in the center are compared in the same way. The copies have the values and the
smoothness of the map, so that only its position is tested.

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
from bc_model.gradcam import CellGrid, Heatmap, resize_cells
from bc_model.inference.engine import Engine
from bc_model.inference.image_prediction import Prediction

T = TypeVar("T")

Evidence = Callable[[np.ndarray], np.ndarray]
"""Returns the evidence for a class, shape (n,), of network inputs, (n, height, width, 3), uint8."""
Progress = Callable[[int, int], None]

N_RANDOM = 30
PROPORTIONS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""Removed proportions of the image for the tested map."""

_COMPARED = 0.2
"""Proportion at which random maps are compared, so that 30 of them take few forward passes."""
_BATCH = 8
_BLUR = 0.06
"""Standard deviation of the blur that removes a region, relative to the width."""
_BLOB = 0.3
"""Standard deviation of the center blob, relative to each side."""
_CI_LEVEL, _ALPHA = 0.95, 0.05
_MAX_CORRELATION = 0.5
"""Of a misplaced copy with the map. More similar ones are in the right place."""
_MAX_TRIES = 100


@dataclass(frozen=True)
class Curve:
    """Evidence for the class at each of `PROPORTIONS`.

    Attributes
    ----------
    deletion : tuple of float
        From the unchanged image to the image that is removed entirely.
    insertion : tuple of float
        From the image that is removed entirely to the unchanged image.
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
        Insertion minus deletion at the proportion of the comparison. Larger is better.
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
    evidence: Evidence,
    pixels: np.ndarray,
    cells: np.ndarray,
    grid: CellGrid | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Faithfulness:
    """Compare a map with misplaced copies of it by deletion and insertion.

    Regions are removed by a strong blur, which keeps the mean color and adds no edges.

    Parameters
    ----------
    evidence : callable
        Returns the evidence for the class of the map, such as a margin.
    pixels : ndarray of shape (height, width, 3), uint8
        Network input of the image.
    cells : ndarray of shape (rows, columns)
        The tested map. Higher values are more evidence for the class.
    grid : CellGrid, optional
        Positions of the cells.
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
    >>> def contrast_at_top(batch):
    ...     return batch[:, :8].astype(float).std(axis=(1, 2, 3))
    >>> measure_faithfulness(contrast_at_top, pixels, cells).proportion > 0.8
    True
    """
    rng = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    copies = [cells, *(_misplace(cells, rng) for _ in range(N_RANDOM))]
    maps = [resize_cells(copy.astype(np.float32), grid, height, width) for copy in copies]
    maps.insert(1, _center_blob(height, width))
    blurred = cv2.GaussianBlur(pixels, (0, 0), _BLUR * width)
    ranks = [_rank(values) for values in maps]
    plan = [(i, p, way) for i in (0, 1) for p in PROPORTIONS[1:-1] for way in (True, False)]
    plan += [(i, _COMPARED, way) for i in range(2, len(maps)) for way in (True, False)]
    inputs = (_mix(pixels, blurred, ranks[i] < p, is_deletion) for i, p, is_deletion in plan)
    ends = np.stack([pixels, blurred])
    whole, removed = evidence(ends).astype(np.float64).tolist()
    values: dict[tuple[int, float, bool], float] = {}
    for i in range(2):
        values |= {(i, 0.0, True): whole, (i, 0.0, False): removed}
        values |= {(i, 1.0, True): removed, (i, 1.0, False): whole}
    n_done, n_total = len(ends), len(plan) + len(ends)
    for keys, batch in zip(_chunks(plan), _chunks(inputs), strict=True):
        found = evidence(np.stack(batch)).astype(np.float64)
        values |= dict(zip(keys, found.tolist(), strict=True))
        n_done += len(batch)
        if progress:
            progress(n_done, n_total)
    scores = [values[i, _COMPARED, False] - values[i, _COMPARED, True] for i in range(len(maps))]
    curves = [
        Curve(*(tuple(values[i, p, way] for p in PROPORTIONS) for way in (True, False)))
        for i in (0, 1)
    ]
    n_beaten = sum(score < scores[0] for score in scores[2:])
    interval = binomtest(n_beaten, N_RANDOM).proportion_ci(_CI_LEVEL, method="exact")
    return Faithfulness(
        curves[0], curves[1], scores[0], scores[1], tuple(scores[2:]), n_beaten / N_RANDOM,
        float(interval.low), float(interval.high),
    )  # fmt: skip


def measure_prediction_faithfulness(
    engine: Engine,
    image: np.ndarray,
    prediction: Prediction,
    tested: ContributionMap | Heatmap | None = None,
    *,
    progress: Progress | None = None,
) -> Faithfulness:
    """Return the trust test of a map of a prediction with one field of view.

    The evidence is the margin for the class of the map. That of a signed map is the class of its
    margin.

    Parameters
    ----------
    engine : Engine
        The model.
    image : ndarray of shape (height, width, 3), uint8
        The image of the prediction, at its original size.
    prediction : Prediction
        Its prediction.
    tested : ContributionMap or Heatmap, optional
        The map. The default is the contribution map of the prediction.
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
    tested = tested or prediction.contribution
    if isinstance(tested, Heatmap):
        sign = 1.0 if tested.class_name == "malignant" else -1.0
        cells = tested.raw
    else:
        sign = 1.0 if tested.margin >= 0 else -1.0
        cells = sign * tested.cells

    def evidence(pixels: np.ndarray) -> np.ndarray:
        logits = engine.predict(pixels)
        return sign * (logits[:, 1] - logits[:, 0])

    pixels = preprocess_image(image, engine.bundle.image_size)
    return measure_faithfulness(evidence, pixels, cells, tested.grid, progress=progress)


def _misplace(cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a copy that is mirrored and shifted at random, and unlike the map.

    If the map is so regular that no copy differs, the last one is returned.
    """
    copy = cells
    for _ in range(_MAX_TRIES):
        copy = cells[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
        copy = np.roll(copy, [int(rng.integers(side)) for side in cells.shape], axis=(0, 1))
        deviations = cells - cells.mean(), copy - cells.mean()
        covariance = float((deviations[0] * deviations[1]).sum())
        if covariance <= _MAX_CORRELATION * float(np.square(deviations[0]).sum()):
            break
    return copy


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
