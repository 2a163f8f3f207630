"""Classify images: probability, class, heatmaps and checks of each image.

`Classifier` returns predictions without side effects. `explain_file` writes a prediction to disk.
"""

import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bc_model.checks import Check, by_severity, check_to_json, is_blocked, make_check
from bc_model.data.breakhis import CLASSES, ImageName, is_synthetic, parse_name
from bc_model.data.image_scale import read_scale
from bc_model.data.images import decode_image, list_image_files, preprocess_image, read_image_bytes
from bc_model.errors import ImageError
from bc_model.gradcam import Heatmap, compute_full_scale, encode_png, overlay_heatmap
from bc_model.inference.batching import BatchingEngine
from bc_model.inference.bundle import Bundle, bundled_model_dir, open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.input_checks import check_size, check_staining
from bc_model.inference.precision import fastest_precision
from bc_model.inference.seen_images import check_seen
from bc_model.utils.io import shorten_name, write_files_atomic

MAX_STEM_BYTES = 200
"""Longer names of images are shortened, because a file name has at most 255 bytes."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image, without the image itself.

    Attributes
    ----------
    name : str
        File name of the image; empty if it was not given.
    width_px, height_px : int
        Size of the image.
    logits : tuple of float
        Outputs of the network in the order of `CLASSES`, before temperature scaling.
    prob_malignant : float or None
        Probability in [0, 1], after temperature scaling. None if a blocking check failed.
    predicted_class : {'benign', 'malignant'} or None
        Class at the decision threshold of the model. None if a blocking check failed.
    heatmaps : dict of str to Heatmap
        Grad-CAM heatmap of each class. Empty if a blocking check failed.
    checks : tuple of Check
        Failed checks, the most serious first.
    """

    name: str
    width_px: int
    height_px: int
    logits: tuple[float, ...]
    prob_malignant: float | None
    predicted_class: str | None
    heatmaps: dict[str, Heatmap]
    checks: tuple[Check, ...]

    @property
    def is_classified(self) -> bool:
        """True if no blocking check failed."""
        return self.predicted_class is not None


class Classifier:
    """Classify images with one model and explain each prediction with Grad-CAM.

    Several threads can share a classifier.

    Parameters
    ----------
    engine : BatchingEngine
        Inference engine of the model.

    Attributes
    ----------
    bundle : Bundle
        The model on disk, with its model card, decision threshold and temperature.

    See Also
    --------
    load_classifier : Return a classifier for a model on disk.

    Examples
    --------
    >>> classifier = load_classifier("bundled")
    >>> gray = np.full((460, 700, 3), 200, np.uint8)
    >>> prediction = classifier.predict(gray, name="gray.png", magnification=200)
    >>> prediction.predicted_class is None
    True
    >>> prediction.checks[0].code, prediction.checks[0].severity.value
    ('BC104', 'blocking')
    """

    def __init__(self, engine: BatchingEngine) -> None:
        self.engine = engine
        self.bundle: Bundle = engine.bundle

    def predict(
        self,
        image: np.ndarray,
        *,
        name: str = "",
        magnification: int | None = None,
        mpp: float | None = None,
        resolution: str = "standard",
    ) -> Prediction:
        """Return the prediction for one image.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8
            RGB image from `read_image`, at its original size.
        name : str
            File name. An official BreakHis name contains the case and the magnification.
        magnification : int, optional
            Magnification such as 200 for 200X. The default is that of the file name.
        mpp : float, optional
            Scale of the image in µm per pixel, for example from `bc_model.data.read_scale`.
        resolution : {'standard', 'fine', 'finest'}
            Resolution of the heatmaps. 'fine' has twice as many cells in each direction and takes
            about 1.6 times as long, 'finest' has four times as many and takes about 6 times as
            long. Only for ResNet50.

        Raises
        ------
        EngineBusyError
            Too many images are waiting.
        ModelError
            The logits are not finite, or the model does not support the resolution.
        """
        pixels = preprocess_image(image, self.bundle.image_size)
        logits, heatmaps, is_constant = self.engine.explain_one(pixels, resolution)
        found = [*_input_checks(image, pixels, name, magnification, mpp, self.bundle)]
        if is_constant:
            found.append(make_check("BC106"))
        groups = by_severity(found)
        checks = tuple(check for group in groups.values() for check in group)
        is_classified = not is_blocked(checks)
        probability = float(compute_prob_malignant(logits[None], self.bundle.temperature)[0])
        predicted_class = CLASSES[int(probability >= self.bundle.threshold)]
        return Prediction(
            name=name,
            width_px=image.shape[1],
            height_px=image.shape[0],
            logits=tuple(float(logit) for logit in logits),
            prob_malignant=probability if is_classified else None,
            predicted_class=predicted_class if is_classified else None,
            heatmaps=heatmaps if is_classified else {},
            checks=checks,
        )


def load_classifier(source: str | Path, *, precision: str = "f32") -> Classifier:
    """Return a classifier for a model on disk.

    Parameters
    ----------
    source : str or Path
        'bundled' for the bundled model, 'synthetic-demo' for the demo model, a run directory, or a
        model directory.
    precision : {'f32', 'bf16', 'int8', 'fastest'}
        Precision of the convolutions. 'fastest' is the result of `fastest_precision`; its
        probabilities differ from those of float32 within the limits of the parity check.

    Raises
    ------
    ModelError
        The path does not exist or is not a model.
    BundleError
        A file of the model is missing, changed or damaged, or the precision did not pass its
        parity check.

    Examples
    --------
    >>> load_classifier("bundled").bundle.image_size
    (224, 336)
    """
    bundle = open_bundle(_model_path(source))
    if precision == "fastest":
        precision = fastest_precision(bundle.card.precisions, bundle.card.files)
    return Classifier(BatchingEngine(Engine(bundle, precision)))


