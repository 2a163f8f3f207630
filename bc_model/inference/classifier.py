"""Classify images: probability, class, heatmaps and checks of each image.

`Classifier` returns predictions without side effects. `explain_file` writes a prediction to disk.
"""

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bc_model.checks import Check, by_severity, check_to_json, is_blocked, make_check
from bc_model.contribution_map import ContributionMap, overlay_signed_map
from bc_model.data.breakhis import CLASSES, ImageName, is_synthetic, parse_name
from bc_model.data.image_scale import read_scale
from bc_model.data.images import (
    HEATMAP_KINDS,
    decode_image,
    list_image_files,
    preprocess_image,
    read_image_bytes,
)
from bc_model.errors import ImageError
from bc_model.gradcam import Heatmap, compute_full_scale, encode_png, overlay_heatmap
from bc_model.inference.batching import BatchingEngine
from bc_model.inference.bundle import Bundle, bundled_model_dir, open_bundle
from bc_model.inference.engine import Engine, compute_prob_malignant
from bc_model.inference.evidence_location import (
    EvidenceLocation,
    compute_cell_um,
    locate_evidence,
)
from bc_model.inference.input_checks import check_size, check_staining
from bc_model.inference.precision import fastest_precision
from bc_model.inference.seen_images import check_seen
from bc_model.inference.views import ViewSpread, predict_views
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
    contribution : ContributionMap or None
        Contribution of each cell to the margin. None if a blocking check failed.
    location : EvidenceLocation or None
        Where the evidence for the predicted class lies. None if a blocking check failed, or if no
        cell supports the class.
    checks : tuple of Check
        Failed checks, the most serious first.
    uncertain_band : (float, float) or None
        Ends of the probabilities that are uncertain. None if the model has no such range.
    """

    name: str
    width_px: int
    height_px: int
    logits: tuple[float, ...]
    prob_malignant: float | None
    predicted_class: str | None
    heatmaps: dict[str, Heatmap]
    contribution: ContributionMap | None
    location: EvidenceLocation | None
    checks: tuple[Check, ...]
    uncertain_band: tuple[float, float] | None = None

    @property
    def outcome(self) -> str | None:
        """'benign', 'malignant' or 'uncertain'; None if a blocking check failed."""
        if self.prob_malignant is None:
            return None
        is_uncertain = is_inside(self.prob_malignant, self.uncertain_band)
        return "uncertain" if is_uncertain else self.predicted_class

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
        explained = self.engine.explain_one(pixels, resolution)
        logits, contribution = explained.logits, explained.contribution
        found = [*_input_checks(image, pixels, name, magnification, mpp, self.bundle)]
        if explained.is_constant:
            found.append(make_check("BC106"))
        probability = float(compute_prob_malignant(logits[None], self.bundle.temperature)[0])
        band = self.bundle.uncertain_band
        # The check would reveal the probability of a blocked image.
        if band is not None and is_inside(probability, band) and not is_blocked(found):
            found.append(make_check("BC191", low=band[0], high=band[1]))
        groups = by_severity(found)
        checks = tuple(check for group in groups.values() for check in group)
        is_classified = not is_blocked(checks)
        predicted_class = CLASSES[int(probability >= self.bundle.threshold)]
        location = None
        if is_classified:
            cell_um = compute_cell_um(contribution.grid, image.shape[1], image.shape[0], mpp)
            location = locate_evidence(contribution, predicted_class, pixels, cell_um=cell_um)
            found += location.find_checks() if location else ()
        groups = by_severity(found)
        checks = tuple(check for group in groups.values() for check in group)
        return Prediction(
            name=name,
            width_px=image.shape[1],
            height_px=image.shape[0],
            logits=tuple(float(logit) for logit in logits),
            prob_malignant=probability if is_classified else None,
            predicted_class=predicted_class if is_classified else None,
            heatmaps=explained.heatmaps if is_classified else {},
            contribution=contribution if is_classified else None,
            location=location,
            checks=checks,
            uncertain_band=band,
        )

    def predict_views(self, image: np.ndarray) -> ViewSpread:
        """Return the probabilities of rotated, mirrored and shifted views of one image.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8
            RGB image from `read_image`, at its original size.

        See Also
        --------
        bc_model.inference.predict_views : The same for an engine.
        """
        return predict_views(self.engine.engine, image)


def load_classifier(source: str | Path, *, precision: str = "f32") -> Classifier:
    """Return a classifier for a model on disk.

    Parameters
    ----------
    source : str or Path
        'bundled' for the bundled model, a run directory, or a model directory.
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
    bundle = open_bundle(bundled_model_dir("bundled") if source == "bundled" else Path(source))
    if precision == "fastest":
        precision = fastest_precision(bundle.card.precisions, bundle.card.files)
    return Classifier(BatchingEngine(Engine(bundle, precision)))


def is_inside(probability: float, band: tuple[float, float] | None) -> bool:
    """Return whether a probability is inside of a range, without its ends.

    Examples
    --------
    >>> is_inside(0.5, (0.2, 0.8)), is_inside(0.8, (0.2, 0.8)), is_inside(0.5, None)
    (True, False, False)
    """
    return band is not None and band[0] < probability < band[1]


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
    classifier: Classifier,
    path: Path,
    out: Path,
    *,
    resolution: str = "standard",
    extend: Callable[[np.ndarray, Prediction], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Classify and explain one image file and write the result.

    Writes ``<stem>-<hash>.json`` and, for each class, ``...-<class>.png`` (overlay at the size of
    the image) and ``...-<class>.npy`` (raw heatmap, float32) into the directory `out`, and the same
    for the contribution map, ``...-contribution.png`` and ``.npy`` (signed). The hash separates
    images of the same name. The stems of long names are shortened. If a blocking check fails, only
    the JSON file is written, without a class, a probability or a heatmap.
    `resolution` is that of `Classifier.predict`.
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
    contribution, contribution_files = _render_contribution(prediction, image, base)
    result = {
        "image": str(path),
        "sha256": sha256,
        "model": classifier.bundle.card.name,
        "prob_malignant": prediction.prob_malignant,
        "threshold": classifier.bundle.threshold,
        "predicted_class": prediction.predicted_class,
        "outcome": prediction.outcome,
        "uncertain_band": prediction.uncertain_band,
        "logits": logits if prediction.is_classified else None,
        "temperature": classifier.bundle.temperature,
        "precision": classifier.engine.engine.precision,
        "heatmaps": entries,
        "contribution": contribution,
        "location": _location_to_json(prediction.location),
        "checks": [check_to_json(check) for check in prediction.checks],
        **(extend(image, prediction) if extend else {}),
        "use": "Research use only, not a diagnosis.",
    }
    files |= contribution_files
    files[f"{base}.json"] = (json.dumps(result, indent=2, allow_nan=False) + "\n").encode()
    write_files_atomic({out / name: content for name, content in files.items()})
    if not prediction.is_classified:
        # An earlier call with another model may have classified this image.
        for kind, suffix in itertools.product(HEATMAP_KINDS, ("png", "npy")):
            (out / f"{base}-{kind}.{suffix}").unlink(missing_ok=True)
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
        overlay: encode_png(overlay_signed_map(image, contribution)),
        raw: _encode_npy(contribution.cells),
    }


def _location_to_json(location: EvidenceLocation | None) -> dict[str, Any] | None:
    return asdict(location) | check_to_json(location.sentence) if location else None


def _encode_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
