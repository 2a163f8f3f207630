"""The last layer of the bundled model, fitted in closed form to the teacher's logits.

The training steps fit the network to crops of changed colors, but predictions need complete images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bc_model.data.stain import background_mask
from bc_model.distillation.augmentation import degrade, sample_variants
from bc_model.distillation.cells import mean_of_cells
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.teacher import Teacher, mean_logit
from bc_model.evaluation.predictions import case_weights

MEASUREMENT_VERSION = 2
"""Version of `PooledActivations.measure`, to be increased if its values change."""

N_CHANGED = 3
"""Changed copies of each image: two crops and one with other colors, all of them degraded."""

_BATCH_SIZE = 16
_BACKGROUND_BANDS = ((0.25, 0.5), (0.5, 0.75), (0.75, 0.95), (0.95, 1.0))
"""Groups of cells by their proportion of background, each above the first number."""
_CELL_WEIGHT = 1.0
"""Weight of the cells of one group of an image, relative to the image."""

Forward = Callable[[np.ndarray], np.ndarray]
"""Function from pixels, (n, height, width, 3) float32, to the last activations, (n, h, w, c)."""


@dataclass(frozen=True)
class PooledActivations:
    """Last activations of all images by one network, pooled.

    Attributes
    ----------
    pooled : ndarray of shape (n, 1 + N_CHANGED, channels), float32
        Means over the cells of each image and of its changed copies.
    tissue : ndarray of shape (n, 1 + N_CHANGED), float32
        Proportion of tissue, before changes of color and degradation.
    cells : ndarray of shape (n, n_bands, channels), float32
        Means over the cells of each image whose proportion of background is within a band; zero
        without such cells.
    cell_tissue : ndarray of shape (n, n_bands), float32
        Mean proportion of tissue of these cells; NaN without such cells.
    scale : ndarray of shape (channels + 1,), float32
        Kernel and bias that the training steps fitted to the scale of the views, log2 µm per pixel.
    """

    pooled: np.ndarray
    tissue: np.ndarray
    cells: np.ndarray
    cell_tissue: np.ndarray
    scale: np.ndarray

    def select(self, mask: np.ndarray) -> PooledActivations:
        """Return the activations of the images of a mask, shape (n,), bool."""
        names = ("pooled", "tissue", "cells", "cell_tissue")
        return replace(self, **{name: getattr(self, name)[mask] for name in names})

    def predict_mpp(self) -> np.ndarray:
        """Return the estimated scale of the unchanged images, µm per pixel, shape (n,)."""
        log2_mpp: np.ndarray = self.pooled[:, 0] @ self.scale[:-1] + self.scale[-1]
        return np.exp2(log2_mpp)

    @classmethod
    def measure(
        cls, forward: Forward, source: TrainingImages, config: DistillationConfig,
        scale: np.ndarray,
    ) -> PooledActivations:  # fmt: skip
        """Measure the activations of all images; the changed copies follow from the seed."""
        pooled, tissue, cells, cell_tissue = [], [], [], []
        for start in range(0, len(source.frames), _BATCH_SIZE):
            frames = source.frames[start : start + _BATCH_SIZE]
            copies = [_copies(x, config, start + i) for i, x in enumerate(frames)]
            images, masks = (np.stack(arrays) for arrays in zip(*copies, strict=True))
            tissue.append(1.0 - masks.mean(axis=(2, 3), dtype=np.float32))
            for number in range(images.shape[1]):
                activations = forward(images[:, number].astype(np.float32))
                pooled.append((start, number, activations.mean(axis=(1, 2))))
                if number == 0:
                    groups = _mean_bands(activations, masks[:, 0], config.backbone)
                    cells.append(groups[0])
                    cell_tissue.append(groups[1])
        n, n_copies = len(source.frames), 1 + N_CHANGED
        result = np.empty((n, n_copies, pooled[0][2].shape[1]), np.float32)
        for start, number, values in pooled:
            result[start : start + len(values), number] = values
        return cls(
            result, np.concatenate(tissue), np.concatenate(cells), np.concatenate(cell_tissue),
            scale,
        )  # fmt: skip


def _copies(
    frame: np.ndarray, config: DistillationConfig, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the complete image and its changed copies at the input size, and their background.

    The shapes are (1 + N_CHANGED, height, width, 3), uint8, and (1 + N_CHANGED, height, width),
    bool. The background is that of the image before other colors and degradation, which can turn
    glass into apparent tissue.
    """
    rng = np.random.default_rng([config.seed, number, 2])
    variants = sample_variants(frame, config, rng)
    unchanged, *changed = variants.pixels[: 1 + N_CHANGED]
    masks = background_mask(variants.pixels[: 1 + N_CHANGED])
    masks[variants.crop_proportions[: 1 + N_CHANGED] == 1.0] = masks[0]
    width = float(config.image_size[1])
    return np.stack([unchanged, *(degrade(x, width, config, rng) for x in changed)]), masks


