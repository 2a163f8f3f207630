"""Nested cross-validation: model selection inside the folds of the bundled model.

For each fold of cases, the other folds select the teacher's penalty, the augmentation, the penalty
of the last layer, and the temperature. The networks that select were trained without the fold of
the evaluation and the fold of the selection [1]_.

The logits of several networks are pooled. Each penalty of the last layer scales the logits about
their mean, so they are standardized to the mean and spread of the teacher.

Selection needs many networks, so a proxy network can select for ResNet50. Its temperature then
says little about the calibration of ResNet50.

.. [1] Varma and Simon, "Bias in error estimation when using cross-validation for model selection",
   BMC Bioinformatics 7:91, 2006.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.distillation.config import PROXY, DistillationConfig
from bc_model.distillation.cross_validation import EXCLUDED, Folds, cache_key, fold_predictions
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.teacher import Teacher
from bc_model.errors import ConfigError
from bc_model.evaluation.calibration import case_weights, fit_temperature
from bc_model.evaluation.predictions import check_predictions
from bc_model.inference.model_card import FoldChoice, SearchSpace, Temperature
from bc_model.utils.arrays import read_npz
from bc_model.utils.io import write_bytes_atomic

logger = logging.getLogger("bc_model.distillation")

SEARCH_SPACE = SearchSpace(
    views={
        "strong": {},  # as in the configuration
        "weak": {
            "crop_scale": (0.75, 1.3), "stain_jitter": 0.4, "channel_mixing": 0.0,
            "image_mixing": 0.3,
        },
    },
    penalties=(0.001, 0.01, 0.1, 1.0, 10.0),
    last_penalties=(1.0, 10.0, 30.0, 100.0, 1000.0),
)  # fmt: skip

MIN_FOLDS = 4
"""Without two of the folds, at least two remain to select the teacher's penalty."""

_VERSION = 3
"""Increase it if the same configuration gives other networks here."""


def nested_configs(
    networks: str, config: DistillationConfig
) -> tuple[DistillationConfig, DistillationConfig]:
    """Return the configurations of the networks that are evaluated, and of those that select.

    Parameters
    ----------
    networks : {'proxy-selects', 'proxy', 'full'}
        The proxy network selects for the network of the configuration or for itself, or the
        network of the configuration does both.
    config : DistillationConfig
    """
    proxy = proxy_config(config)
    pairs = {"proxy-selects": (config, proxy), "proxy": (proxy, proxy), "full": (config, config)}
    return pairs[networks]


def proxy_config(config: DistillationConfig) -> DistillationConfig:
    """Return the configuration for the proxy network."""
    return dataclasses.replace(
        config, backbone=PROXY, steps=3000, batch_size=32, compute_dtype="float32"
    )


def require_folds(config: DistillationConfig) -> None:
    """Raise `ConfigError` if there are too few folds for nested cross-validation."""
    if config.n_folds < MIN_FOLDS:
        raise ConfigError(
            f"Invalid n_folds {config.n_folds}. Expected n_folds >= {MIN_FOLDS} for nested "
            "cross-validation. Use more folds."
        )


def select_penalty(
    source: TrainingImages, assignment: np.ndarray, penalties: tuple[float, ...]
) -> float:
    """Return the smallest of the teacher's penalties with the highest cross-validated ROC AUC."""
    from sklearn.metrics import roc_auc_score

    features, malignant, case = source.features, source.malignant, source.case

    def roc_auc(penalty: float) -> float:
        logit = np.zeros(len(assignment))
        for fold in set(assignment.tolist()):
            train, test = assignment != fold, assignment == fold
            teacher = Teacher.fit(features[train], malignant[train], case[train], penalty)
            logit[test] = teacher.predict_logit(teacher.normalize(features[test]))
        return float(roc_auc_score(malignant, logit))

    return max(sorted(penalties), key=roc_auc)


