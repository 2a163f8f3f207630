"""Precisions of the served graph, and the test that each must pass before it is used.

float32 is the default for single pictures. bfloat16 and int8 are for slides with their thousands
of tiles, and only where the processor has them and a stored comparison with the reference, on the
model's own validation pictures, stayed within limits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

PRECISIONS = ("f32", "bf16", "int8")

LIMITS = {"f32": (0.001, 0.001), "bf16": (0.01, 0.002), "int8": (0.02, 0.005)}
"""Largest difference of the probability, at the 99th percentile, and of the AUC."""

_CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "int8": "INT8"}


@dataclass(frozen=True)
class Parity:
    """How close a precision comes to the reference.

    Attributes
    ----------
    prob_difference_p99 : float
        99th percentile of the absolute difference of the estimated probability.
    auc_difference : float or None
        Absolute difference of the ROC AUC; None when only one class is present.
    n : int
        Pictures compared.
    allowed : bool
        Both differences are within `LIMITS`.
    """

    prob_difference_p99: float
    auc_difference: float | None
    n: int
    allowed: bool

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-safe values."""
        return asdict(self)


def compare(
    precision: str, reference: np.ndarray, prob_malignant: np.ndarray, malignant: np.ndarray
) -> Parity:
    """Hold the probabilities of one precision against those of the reference.

    Parameters
    ----------
    precision : {'f32', 'bf16', 'int8'}
    reference, prob_malignant : ndarray of shape (n,)
        From the Keras model in float32, and from the served graph.
    malignant : ndarray of shape (n,), bool

    Returns
    -------
    Parity
        Not allowed when one class is missing: half of the test could not be made.
    """
    # Numerics, which a reader of passports need not wait for.
    import numpy as np

    from bc_model.evaluation.metrics import roc_auc

    prob_limit, auc_limit = LIMITS[precision]
    p99 = float(np.percentile(np.abs(reference - prob_malignant), 99))
    aucs = [float(roc_auc(malignant, scores)) for scores in (reference, prob_malignant)]
    auc = abs(aucs[0] - aucs[1]) if np.isfinite(aucs).all() else None
    # The AUC moves in steps of one pair; a step exactly at the limit may round to just above it.
    allowed = p99 <= prob_limit and auc is not None and auc <= auc_limit + 1e-9
    return Parity(p99, auc, len(reference), allowed)


def supported_precisions() -> set[str]:
    """Return the precisions that this machine's processor computes natively."""
    import openvino

    has = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {name for name, capability in _CAPABILITIES.items() if capability in has}