def _mean_bands(
    activations: np.ndarray, masks: np.ndarray, backbone: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean activations of the cells of each band, and their proportion of tissue."""
    n, bands = len(activations), _BACKGROUND_BANDS
    means = np.zeros((n, len(bands), activations.shape[3]), np.float32)
    tissue = np.full((n, len(bands)), np.nan, np.float32)
    background = mean_of_cells(masks.astype(np.float32), activations.shape[1:3], backbone)
    for i, of_image in enumerate(background):
        for j, (low, high) in enumerate(bands):
            chosen = (of_image > low) & (of_image <= high + 1e-6)
            if chosen.any():
                means[i, j] = activations[i][chosen].mean(axis=0)
                tissue[i, j] = 1.0 - of_image[chosen].mean()
    return means, tissue


@dataclass(frozen=True)
class HeadOptions:
    """Options of the last layer, which can be changed without training a network.

    Attributes
    ----------
    penalties : tuple of float
        Inverse ridge strength of each teacher.
    teacher_weights : tuple of float
        Weight of each teacher.
    last_penalty : float
        Ridge strength of the last layer.
    """

    penalties: tuple[float, ...]
    teacher_weights: tuple[float, ...]
    last_penalty: float

    @classmethod
    def of(cls, config: DistillationConfig) -> HeadOptions:
        """Return the options of a configuration."""
        return cls(config.penalties, config.teacher_weights, config.last_penalty)


@dataclass(frozen=True)
class LastLayer:
    """The malignant logit of one network: a linear function of its pooled activations.

    `kernel` has the shape (channels,). `teacher_logit` has the shape (n,): the target of all
    images, which is the teacher's logit times the proportion of tissue.
    """

    kernel: np.ndarray
    teacher_logit: np.ndarray

    @classmethod
    def fit(
        cls, source: TrainingImages, features: np.ndarray, activations: PooledActivations,
        is_train: np.ndarray, options: HeadOptions,
    ) -> LastLayer:  # fmt: skip
        """Fit teacher and last layer to the training images that are evaluated.

        Parameters
        ----------
        source : TrainingImages
        features : ndarray of shape (n, n_variants, d), float32
            Features of each image and its variants, from `ViewPool`.
        activations : PooledActivations
        is_train : ndarray of shape (n,), bool
        options : HeadOptions
        """
        use = is_train & ~source.is_extra
        logits = teacher_logits(source, features, use, options.penalties)
        kernels = fit_kernels(
            activations.select(use), logits[use], source.case[use], (options.last_penalty,)
        )
        return cls.combine(kernels[0], logits, activations, use, options.teacher_weights)

    @classmethod
    def combine(
        cls, kernels: np.ndarray, logits: np.ndarray, activations: PooledActivations,
        use: np.ndarray, teacher_weights: tuple[float, ...],
    ) -> LastLayer:  # fmt: skip
        """Return the weighted mean of the layers of several teachers.

        Parameters
        ----------
        kernels : ndarray of shape (channels, n_teachers)
            From `fit_kernels`.
        logits : ndarray of shape (n, n_teachers)
            From `teacher_logits`.
        activations : PooledActivations
        use : ndarray of shape (n,), bool
            Training images; the logit of the mean has a standard deviation of 1 over them.
        teacher_weights : tuple of float
        """
        logit = mean_logit(logits, teacher_weights)
        scale = float(logit[use].std()) or 1.0
        return cls(
            mean_logit(kernels, teacher_weights) / scale, logit / scale * activations.tissue[:, 0]
        )

    def predict_logit(self, activations: PooledActivations) -> np.ndarray:
        """Return the malignant logit of the unchanged images, shape (n,)."""
        logit: np.ndarray = activations.pooled[:, 0] @ self.kernel
        return logit


def teacher_logits(
    source: TrainingImages, features: np.ndarray, use: np.ndarray, penalties: tuple[float, ...]
) -> np.ndarray:
    """Fit the teachers to some images; return their logits of all images, (n, n_teachers)."""
    teacher = Teacher.fit(features[use], source.malignant[use], source.case[use], penalties)
    return teacher.predict_logits(teacher.normalize(features[:, 0]))


def fit_kernels(
    activations: PooledActivations, logits: np.ndarray, case: np.ndarray,
    last_penalties: tuple[float, ...],
) -> np.ndarray:  # fmt: skip
    """Fit the logits of several teachers by ridge regression without a bias.

    Parameters
    ----------
    activations : PooledActivations
        Of n training images.
    logits : ndarray of shape (n, n_teachers)
        Teachers' logits of the unchanged images. The target is a logit times the proportion of
        tissue, of the image or of a group of its cells.
    case : ndarray of shape (n,), str
        Cases, whose images have equal weights in total. The changed copies of an image together
        weigh as much as the image, and each group of its cells as much as both together.
    last_penalties : tuple of float
        Ridge strengths, ``alpha`` in scikit-learn, for channels of unit root mean square.

    Returns
    -------
    ndarray of shape (n_penalties, channels, n_teachers), float64
    """
    pooled = activations.pooled.astype(np.float64)
    n, n_copies, channels = pooled.shape
    weight = case_weights(case) * n
    of_copy = np.array([0.5, *[0.5 / (n_copies - 1)] * (n_copies - 1)])
    has_cells = ~np.isnan(activations.cell_tissue)
    tissue = np.concatenate([activations.tissue, np.nan_to_num(activations.cell_tissue)], axis=1)
    weights = np.concatenate(
        [np.outer(weight, of_copy), _CELL_WEIGHT * weight[:, None] * has_cells], axis=1
    ).ravel()
    rows = np.concatenate([pooled, activations.cells], axis=1).reshape(-1, channels)
    target = (logits[:, None, :] * tissue[..., None]).reshape(len(rows), -1)
    scale = np.sqrt(weight @ pooled[:, 0] ** 2 / n) + 1e-6
    scaled = rows / scale
    weighted = scaled * weights[:, None]
    gram, moment = weighted.T @ scaled, weighted.T @ target
    kernels = [
        np.linalg.solve(gram + penalty * np.eye(channels), moment) / scale[:, None]
        for penalty in last_penalties
    ]
    return np.stack(kernels)
