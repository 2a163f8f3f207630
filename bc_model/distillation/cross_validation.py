"""Cross-validation of the bundled model under several split protocols.

Each image is evaluated by a network that was not trained on its fold. The activations of all images
are saved in a work directory, so that an interrupted computation continues and the last layer can
be fitted again without training.
"""

from __future__ import annotations

import hashlib
import logging
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.folds import (
    ALWAYS_TRAINED,
    Folds,
    is_test_image,
    is_training_image,
)
from bc_model.distillation.last_layer import (
    MEASUREMENT_VERSION,
    HeadOptions,
    LastLayer,
    PooledActivations,
)
from bc_model.distillation.view_pool import ViewPool
from bc_model.evaluation.calibration import fit_temperature
from bc_model.evaluation.predictions import check_predictions
from bc_model.inference.engine import compute_prob_malignant
from bc_model.inference.model_card import Temperature
from bc_model.utils.arrays import read_npy, read_npz
from bc_model.utils.io import write_bytes_atomic

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("bc_model.distillation")

Logits = dict[int, np.ndarray]
"""Logits by fold, shape (n_fold, 2)."""

_COLUMNS = ["path", "sha256", "case", "class", "magnification", "subtype"]


def cache_key(config: DistillationConfig, table: pd.DataFrame, assignment: np.ndarray) -> str:
    """Return a key of the configuration, the images and their folds, for file names."""
    folds = pd.Series(assignment, table.index).astype(str)
    lines = table["path"] + " " + table["sha256"] + " " + folds
    return hashlib.sha256("\n".join([config.key, *lines]).encode()).hexdigest()[:12]


class Networks:
    """The networks of the bundled model and of its cross-validation, trained once.

    Parameters
    ----------
    source : TrainingImages
    pool : ViewPool
        Training views of these images.
    config : DistillationConfig
    work_dir : Path
        Directory of the results, from which an interrupted computation continues.
    """

    def __init__(
        self, source: TrainingImages, pool: ViewPool, config: DistillationConfig, work_dir: Path
    ) -> None:
        self.source, self.pool, self.config, self._work_dir = source, pool, config, work_dir

    def activations_without(self, folds: Folds, fold: int) -> PooledActivations:
        """Return the activations of all images by a network that is trained without one fold."""
        is_train = is_training_image(folds, fold)
        file = self._fold_file(folds, fold)
        return self._load_or_train(file, is_train, self.config.seed + 1 + fold)

    def model_without(self, folds: Folds, fold: int) -> keras.Model:
        """Return the network that is trained without one fold, with its last layer."""
        activations = self.activations_without(folds, fold)
        model = self._build_network(self._fold_file(folds, fold))
        return self.set_last_layer(model, activations, is_training_image(folds, fold))

    def final_model(self) -> keras.Model:
        """Return the network that is trained on all images, with its last layer."""
        is_train = np.ones(len(self.source.table), bool)
        key = cache_key(self.config, self.source.table, np.full(len(is_train), ALWAYS_TRAINED))
        file = self._work_dir / f"all-{key}"
        activations = self._load_or_train(file, is_train, self.config.seed)
        return self.set_last_layer(self._build_network(file), activations, is_train)

    def set_last_layer(
        self, model: keras.Model, activations: PooledActivations, is_train: np.ndarray
    ) -> keras.Model:
        """Fit the last layer of a model in place; each class has half of the logit, no bias."""
        last = LastLayer.fit(
            self.source, self.pool.variants, activations, is_train, HeadOptions.of(self.config)
        )
        kernel = np.stack([-last.kernel, last.kernel], axis=1) / 2
        model.get_layer("logits").set_weights([kernel, np.zeros(2)])
        return model

    def _fold_file(self, folds: Folds, fold: int) -> Path:
        key = cache_key(self.config, self.source.table, folds.assignment)
        return self._work_dir / f"{folds.protocol}-{fold}-{key}"

    def _build_network(self, file: Path) -> keras.Model:
        from bc_model.distillation.student import build_network

        model = build_network(self.config, self.config.image_size)
        model.load_weights(_weights_file(file))
        return model

    def _load_or_train(self, file: Path, is_train: np.ndarray, seed: int) -> PooledActivations:
        measured = file.with_suffix(f".activations-{MEASUREMENT_VERSION}.npz")
        if measured.exists():
            activations = PooledActivations(**read_npz(measured))
            if len(activations.pooled) == len(is_train):
                return activations
        from bc_model.distillation.student import last_activations

        model, scale = self._load_or_train_model(file, is_train, seed)
        logger.info("Measuring the activations of %s", file.stem)
        activations = PooledActivations.measure(
            last_activations(model), self.source, self.config, scale
        )
        stream = BytesIO()
        np.savez(stream, allow_pickle=False, **vars(activations))
        write_bytes_atomic(measured, stream.getvalue())
        return activations

    def _load_or_train_model(
        self, file: Path, is_train: np.ndarray, seed: int
    ) -> tuple[keras.Model, np.ndarray]:
        """Return the network, and the kernel and bias of the scale."""
        scale_file = file.with_suffix(".scale.npy")
        if scale_file.exists() and _weights_file(file).exists():
            return self._build_network(file), read_npy(scale_file)
        from bc_model.distillation.student import train_student

        logger.info("Training %s on %d images", file.stem, is_train.sum())
        checkpoint_file = file.with_suffix(".checkpoint.npz")
        model, scale = train_student(
            self.source, self.pool, is_train, self.config, seed=seed,
            checkpoint_file=checkpoint_file,
        )  # fmt: skip
        self._work_dir.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.stem}.weights.h5")
        model.save_weights(temporary)
        temporary.replace(_weights_file(file))
        stream = BytesIO()
        np.save(stream, scale, allow_pickle=False)
        write_bytes_atomic(scale_file, stream.getvalue())
        checkpoint_file.unlink(missing_ok=True)
        return model, scale


