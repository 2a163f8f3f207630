"""The teacher of the bundled model: a linear model of hand-crafted features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bc_model.evaluation.calibration import case_weights


@dataclass(frozen=True)
class Teacher:
    """Logistic regression on tanh-normalized features.

    Mean, spread and kernel have the shape (d,), float32.
    """

    mean: np.ndarray
    spread: np.ndarray
    kernel: np.ndarray
    bias: float

    @classmethod
    def fit(
        cls, features: np.ndarray, malignant: np.ndarray, case: np.ndarray, penalty: float
    ) -> Teacher:
        """Fit the teacher with equal weights of the classes, and of the cases within a class.

        Features have the shape (n, d). The penalty is the inverse ridge strength, ``C`` in
        scikit-learn.
        """
        from sklearn.linear_model import LogisticRegression

        mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=3000)
        model.fit(
            np.tanh((features - mean) / spread),
            malignant,
            sample_weight=case_weights(case) * len(case),
        )
        return cls(
            mean.astype(np.float32),
            spread.astype(np.float32),
            model.coef_[0].astype(np.float32),
            float(model.intercept_[0]),
        )

    def normalize(self, features: np.ndarray) -> np.ndarray:
        """Return tanh-normalized features in (-1, 1), which limits the influence of outliers."""
        scaled: np.ndarray = np.tanh((features - self.mean) / self.spread)
        return scaled.astype(np.float32)

    def predict_logit(self, normalized: np.ndarray) -> np.ndarray:
        """Return the malignant logit of normalized features: (n, d) to (n,), float32."""
        logit: np.ndarray = normalized @ self.kernel + np.float32(self.bias)
        return logit
