"""Nested cross-validation: model selection inside the folds of the bundled model.

For each fold of cases, the other folds select the weights and penalties of the teachers, the
penalty of the last layer, and the temperature [1]_. The selection needs no further networks,
because these options follow from the activations of the network that was trained without the fold.

That network was trained on the other folds, so the selection overestimates performance and prefers
weak penalties, and the temperature is too low: nested probabilities are too close to 0 and 1. The
fold of the evaluation is used in no step.

.. [1] Varma and Simon, "Bias in error estimation when using cross-validation for model selection",
   BMC Bioinformatics 7:91, 2006.
"""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pandas as pd

from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.cross_validation import Networks, class_logits, fold_predictions
from bc_model.distillation.folds import Folds, is_test_image, is_training_image
from bc_model.distillation.last_layer import (
    HeadOptions,
    LastLayer,
    PooledActivations,
    fit_kernels,
    teacher_logits,
)
from bc_model.errors import ConfigError
from bc_model.evaluation.calibration import fit_temperature
from bc_model.evaluation.predictions import check_predictions
from bc_model.inference.model_card import FoldChoice, SearchSpace, Temperature

logger = logging.getLogger("bc_model.distillation")

SEARCH_SPACE = SearchSpace(
    teacher_weights={
        "hand-crafted features": (1.0, 0.0, 0.0, 0.0),
        "ImageNet activations": (0.0, 1.0, 1.0, 1.0),
        "equal": (1.0, 1.0, 1.0, 1.0),
        "mostly Lite0, block 4": (0.5, 2.0, 1.0, 1.0),
    },
    penalty_factors=(0.1, 1.0, 10.0),
    last_penalties=(3.0, 30.0, 300.0),
)

MIN_FOLDS = 3
"""Without one of the folds, at least two remain for the selection."""


def require_folds(config: DistillationConfig) -> None:
    """Raise `ConfigError` if there are too few folds for nested cross-validation."""
    if config.n_folds < MIN_FOLDS:
        raise ConfigError(
            f"Invalid n_folds {config.n_folds}. Expected n_folds >= {MIN_FOLDS} for nested "
            "cross-validation. Use more folds."
        )


class NestedCrossValidation:
    """Nested cross-validation with the networks of the plain cross-validation."""

    def __init__(self, networks: Networks, folds: Folds, search_space: SearchSpace) -> None:
        require_folds(networks.config)
        self._networks, self._folds, self._search_space = networks, folds, search_space

    def run(self) -> tuple[pd.DataFrame, list[FoldChoice]]:
        """Select without each fold, and return its predictions and the choice."""
        table = self._networks.source.table
        frames, choices = [], []
        for fold in range(self._networks.config.n_folds):
            activations = self._networks.activations_without(self._folds, fold)
            choice, temperature = self._select(fold, activations)
            choices.append(choice)
            logger.info("%s", choice)
            logit = self._predict(
                activations, is_training_image(self._folds, fold), self._options(choice)
            )[is_test_image(table, self._folds, fold)]
            frames.append(
                fold_predictions(table, self._folds, fold, class_logits(logit), temperature)
            )
        return check_predictions(pd.concat(frames, ignore_index=True)), choices

    def _select(self, fold: int, activations: PooledActivations) -> tuple[FoldChoice, Temperature]:
        """Return the options with the highest ROC AUC on the other folds."""
        from sklearn.metrics import roc_auc_score

        source, space = self._networks.source, self._search_space
        inner = [other for other in range(self._networks.config.n_folds) if other != fold]
        is_inner = np.isin(self._folds.assignment, inner) & ~source.is_extra
        logits: dict[tuple[str, float, float], np.ndarray] = {}
        for other, factor in itertools.product(inner, space.penalty_factors):
            is_train = is_training_image(self._folds, fold) & (self._folds.assignment != other)
            is_test = is_test_image(source.table, self._folds, other)
            use = is_train & ~source.is_extra
            targets = teacher_logits(
                source, self._networks.pool.variants, use, self._penalties(factor)
            )
            kernels = fit_kernels(
                activations.select(use), targets[use], source.case[use], space.last_penalties
            )
            for name, weights in space.teacher_weights.items():
                for last_penalty, kernel in zip(space.last_penalties, kernels, strict=True):
                    last = LastLayer.combine(kernel, targets, activations, use, weights)
                    logit = logits.setdefault((name, factor, last_penalty), np.zeros(len(use)))
                    logit[is_test] = last.predict_logit(activations)[is_test]
        malignant, case = source.malignant[is_inner], source.case[is_inner]
        roc_aucs = {
            key: float(roc_auc_score(malignant, logit[is_inner])) for key, logit in logits.items()
        }
        best = max(roc_aucs, key=roc_aucs.__getitem__)
        temperature = fit_temperature(logits[best][is_inner], malignant, case)
        return FoldChoice(fold, *best, temperature.value, roc_aucs[best]), temperature

    def _penalties(self, factor: float) -> tuple[float, ...]:
        return tuple(penalty * factor for penalty in self._networks.config.penalties)

    def _options(self, choice: FoldChoice) -> HeadOptions:
        return HeadOptions(
            self._penalties(choice.penalty_factor),
            self._search_space.teacher_weights[choice.teacher_weights],
            choice.last_penalty,
        )

    def _predict(
        self, activations: PooledActivations, is_train: np.ndarray, options: HeadOptions
    ) -> np.ndarray:
        networks = self._networks
        last = LastLayer.fit(
            networks.source, networks.pool.variants, activations, is_train, options
        )
        return last.predict_logit(activations)
