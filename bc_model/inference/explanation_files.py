"""Explain image files: predictions as JSON, and heatmaps as PNG and NPY files."""

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bc_model.checks import check_to_json
from bc_model.contribution_map import ContributionMap, overlay_signed_map
from bc_model.data.breakhis import CLASSES
from bc_model.data.declared_scale import DeclaredScale, check_declared_scale, detect_scale
from bc_model.data.file_checks import check_file
from bc_model.data.image_headers import read_reduction
from bc_model.data.images import (
    HEATMAP_KINDS,
    decode_image,
    list_image_files,
    preprocess_image,
    read_image_bytes,
)
from bc_model.data.tiff_pages import select_page
from bc_model.errors import ImageError
from bc_model.gradcam import compute_full_scale, encode_png, overlay_heatmap
from bc_model.image_label import mark_image
from bc_model.inference.classifier import Classifier
from bc_model.inference.evidence_location import EvidenceLocation
from bc_model.inference.image_prediction import FORCED_LABEL, Prediction
from bc_model.inference.input_reference import Measured
from bc_model.inference.layers import LAYERS, explain_layer
from bc_model.utils.csv_table import table_to_csv
from bc_model.utils.io import shorten_name, write_files_atomic

MAX_STEM_BYTES = 200
"""Longer names of images are shortened, because a file name has at most 255 bytes."""


def collect_images(paths: Iterable[Path]) -> list[Path]:
    """Return the given files and all images in the given directories, without duplicates.

    Heatmaps that `explain_file` wrote are excluded. A missing file is an `ImageError`.
    """
    images: list[Path] = []
    for path in paths:
        if path.is_dir():
            images += list_image_files(path)
        elif path.exists():
            images.append(path)
        else:
            raise ImageError(f"The image {path} does not exist. Check the path.")
    return list(dict.fromkeys(images))