def _model_path(source: str | Path) -> Path:
    """Return the path of a model; the name of a bundled model counts unless a path has it."""
    if source == "bundled":
        return bundled_model_dir("bundled")
    path = Path(source)
    included = bundled_model_dir(path.name)
    is_name = path.name == str(source) and not path.exists()
    return included if is_name and included.is_dir() else path


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


def _input_checks(
    image: np.ndarray,
    pixels: np.ndarray,
    name: str,
    magnification: int | None,
    mpp: float | None,
    bundle: Bundle,
) -> Iterator[Check]:
    """Yield the failed checks of an image, of its file name and of the model."""
    parsed = parse_name(name)
    case = parsed.case if parsed else ""
    is_unsuitable = is_synthetic(case) and not bundle.card.data.is_synthetic
    is_seen_case = bool(case) and case in bundle.seen_cases
    checks = (
        _check_magnification(parsed, magnification, mpp, bundle),
        make_check("BC102") if is_unsuitable else None,
        check_staining(pixels, bundle.card),
        check_size(image.shape[1], image.shape[0], parsed is not None, bundle),
        make_check("BC110", case=case) if is_seen_case else check_seen(image, bundle),
        make_check("BC401") if bundle.temperature == 1.0 else None,
    )
    return (check for check in checks if check is not None)


def _check_magnification(
    parsed: ImageName | None, magnification: int | None, mpp: float | None, bundle: Bundle
) -> Check | None:
    supported, ranges = bundle.card.scale.magnifications, bundle.card.scale.mpp_range
    if not supported:
        return None
    names = [f"{m}X" for m in supported]
    if magnification is None and parsed is not None:
        magnification = parsed.magnification
    if magnification is None and mpp is not None:
        mpp_ranges = [f"{low:g}-{high:g}" for low, high in ranges.values()] or ["an unknown number"]
        return make_check("BC141", mpp=mpp, supported_names=names, mpp_ranges=mpp_ranges)
    if magnification is None:
        objectives = [f"{m // 10}x" for m in supported]
        return make_check("BC140", supported_names=names, objectives=objectives)
    if magnification not in supported:
        return make_check("BC101", magnification=magnification, supported_names=names)
    return None


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
    classifier: Classifier, path: Path, out: Path, *, resolution: str = "standard"
) -> dict[str, Any]:
    """Classify and explain one image file and write the result.

    Writes ``<stem>-<hash>.json`` and, for each class, ``...-<class>.png`` (overlay at the size of
    the image) and ``...-<class>.npy`` (raw heatmap, float32) into the directory `out`. The hash
    separates images of the same name. The stems of long names are shortened. If a blocking check
    fails, only the JSON file is written, without a class, a probability or a heatmap.
    `resolution` is that of `Classifier.predict`.

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
    data = read_image_bytes(path)
    image = decode_image(data, path.name)
    scale = read_scale(data)
    prediction = classifier.predict(
        image, name=path.name, mpp=scale.mpp if scale else None, resolution=resolution
    )
    sha256 = hashlib.sha256(data).hexdigest()
    out.mkdir(parents=True, exist_ok=True)
    base = f"{shorten_name(path.stem, MAX_STEM_BYTES)}-{sha256[:8]}"
    logits = dict(zip(CLASSES, prediction.logits, strict=True))
    entries, files = _render_heatmaps(prediction, image, base)
    result = {
        "image": str(path),
        "sha256": sha256,
        "model": classifier.bundle.card.name,
        "prob_malignant": prediction.prob_malignant,
        "threshold": classifier.bundle.threshold,
        "predicted_class": prediction.predicted_class,
        "logits": logits if prediction.is_classified else None,
        "temperature": classifier.bundle.temperature,
        "precision": classifier.engine.engine.precision,
        "heatmaps": entries,
        "checks": [check_to_json(check) for check in prediction.checks],
        "use": "Research use only, not a diagnosis.",
    }
    files[f"{base}.json"] = (json.dumps(result, indent=2, allow_nan=False) + "\n").encode()
    write_files_atomic({out / name: content for name, content in files.items()})
    if not prediction.is_classified:
        # An earlier call with another model may have classified this image.
        for name, suffix in itertools.product(CLASSES, ("png", "npy")):
            (out / f"{base}-{name}.{suffix}").unlink(missing_ok=True)
    return result


def _render_heatmaps(
    prediction: Prediction, image: np.ndarray, base: str
) -> tuple[dict[str, dict[str, Any]], dict[str, bytes]]:
    """Return the entries of the heatmaps in the JSON file, and their files by name."""
    entries: dict[str, dict[str, Any]] = {}
    files: dict[str, bytes] = {}
    for name, heatmap in prediction.heatmaps.items():
        overlay, raw = f"{base}-{name}.png", f"{base}-{name}.npy"
        full_scale = compute_full_scale(prediction.heatmaps)
        files[overlay] = encode_png(overlay_heatmap(image, heatmap, full_scale=full_scale))
        buffer = io.BytesIO()
        np.save(buffer, heatmap.raw, allow_pickle=False)
        files[raw] = buffer.getvalue()
        entries[name] = {
            "overlay": overlay,
            "raw": raw,
            "maximum": heatmap.maximum,
            "contribution": heatmap.contribution,
            "cells": [heatmap.raw.shape[1], heatmap.raw.shape[0]],
            "has_positive_contribution": not heatmap.is_empty,
        }
    return entries, files
