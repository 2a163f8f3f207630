"""Explain pictures on disk: for each a JSON, and for each class a heatmap PNG and its raw map."""

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bc_model.data.names import CLASSES
from bc_model.data.picture_files import picture_files
from bc_model.data.pictures import decode_picture, read_file
from bc_model.errors import PictureError
from bc_model.files import write_bytes_atomic, write_text_atomic
from bc_model.overlay import overlay_heatmap, shared_scale
from bc_model.serving.batching import BatchingEngine
from bc_model.serving.verdict import diagnose


def pictures_to_explain(given: Iterable[Path]) -> list[Path]:
    """Return files as they are named, and for a folder every picture in it.

    Heatmaps of earlier explanations are none of the pictures of a folder, wherever they lie.

    Parameters
    ----------
    given : iterable of Path

    Raises
    ------
    PictureError
        A file that is not there.
    DataError, FolderNotFound
        A folder without a picture beside those.
    """
    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            if not path.exists():
                raise PictureError(f"There is no picture {path}; check the path.")
            found.append(path)
            continue
        found += picture_files(path)
    return list(dict.fromkeys(found))


def explain_file(engine: BatchingEngine, path: Path, out: Path) -> dict[str, Any]:
    """Explain one picture and write what was found.

    Writes ``<stem>-<hash>.json`` and, for each class, ``...-<class>.png`` (overlay at the
    picture's own size) and ``...-<class>.npy`` (the raw map, float32). The hash keeps pictures of
    the same name apart.

    Returns
    -------
    dict
        The content of the JSON.

    Raises
    ------
    PictureError
        The picture cannot be read; nothing is written.
    """
    data = read_file(path)
    rgb = decode_picture(data, path.name)
    verdict = diagnose(engine, rgb, path.name)
    sha256 = hashlib.sha256(data).hexdigest()
    out.mkdir(parents=True, exist_ok=True)
    base = f"{path.stem}-{sha256[:8]}"
    scale = shared_scale(verdict.heatmaps)
    maps = {}
    for name in CLASSES:
        heatmap = verdict.heatmaps[name]
        drawn = overlay_heatmap(rgb, heatmap, full_scale=scale)
        write_bytes_atomic(out / f"{base}-{name}.png", encode_png(drawn))
        raw = io.BytesIO()
        np.save(raw, heatmap.raw, allow_pickle=False)
        write_bytes_atomic(out / f"{base}-{name}.npy", raw.getvalue())
        maps[name] = {
            "overlay": f"{base}-{name}.png",
            "raw": f"{base}-{name}.npy",
            "maximum": heatmap.maximum,
            "evidence": "none for this class" if heatmap.is_empty else "see the map",
        }
    result = {
        "picture": str(path),
        "sha256": sha256,
        "model": engine.bundle.card.name,
        "prob_malignant": verdict.prob_malignant,
        "threshold": engine.bundle.threshold,
        "class": verdict.class_name if verdict.is_called else None,
        "logits": dict(zip(CLASSES, verdict.logits, strict=True)),
        "temperature": engine.bundle.temperature,
        "heatmaps": maps,
        "warnings": list(verdict.warnings),
        "cautions": list(verdict.cautions),
        "use": "Research use only, not a diagnosis.",
    }
    write_text_atomic(out / f"{base}.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def encode_png(rgb: np.ndarray) -> bytes:
    """Encode an RGB picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
