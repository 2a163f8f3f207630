"""The serving engine: one graph on OpenVINO, two outputs, and everything behind them in NumPy.

The graph gives the last block's activations and the pooled features; the head, its logits and
their gradient are closed-form (`head.py`). An explained prediction costs one forward pass.
"""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.errors import BundleError, ConfigError, ModelError
from bc_model.gradcam import Heatmap, grad_cam_from_activations
from bc_model.inference.bundle import Bundle
from bc_model.inference.precision import PRECISIONS, is_within_limits, supported_precisions


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


logger = logging.getLogger("bc_model.inference")

GRAPH_FILES = {
    "f32": ("served.xml", "served.bin"),
    "bf16": ("served.xml", "served.bin"),
    "int8": ("served-int8.xml", "served-int8.bin"),
}

_PIECE = 8
"""Pictures computed at once. More do not fit the caches: int8 loses a tenth at 32, f32 nothing."""


class Engine:
    """Predict and explain with one bundle; safe to share between threads.

    Parameters
    ----------
    bundle : Bundle
    precision : {'f32', 'bf16', 'int8'}
        Of the convolutional graph; the head is always float32.
    require_parity : bool
        Refuse a precision whose comparison with the reference is not stored in the model card or
        was not passed. Only the comparison itself turns this off.

    Attributes
    ----------
    precision : {'f32', 'bf16', 'int8'}
        What is computed in: float32 when the processor lacks what was asked for.

    Raises
    ------
    BundleError
        The served graph or the head is damaged, or the precision is not allowed for this model.
    """

    def __init__(
        self, bundle: Bundle, precision: str = "f32", *, require_parity: bool = True
    ) -> None:
        self.bundle = bundle
        self.precision = _usable(bundle, precision, require_parity)
        xml, weights = GRAPH_FILES[self.precision]
        # Hashing the weights and importing OpenVINO take a fifth of a second each: side by side.
        with ThreadPoolExecutor(1) as pool:
            checked = pool.submit(bundle.file, weights)
            import openvino  # noqa: F401

            self._head = Head.load(bundle.file("head.npz"))
            self._graph = _compile(bundle.file(xml), checked.result(), self.precision)
        _check_fit(bundle, self._graph, self._head)
        self._request = self._graph.create_infer_request()
        self._lock = threading.Lock()

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the logits of a batch.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, 3), uint8
            RGB at the bundle's input size, as `preprocess_image` gives it.

        Returns
        -------
        ndarray of shape (n, 2), float32
            In the order of `CLASSES`, before temperature.
        """
        return self.predict_with_features(pixels)[0]

    def predict_with_features(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits of a batch, and the pooled features that they follow from.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, 3), uint8

        Returns
        -------
        logits : ndarray of shape (n, 2), float32
        features : ndarray of shape (n, channels), float32
        """
        _, pooled = self._forward(pixels)
        return self._logits(pooled), pooled

    def explain(self, pixels: np.ndarray) -> tuple[np.ndarray, list[dict[str, Heatmap]]]:
        """Return the logits of a batch and, for each picture, the heatmap of each class.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, 3), uint8

        Returns
        -------
        logits : ndarray of shape (n, 2), float32
        heatmaps : list of dict from class name to Heatmap
        """
        activations, pooled = self._forward(pixels)
        cells = activations.shape[1] * activations.shape[2]
        # d logit / d activation is d logit / d pooled over the number of cells, the same in each
        # cell; its mean over the map, Grad-CAM's channel weight, is therefore that number itself.
        weights = self._head.gradient(pooled) / cells
        heatmaps = [
            {
                name: Heatmap(name, grad_cam_from_activations(one, weights[i, c]))
                for c, name in enumerate(CLASSES)
            }
            for i, one in enumerate(activations)
        ]
        return self._logits(pooled), heatmaps

    def _logits(self, pooled: np.ndarray) -> np.ndarray:
        logits = self._head.logits(pooled)
        if not np.isfinite(logits).all():
            # NaN reaches no threshold: unnoticed, it would be called benign.
            raise ModelError(
                f"The model {self.bundle.label} answered with numbers that are not finite; no "
                "estimate can be made from it. Train it again."
            )
        return logits

    def _forward(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = range(0, max(1, len(pixels)), _PIECE)  # no picture at all has an answer, too
        pieces = [self._infer(pixels[i : i + _PIECE]) for i in starts]
        activations, pooled = zip(*pieces, strict=True)
        return np.concatenate(activations), np.concatenate(pooled)

    def _infer(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = np.ascontiguousarray(pixels, np.float32)
        with self._lock:
            self._request.infer([batch])
            # The request reuses its buffers: copy before the next caller may overwrite them.
            activations = self._request.get_output_tensor(0).data.copy()
            pooled = self._request.get_output_tensor(1).data.copy()
        return activations, pooled


def _usable(bundle: Bundle, precision: str, require_parity: bool) -> str:
    if precision not in PRECISIONS:
        raise ConfigError(
            f"There is no precision '{precision}'; choose one of {', '.join(PRECISIONS)}."
        )
    if precision == "f32":
        return precision
    name = bundle.card.name
    if require_parity:
        parity = bundle.card.precisions.get(precision)
        if parity is None:
            raise BundleError(
                f"{precision} was never compared with the reference for the model {name}; "
                "run `models optimise` on it first."
            )
        within = is_within_limits(precision, parity.prob_difference_p99, parity.auc_difference)
        if not (parity.passes_parity and within):
            raise BundleError(
                f"{precision} is not allowed for the model {name}: on {parity.n_images} "
                "pictures it strayed too far from the reference. Use f32."
            )
    if precision not in supported_precisions():
        logger.warning("This processor does not compute in %s; using f32 instead.", precision)
        return "f32"
    return precision


def _compile(xml: Path, weights: Path, precision: str) -> Any:
    import openvino

    core = openvino.Core()
    try:
        graph = core.read_model(xml, weights)
    except RuntimeError as error:
        raise BundleError(f"{xml} does not hold a served graph that can be read.") from error
    ranks = [len(output.partial_shape) for output in graph.outputs]
    if ranks != [4, 2]:
        raise BundleError(
            f"The served graph in {xml} has outputs of rank {ranks}; the last block's activations "
            "(rank 4) and the pooled features (rank 2) are needed."
        )
    # Left alone, OpenVINO computes in bfloat16 where the processor has it, and says nothing. An
    # int8 graph names its own integers; the hint is for the layers between them.
    hint = "bf16" if precision == "bf16" else "f32"
    return core.compile_model(
        graph, "CPU", {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    )


def _check_fit(bundle: Bundle, graph: Any, head: Head) -> None:
    """Hold graph, head and model card against each other: each may be whole and not belong here."""
    image, pooled = graph.inputs[0].partial_shape, graph.outputs[1].partial_shape
    widths = (head.kernels[0].shape[0], head.kernels[-1].shape[1])
    sizes = tuple(
        bundle.image_size[i] if image[i + 1].is_dynamic else image[i + 1].get_length()
        for i in range(2)
    )
    if sizes != bundle.image_size or widths != (pooled[1].get_length(), len(CLASSES)):
        raise BundleError(
            f"The parts of the model {bundle.label} do not belong together: the model card says "
            f"{bundle.image_size[0]}x{bundle.image_size[1]} px and {len(CLASSES)} classes, the "
            f"graph takes {sizes[0]}x{sizes[1]} px and gives {pooled[1].get_length()} features, "
            f"the head takes {widths[0]} and gives {widths[1]}. Export the model again."
        )