def _weights_file(file: Path) -> Path:
    return file.with_suffix(".weights.h5")


def fold_logits(networks: Networks, folds: Folds, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Train without one fold; return the logits of its images, and those of their teacher.

    The logits have the shape (n_fold, 2), float32, in the order of the table; those of the teacher
    are of the class malignant, shape (n_fold,).
    """
    activations = networks.activations_without(folds, fold)
    last = LastLayer.fit(
        networks.source, networks.pool.variants, activations, is_training_image(folds, fold),
        HeadOptions.of(networks.config),
    )  # fmt: skip
    is_test = is_test_image(networks.source.table, folds, fold)
    logit = last.predict_logit(activations)[is_test]
    return class_logits(logit), last.teacher_logit[is_test]


def class_logits(logit: np.ndarray) -> np.ndarray:
    """Return the logits of both classes, (n, 2) float32, for malignant logits (n,).

    Each class has half of the difference, so no class needs a bias.

    Examples
    --------
    >>> class_logits(np.array([3.0])).tolist()
    [[-1.5, 1.5]]
    """
    return np.stack([-logit, logit], axis=1).astype(np.float32) / 2


def fit_pooled_temperature(table: pd.DataFrame, folds: Folds, logits: Logits) -> Temperature:
    """Fit a temperature on the pooled logits of several folds."""
    images = pd.concat([table[is_test_image(table, folds, fold)] for fold in sorted(logits)])
    pooled = np.concatenate([logits[fold] for fold in sorted(logits)]).astype(float)
    return fit_temperature(
        pooled[:, 1] - pooled[:, 0],
        (images["class"] == "malignant").to_numpy(dtype=bool),
        images["case"].to_numpy(dtype=str),
    )


def out_of_fold_predictions(table: pd.DataFrame, folds: Folds, logits: Logits) -> pd.DataFrame:
    """Return the pooled predictions of at least two folds, each with a temperature of the others.

    Besides the columns of `check_predictions`, they have ``subtype``, ``fold`` and ``logit``:
    malignant minus benign, before temperature scaling.
    """
    frames = []
    for fold in sorted(logits):
        others = {other: values for other, values in logits.items() if other != fold}
        temperature = fit_pooled_temperature(table, folds, others)
        frames.append(fold_predictions(table, folds, fold, logits[fold], temperature))
    return check_predictions(pd.concat(frames, ignore_index=True))


def fold_predictions(
    table: pd.DataFrame, folds: Folds, fold: int, logits: np.ndarray, temperature: Temperature
) -> pd.DataFrame:
    """Return the predictions of one fold at a given temperature."""
    return table.loc[is_test_image(table, folds, fold), _COLUMNS].assign(
        prob_malignant=compute_prob_malignant(logits, temperature.value),
        logit=logits[:, 1] - logits[:, 0],
        fold=fold,
    )
