"""Features of images as computed by a network, with their staining, in one file.

Features depend on the network only. The file contains the hash of its network, and a file of
another network is not used.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bc_model.errors import DataError
from bc_model.utils.arrays import read_npz
from bc_model.utils.io import write_bytes_atomic

if TYPE_CHECKING:
    import pandas as pd

    from bc_model.inference.batching import ModelOutputs


@dataclass(frozen=True)
class FeatureTable:
    """Features and staining of images; an unknown case is empty text.

    `features` is the pooled output of the backbone, (n_images, n_channels), float32. `stain`
    contains the statistics of `bc_model.data.stain`, (n_images, 6).
    """

    path: np.ndarray
    case: np.ndarray
    class_name: np.ndarray
    features: np.ndarray
    stain: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, predicted: ModelOutputs) -> FeatureTable:
        """Return the table of rows with path, case and class, and of their predictions."""
        path, case, name = (rows[key].to_numpy(dtype=str) for key in ("path", "case", "class"))
        return cls(path, case, name, predicted.features, predicted.stain)

    def select(self, mask: np.ndarray) -> FeatureTable:
        """Return the images in a mask of shape (n_images,), bool."""
        return FeatureTable(*(getattr(self, field.name)[mask] for field in fields(self)))

    def save(self, path: Path, network: str) -> None:
        """Write the table atomically; `network` is the hash of the network."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, self.to_bytes(network))

    def to_bytes(self, network: str) -> bytes:
        """Return the content of the file that `save` writes."""
        buffer = io.BytesIO()
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez(buffer, allow_pickle=False, network=np.array(network), **arrays)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path, network: str) -> FeatureTable | None:
        """Return a stored table; None if it is missing, damaged or of another network."""
        try:
            arrays = read_npz(path)
            if str(arrays["network"]) != network:
                return None
            return cls(*(arrays[field.name] for field in fields(cls)))
        except (OSError, DataError, KeyError):
            return None


def cosine_distances(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return 1 - cosine of features: (n, n_channels) and (m, n_channels) to (n, m), in [0, 2].

    The distance from an image with all features 0 is 1.
    """
    distances: np.ndarray = 1.0 - np.clip(_normalize(queries) @ _normalize(references).T, -1.0, 1.0)
    return distances


def _normalize(features: np.ndarray) -> np.ndarray:
    values = features.astype(np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, length, out=np.zeros_like(values), where=length > 0)
