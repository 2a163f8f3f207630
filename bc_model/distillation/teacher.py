"""The teacher of the bundled model: the mean of four linear models.

One uses hand-crafted features, the others the activations of one block of an ImageNet network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bc_model.distillation.features import N_FEATURES
from bc_model.distillation.imagenet import activation_slices
from bc_model.evaluation.predictions import case_weights

FAMILIES = {"hand_crafted": slice(0, N_FEATURES)} | {
    name: slice(N_FEATURES + columns.start, N_FEATURES + columns.stop)
    for name, columns in activation_slices().items()
}
"""Columns of the features of each linear model, in the result of `FeatureExtractor`."""


@dataclass(frozen=True)
class LinearTeacher:
    """Logistic regression on tanh-normalized features.

    Mean, spread and kernel have the shape (d,), float32. The logits are divided by their standard
    deviation over the training images.
    """

    mean: np.ndarray
    spread: np.ndarray
    kernel: np.ndarray
    bias: float

    @classmethod
    def fit(
        cls, features: np.ndarray, malignant: np.ndarray, case: np.ndarray, penalty: float
    ) -> LinearTeacher:
        """Fit with equal weights of the classes, and of the cases within a class.

        Features have the shape (n, n_variants, d); variant 0 is the unchanged image and weighs as
        much as all others together. The penalty is the inverse ridge strength, ``C`` in
        scikit-learn.
        """
        from sklearn.linear_model import LogisticRegression

        n, n_variants, d = features.shape
        weight = np.empty(n)
        for is_class in (malignant, ~malignant):
            weight[is_class] = case_weights(case[is_class])
        of_variant = np.full(n_variants, 1.0 if n_variants == 1 else 0.5 / (n_variants - 1))
        of_variant[0] = 1.0 if n_variants == 1 else 0.5
        flat = features.reshape(-1, d)
        mean, spread = flat.mean(axis=0), flat.std(axis=0) + 1e-6
        model = LogisticRegression(C=penalty, max_iter=3000)
        weights = np.outer(weight, of_variant).ravel()
        model.fit(
            np.tanh((flat - mean) / spread),
            np.repeat(malignant, n_variants),
            sample_weight=weights * n / weights.sum(),
        )
        logit = model.decision_function(np.tanh((features[:, 0] - mean) / spread))
        scale = float(logit.std()) or 1.0
        return cls(
            mean.astype(np.float32),
            spread.astype(np.float32),
            (model.coef_[0] / scale).astype(np.float32),
            float(model.intercept_[0]) / scale,
        )

    def normalize(self, features: np.ndarray) -> np.ndarray:
        """Return tanh-normalized features in (-1, 1), which limits the influence of outliers."""
        scaled: np.ndarray = np.tanh((features - self.mean) / self.spread)
        return scaled.astype(np.float32)

    def predict_logit(self, normalized: np.ndarray) -> np.ndarray:
        """Return the malignant logit of normalized features: (n, d) to (n,), float32."""
        logit: np.ndarray = normalized @ self.kernel + np.float32(self.bias)
        return logit


@dataclass(frozen=True)
class Teacher:
    """One linear model for each of `FAMILIES`, in their order."""

    members: tuple[LinearTeacher, ...]

    @classmethod
    def fit(
        cls, features: np.ndarray, malignant: np.ndarray, case: np.ndarray,
        penalties: tuple[float, ...],
    ) -> Teacher:  # fmt: skip
        """Fit each member with its penalty; parameters as in `LinearTeacher.fit`."""
        return cls(
            tuple(
                LinearTeacher.fit(features[..., columns], malignant, case, penalty)
                for columns, penalty in zip(FAMILIES.values(), penalties, strict=True)
            )
        )

    def normalize(self, features: np.ndarray) -> np.ndarray:
        """Return the tanh-normalized features of all families: (n, 744) to (n, 744), float32."""
        parts = [
            member.normalize(features[:, columns])
            for member, columns in zip(self.members, FAMILIES.values(), strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def predict_logits(self, normalized: np.ndarray) -> np.ndarray:
        """Return the logit of each member: (n, 744) to (n, n_members), float32."""
        logits = [
            member.predict_logit(normalized[:, columns])
            for member, columns in zip(self.members, FAMILIES.values(), strict=True)
        ]
        return np.stack(logits, axis=1)


def mean_logit(logits: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    """Return the weighted mean of the members' logits: (n, n_members) to (n,).

    Examples
    --------
    >>> mean_logit(np.array([[3.0, 0.0]]), (2.0, 1.0)).tolist()
    [2.0]
    """
    mean: np.ndarray = logits @ np.asarray(weights, logits.dtype) / np.sum(weights)
    return mean


@dataclass(frozen=True)
class Whitening:
    """Whitened principal components: mean of shape (d,), matrix of shape (d, n_components)."""

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, n_components: int) -> Whitening:
        """Fit to values of shape (n, d); the components have mean 0 and variance 1."""
        mean = values.mean(axis=0)
        covariance = np.cov(values, rowvar=False)
        variances, vectors = np.linalg.eigh(covariance)
        order = np.argsort(variances)[::-1][:n_components]
        scale = np.sqrt(np.maximum(variances[order], 1e-6 * variances.max()))
        return cls(mean.astype(np.float32), (vectors[:, order] / scale).astype(np.float32))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the components: (n, d) to (n, n_components), float32."""
        components: np.ndarray = (values - self.mean) @ self.matrix
        return components
