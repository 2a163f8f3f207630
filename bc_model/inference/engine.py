"""The inference engine: a convolutional graph on OpenVINO, followed by a closed-form `Head`.

The graph returns the activations of the last block and their means. The head computes the logits
and their gradients, so that a prediction with Grad-CAM needs only one forward pass.
"""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bc_model.contribution_map import ContributionMap, contribution_map_from_activations
from bc_model.data.breakhis import CLASSES
from bc_model.errors import BundleError, ConfigError, ModelError
from bc_model.gradcam import CellGrid, Heatmap, find_cell_grid, grad_cam_from_activations
from bc_model.inference.bundle import Bundle
from bc_model.inference.fine_graph import RESOLUTIONS, refine_graph, require_resolution
from bc_model.inference.head import Head
from bc_model.inference.input_reference import REFERENCE_FILE, InputReference
from bc_model.inference.last_block import LastBlock
from bc_model.inference.precision import (
    GRAPH_FILES,
    PRECISIONS,
    is_within_limits,
    supported_precisions,
)
from bc_model.inference.scale_check import SCALE_FILE, ScaleEstimator
from bc_model.utils.processor import limited_cores

logger = logging.getLogger("bc_model.inference")

_CHUNK = 8
"""Images in one forward pass. With 32, int8 is 10 % slower because of the caches, f32 is equal."""


class BatchExplanation(NamedTuple):
    """The explanation of n images.

    Attributes
    ----------
    logits : ndarray of shape (n, 2), float32
        In the order of `CLASSES`, before temperature scaling.
    heatmaps : list of dict of str to Heatmap
        A heatmap per class for each image.
    is_constant : ndarray of shape (n,), bool
        True if the logits do not depend on the image, see `Head.is_constant`.
    contributions : list of ContributionMap
        A contribution map for each image.
    features : ndarray of shape (n, channels), float32
        Means of the last activations.
    """

    logits: np.ndarray
    heatmaps: list[dict[str, Heatmap]]
    is_constant: np.ndarray
    contributions: list[ContributionMap]
    features: np.ndarray


