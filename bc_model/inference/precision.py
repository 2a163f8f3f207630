"""Numeric precisions of the inference graph, and the parity check that permits their use.

float32 is the default. bfloat16 and int8 are faster, and are used only if the processor supports
them and the parity check against the Keras model passed.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PRECISIONS = ("f32", "bf16", "int8")

GRAPH_FILES = {
    "f32": ("served.xml", "served.bin"),
    "bf16": ("served.xml", "served.bin"),
    "int8": ("served-int8.xml", "served-int8.bin"),
}
"""Files of the inference graph of each precision."""

LIMITS = {"f32": (0.001, 0.001), "bf16": (0.01, 0.002), "int8": (0.02, 0.005)}
"""Largest difference of the probability (99th percentile) and of the ROC AUC."""

_CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "int8": "INT8"}
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
"""Names in Linux of the dot-product instructions for bytes, on x86 and on ARM."""


@dataclass(frozen=True)
class Parity:
    """The difference between a precision and the Keras model in float32.

    Attributes
    ----------
    prob_difference_p99 : float
        99th percentile of the absolute difference of the probability of malignancy.
    auc_difference : float or None
        Absolute difference of the ROC AUC. None if only one class is present.
    n_images : int
        Number of compared images.
    passes_parity : bool
        True if both differences are within `LIMITS`.
    """

    prob_difference_p99: float
    auc_difference: float | None
    n_images: int
    passes_parity: bool

    def __post_init__(self) -> None:
        if self.prob_difference_p99 < 0 or self.n_images < 0:
            raise ValueError("expected a difference and a number of images of at least 0")


def compare_precision(
    precision: str, reference: np.ndarray, prob_malignant: np.ndarray, is_malignant: np.ndarray
) -> Parity:
    """Compare the probabilities of one precision, shape (n,), with those of the Keras model.

    The parity check fails if one class is missing, because the ROC AUC is then undefined.
    """
    # Imported here, because readers of model cards do not need them.
    import numpy as np
    from sklearn.metrics import roc_auc_score

    p99 = float(np.percentile(np.abs(reference - prob_malignant), 99))
    auc = None
    if 0 < np.count_nonzero(is_malignant) < len(is_malignant):
        first, second = (roc_auc_score(is_malignant, p) for p in (reference, prob_malignant))
        auc = abs(float(first) - float(second))
    return Parity(p99, auc, len(reference), is_within_limits(precision, p99, auc))


def is_within_limits(
    precision: str, prob_difference_p99: float, auc_difference: float | None
) -> bool:
    """Return whether both differences are within `LIMITS`; False without a ROC AUC."""
    prob_limit, auc_limit = LIMITS[precision]
    # The ROC AUC has steps of one pair. A step at the limit can round to slightly above it.
    is_auc_within = auc_difference is not None and auc_difference <= auc_limit + 1e-9
    return prob_difference_p99 <= prob_limit and is_auc_within


def fastest_precision(parities: Mapping[str, Parity], files: Container[str]) -> str:
    """Return the fastest precision that passed its parity check, on this processor.

    Parameters
    ----------
    parities : mapping of str to Parity
        Results of the parity checks by precision, as in the model card.
    files : container of str
        Names of the files of the model. A precision can have passed without being shipped.

    Returns
    -------
    {'int8', 'bf16', 'f32'}
        'f32' if no other precision is permitted or supported.
    """
    supported = supported_precisions()
    for precision in reversed(PRECISIONS):
        parity = parities.get(precision)
        if parity is None or precision not in supported or not parity.passes_parity:
            continue
        if any(name not in files for name in GRAPH_FILES[precision]):
            continue
        if is_within_limits(precision, parity.prob_difference_p99, parity.auc_difference):
            return precision
    return "f32"


def supported_precisions() -> set[str]:
    """Return the precisions that the processor of this machine computes natively."""
    import openvino

    available = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    supported = {name for name, capability in _CAPABILITIES.items() if capability in available}
    # OpenVINO lists INT8 for every processor, also where int8 is slower than float32.
    flags = _processor_flags()
    return supported - {"int8"} if flags and not flags & _INT8_FLAGS else supported


def _processor_flags() -> set[str]:
    """Return the processor features that Linux lists; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    fields = (line.partition(":") for line in lines)
    listed = (value for key, _, value in fields if key.strip() in ("flags", "Features"))
    return {flag for value in listed for flag in value.split()}
