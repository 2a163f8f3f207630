"""Build the demo model: a small network that is trained on synthetic images only.

The network needs no download and no tissue, so that the demonstration works offline. Its training
images contain malignant regions of a few percent of the area, so that its heatmaps can be compared
with known masks.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import bc_model
from bc_model.contribution_map import ContributionMap
from bc_model.data.breakhis import CLASSES, FIRST_SYNTHETIC_CASE, MPP_RANGE
from bc_model.data.images import preprocess_image
from bc_model.data.stain import are_gray, stain_statistics
from bc_model.data.synthetic import generate_image, generate_lesion
from bc_model.evaluation.demo import DEMO_MODEL_NAME, keep_malignant
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.explanation_checks import (
    check_explanations,
    compare_randomized,
    measure_pointing,
    random_weights,
)
from bc_model.evaluation.selective import summarize_selective
from bc_model.gradcam import GradCAM, Heatmap
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine, compute_prob_malignant
from bc_model.inference.export import check_bundle, write_bundle
from bc_model.inference.input_checks import summarize_staining
from bc_model.inference.model_card import (
    Architecture,
    CardMetrics,
    DecisionThreshold,
    ExplanationChecks,
    ModelCard,
    PointingResult,
    RandomizationResult,
    Scale,
    SubsetCounts,
    Temperature,
    TrainingData,
    write_model_card,
)
from bc_model.model import build_model
from bc_model.training.provenance import describe_input, describe_license
from bc_model.utils.io import check_writable
from bc_model.utils.processor import require_tensorflow

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("bc_model.distillation")

_BACKBONE = "tiny"
_FRAME_PX = (460, 700)
_TARGET_RISK = 0.01
"""Synthetic images are easy, so a smaller risk than for tissue gives a visible uncertain range."""
_INTENDED_USE = (
    "Demonstration of the program without tissue, for synthetic images only. Research use only, "
    "not a diagnosis. Do not use it for tissue."
)
_SCALE_SOURCE = "by convention, because synthetic images have no physical scale"
_LIMITS = (
    "All training and test images are synthetic drawings, and no image shows tissue. The metrics "
    "describe how well the network separates these drawings. They are no evidence about tissue."
)


@dataclass(frozen=True)
class DemoConfig:
    """The configuration of the demo model.

    Attributes
    ----------
    image_size : (int, int)
        Height and width of the input of the network, px.
    n_train, n_test : int
        Number of synthetic images, each of its own case.
    epochs, batch_size : int
        Passes over the training images, and images per step.
    learning_rate : float
        Largest learning rate; it decays to 0 by a cosine.
    seed : int
        Random seed of the images and of the initial weights.
    """

    image_size: tuple[int, int] = (128, 192)
    n_train: int = 480
    n_test: int = 320
    epochs: int = 30
    batch_size: int = 16
    learning_rate: float = 0.01
    seed: int = 0


@dataclass(frozen=True)
class _Images:
    """Preprocessed images, masks of malignant regions at the same size, classes and cases."""

    pixels: np.ndarray
    masks: np.ndarray
    classes: list[str]
    cases: list[str]


def build_demo_model(folder: Path, config: DemoConfig = DemoConfig()) -> Bundle:
    """Train the demo model and write its bundle.

    Parameters
    ----------
    folder : Path
        Directory of the bundle, replaced if it exists.
    config : DemoConfig

    Returns
    -------
    Bundle
        The verified bundle. Its card contains the metrics on other synthetic images, the pointing
        score, the randomization check and the agreement of the heatmaps with the prediction.

    Raises
    ------
    ModelError
        The inference graph differs from the Keras model.
    OSError
        A file cannot be written.
    """
    require_tensorflow()
    import keras

    check_writable(folder)
    logger.info("Generating %d synthetic images", config.n_train + config.n_test)
    train = _generate(config, 0, config.n_train)
    test = _generate(config, config.n_train, config.n_test)
    keras.utils.set_random_seed(config.seed)
    model = build_model(_BACKBONE, image_size=config.image_size, dense_units=(), dropout=0.0)
    _fit(model, train, config)
    card = _card(config, train, test, model.count_params())
    bundle = write_bundle(model, folder, card)
    check_bundle(bundle, test.pixels[:4])
    complete = _measured(bundle, model, test)
    write_model_card(folder, complete)
    return Bundle(folder, complete)


def _generate(config: DemoConfig, first: int, n_images: int) -> _Images:
    """Return images of consecutive cases: benign, lesion, benign, malignant, and so on."""
    pixels, masks, classes, cases = [], [], [], []
    for number in range(first, first + n_images):
        # 3 of 4 malignant images contain a region, so that the network learns to localize.
        kind = ("benign", "lesion", "benign", "lesion", "benign", "lesion", "benign", "malignant")[
            number % 8
        ]
        # The seeds of the samples and of the tests are small.
        seeds = {"seed": 1_000_000 + config.seed * 100_000 + number, "case_seed": 500_000 + number}
        if kind == "lesion":
            image, mask = generate_lesion(**seeds, size=_FRAME_PX)
        else:
            image = generate_image(malignant=kind == "malignant", **seeds, size=_FRAME_PX)
            mask = np.full(_FRAME_PX, kind == "malignant")
        pixels.append(preprocess_image(image, config.image_size))
        shown = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
        masks.append(preprocess_image(shown, config.image_size)[..., 0] > 127)
        classes.append("benign" if kind == "benign" else "malignant")
        cases.append(str(FIRST_SYNTHETIC_CASE + 500_000 + number))
    return _Images(np.stack(pixels), np.stack(masks), classes, cases)


def _fit(model: keras.Model, train: _Images, config: DemoConfig) -> None:
    """Train with flips; the order of the steps depends only on the seed."""
    import keras

    rng = np.random.default_rng(config.seed)
    target = np.array([CLASSES.index(name) for name in train.classes])
    n_steps = config.epochs * (len(target) // config.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, n_steps)
    model.compile(optimizer=keras.optimizers.Adam(schedule), loss="sparse_categorical_crossentropy")
    for epoch in range(config.epochs):
        order = rng.permutation(len(target))
        losses = []
        for start in range(0, len(order) - config.batch_size + 1, config.batch_size):
            rows = order[start : start + config.batch_size]
            batch = train.pixels[rows]
            batch = batch[:, :: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
            losses.append(model.train_on_batch(batch.astype(np.float32), target[rows]))
        logger.info("Epoch %d of %d: loss %.3f", epoch + 1, config.epochs, losses[-1])


def _card(config: DemoConfig, train: _Images, test: _Images, n_parameters: int) -> ModelCard:
    """Return the model card without files and metrics."""
    table = pd.DataFrame(
        {"width_px": _FRAME_PX[1], "height_px": _FRAME_PX[0], "magnification": 200,
         "case": train.cases}
    )  # fmt: skip
    lines = [hashlib.sha256(image.tobytes()).hexdigest() for image in train.pixels]
    return ModelCard(
        name=DEMO_MODEL_NAME,
        version=bc_model.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=Architecture(
            backbone=_BACKBONE, initial_weights="none", n_parameters=n_parameters,
            dense_units=(), config=None,
        ),
        input=replace(
            describe_input(_BACKBONE, config.image_size, table),
            stain=summarize_staining(stain_statistics(train.pixels), are_gray(train.pixels)),
        ),
        scale=Scale((200,), {"200": MPP_RANGE[200]}, _SCALE_SOURCE),
        data=TrainingData(
            dataset_sha256=_hash(lines),
            split_sha256=_hash([*train.cases, "test", *test.cases]),
            protocol="case",
            has_leakage=False,
            n_images=SubsetCounts(train=len(train.cases), test=len(test.cases)),
            n_cases=SubsetCounts(train=len(train.cases), test=len(test.cases)),
            training_cases=tuple(train.cases),
            validation_cases=(),
            is_synthetic=True,
            license=describe_license(True, official=False),
            seen_images_complete=False,
        ),
        threshold=DecisionThreshold(0.5, "default, not selected on images"),
        temperature=Temperature(1.0, "not fitted, because the demo model is not for tissue"),
        intended_use=_INTENDED_USE,
        limits=_LIMITS,
    )  # fmt: skip


def _measured(bundle: Bundle, model: keras.Model, test: _Images) -> ModelCard:
    """Return the card of a bundle with metrics on synthetic images of other cases."""
    explained = Engine(bundle, require_parity=False).explain(test.pixels)
    prob = compute_prob_malignant(explained.logits, bundle.temperature)
    predictions = pd.DataFrame(
        {"path": [f"{case}.png" for case in test.cases], "sha256": "", "case": test.cases,
         "class": test.classes, "magnification": 200, "prob_malignant": prob}
    )  # fmt: skip
    report = evaluate_predictions(predictions, protocol="case", has_leakage=False)
    selective = summarize_selective(
        predictions,
        images="synthetic images of other cases",
        threshold=bundle.threshold,
        target_risk=_TARGET_RISK,
    )
    predicted = [CLASSES[int(p >= bundle.threshold)] for p in prob]
    explanations = _check_maps(model, test, explained.heatmaps, explained.contributions, predicted)
    metrics = CardMetrics(test=report.summary(), explanations=explanations, selective=selective)
    return replace(bundle.card, metrics=metrics)


def _check_maps(
    model: keras.Model,
    test: _Images,
    heatmaps: Sequence[dict[str, Heatmap]],
    contributions: Sequence[ContributionMap],
    predicted: Sequence[str],
) -> ExplanationChecks:
    return check_explanations(
        list(test.pixels), heatmaps, predicted, test.classes, test.cases,
        images="synthetic images of other cases",
        pointing=_point(test, heatmaps, contributions),
        randomization=_randomize(model, test.pixels[:24], predicted[:24]),
    )  # fmt: skip


def _point(
    test: _Images,
    heatmaps: Sequence[dict[str, Heatmap]],
    contributions: Sequence[ContributionMap],
) -> list[PointingResult]:
    """Return the pointing scores of the contribution map, which is first, and of Grad-CAM."""
    # A mask of the entire image cannot be missed.
    has_region = [i for i, mask in enumerate(test.masks) if mask.any() and not mask.all()]
    signed = [{"malignant": keep_malignant(contribution)} for contribution in contributions]
    return [
        measure_pointing(
            [maps[i] for i in has_region],
            [test.masks[i] for i in has_region],
            "malignant",
            [test.cases[i] for i in has_region],
            images=f"synthetic lesions of other cases, {method}",
        )
        for method, maps in (("contribution map", signed), ("Grad-CAM", heatmaps))
    ]


def _randomize(
    model: keras.Model, pixels: np.ndarray, predicted: Sequence[str]
) -> list[RandomizationResult]:
    explain = GradCAM(model)

    def compute() -> list[dict[str, Heatmap]]:
        by_class = {name: explain(pixels, name) for name in CLASSES}
        return [{name: by_class[name][i] for name in CLASSES} for i in range(len(pixels))]

    before = compute()
    weighted = [layer.name for layer in model.layers if layer.weights]
    groups = {
        "last layer": ["logits"],
        "last block and last layer": [n for n in weighted if n.startswith(("block3", "logits"))],
        "all layers": weighted,
    }
    found = []
    for label, layers in groups.items():
        with random_weights(model, layers):
            found.append(compare_randomized(before, compute(), predicted, layers=label))
    return found


def _hash(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
