"""Add faster precisions to a bundle and measure their parity with the Keras model.

int8 is post-training quantization with NNCF on training images; bfloat16 needs no additional graph.
The parity check uses validation images, and the model card stores its result.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from bc_model.inference.bundle import Bundle, file_sha256
from bc_model.inference.engine import Engine, compute_prob_malignant
from bc_model.inference.export import rebuild_keras_model
from bc_model.inference.model_card import ModelCard, write_model_card
from bc_model.inference.precision import GRAPH_FILES, compare_precision, supported_precisions
from bc_model.model import reference_logits

logger = logging.getLogger("bc_model.inference")

N_CALIBRATION_IMAGES = 300


def measure_parity(bundle: Bundle, pixels: np.ndarray, is_malignant: np.ndarray) -> Bundle:
    """Run the parity check for each supported precision and store it in the model card.

    Parameters
    ----------
    bundle : Bundle
    pixels : ndarray of shape (n, height, width, 3), uint8
        Validation images at the input size of the network.
    is_malignant : ndarray of shape (n,), bool
        True class of each image.

    Returns
    -------
    Bundle
        With the new model card. Unsupported precisions keep their result.
    """
    logits = reference_logits(rebuild_keras_model(bundle), pixels)
    reference = compute_prob_malignant(logits, bundle.temperature)
    precisions = dict(bundle.card.precisions)
    for precision in sorted(supported_precisions()):
        if not all(name in bundle.card.files for name in GRAPH_FILES[precision]):
            continue
        logits = Engine(bundle, precision, require_parity=False).predict(pixels)
        probabilities = compute_prob_malignant(logits, bundle.temperature)
        parity = compare_precision(precision, reference, probabilities, is_malignant)
        precisions[precision] = parity
        auc = "not defined" if parity.auc_difference is None else f"{parity.auc_difference:.4f}"
        logger.info(
            "Parity check of %s on %d images: %s. Difference of the probability %.5f (99th "
            "percentile), of the ROC AUC %s.",
            precision, parity.n_images, "passed" if parity.passes_parity else "failed",
            parity.prob_difference_p99, auc,
        )  # fmt: skip
    return _store_card(bundle, replace(bundle.card, precisions=precisions))


def quantize(bundle: Bundle, pixels: np.ndarray) -> Bundle:
    """Add an int8 graph to a bundle. Run `measure_parity` before the first use.

    Parameters
    ----------
    bundle : Bundle
    pixels : ndarray of shape (n, height, width, 3), uint8
        About `N_CALIBRATION_IMAGES` training images at the input size of the network.

    Returns
    -------
    Bundle
        With the new model card.
    """
    import nncf
    import openvino

    graph = openvino.Core().read_model(*(bundle.file(name) for name in GRAPH_FILES["f32"]))
    samples = nncf.Dataset([image[None].astype(np.float32) for image in pixels])
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF prints a progress bar
        quantized = nncf.quantize(
            graph, samples, subset_size=len(pixels), preset=nncf.QuantizationPreset.MIXED
        )
    with tempfile.TemporaryDirectory(prefix=".int8-", dir=bundle.folder) as temporary:
        draft = Path(temporary)
        openvino.save_model(quantized, draft / GRAPH_FILES["int8"][0], compress_to_fp16=False)
        hashes = {name: file_sha256(draft / name) for name in GRAPH_FILES["int8"]}
        # The old graph leaves the model card first, so the card never lists missing bytes.
        _store_int8(bundle, {})
        for name in hashes:
            (draft / name).replace(bundle.folder / name)
    return _store_int8(bundle, hashes)


def _store_int8(bundle: Bundle, hashes: dict[str, str]) -> Bundle:
    """Write the model card with these int8 files and without an int8 parity check."""
    card = bundle.card
    files = {k: v for k, v in card.files.items() if k not in GRAPH_FILES["int8"]}
    precisions = {k: v for k, v in card.precisions.items() if k != "int8"}
    return _store_card(bundle, replace(card, files=files | hashes, precisions=precisions))


def _store_card(bundle: Bundle, card: ModelCard) -> Bundle:
    write_model_card(bundle.folder, card)
    return Bundle(bundle.folder, card)
