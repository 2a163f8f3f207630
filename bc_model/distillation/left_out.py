"""Precision, robustness and heatmaps of the bundled model on images of left-out cases.

The networks of the case-level folds are measured, each on the images that it was not trained on.
The results are pooled. The bundled model itself was trained on all images.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.data.images import preprocess_image
from bc_model.data.synthetic import generate_lesion
from bc_model.distillation.cross_validation import Networks
from bc_model.distillation.folds import Folds, is_test_image
from bc_model.evaluation.explanation_checks import (
    check_explanations,
    compare_randomized,
    make_mosaics,
    measure_pointing,
    random_weights,
)
from bc_model.evaluation.robustness import predict_perturbed, robustness_table
from bc_model.gradcam import GradCAM, Heatmap
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine, compute_prob_malignant
from bc_model.inference.export import rebuild_keras_model, write_half_precision_bundle
from bc_model.inference.model_card import (
    ExplanationChecks,
    ModelCard,
    PointingResult,
    RandomizationResult,
    RobustnessTable,
)
from bc_model.inference.precision import Parity, compare_precision, supported_precisions
from bc_model.model import reference_logits

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("bc_model.distillation")

IMAGES = "images of left-out cases"

_PRECISIONS = ("f32", "bf16")
"""int8 needs a graph of its own, which would make the bundle half as large again."""

_N_LESIONS = 12
"""Synthetic lesions for each fold."""
_N_RANDOMIZED = 12
"""Images of each fold whose heatmaps are computed again with random weights."""
_LAST_STAGE = "conv5"

Maps = list[dict[str, Heatmap]]


@dataclass(frozen=True)
class LeftOutMeasurements:
    """Parity of precisions by name, robustness, and checks of the heatmaps."""

    precisions: dict[str, Parity]
    robustness: RobustnessTable
    explanations: ExplanationChecks


def measure_left_out(networks: Networks, folds: Folds, card: ModelCard) -> LeftOutMeasurements:
    """Measure the networks of all folds, each on the images of its left-out cases.

    Parameters
    ----------
    networks : Networks
    folds : Folds
        Case-level folds.
    card : ModelCard
        Card of the bundled model, whose temperature and threshold are used.
    """
    usable = [name for name in _PRECISIONS if name in supported_precisions()]
    found = _Found()
    for fold in range(networks.config.n_folds):
        logger.info("Measuring the network without fold %d", fold)
        is_test = is_test_image(networks.source.table, folds, fold)
        with tempfile.TemporaryDirectory() as folder:
            model = networks.model_without(folds, fold)
            first = networks.source.pixels[is_test][:4]
            bundle = write_half_precision_bundle(model, Path(folder) / "model", card, first)
            found.add(_measure_fold(networks, is_test, bundle, usable, seed=fold))
    return found.summarize(usable, card)


@dataclass
class _Found:
    """The measurements of one fold, or of several folds in their order."""

    probs: dict[str, list[np.ndarray]] = field(default_factory=dict)
    changed: list[np.ndarray] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)
    maps: Maps = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)
    pointing: dict[tuple[str, str], list[tuple[dict[str, Heatmap], np.ndarray, str]]] = field(
        default_factory=dict
    )
    randomized: dict[str, list[tuple[dict[str, Heatmap], dict[str, Heatmap], str]]] = field(
        default_factory=dict
    )

    def add(self, other: _Found) -> None:
        """Append the measurements of another fold."""
        for name, value in vars(other).items():
            own = getattr(self, name)
            if isinstance(value, dict):
                for key, items in value.items():
                    own.setdefault(key, []).extend(items)
            else:
                own.extend(value)

    def summarize(self, precisions: list[str], card: ModelCard) -> LeftOutMeasurements:
        """Return the pooled results."""
        malignant = np.array(self.classes) == "malignant"
        probs = {name: np.concatenate(values) for name, values in self.probs.items()}
        return LeftOutMeasurements(
            {
                name: compare_precision(name, probs["reference"], probs[name], malignant)
                for name in precisions
            },
            robustness_table(
                np.concatenate(self.changed), malignant, self.cases,
                threshold=card.threshold.value, images=IMAGES,
            ),
            check_explanations(
                self.pixels, self.maps, self.predicted, self.classes, self.cases, images=IMAGES,
                pointing=list(self._pointing()), randomization=list(self._randomization()),
            ),
        )  # fmt: skip

    def _pointing(self) -> Iterator[PointingResult]:
        for (images, class_name), rows in self.pointing.items():
            maps, masks, cases = (list(column) for column in zip(*rows, strict=True))
            yield measure_pointing(maps, masks, class_name, cases, images=images)

    def _randomization(self) -> Iterator[RandomizationResult]:
        for layers, rows in self.randomized.items():
            before, after, predicted = (list(column) for column in zip(*rows, strict=True))
            yield compare_randomized(before, after, predicted, layers=layers)


def _measure_fold(
    networks: Networks, is_test: np.ndarray, bundle: Bundle, precisions: list[str], *, seed: int
) -> _Found:
    source, engine = networks.source, Engine(bundle, require_parity=False)
    temperature, threshold = bundle.temperature, bundle.threshold
    rows, pixels = np.flatnonzero(is_test), source.pixels[is_test]
    classes, cases = list(source.table["class"].iloc[rows]), list(source.case[is_test])
    model = rebuild_keras_model(bundle)
    logits = {"reference": reference_logits(model, pixels)}
    for name in precisions:
        logits[name] = Engine(bundle, name, require_parity=False).predict(pixels)
    frames = (source.frames[i] for i in rows)
    changed = predict_perturbed(engine.predict, frames, bundle.image_size)
    explained = engine.explain(pixels)
    prob = compute_prob_malignant(explained.logits, temperature)
    predicted = [CLASSES[int(p >= threshold)] for p in prob]
    return _Found(
        probs={
            name: [compute_prob_malignant(values, temperature)] for name, values in logits.items()
        },
        changed=[
            compute_prob_malignant(changed.reshape(-1, 2), temperature).reshape(changed.shape[:2])
        ],
        classes=classes,
        cases=cases,
        pixels=list(pixels),
        maps=explained.heatmaps,
        predicted=predicted,
        pointing=_point(engine, pixels, classes, cases, seed=seed),
        randomized=_randomize(model, pixels, predicted),
    )


def _point(
    engine: Engine, pixels: np.ndarray, classes: list[str], cases: list[str], *, seed: int
) -> dict[tuple[str, str], list[tuple[dict[str, Heatmap], np.ndarray, str]]]:
    """Return heatmaps, masks and cases of mosaics and synthetic lesions by kind and class."""
    found = {}
    has_both = len(set(classes)) == len(CLASSES)
    for class_name in CLASSES if has_both else ():
        mosaics, masks = make_mosaics(pixels, classes, class_name, seed=seed)
        own = [case for case, name in zip(cases, classes, strict=True) if name == class_name]
        maps = engine.explain(mosaics).heatmaps
        found[f"mosaics of {IMAGES}", class_name] = list(zip(maps, masks, own, strict=True))
    size = engine.bundle.image_size
    lesions = [
        generate_lesion(seed=seed * _N_LESIONS + i, case_seed=i, size=size)
        for i in range(_N_LESIONS)
    ]
    images = np.stack([preprocess_image(image, size) for image, _ in lesions])
    maps = engine.explain(images).heatmaps
    found["synthetic lesions", "malignant"] = [
        (pair, mask, f"{seed}-{i}")
        for i, (pair, (_, mask)) in enumerate(zip(maps, lesions, strict=True))
    ]
    return found


def _randomize(
    model: keras.Model, pixels: np.ndarray, predicted: list[str]
) -> dict[str, list[tuple[dict[str, Heatmap], dict[str, Heatmap], str]]]:
    """Return heatmaps before and after the weights of some layers are random."""
    step = max(1, len(pixels) // _N_RANDOMIZED)
    chosen, names = pixels[::step][:_N_RANDOMIZED], predicted[::step][:_N_RANDOMIZED]
    explain = GradCAM(model)

    def compute() -> Maps:
        by_class = {name: explain(chosen, name) for name in CLASSES}
        return [{name: by_class[name][i] for name in CLASSES} for i in range(len(chosen))]

    before = compute()
    weighted = [layer.name for layer in model.layers if layer.weights]
    groups = {
        "last layer": ["logits"],
        "last stage and last layer": [
            name for name in weighted if name == "logits" or name.startswith(_LAST_STAGE)
        ],
        "all layers": weighted,
    }
    found = {}
    for label, layers in groups.items():
        with random_weights(model, layers):
            found[label] = list(zip(before, compute(), names, strict=True))
    return found
