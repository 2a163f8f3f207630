"""Make faster precisions of a bundle, and compare each with the reference before it is allowed.

int8 is made by post-training quantisation (NNCF) on training pictures; bfloat16 needs no graph of
its own. Every comparison is made on validation pictures and stored in the model card.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from bc_model.inference.bundle import Bundle, file_sha256
from bc_model.inference.classifier import compute_prob_malignant
from bc_model.inference.engine import GRAPH_FILES, Engine
from bc_model.inference.export import rebuild_keras_model
from bc_model.inference.model_card import write_model_card
from bc_model.inference.precision import Parity, compare_precision, supported_precisions
from bc_model.model import reference_logits

logger = logging.getLogger("bc_model.inference")

N_CALIBRATION_IMAGES = 300
BATCH = 32


def measure_parity(bundle: Bundle, pixels: np.ndarray, malignant: np.ndarray) -> Bundle:
    """Compare every precision that the bundle and the processor have; store the results.

    Parameters
    ----------
    bundle : Bundle
    pixels : ndarray of shape (n, height, width, 3), uint8
        Validation pictures at the bundle's input size.
    malignant : ndarray of shape (n,), bool

    Returns
    -------
    Bundle
        With the new model card, which is written. What this machine cannot compute keeps the
        result it had.
    """
    model = rebuild_keras_model(bundle)
    reference = compute_prob_malignant(reference_logits(model, pixels), bundle.temperature)
    precisions = dict(bundle.card.precisions)
    for precision in sorted(supported_precisions()):
        if not all(name in bundle.card.files for name in GRAPH_FILES[precision]):
            continue
        parity = _parity_of(bundle, precision, reference, pixels, malignant)
        precisions[precision] = parity
        auc = "not defined" if parity.auc_difference is None else f"{parity.auc_difference:.4f}"
        logger.info(
            "%s against the reference on %d pictures: probability %.5f (99th percentile), "
            "AUC %s: %s",
            precision, parity.n_images, parity.prob_difference_p99, auc,
            "allowed" if parity.passes_parity else "not allowed",
        )  # fmt: skip
    card = replace(bundle.card, precisions=precisions)
    write_model_card(bundle.folder, card)
    return Bundle(bundle.folder, card)


def quantize(bundle: Bundle, pixels: np.ndarray) -> Bundle:
    """Add an int8 graph to a bundle. It may not be used before `measure_parity` has been passed.

    Parameters
    ----------
    bundle : Bundle
    pixels : ndarray of shape (n, height, width, 3), uint8
        Training pictures at the bundle's input size, `N_CALIBRATION_IMAGES` or so.

    Returns
    -------
    Bundle
        With the new model card, which is written after the graph.
    """
    import nncf
    import openvino

    graph = openvino.Core().read_model(*(bundle.file(name) for name in GRAPH_FILES["f32"]))
    samples = nncf.Dataset([one[None].astype(np.float32) for one in pixels])
    with contextlib.redirect_stdout(io.StringIO()):  # where NNCF draws its progress
        quantised = nncf.quantize(
            graph, samples, subset_size=len(pixels), preset=nncf.QuantizationPreset.MIXED
        )
    xml, weights = GRAPH_FILES["int8"]
    draft = Path(tempfile.mkdtemp(prefix=".int8-", dir=bundle.folder))
    try:
        openvino.save_model(quantised, draft / xml, compress_to_fp16=False)
        hashes = {name: file_sha256(draft / name) for name in (xml, weights)}
        # The model card forgets the old graph before it is replaced: at no moment does it describe
        # bytes that are not there.
        _store_int8(bundle, {})
        for name in hashes:
            (draft / name).replace(bundle.folder / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return _store_int8(bundle, hashes)


def _store_int8(bundle: Bundle, hashes: dict[str, str]) -> Bundle:
    """Write the model card with these int8 files and without an int8 comparison."""
    card = bundle.card
    files = {k: v for k, v in card.files.items() if k not in GRAPH_FILES["int8"]}
    precisions = {k: v for k, v in card.precisions.items() if k != "int8"}
    card = replace(card, files=files | hashes, precisions=precisions)
    write_model_card(bundle.folder, card)
    return Bundle(bundle.folder, card)


def _parity_of(
    bundle: Bundle,
    precision: str,
    reference: np.ndarray,
    pixels: np.ndarray,
    malignant: np.ndarray,
) -> Parity:
    engine = Engine(bundle, precision, require_parity=False)
    logits = [engine.predict(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
    served = compute_prob_malignant(np.concatenate(logits), bundle.temperature)
    return compare_precision(precision, reference, served, malignant)