def explain_file(
    classifier: Classifier,
    path: Path,
    out: Path,
    *,
    scale: DeclaredScale | None = None,
    show_anyway: bool = False,
    resolution: str = "standard",
    layers: Iterable[str] = (),
    page: int | None = None,
    extend: Callable[[np.ndarray, Prediction], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Classify and explain one image file and write the result.

    Writes ``<stem>-<hash>.json`` and, for each class, ``...-<class>.png`` (overlay at the size of
    the image) and ``...-<class>.npy`` (raw heatmap, float32) into the directory `out`, and the same
    for the contribution map, ``...-contribution.png`` and ``.npy`` (signed). The hash separates
    images of the same name. The stems of long names are shortened. If a blocking check fails, only
    the JSON file is written, without a class, a probability or a heatmap.
    `show_anyway` and `resolution` are those of `Classifier.predict`. The default of `scale` is the
    scale that the file states, see `bc_model.data.detect_scale`.
    `layers` are further layers of `bc_model.inference.LAYERS` for the predicted class; they are
    written as ``...-<layer>.png`` and ``.npy`` if the image is one field of view.
    `page` is the page of a TIFF file, from 1; the default is the largest one.
    `extend` is called with the pixels and the prediction, and returns further entries of the JSON
    file.

    Returns
    -------
    dict
        Content of the JSON file.

    Raises
    ------
    ImageError
        The image cannot be read. Nothing is written.
    OSError
        A file cannot be written.
    """
    content = read_image_bytes(path)
    data = content if page is None else select_page(content, page, path.name)
    image = decode_image(data, path.name)
    reduction = read_reduction(data)
    stated = detect_scale(path.name, data, image.shape[1] * reduction)
    checks = (
        *check_file(content, path.name, page),
        *(check_declared_scale(scale, stated) if scale else ()),
    )
    prediction = classifier.predict(
        image,
        name=path.name,
        scale=scale or stated,
        reduction=reduction,
        resolution=resolution,
        show_anyway=show_anyway,
        file_checks=checks,
    )
    out.mkdir(parents=True, exist_ok=True)
    # The hash of the page, so that two pages have different names.
    suffix = hashlib.sha256(data).hexdigest()[:8]
    base = f"{shorten_name(path.stem, MAX_STEM_BYTES)}-{suffix}"
    entries, files = _render_heatmaps(prediction, image, base)
    contribution, contribution_files = _render_contribution(prediction, image, base)
    files |= contribution_files
    layer_entries: dict[str, dict[str, Any]] = {}
    if prediction.is_classified and not prediction.is_tiled:
        for layer in layers:
            layer_entries[layer], layer_files = _render_layer(
                classifier, prediction, image, layer, base
            )
            files |= layer_files
    result = {
        "image": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "page": next((c.params["page"] for c in prediction.checks if c.code == "BC167"), 1),
        "width_px": prediction.width_px * reduction,
        "height_px": prediction.height_px * reduction,
        "reduction": reduction,
        "model": classifier.bundle.card.name,
        "prob_malignant": prediction.prob_malignant,
        "threshold": classifier.bundle.threshold,
        "predicted_class": prediction.predicted_class,
        "outcome": prediction.outcome,
        "uncertain_band": prediction.uncertain_band,
        "is_forced": prediction.is_forced,
        "scale": asdict(prediction.scale) | {"estimated_mpp": prediction.estimated_mpp},
        "tiles": _tiles_to_json(prediction),
        "logits": dict(zip(CLASSES, prediction.logits, strict=True))
        if prediction.is_classified
        else None,
        "temperature": classifier.bundle.temperature,
        "precision": classifier.engine.engine.precision,
        "heatmaps": entries,
        "contribution": contribution,
        "location": _location_to_json(prediction.location),
        "layers": layer_entries,
        "measured": _measured_to_json(prediction.measured),
        "checks": [check_to_json(check) for check in prediction.checks],
        **(extend(image, prediction) if extend else {}),
        "use": "Research use only, not a diagnosis.",
    }
    files[f"{base}.json"] = (json.dumps(result, indent=2, allow_nan=False) + "\n").encode()
    write_files_atomic({out / name: content for name, content in files.items()})
    # An earlier call may have written more, of another model.
    for kind, suffix in itertools.product((*HEATMAP_KINDS, *LAYERS), ("png", "npy")):
        if (name := f"{base}-{kind}.{suffix}") not in files:
            (out / name).unlink(missing_ok=True)
    return result


def _measured_to_json(measured: dict[str, Measured]) -> dict[str, Any]:
    return {name: asdict(entry) for name, entry in measured.items()}


def _tiles_to_json(prediction: Prediction) -> dict[str, Any] | None:
    """Return the tiles of an image that was divided, and their summary; None for one field."""
    if not prediction.is_tiled:
        return None
    return {
        "n_tiles": len(prediction.tiles),
        "max_prob_malignant": prediction.max_prob_malignant,
        "malignant_proportion": prediction.malignant_proportion,
        "tiles": [
            asdict(part.tile)
            | {
                "prob_malignant": part.prob_malignant,
                "predicted_class": part.predicted_class,
                "measured": _measured_to_json(part.measured),
                "checks": [check_to_json(check) for check in part.checks],
            }
            for part in prediction.tiles
        ],
    }


def _render_heatmaps(
    prediction: Prediction, image: np.ndarray, base: str
) -> tuple[dict[str, dict[str, Any]], dict[str, bytes]]:
    """Return the entries of the heatmaps in the JSON file, and their files by name."""
    entries: dict[str, dict[str, Any]] = {}
    files: dict[str, bytes] = {}
    for name, heatmap in prediction.heatmaps.items():
        overlay, raw = f"{base}-{name}.png", f"{base}-{name}.npy"
        full_scale = compute_full_scale(prediction.heatmaps)
        files[overlay] = _encode_overlay(
            overlay_heatmap(image, heatmap, full_scale=full_scale), prediction
        )
        files[raw] = _encode_npy(heatmap.raw)
        entries[name] = {
            "overlay": overlay,
            "raw": raw,
            "maximum": heatmap.maximum,
            "contribution": heatmap.contribution,
            "cells": [heatmap.raw.shape[1], heatmap.raw.shape[0]],
            "has_positive_contribution": not heatmap.is_empty,
        }
    return entries, files


def _render_contribution(
    prediction: Prediction, image: np.ndarray, base: str
) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """Return the entry of the contribution map in the JSON file, and its files by name."""
    contribution = prediction.contribution
    if contribution is None:
        return None, {}
    overlay, raw = f"{base}-contribution.png", f"{base}-contribution.npy"
    entry = {
        "overlay": overlay,
        "raw": raw,
        "baseline": contribution.baseline,
        "sum": contribution.cell_sum,
        "residual": contribution.residual,
        "margin": contribution.margin,
        "full_scale": contribution.full_scale,
        "cells": [contribution.cells.shape[1], contribution.cells.shape[0]],
    }
    return entry, {
        overlay: _encode_overlay(overlay_signed_map(image, contribution), prediction),
        raw: _encode_npy(contribution.cells),
    }


def _render_layer(
    classifier: Classifier, prediction: Prediction, image: np.ndarray, layer: str, base: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the entry of a further layer in the JSON file, and its files by name."""
    engine = classifier.engine.engine
    pixels = preprocess_image(image, engine.bundle.image_size)
    found = explain_layer(engine, pixels, layer, prediction.predicted_class or CLASSES[1])
    if isinstance(found, ContributionMap):
        overlay, cells, full_scale = overlay_signed_map(image, found), found.cells, found.full_scale
    else:
        overlay, cells, full_scale = overlay_heatmap(image, found), found.raw, found.maximum
    names = f"{base}-{layer}.png", f"{base}-{layer}.npy"
    entry = {
        "overlay": names[0],
        "raw": names[1],
        "full_scale": full_scale,
        "cells": [cells.shape[1], cells.shape[0]],
    }
    files = _encode_overlay(overlay, prediction), _encode_npy(cells)
    return entry, dict(zip(names, files, strict=True))


def _encode_overlay(overlay: np.ndarray, prediction: Prediction) -> bytes:
    """Return an overlay as PNG, marked if the image is blocked."""
    if prediction.is_forced:
        overlay = mark_image(overlay, f"{FORCED_LABEL}. Research use only.")
    return encode_png(overlay)


def results_to_csv(results: list[dict[str, Any]]) -> str:
    """Return the results of `explain_file` as CSV text, one row per image.

    Parameters
    ----------
    results : list of dict
        At least one result.

    Returns
    -------
    str
        Columns image, sha256, outcome, prob_malignant, predicted_class, threshold, is_forced, mpp,
        n_tiles and checks (codes, separated by spaces).
    """
    # Imported late: one image needs no table.
    import pandas as pd

    keys = ("image", "sha256", "outcome", "prob_malignant", "predicted_class", "threshold")
    rows = [
        {key: result[key] for key in keys}
        | {
            "is_forced": result["is_forced"],
            "mpp": result["scale"]["mpp"],
            "n_tiles": (result["tiles"] or {"n_tiles": 1})["n_tiles"],
            "checks": " ".join(check["code"] for check in result["checks"]),
        }
        for result in results
    ]
    return table_to_csv(pd.DataFrame(rows))


def _location_to_json(location: EvidenceLocation | None) -> dict[str, Any] | None:
    return asdict(location) | check_to_json(location.sentence) if location else None


def _encode_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
