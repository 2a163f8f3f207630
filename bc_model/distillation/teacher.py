"""What teaches the network beside the labels: a linear model over the descriptors of pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bc_model.evaluation.calibration import case_weights


@dataclass(frozen=True)
class Teacher:
    """Logistic regression over squashed descriptors.

    Attributes
    ----------
    mean, spread : ndarray of shape (d,), float32
        Of the descriptors it learned from.
    kernel : ndarray of shape (d,), float32
    bias : float
    """

    mean: np.ndarray
    spread: np.ndarray
    kernel: np.ndarray
    bias: float

    @classmethod
    def fit(
        cls, features: np.ndarray, malignant: np.ndarray, case: np.ndarray, penalty: float
    ) -> Teacher:
        """Learn from pictures; each class weighs the same, and each case of it.

        Only `mean` and `spread` are those of the pictures, whatever their case.

        Parameters
        ----------
        descriptors : ndarray of shape (n, d), float
        malignant : ndarray of shape (n,), bool
        case : ndarray of shape (n,), str
        penalty : float
            Inverse strength of the ridge, scikit-learn's C.

        Returns
        -------
        Teacher
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

    def normalized(self, features: np.ndarray) -> np.ndarray:
        """Return descriptors within (-1, 1), so that no odd picture outweighs the others."""
        scaled: np.ndarray = np.tanh((features - self.mean) / self.spread)
        return scaled.astype(np.float32)

    def logit(self, normalized: np.ndarray) -> np.ndarray:
        """Return malignant minus benign of squashed descriptors: (n, d) to (n,), float32."""
        logit: np.ndarray = normalized @ self.kernel + np.float32(self.bias)
        return logit
