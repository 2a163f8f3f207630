"""The model card: origin, training data, metrics, limits and files of a model.

The card is the JSON file `MODEL_CARD_FILE` of a bundle. Reading refuses another schema version, a
missing or unknown key, and a value out of range.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bc_model.checks import Check
from bc_model.data.breakhis import CLASSES
from bc_model.errors import BundleError, RecordError
from bc_model.inference.precision import PRECISIONS, Parity
from bc_model.utils.formatting import format_count
from bc_model.utils.io import write_text_atomic
from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import dumps, read_record

MODEL_CARD_FILE = "model_card.json"

INTENDED_USE = (
    "Research use only, not a diagnosis. Estimates the probability of malignancy for single fields "
    "of H&E-stained breast tissue from surgical biopsies, at the magnifications of this card."
)
LIMITS = (
    "The training images contain no normal tissue, no isolated in-situ lesions and no atypia. All "
    "phyllodes tumors are labeled benign. All images come from one laboratory, and a pathologist "
    "selected the fields. The model also predicts a class for any other image, but such "
    "predictions are not meaningful."
)

# A file name and never a path, so that a card cannot refer to files outside of its directory. The
# name of the model becomes a file name on export.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Architecture:
    """The network.

    `initial_weights` is a name, a file name, or 'none' for random weights. `dense_units` are the
    layers between pooling and logits. `config` is the configuration of the bundled model.
    """

    backbone: str
    initial_weights: str
    n_parameters: int
    dense_units: tuple[int, ...] = ()
    dropout: float = 0.0
    config: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        _require_text(backbone=self.backbone, initial_weights=self.initial_weights)
        _require_count(n_parameters=self.n_parameters)


@dataclass(frozen=True)
class StainStatistics:
    """Quantiles of the staining of the training images.

    `values` has one optical density per quantile for each of `bc_model.data.stain.STAIN_COLUMNS`.
    `out_of_distribution_proportion` is that of images of unseen cases; None if it is unknown.
    """

    quantiles: tuple[float, ...]
    values: dict[str, tuple[float, ...]]
    grayscale_proportion: float
    out_of_distribution_proportion: float | None = None

    def __post_init__(self) -> None:
        _require_proportion(
            grayscale_proportion=self.grayscale_proportion,
            out_of_distribution_proportion=self.out_of_distribution_proportion or 0.0,
        )
        for name, values in self.values.items():
            if len(values) != len(self.quantiles):
                raise ValueError(
                    f"values.{name}: expected {len(self.quantiles)} values, got {len(values)}"
                )


@dataclass(frozen=True)
class ModelInput:
    """The input of the network and the images that it was trained on.

    `training_sizes` are sizes such as '700x460', the most frequent first. `reshaped_sizes` are
    those that only resized official frames have. `field_of_view` describes the cropping.
    """

    height_px: int
    width_px: int
    preprocessing: str
    training_sizes: tuple[str, ...] = ()
    reshaped_sizes: tuple[str, ...] = ()
    channels: str = "RGB"
    value_range: tuple[int, int] = (0, 255)
    field_of_view: str = ""
    stain: StainStatistics | None = None

    def __post_init__(self) -> None:
        _require_text(preprocessing=self.preprocessing, channels=self.channels)
        if min(self.height_px, self.width_px) < 1:
            raise ValueError(
                f"height_px, width_px: expected at least 1, got {self.height_px}, {self.width_px}"
            )


@dataclass(frozen=True)
class Scale:
    """The physical scale of the training images.

    `mpp_range` is the range of micrometers per pixel by magnification, `source` its origin.
    """

    magnifications: tuple[int, ...]
    mpp_range: dict[str, tuple[float, float]]
    source: str

    def __post_init__(self) -> None:
        _require_count(magnifications=min(self.magnifications, default=0))


@dataclass(frozen=True)
class SubsetCounts:
    """A count for each subset of a split."""

    train: int = 0
    validation: int = 0
    test: int = 0

    def __post_init__(self) -> None:
        _require_count(**vars(self))


@dataclass(frozen=True)
class TrainingData:
    """The dataset and the split that the model was trained with.

    `has_leakage` states whether several subsets contain images of the same case. `initial_cases`
    are those of the initial weights, and `has_initialization_leakage` states whether the test
    subset contains them or their images. `seen_images_complete` states whether the list of seen
    images includes those of the initial weights.
    """

    dataset_sha256: str
    split_sha256: str
    protocol: str
    has_leakage: bool
    n_images: SubsetCounts
    n_cases: SubsetCounts
    training_cases: tuple[str, ...]
    validation_cases: tuple[str, ...]
    is_synthetic: bool
    license: str
    initial_cases: tuple[str, ...] = ()
    has_initialization_leakage: bool = False
    seen_images_complete: bool = False

    def __post_init__(self) -> None:
        _require_text(protocol=self.protocol, license=self.license)


@dataclass(frozen=True)
class SubgroupResult:
    """Metrics of one subgroup of the test images; `kind` is its criterion, e.g. 'magnification'."""

    kind: str
    name: str
    metrics: dict[str, Metric]


@dataclass(frozen=True)
class EvaluationSummary:
    """An evaluation without its curves; `case_metrics` is empty if no case is known."""

    protocol: str
    has_leakage: bool
    threshold: float
    n_images: int
    n_cases: int
    malignant_proportion: float
    metrics: dict[str, Metric]
    case_metrics: dict[str, Metric] = field(default_factory=dict)
    subgroups: tuple[SubgroupResult, ...] = ()
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class ProtocolResult:
    """Metrics of the same configuration under one split protocol."""

    protocol: str
    has_leakage: bool
    n_folds: int
    n_images: int
    n_cases: int
    metrics: dict[str, Metric]


@dataclass(frozen=True)
class SearchSpace:
    """The options of model selection in nested cross-validation.

    `views` are named changes of the augmentation. `penalties` are those of the linear teacher, and
    `last_penalties` those of the last layer.
    """

    views: dict[str, dict[str, Any]]
    penalties: tuple[float, ...]
    last_penalties: tuple[float, ...]


@dataclass(frozen=True)
class FoldChoice:
    """The options selected without one fold; `roc_auc_of_others` overestimates performance."""

    fold: int
    views: str
    last_penalty: float
    penalty: float
    temperature: float
    roc_auc_of_others: float


@dataclass(frozen=True)
class NestedResult:
    """Metrics of nested cross-validation.

    `network` describes the evaluated networks, and `selected_by` the networks of the model
    selection; it is empty if they are the same.
    """

    network: str
    selected_by: str
    search_space: SearchSpace
    choices: tuple[FoldChoice, ...]
    n_folds: int
    n_images: int
    n_cases: int
    metrics: dict[str, Metric]


@dataclass(frozen=True)
class CardMetrics:
    """The results of a model; `test` is None if the model was not evaluated."""

    test: EvaluationSummary | None = None
    protocols: tuple[ProtocolResult, ...] = ()
    nested: NestedResult | None = None


@dataclass(frozen=True)
class DecisionThreshold:
    """The probability of malignancy from which an image is predicted malignant, in [0, 1].

    `reason` and `date` are empty unless the threshold was set manually. `unit` is 'image' or 'case'
    for a threshold that was selected on validation predictions, whose numbers follow.
    """

    value: float
    method: str
    reason: str = ""
    date: str = ""
    unit: str | None = None
    n_images: int = 0
    n_cases: int = 0

    def __post_init__(self) -> None:
        _require_proportion(value=self.value)
        _require_text(method=self.method)
        if self.unit not in (None, "image", "case"):
            raise ValueError(f"unit: expected 'image', 'case' or None, got {self.unit!r}")
        _require_count(n_images=self.n_images, n_cases=self.n_cases)


@dataclass(frozen=True)
class Temperature:
    """The divisor of the logits before the softmax, fitted on validation images.

    Without a fit, `value` is 1 and `method` contains the reason. The log losses have equal weight
    per case.
    """

    value: float
    method: str
    n_images: int = 0
    n_cases: int = 0
    log_loss_before: float | None = None
    log_loss_after: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.value <= 100.0:
            raise ValueError(f"value: expected above 0 and at most 100, got {self.value}")
        _require_text(method=self.method)
        _require_count(n_images=self.n_images, n_cases=self.n_cases)


@dataclass(frozen=True)
class ModelCard:
    """The description of a model; a `ValueError` if a value is out of range.

    `version` is that of the program, `created` a time in ISO 8601. `precisions` are the parity
    checks by precision, and `files` the SHA-256 by file name, empty only before they are written.
    """

    SCHEMA_VERSION: ClassVar[int] = 2

    name: str
    version: str
    created: str
    architecture: Architecture
    input: ModelInput
    scale: Scale
    data: TrainingData
    threshold: DecisionThreshold
    temperature: Temperature
    metrics: CardMetrics = field(default_factory=CardMetrics)
    precisions: dict[str, Parity] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = CLASSES
    intended_use: str = INTENDED_USE
    limits: str = LIMITS

    def __post_init__(self) -> None:
        _require_text(version=self.version, created=self.created)
        _require_text(intended_use=self.intended_use, limits=self.limits)
        if not _FILE_NAME.fullmatch(self.name):
            raise ValueError(f"name: expected letters, digits and -._, got {self.name!r}")
        if self.classes != CLASSES:
            expected, found = ", ".join(CLASSES), ", ".join(self.classes)
            raise ValueError(f"classes: expected {expected} in this order, got {found}")
        if unknown := sorted(set(self.precisions) - set(PRECISIONS)):
            raise ValueError(f"precisions: expected {', '.join(PRECISIONS)}, got {unknown[0]!r}")
        for name, digest in self.files.items():
            if not _FILE_NAME.fullmatch(name):
                raise ValueError(f"files: expected file names and no paths, got {name!r}")
            if not _SHA256.fullmatch(digest):
                raise ValueError(f"files.{name}: expected a SHA-256 in hexadecimal, got {digest!r}")


def describe_synthetic_training(data: TrainingData) -> str:
    """Return a sentence about the limits of a model that was trained on synthetic images."""
    if n_cases := len(data.initial_cases):
        return (
            "This model was trained on synthetic images. Only its initial weights were trained on "
            f"tissue, from {format_count(n_cases, 'case')}."
        )
    return "This model was trained on synthetic images only. Do not use it for tissue."


def read_model_card(folder: Path) -> ModelCard:
    """Return the model card in a bundle directory; a `BundleError` if there is no valid one."""
    try:
        card = read_record(folder / MODEL_CARD_FILE, ModelCard)
    except FileNotFoundError as error:
        raise BundleError(
            f"{folder} is not a model, because it has no {MODEL_CARD_FILE}. Use the directory of a "
            "finished run."
        ) from error
    except (OSError, RecordError) as error:
        raise BundleError(
            f"The model card in {folder} cannot be read or is not valid ({error}). Export the "
            "model again."
        ) from error
    return _require_files(card, folder)


def model_card_text(folder: Path, card: ModelCard) -> str:
    """Return the text of the model card file in a bundle directory."""
    try:
        return dumps(_require_files(card, folder))
    except RecordError as error:
        raise BundleError(f"The model card for {folder} is not valid ({error}).") from error


def write_model_card(folder: Path, card: ModelCard) -> None:
    """Write a model card into a bundle directory, completely or not at all."""
    write_text_atomic(folder / MODEL_CARD_FILE, model_card_text(folder, card))


def _require_files(card: ModelCard, folder: Path) -> ModelCard:
    if not card.files:
        raise BundleError(
            f"The model card for {folder} is not valid (files: expected at least one)."
        )
    return card


def _require_text(**texts: str) -> None:
    for name, text in texts.items():
        if not text:
            raise ValueError(f"{name}: expected text, got an empty string")


def _require_count(**counts: int) -> None:
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name}: expected at least 0, got {count}")


def _require_proportion(**values: float) -> None:
    for name, value in values.items():
        # NaN must fail: with a threshold of NaN, every image would be predicted benign.
        if not (math.isfinite(value) and 0.0 <= value <= 1.0):
            raise ValueError(f"{name}: expected 0 to 1, got {value}")