class NestedCrossValidation:
    """Nested cross-validation with saved networks, so that an interrupted computation continues.

    `config` is that of the evaluated networks, one per fold. `selector` is that of the networks
    that select, one per pair of folds and kind of views.
    """

    def __init__(
        self, source: TrainingImages, folds: Folds, config: DistillationConfig,
        search_space: SearchSpace, work_dir: Path, n_processes: int = 0, *,
        selector: DistillationConfig,
    ) -> None:  # fmt: skip
        require_folds(config)
        self._source, self._folds = source, folds
        self._config, self._selector = config, selector
        self._search_space, self._work_dir, self._n_processes = search_space, work_dir, n_processes

    def run(self) -> tuple[pd.DataFrame, list[FoldChoice]]:
        """Select without each fold, train without it, and return its predictions and choice."""
        frames, choices = [], []
        for fold in range(self._config.n_folds):
            views, last_penalty, roc_auc, temperature = self._select(fold)
            all_logits, penalty = self.predict_held_out((fold,), views)
            choices.append(
                FoldChoice(fold, views, last_penalty, penalty, temperature.value, roc_auc)
            )
            logger.info("%s", choices[-1])
            logit = all_logits[self._search_space.last_penalties.index(last_penalty)]
            logits = np.stack([-logit, logit], axis=1) / 2.0
            table = self._source.table
            frames.append(fold_predictions(table, self._folds, fold, logits, temperature))
        return check_predictions(pd.concat(frames, ignore_index=True)), choices

    def _select(self, fold: int) -> tuple[str, float, float, Temperature]:
        """Select views and last penalty on the other folds; return ROC AUC and temperature too."""
        from sklearn.metrics import roc_auc_score

        others = self._source.select(self._folds.assignment != fold)
        logits = {
            (views, last_penalty): logit
            for views in self._search_space.views
            for last_penalty, logit in zip(
                self._search_space.last_penalties, self._inner_logits(fold, views), strict=True
            )
        }
        roc_aucs = {key: float(roc_auc_score(others.malignant, x)) for key, x in logits.items()}
        best = max(roc_aucs, key=roc_aucs.__getitem__)
        temperature = fit_temperature(logits[best], others.malignant, others.case)
        return *best, roc_aucs[best], temperature

    def _inner_logits(self, fold: int, views: str) -> np.ndarray:
        """Return the logits of all images outside a fold, shape (n_last_penalties, n)."""
        assignment = self._folds.assignment
        logits = np.empty((len(self._search_space.last_penalties), len(assignment)))
        for other in range(self._config.n_folds):
            if other != fold:
                out = np.isin(assignment, (fold, other))
                held_out, _ = self.predict_held_out((fold, other), views)
                logits[:, assignment == other] = held_out[:, assignment[out] == other]
        return logits[:, assignment != fold]

    def predict_held_out(self, without: tuple[int, ...], views: str) -> tuple[np.ndarray, float]:
        """Return the logits of some folds by a network without them, and its teacher's penalty.

        A network without one fold is evaluated; a network without two folds selects. The logits are
        malignant minus benign, in standard deviations of the teacher, with the shape
        (n_last_penalties, n) and the order of the table.
        """
        from bc_model.distillation.student import fit_ridge

        out = np.isin(self._folds.assignment, without)
        hidden, penalty = self._load_or_train(without, views)
        train = self._source.select(~out)
        teacher = Teacher.fit(train.features, train.malignant, train.case, penalty)
        teacher_logit = teacher.predict_logit(teacher.normalize(train.features))
        weight = case_weights(train.case)
        mean = weight @ teacher_logit  # also the mean of each fit, because ridge keeps the mean

        def spread(logit: np.ndarray) -> float:
            return float(np.sqrt(weight @ (logit - mean) ** 2))

        logits = []
        for last_penalty in self._search_space.last_penalties:
            kernel, bias = fit_ridge(hidden[~out], teacher_logit, train.case, last_penalty)
            logit = hidden @ kernel + bias
            logits.append(mean / spread(teacher_logit) + (logit[out] - mean) / spread(logit[~out]))
        return np.stack(logits), penalty

    def _load_or_train(self, without: tuple[int, ...], views: str) -> tuple[np.ndarray, float]:
        """Return the hidden activations of all images, and the penalty, of a network."""
        table, assignment = self._source.table, self._folds.assignment
        out = np.isin(assignment, without)
        config = self._config if len(without) == 1 else self._selector
        config = dataclasses.replace(config, **self._search_space.views[views])
        key = cache_key(config, table, np.where(out, EXCLUDED, assignment))
        key = f"{key} {_VERSION} {self._search_space.penalties}"
        key = hashlib.sha256(key.encode()).hexdigest()[:12]
        file = self._work_dir / f"nested-{'-'.join(map(str, sorted(without)))}-{key}.npz"
        if file.exists():
            arrays = read_npz(file, ("hidden", "penalty"))
            hidden, penalty = arrays["hidden"], float(arrays["penalty"])
            if hidden.shape == (len(table), config.hidden_units):
                return hidden, penalty
        logger.info("Nested: without folds %s, %s views", ", ".join(map(str, without)), views)
        seed = config.seed + 1 + min(without)
        hidden, penalty = self._train(out, config, seed, file.with_suffix(".checkpoint.npz"))
        self._work_dir.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        np.savez(stream, hidden=hidden, penalty=penalty)
        write_bytes_atomic(file, stream.getvalue())
        return hidden, penalty

    def _train(
        self, out: np.ndarray, config: DistillationConfig, seed: int, checkpoint_file: Path
    ) -> tuple[np.ndarray, float]:
        from bc_model.distillation.student import hidden_activations, train_student

        train = self._source.select(~out)
        penalty = select_penalty(train, self._folds.assignment[~out], self._search_space.penalties)
        model = train_student(
            train, dataclasses.replace(config, penalty=penalty), seed=seed,
            n_processes=self._n_processes, checkpoint_file=checkpoint_file,
        )  # fmt: skip
        return hidden_activations(model, self._source.pixels), penalty
