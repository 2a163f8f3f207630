"""Precisions of the served graph, and the test that each must pass before it is used.

float32 is the default for single pictures. bfloat16 and int8 are for slides with their thousands
of tiles, and only where the processor has them and a stored comparison with the reference, on the
model's own validation pictures, stayed within limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PRECISIONS = ("f32", "bf16", "int8")

LIMITS = {"f32": (0.001, 0.001), "bf16": (0.01, 0.002), "int8": (0.02, 0.005)}
"""Largest difference of the probability, at the 99th percentile, and of the AUC."""

_CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "int8": "INT8"}
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
"""As Linux names the instructions for dot products of bytes, on x86 and on ARM."""


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
    passes_parity: bool

    def __post_init__(self) -> None:
        if self.prob_difference_p99 < 0 or self.n < 0:
            raise ValueError("expected a difference and a number of images of at least 0")


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
    # Numerics, which a reader of model cards need not wait for.
    import numpy as np
    from sklearn.metrics import roc_auc_score

    p99 = float(np.percentile(np.abs(reference - prob_malignant), 99))
    auc = None
    if 0 < np.count_nonzero(malignant) < len(malignant):
        first, second = (roc_auc_score(malignant, p) for p in (reference, prob_malignant))
        auc = abs(float(first) - float(second))
    return Parity(p99, auc, len(reference), is_within_limits(precision, p99, auc))


def is_within_limits(precision: str, prob_p99: float, auc: float | None) -> bool:
    """Tell whether a comparison lets a precision be used; without an AUC it does not."""
    prob_limit, auc_limit = LIMITS[precision]
    # The AUC moves in steps of one pair; a step exactly at the limit may round to just above it.
    return prob_p99 <= prob_limit and auc is not None and auc <= auc_limit + 1e-9


def supported_precisions() -> set[str]:
    """Return the precisions that this machine's processor computes natively."""
    import openvino

    has = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found = {name for name, capability in _CAPABILITIES.items() if capability in has}
    # OpenVINO lists INT8 for every processor, also for those where it is slower than float32.
    flags = _processor_flags()
    return found - {"int8"} if flags and not flags & _INT8_FLAGS else found


def _processor_flags() -> set[str]:
    """Return the processor's features; empty where the system does not tell them in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    named = [line.partition(":") for line in lines]
    return {
        flag
        for key, _, value in named
        if key.strip() in ("flags", "Features")
        for flag in value.split()
    }
