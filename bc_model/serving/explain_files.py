"""Explain image files: write a JSON file per image, and a heatmap (PNG and NPY) per class."""

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bc_model.checks import check_to_json
from bc_model.data.names import CLASSES
from bc_model.data.picture_files import picture_files
from bc_model.data.pictures import decode_picture, read_file
from bc_model.errors import PictureError
from bc_model.files import write_bytes_atomic, write_text_atomic
from bc_model.gradcam import overlay_heatmap, shared_scale
from bc_model.serving.verdict import Classifier, Prediction


def pictures_to_explain(given: Iterable[Path]) -> list[Path]:
    """Return the given files, and every image in the given folders.

    Heatmaps of earlier explanations are not listed.

    Parameters
    ----------
    given : iterable of Path

    Raises
    ------
    PictureError
        A file does not exist.
    DataError, FolderNotFound
        A folder contains no image.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            found += picture_files(path)
        elif path.exists():
            found.append(path)
        else:
            raise PictureError(f"The image {path} does not exist. Check the path.")
    return list(dict.fromkeys(found))


def explain_file(classifier: Classifier, path: Path, out: Path) -> dict[str, Any]:
    """Explain one image and write the result.

    Writes ``<stem>-<hash>.json`` and, for each class, ``...-<class>.png`` (overlay at the size of
    the image) and ``...-<class>.npy`` (raw heatmap, float32). The hash keeps images of the same
    name apart. If a blocking check fails, only the JSON file is written, without a class, a
    probability or a heatmap.

    Returns
    -------
    dict
        Content of the JSON file.

    Raises
    ------
    PictureError
        The image cannot be read. Nothing is written.
    """
    data = read_file(path)
    rgb = decode_picture(data, path.name)
    prediction = classifier.predict(rgb, name=path.name)
    sha256 = hashlib.sha256(data).hexdigest()
    out.mkdir(parents=True, exist_ok=True)
    base = f"{path.stem}-{sha256[:8]}"
    result = {
        "image": str(path),
        "sha256": sha256,
        "model": classifier.bundle.card.name,
        "prob_malignant": prediction.prob_malignant,
        "threshold": classifier.bundle.threshold,
        "predicted_class": prediction.predicted_class,
        "logits": dict(zip(CLASSES, prediction.logits, strict=True))
        if prediction.is_classified
        else None,
        "temperature": classifier.bundle.temperature,
        "heatmaps": _write_heatmaps(prediction, rgb, out, base),
        "checks": [check_to_json(check) for check in prediction.checks],
        "use": "Research use only, not a diagnosis.",
    }
    write_text_atomic(out / f"{base}.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def _write_heatmaps(
    prediction: Prediction, rgb: np.ndarray, out: Path, base: str
) -> dict[str, dict[str, Any]]:
    """Write the heatmaps and return their entries of the JSON file."""
    entries: dict[str, dict[str, Any]] = {}
    for name in CLASSES:
        overlay, raw = out / f"{base}-{name}.png", out / f"{base}-{name}.npy"
        if not prediction.is_classified:
            # An earlier call with another model may have classified this image.
            overlay.unlink(missing_ok=True)
            raw.unlink(missing_ok=True)
            continue
        heatmap = prediction.heatmaps[name]
        full_scale = shared_scale(prediction.heatmaps)
        image = overlay_heatmap(rgb, heatmap, full_scale=full_scale)
        write_bytes_atomic(overlay, encode_png(image))
        buffer = io.BytesIO()
        np.save(buffer, heatmap.raw, allow_pickle=False)
        write_bytes_atomic(raw, buffer.getvalue())
        entries[name] = {
            "overlay": overlay.name,
            "raw": raw.name,
            "maximum": heatmap.maximum,
            "has_positive_contribution": not heatmap.is_empty,
        }
    return entries


def encode_png(rgb: np.ndarray) -> bytes:
    """Return an RGB image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