class Engine:
    """Predict and explain with one bundle; several threads can share an engine.

    Parameters
    ----------
    bundle : Bundle
    precision : {'f32', 'bf16', 'int8'}
        Precision of the convolutional graph. The head is always float32.
    require_parity : bool
        If True, refuse a precision without a passed parity check in the model card. Only the
        parity check itself uses False.

    Attributes
    ----------
    precision : {'f32', 'bf16', 'int8'}
        Precision in use: 'f32' if the processor does not support the requested precision.
    scale_estimator : ScaleEstimator or None
        Estimates the scale of an image. None if the bundle contains no estimator.
    input_reference : InputReference or None
        Judges the color and the texture of an image. None if the bundle contains no reference.

    Raises
    ------
    BundleError
        The graph or the head is damaged, or the precision did not pass the parity check.
    """

    def __init__(
        self, bundle: Bundle, precision: str = "f32", *, require_parity: bool = True
    ) -> None:
        self.bundle = bundle
        self.precision = _usable_precision(bundle, precision, require_parity)
        xml, weights = GRAPH_FILES[self.precision]
        # Hashing the weights and importing OpenVINO take 0.2 s each, so they run in parallel.
        with ThreadPoolExecutor(1) as pool:
            verified = pool.submit(bundle.file, weights)
            import openvino  # noqa: F401

            self._head = Head.load(bundle.file("head.npz"))
            graph = _compile(bundle.file(xml), verified.result(), self.precision)
        _require_matching_files(bundle, graph, self._head)
        self._graph = _Graph(graph)
        has_reference = REFERENCE_FILE in bundle.card.files
        self.input_reference = (
            InputReference.load(bundle.file(REFERENCE_FILE)) if has_reference else None
        )
        has_scale = SCALE_FILE in bundle.card.files
        self.scale_estimator = ScaleEstimator.load(bundle.file(SCALE_FILE)) if has_scale else None
        self._fine: dict[str, _Graph] = {}
        self._fine_lock = threading.Lock()
        self._last_block: LastBlock | None = None

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the logits of a batch; a `ModelError` if they are not finite.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, 3), uint8
            RGB images from `preprocess_image` at the input size of the network.

        Returns
        -------
        ndarray of shape (n, 2), float32
            In the order of `CLASSES`, before temperature scaling.
        """
        return self.predict_with_features(pixels)[0]

    def predict_with_features(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits of a batch, see `predict`, and the features, shape (n, channels)."""
        pooled = np.concatenate([self._infer(chunk)[1] for chunk in _chunks(pixels)])
        return self._logits(pooled), pooled

    def has_constant_answer(self, features: np.ndarray) -> np.ndarray:
        """Return for features from `predict_with_features` where the logits are only constants.

        See `Head.is_constant`. The result has the shape (n,), bool.
        """
        return self._head.is_constant(features)

    def explain(self, pixels: np.ndarray, resolution: str = "standard") -> BatchExplanation:
        """Return the logits of a batch, see `predict`, and the heatmaps of each image.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, 3), uint8
            As for `predict`.
        resolution : {'standard', 'fine', 'finest'}
            'fine' has twice as many cells in each direction and 'finest' four times as many, see
            `bc_model.inference.fine_graph`. Both are for ResNet50 only and compute in float32. The
            logits and the weights of the channels stay those of the original graph.

        Raises
        ------
        ModelError
            The logits are not finite, or the model does not support the resolution.
        """
        require_resolution(self.bundle, resolution)
        height, width = pixels.shape[1:3]
        backbone = self.bundle.card.architecture.backbone
        grid = find_cell_grid(backbone, (height, width), RESOLUTIONS[resolution])
        features: list[np.ndarray] = []
        heatmaps: list[dict[str, Heatmap]] = []
        contributions: list[ContributionMap] = []
        for chunk in _chunks(pixels):
            activations, pooled = self._activations(chunk, resolution)
            features.append(pooled)
            heatmaps += self._compute_heatmaps(activations, pooled, grid)
            contributions += self._compute_contributions(activations, pooled, grid)
        pooled = np.concatenate(features)
        is_constant = self._head.is_constant(pooled)
        return BatchExplanation(self._logits(pooled), heatmaps, is_constant, contributions, pooled)

    def activations_and_gradient(
        self, pixels: np.ndarray, class_index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the last activations of one image, and the gradient of a logit at every cell.

        Parameters
        ----------
        pixels : ndarray of shape (height, width, 3), uint8
            Network input.
        class_index : int
            Position of the class in `CLASSES`.

        Returns
        -------
        ndarray of shape (map_height, map_width, channels), float32
        ndarray of shape (channels,), float32
            The gradient is the same at every cell, because the features are means over the cells.
        """
        activations, pooled = self._infer(pixels[None])
        n_cells = activations.shape[1] * activations.shape[2]
        return activations[0], self._head.gradient(pooled)[0, class_index] / np.float32(n_cells)

    def last_block(self) -> LastBlock:
        """Return the last residual block, which is compiled at the first use.

        Raises
        ------
        ModelError
            The model is no ResNet50.
        """
        with self._fine_lock:
            if self._last_block is None:
                xml, weights = (self.bundle.file(name) for name in GRAPH_FILES["f32"])
                self._last_block = LastBlock(_read_graph(xml, weights), self.bundle)
            return self._last_block

    def _compute_heatmaps(
        self, activations: np.ndarray, pooled: np.ndarray, grid: CellGrid | None
    ) -> list[dict[str, Heatmap]]:
        # The pooled feature is the mean over all cells. Its gradient, divided by the number of
        # cells, is therefore the gradient of every cell and the channel weight of Grad-CAM.
        weights = self._head.gradient(pooled) / (activations.shape[1] * activations.shape[2])
        return [
            {
                name: Heatmap(
                    name, grad_cam_from_activations(image_activations, class_weights), grid
                )
                for name, class_weights in zip(CLASSES, image_weights, strict=True)
            }
            for image_activations, image_weights in zip(activations, weights, strict=True)
        ]

    def _compute_contributions(
        self, activations: np.ndarray, pooled: np.ndarray, grid: CellGrid | None
    ) -> list[ContributionMap]:
        logits = self._head.logits(pooled).astype(np.float64)
        parts = zip(
            activations,
            self._head.effective_weights(pooled),
            self._head.baseline(pooled).tolist(),
            (logits[:, 1] - logits[:, 0]).tolist(),
            strict=True,
        )
        return [contribution_map_from_activations(*part, grid) for part in parts]

    def _logits(self, pooled: np.ndarray) -> np.ndarray:
        logits = self._head.logits(pooled)
        if not np.isfinite(logits).all():
            # NaN is below every threshold, so the image would be predicted benign.
            raise ModelError(
                f"The logits of {self.bundle.label} are not finite. Train the model again."
            )
        return logits

    def _infer(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the activations of the original graph, and their means, the features."""
        activations, pooled = self._graph.infer(pixels)
        if self.precision != "f32":
            # The graph also rounds its means to the lower precision. The contribution maps add up
            # to the margin only with the means of these activations.
            pooled = activations.mean(axis=(1, 2))
        return activations, pooled

    def _activations(self, pixels: np.ndarray, resolution: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the activations at a resolution, and the features of the original graph."""
        if resolution == "standard":
            return self._infer(pixels)
        (activations,) = self._fine_graph(resolution).infer(pixels)
        if self.precision != "f32":
            return activations, self._infer(pixels)[1]
        # These cells are those of the original graph, so a second forward pass is not needed.
        step = RESOLUTIONS[resolution]
        return activations, activations[:, ::step, ::step].mean(axis=(1, 2))

    def _fine_graph(self, resolution: str) -> "_Graph":
        """Return the graph of a resolution, which is compiled at the first use."""
        with self._fine_lock:
            if resolution not in self._fine:
                xml, weights = (self.bundle.file(name) for name in GRAPH_FILES["f32"])
                graph = _read_graph(xml, weights)
                refine_graph(graph, RESOLUTIONS[resolution])
                self._fine[resolution] = _Graph(_compile_graph(graph, "f32"))
            return self._fine[resolution]


def compute_prob_malignant(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probability of malignancy, shape (n,), for logits of shape (n, 2).

    Examples
    --------
    >>> compute_prob_malignant(np.array([[0.0, 0.0], [1.0, 3.0]]), 1.0).round(3).tolist()
    [0.5, 0.881]
    """
    benign, malignant = (np.asarray(logits, np.float64) / temperature).T
    # The softmax of two logits is the logistic of their difference; logaddexp never overflows.
    return np.exp(-np.logaddexp(0.0, benign - malignant))


class _Graph:
    """A compiled graph that several threads can share."""

    def __init__(self, compiled: Any) -> None:
        self._n_outputs = len(compiled.outputs)
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def infer(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the outputs for a batch."""
        batch = np.ascontiguousarray(pixels, np.float32)
        with self._lock:
            self._request.infer([batch])
            # The request reuses its buffers, so the results are copied inside the lock.
            return tuple(
                self._request.get_output_tensor(i).data.copy() for i in range(self._n_outputs)
            )


def _chunks(pixels: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, max(1, len(pixels)), _CHUNK):  # an empty batch has an empty result
        yield pixels[start : start + _CHUNK]


def _usable_precision(bundle: Bundle, precision: str, require_parity: bool) -> str:
    if precision not in PRECISIONS:
        raise ConfigError(
            f"Unknown precision '{precision}'. Choose one of {', '.join(PRECISIONS)}."
        )
    if precision == "f32":
        return precision
    if require_parity:
        parity = bundle.card.precisions.get(precision)
        if parity is None:
            raise BundleError(
                f"The model {bundle.card.name} has no parity check for {precision}. Quantize the "
                "model first, or use f32."
            )
        within = is_within_limits(precision, parity.prob_difference_p99, parity.auc_difference)
        if not (parity.passes_parity and within):
            raise BundleError(
                f"The model {bundle.card.name} did not pass the parity check for {precision} on "
                f"{parity.n_images:,} images. Use f32."
            )
    if precision not in supported_precisions():
        logger.warning("This processor does not support %s. The engine uses f32.", precision)
        return "f32"
    return precision


def _compile(xml: Path, weights: Path, precision: str) -> Any:
    return _compile_graph(_read_graph(xml, weights), precision)


def _read_graph(xml: Path, weights: Path) -> Any:
    import openvino

    try:
        graph = openvino.Core().read_model(xml, weights)
    except RuntimeError as error:
        raise BundleError(
            f"{xml} does not contain a readable inference graph. Export the model again."
        ) from error
    if not all(map(_is_finite, graph.get_ops())):
        raise BundleError(
            f"{xml} contains weights that are not finite. Train and export the model again."
        )
    ranks = [len(output.partial_shape) for output in graph.outputs]
    if ranks != [4, 2]:
        raise BundleError(
            f"Invalid inference graph {xml}. Expected outputs of rank 4 (activations) and 2 "
            f"(features), got {ranks}. Export the model again."
        )
    return graph


def _compile_graph(graph: Any, precision: str) -> Any:
    import openvino

    # Without a hint, OpenVINO silently computes in bfloat16 where the processor supports it. An
    # int8 graph defines its own integer layers; the hint is for the layers between them.
    hint = "bf16" if precision == "bf16" else "f32"
    return openvino.Core().compile_model(graph, "CPU", compile_options(hint))


def _is_finite(node: Any) -> bool:
    """Return whether a node of a graph is not a constant with NaN or infinite values."""
    is_constant = node.get_type_name() == "Constant" and node.get_element_type().is_real()
    return not is_constant or bool(np.isfinite(node.data).all())


def compile_options(precision: str, threads: int | None = None) -> dict[str, Any]:
    """Return the options of OpenVINO for low latency, with at most the usable cores."""
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    # OpenVINO starts one thread for each physical core, and does not know a CPU quota.
    if threads := threads or limited_cores():
        options["INFERENCE_NUM_THREADS"] = threads
    return options


def _require_matching_files(bundle: Bundle, graph: Any, head: Head) -> None:
    """Raise an error if graph, head and model card are from different models."""
    image, pooled = graph.inputs[0].partial_shape, graph.outputs[1].partial_shape
    widths = (head.kernels[0].shape[0], head.kernels[-1].shape[1])
    size = tuple(
        bundle.image_size[i] if image[i + 1].is_dynamic else image[i + 1].get_length()
        for i in range(2)
    )
    if size != bundle.image_size or widths != (pooled[1].get_length(), len(CLASSES)):
        raise BundleError(
            f"The files of the model {bundle.label} are from different models. Expected "
            f"{bundle.image_size[0]}x{bundle.image_size[1]} px and {len(CLASSES)} classes, got a "
            f"graph from {size[0]}x{size[1]} px to {pooled[1].get_length()} features and a head "
            f"from {widths[0]} features to {widths[1]} classes. Export the model again."
        )
