"""The head behind global average pooling, in NumPy: logits and their exact gradient.

A few small matrices, so both are closed-form: the gradient of a logit with respect to the last
block's activations is the gradient with respect to the pooled features, spread evenly over the
map. Grad-CAM then needs no backward pass through the network.

Products are written with `einsum`, which uses one thread and no BLAS. BLAS's threads go on spinning
after a product, on the very cores that the next forward pass needs: measured on two cores, with
`@` one explained picture took 66 ms instead of 38.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from bc_model.errors import BundleError


@dataclass(frozen=True)
class Head:
    """Dense layers with ReLU between them; the last one gives the logits.

    Attributes
    ----------
    kernels : tuple of ndarray of shape (inputs, outputs), float32
    biases : tuple of ndarray of shape (outputs,), float32
    """

    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def logits(self, pooled: np.ndarray) -> np.ndarray:
        """Return the logits, shape (n, classes), of pooled features, shape (n, channels)."""
        x = pooled
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            x = np.maximum(_product(x, kernel) + bias, 0.0)
        return _product(x, self.kernels[-1]) + self.biases[-1]

    def gradient(self, pooled: np.ndarray) -> np.ndarray:
        """Differentiate each logit by each pooled feature.

        Parameters
        ----------
        pooled : ndarray of shape (n, channels), float32

        Returns
        -------
        ndarray of shape (n, classes, channels), float32
            The subgradient of ReLU at 0 is 0, as in TensorFlow.
        """
        active = []
        x = pooled
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            x = _product(x, kernel) + bias
            active.append(x > 0.0)
            x = np.maximum(x, 0.0)
        gradient = np.broadcast_to(self.kernels[-1].T, (len(pooled), *self.kernels[-1].T.shape))
        for kernel, mask in zip(reversed(self.kernels[:-1]), reversed(active), strict=True):
            # In C order: `einsum` is fifteen times slower along the transposed kernel above.
            passed = np.multiply(gradient, mask[:, None, :], order="C")
            gradient = np.einsum("nku,iu->nki", passed, kernel)
        return gradient

    def save(self, path: Path) -> None:
        """Write the matrices as ``.npz``, without pickle."""
        arrays = {f"kernel_{i}": kernel for i, kernel in enumerate(self.kernels)}
        arrays |= {f"bias_{i}": bias for i, bias in enumerate(self.biases)}
        np.savez(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Head":
        """Read what `save` wrote.

        Raises
        ------
        BundleError
            Not such a file, or matrices that do not fit each other.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                count = len(arrays.files) // 2
                kernels = tuple(arrays[f"kernel_{i}"] for i in range(count))
                biases = tuple(arrays[f"bias_{i}"] for i in range(count))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise BundleError(f"{path} does not hold the matrices of a head.") from error
        if any(kernel.ndim != 2 for kernel in kernels):
            raise BundleError(f"{path} holds an array that is not a matrix.")
        chained = all(a.shape[1] == b.shape[0] for a, b in pairwise(kernels))
        biased = all(k.shape[1:] == b.shape for k, b in zip(kernels, biases, strict=True))
        if not kernels or not chained or not biased:
            raise BundleError(f"The matrices in {path} do not fit each other.")
        return cls(kernels, biases)


def _product(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.einsum("ni,io->no", x, kernel)
