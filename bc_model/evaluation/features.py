"""What a model saw in a set of pictures, kept in a file: features, stain, and whose they are.

Features depend on the network alone, not on temperature or cut-off; the file names its network, and
one of another is not used.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from bc_model.utils.io import write_bytes_atomic

if TYPE_CHECKING:
    import pandas as pd

    from bc_model.inference.batching import ModelOutputs


@dataclass(frozen=True)
class FeatureTable:
    """Pictures as a network sees them.

    Attributes
    ----------
    path, case, class_name : ndarray of str, shape (n,)
        An unknown case is empty text.
    features : ndarray of shape (n, channels), float32
    stain : ndarray of shape (n, 6)
        See `bc_model.data.stain`.
    """

    path: np.ndarray
    case: np.ndarray
    class_name: np.ndarray
    features: np.ndarray
    stain: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, predicted: ModelOutputs) -> FeatureTable:
        """Join rows of a split or manifest (path, case, class) with what was predicted for them."""
        path, case, class_name = (
            rows[name].to_numpy(dtype=str) for name in ("path", "case", "class")
        )
        return cls(path, case, class_name, predicted.features, predicted.stain)

    def save(self, path: Path, network: str) -> None:
        """Write the table, whole or not at all; `network` says by what it was computed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, self.as_bytes(network))

    def as_bytes(self, network: str) -> bytes:
        """Return the content of the file that `save` writes."""
        buffer = io.BytesIO()
        arrays = {one.name: getattr(self, one.name) for one in fields(self)}
        np.savez(buffer, allow_pickle=False, network=np.array(network), **arrays)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path, network: str) -> FeatureTable | None:
        """Read a table; None when there is none, it is damaged, or it is of another network."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                if str(arrays["network"]) != network:
                    return None
                return cls(*(arrays[one.name] for one in fields(cls)))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None


def cosine_distances(queries: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return 1 - cosine between features: (n, channels) and (m, channels) to (n, m), in [0, 2].

    Features of a network are lengths and directions; the direction says what is seen. A picture
    without any feature is at distance 1 from all.
    """
    unit, other_unit = (_normed(one) for one in (queries, others))
    distances: np.ndarray = 1.0 - np.clip(unit @ other_unit.T, -1.0, 1.0)
    return distances


def _normed(features: np.ndarray) -> np.ndarray:
    values = features.astype(np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, length, out=np.zeros_like(values), where=length > 0)
