"""The model card: origin, training data, metrics, limits and files of a model.

The card is the JSON file `MODEL_CARD_FILE` of a bundle. Reading refuses another schema version, a
missing or unknown key, and a value out of range, so that every reader can use a card that was read.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from bc_model.checks import Check
from bc_model.data.breakhis import CLASSES
from bc_model.data.stain import STAIN_COLUMNS
from bc_model.errors import BundleError, RecordError
from bc_model.inference.precision import PRECISIONS, Parity
from bc_model.model import BACKBONES
from bc_model.utils.formatting import format_count
from bc_model.utils.io import read_bytes, write_text_atomic
from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import dumps, loads

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
_IMAGE_SIZE = re.compile(r"[1-9][0-9]{0,5}x[1-9][0-9]{0,5}")
_NAME = re.compile(r"[a-z0-9_]+")

_MAX_CARD_BYTES = 4 * 2**20
_MAX_TEXT_LENGTH = 20_000
_MAX_DEPTH = 20
_MAX_NUMBER = 1e12
_MAX_SIDE_PX = 4096
_MAX_UNITS = 8192


@dataclass(frozen=True)
class Architecture:
    """The network.

    `initial_weights` is a name, a file name, or 'none' for random weights. `dense_units` are the
    layers between pooling and logits, with a leaky ReLU of the slope `negative_slope`; 0 is ReLU.
    `config` is the configuration of the bundled model.
    """

    backbone: str
    initial_weights: str
    n_parameters: int
    dense_units: tuple[int, ...] = ()
    dropout: float = 0.0
    config: dict[str, Any] | None = None
    # Older cards have no slope, because their activation is ReLU.
    negative_slope: float = field(default=0.0, metadata={"optional": True})

    def __post_init__(self) -> None:
        _require_text(initial_weights=self.initial_weights)
        _require_count(n_parameters=self.n_parameters)
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone: expected {', '.join(BACKBONES)}, got {self.backbone!r}")
        _require_range("dropout", self.dropout, 0.0, 1.0)
        _require_range("negative_slope", self.negative_slope, 0.0, 1.0)
        for units in self.dense_units:
            _require_range("dense_units", units, 1, _MAX_UNITS)


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
        if list(self.quantiles) != sorted({0.01, 0.5, 0.99, *self.quantiles}):
            raise ValueError("quantiles: expected ascending values with 0.01, 0.5 and 0.99")
        if set(self.values) != set(STAIN_COLUMNS):
            raise ValueError(f"values: expected the keys {', '.join(STAIN_COLUMNS)}")
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
        _require_text(preprocessing=self.preprocessing)
        _require_range("height_px", self.height_px, 1, _MAX_SIDE_PX)
        _require_range("width_px", self.width_px, 1, _MAX_SIDE_PX)
        if self.channels != "RGB" or self.value_range != (0, 255):
            raise ValueError("channels, value_range: expected RGB from 0 to 255")
        for size in (*self.training_sizes, *self.reshaped_sizes):
            if not _IMAGE_SIZE.fullmatch(size):
                raise ValueError(f"training_sizes: expected sizes such as 700x460, got {size!r}")


@dataclass(frozen=True)
class Scale:
    """The physical scale of the training images.

    `mpp_range` is the range of micrometers per pixel by magnification, `source` its origin.
    """

    magnifications: tuple[int, ...]
    mpp_range: dict[str, tuple[float, float]]
    source: str

    def __post_init__(self) -> None:
        for magnification in self.magnifications:
            _require_range("magnifications", magnification, 1, 100_000)
        for name, (low, high) in self.mpp_range.items():
            if not name.isdecimal() or not 0.0 < low <= high:
                raise ValueError(
                    f"mpp_range.{name}: expected ascending positive values for a magnification"
                )


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
    images includes those of the initial weights. `labels` and `case_from` are the rules of the
    dataset, see `bc_model.data.parse_rules`.
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
    labels: str = field(default="", metadata={"optional": True})
    case_from: str = field(default="", metadata={"optional": True})

    def __post_init__(self) -> None:
        _require_text(protocol=self.protocol, license=self.license)
        _require_sha256(dataset_sha256=self.dataset_sha256, split_sha256=self.split_sha256)


@dataclass(frozen=True)
class SubgroupResult:
    """Metrics of one subgroup of the test images; `kind` is its criterion, e.g. 'magnification'."""

    kind: str
    name: str
    metrics: dict[str, Metric]

    def __post_init__(self) -> None:
        _require_text(kind=self.kind, name=self.name)
        _require_metrics(self.metrics, "accuracy", "balanced_accuracy")


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

    def __post_init__(self) -> None:
        _require_text(protocol=self.protocol)
        _require_proportion(
            threshold=self.threshold, malignant_proportion=self.malignant_proportion
        )
        _require_count(n_images=self.n_images, n_cases=self.n_cases)
        _require_metrics(
            self.metrics, "accuracy", "balanced_accuracy", "sensitivity", "specificity"
        )
        _require_metrics(self.case_metrics)
        for check in self.checks:
            _require_message(check)


@dataclass(frozen=True)
class ProtocolResult:
    """Metrics of the same configuration under one split protocol."""

    protocol: str
    has_leakage: bool
    n_folds: int
    n_images: int
    n_cases: int
    metrics: dict[str, Metric]

    def __post_init__(self) -> None:
        _require_text(protocol=self.protocol)
        _require_count(n_folds=self.n_folds, n_images=self.n_images, n_cases=self.n_cases)
        _require_metrics(self.metrics)


@dataclass(frozen=True)
class SearchSpace:
    """The options of model selection in nested cross-validation.

    `teacher_weights` are the weights of the teachers by name. `penalty_factors` multiply the
    penalties of the teachers, and `last_penalties` are those of the last layer.
    """

    teacher_weights: dict[str, tuple[float, ...]]
    penalty_factors: tuple[float, ...]
    last_penalties: tuple[float, ...]


@dataclass(frozen=True)
class FoldChoice:
    """The options selected without one fold; `roc_auc_of_others` overestimates performance."""

    fold: int
    teacher_weights: str
    penalty_factor: float
    last_penalty: float
    temperature: float
    roc_auc_of_others: float


@dataclass(frozen=True)
class NestedResult:
    """Metrics of nested cross-validation; `network` describes the evaluated networks."""

    network: str
    search_space: SearchSpace
    choices: tuple[FoldChoice, ...]
    n_folds: int
    n_images: int
    n_cases: int
    metrics: dict[str, Metric]

    def __post_init__(self) -> None:
        _require_text(network=self.network)
        _require_count(n_folds=self.n_folds, n_images=self.n_images, n_cases=self.n_cases)
        _require_metrics(self.metrics, "roc_auc", "balanced_accuracy")
        if any(self.metrics[name].value is None for name in ("roc_auc", "balanced_accuracy")):
            raise ValueError("metrics: expected values of roc_auc and balanced_accuracy")


@dataclass(frozen=True)
class RobustnessRow:
    """The predictions after one change of the images.

    `label` names the change for readers. `flips` is the proportion of images whose predicted class
    changes, `n_to_malignant` and `n_to_benign` are their numbers by new class, and `roc_auc` is
    that of the changed images.
    """

    name: str
    label: str
    kind: str
    amount: float
    flips: Metric
    n_to_malignant: int
    n_to_benign: int
    roc_auc: Metric

    def __post_init__(self) -> None:
        _require_text(name=self.name, label=self.label, kind=self.kind)
        _require_count(n_to_malignant=self.n_to_malignant, n_to_benign=self.n_to_benign)
        _require_metrics({"flips": self.flips, "roc_auc": self.roc_auc})


@dataclass(frozen=True)
class RobustnessTable:
    """The effect of changes of the images on the predictions.

    `images` describes the images, such as 'images of left-out cases'. `unchanged_roc_auc` is the
    value of the unchanged images.
    """

    images: str
    threshold: float
    n_images: int
    n_cases: int
    unchanged_roc_auc: Metric
    rows: tuple[RobustnessRow, ...]

    def __post_init__(self) -> None:
        _require_text(images=self.images)
        _require_proportion(threshold=self.threshold)
        _require_count(n_images=self.n_images, n_cases=self.n_cases)


@dataclass(frozen=True)
class PointingResult:
    """Whether heatmaps point to regions of their class that are known.

    `images` describes the images. `hit_rate` is the proportion of heatmaps whose maximum is in a
    region of the class, `mass` the mean proportion of the heatmap in it, and `area` the mean
    proportion of the area, the value by chance. `n_empty` heatmaps count as misses.
    """

    images: str
    class_name: str
    hit_rate: Metric
    mass: Metric
    area: float
    n_empty: int = 0

    def __post_init__(self) -> None:
        _require_text(images=self.images)
        _require_proportion(area=self.area)
        _require_count(n_empty=self.n_empty)
        if self.class_name not in CLASSES:
            raise ValueError(f"class_name: expected {', '.join(CLASSES)}, got {self.class_name!r}")


@dataclass(frozen=True)
class RandomizationResult:
    """Similarity of the heatmaps before and after the weights of some layers are random.

    `rank_correlation` is the mean over `n_images`; None if every heatmap is constant for one of
    the models. `n_constant` images are not included for this reason.
    """

    layers: str
    rank_correlation: float | None
    n_images: int
    n_constant: int = 0

    def __post_init__(self) -> None:
        _require_text(layers=self.layers)
        _require_count(n_images=self.n_images, n_constant=self.n_constant)
        if self.rank_correlation is not None:
            _require_range("rank_correlation", self.rank_correlation, -1.0, 1.0)


@dataclass(frozen=True)
class ExplanationChecks:
    """Measurements of the heatmaps.

    `background_mass` is the mean proportion of the heatmap of the predicted class on background,
    `background_area` that of the area, and `background_peak` the proportion of images whose
    largest value is on background. The agreements are the proportions of images in which the
    heatmap with the larger sum or maximum is that of the predicted class.
    """

    images: str
    background_mass: Metric
    background_area: Metric
    background_peak: Metric
    agreement_by_sum: Metric
    agreement_by_maximum: Metric
    pooled_background_mass: float | None
    n_empty: int
    pointing: tuple[PointingResult, ...] = ()
    randomization: tuple[RandomizationResult, ...] = ()

    def __post_init__(self) -> None:
        _require_text(images=self.images)
        _require_count(n_empty=self.n_empty)


@dataclass(frozen=True)
class SelectivePoint:
    """The images that a model answers outside of one uncertain range.

    `half_width` is half of the width of the range in logits; with 0, every image is answered.
    `coverage` is the proportion of answered images and `risk` that of errors among them, with equal
    weight per case. The ends of its 95 % interval over cases are None without an interval. The
    numbers are those of the answered images.
    """

    half_width: float
    coverage: float
    risk: float
    ci_low: float | None
    ci_high: float | None
    n_images: int
    n_cases: int

    def __post_init__(self) -> None:
        _require_range("half_width", self.half_width, 0.0, math.inf)
        ends = {"ci_low": self.ci_low or 0.0, "ci_high": self.ci_high or 0.0}
        _require_proportion(coverage=self.coverage, risk=self.risk, **ends)
        if (self.ci_low is None) != (self.ci_high is None):
            raise ValueError("ci_low, ci_high: expected both ends or none")
        _require_count(n_images=self.n_images, n_cases=self.n_cases)


@dataclass(frozen=True)
class UncertainBand:
    """The range of probabilities, without its ends, in which the outcome is 'uncertain'.

    `coverage` and `risk` are measured on the images that fitted the range. The cross-fitted values
    are from ranges that were each fitted without the measured cases, and are less optimistic.
    """

    low: float
    high: float
    coverage: Metric
    risk: Metric
    cross_fitted_coverage: Metric
    cross_fitted_risk: Metric

    def __post_init__(self) -> None:
        _require_proportion(low=self.low, high=self.high)
        if self.low > self.high:
            raise ValueError(f"low, high: expected ascending values, got {self.low}, {self.high}")
        _require_metrics(
            {
                "coverage": self.coverage,
                "risk": self.risk,
                "cross_fitted_coverage": self.cross_fitted_coverage,
                "cross_fitted_risk": self.cross_fitted_risk,
            }
        )


@dataclass(frozen=True)
class ConformalThresholds:
    """The limits of class-wise conformal prediction sets.

    A set contains benign up to the probability `max_prob_benign`, and malignant from
    `min_prob_malignant` on. For a new case of either class, the set of an image does not contain
    the class with a probability of at most `alpha`.
    """

    alpha: float
    max_prob_benign: float
    min_prob_malignant: float
    n_benign_cases: int
    n_malignant_cases: int

    def __post_init__(self) -> None:
        _require_proportion(
            alpha=self.alpha,
            max_prob_benign=self.max_prob_benign,
            min_prob_malignant=self.min_prob_malignant,
        )
        _require_count(n_benign_cases=self.n_benign_cases, n_malignant_cases=self.n_malignant_cases)


@dataclass(frozen=True)
class SelectiveSummary:
    """The errors of a model that answers only images outside of an uncertain range.

    `images` describes the images, such as 'validation images'. The values hold for the decision
    threshold `threshold`. `band` is None if no range reaches the error rate `target_risk`. The
    points of `curve` have ascending coverage.
    """

    images: str
    threshold: float
    target_risk: float
    n_images: int
    n_cases: int
    band: UncertainBand | None
    curve: tuple[SelectivePoint, ...]
    conformal: ConformalThresholds | None = None
    checks: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        _require_text(images=self.images)
        _require_proportion(threshold=self.threshold, target_risk=self.target_risk)
        _require_count(n_images=self.n_images, n_cases=self.n_cases)
        coverages = [point.coverage for point in self.curve]
        if not coverages or coverages != sorted(coverages):
            raise ValueError("curve: expected points with ascending coverage")
        for check in self.checks:
            _require_message(check)


@dataclass(frozen=True)
class CardMetrics:
    """The results of a model; `test` is None if the model was not evaluated.

    `teacher_correlation` is the correlation of the logits of the bundled model and of its teacher
    on images of other cases.
    """

    test: EvaluationSummary | None = None
    protocols: tuple[ProtocolResult, ...] = ()
    nested: NestedResult | None = None
    teacher_correlation: float | None = field(default=None, metadata={"optional": True})
    robustness: RobustnessTable | None = field(default=None, metadata={"optional": True})
    explanations: ExplanationChecks | None = field(default=None, metadata={"optional": True})
    selective: SelectiveSummary | None = field(default=None, metadata={"optional": True})

    def __post_init__(self) -> None:
        if len({frozenset(result.metrics) for result in self.protocols}) > 1:
            raise ValueError("protocols: expected the same metrics for each protocol")


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
        if self.date:
            _require_time(date=self.date)


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
        _require_range("value", self.value, 0.01, 100.0)
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
        _require_text(version=self.version)
        _require_time(created=self.created)
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
            _require_sha256(**{f"files.{name}": digest})
        _require_plain_values(self)


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
        content = read_bytes(folder / MODEL_CARD_FILE, _MAX_CARD_BYTES)
        card = loads(ModelCard, content)
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


def _require_sha256(**digests: str) -> None:
    for name, digest in digests.items():
        if not _SHA256.fullmatch(digest):
            raise ValueError(f"{name}: expected a SHA-256 in hexadecimal, got {digest!r}")


def _require_time(**times: str) -> None:
    for name, time in times.items():
        try:
            datetime.fromisoformat(time)
        except ValueError as error:
            raise ValueError(f"{name}: expected a time in ISO 8601, got {time!r}") from error


def _require_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {low} to {high}, got {value}")


def _require_metrics(metrics: Mapping[str, Metric], *required: str) -> None:
    if missing := sorted(set(required) - set(metrics)):
        raise ValueError(f"metrics: missing '{missing[0]}'")
    for name, metric in metrics.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"metrics: expected names such as roc_auc, got {name!r}")
        _require_count(n_images=metric.n_images, n_cases=metric.n_cases)


def _require_message(check: Check) -> None:
    try:
        check.message  # noqa: B018 - a property that formats the parameters
    except Exception as error:  # A format can raise any error for a parameter of another type.
        raise ValueError(f"checks: the parameters of {check.code} are not valid") from error


def _require_plain_values(record: Any) -> None:
    """Refuse numbers that no model has, and texts that cannot be shown in one paragraph."""
    for value in _walk(record):
        if isinstance(value, str):
            if len(value) > _MAX_TEXT_LENGTH or not (value.isprintable() or _is_plain(value)):
                raise ValueError(
                    f"expected texts of at most {_MAX_TEXT_LENGTH:,} characters without control "
                    f"characters, got {value[:40]!r}"
                )
        elif isinstance(value, (int, float)) and not -_MAX_NUMBER <= value <= _MAX_NUMBER:
            raise ValueError(f"expected numbers of at most {_MAX_NUMBER:g}, got a larger one")


def _is_plain(text: str) -> bool:
    """Return whether a text has no lone surrogates and no control characters but line breaks."""
    kinds = {unicodedata.category(character) for character in set(text) - {"\n", "\t"}}
    return not kinds & {"Cc", "Cs"}


def _walk(value: Any, depth: int = 0) -> Iterator[Any]:
    if depth > _MAX_DEPTH:
        raise ValueError("expected values that are not nested too deeply")
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _walk(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _walk(item, depth + 1)
    else:
        yield value


def _require_count(**counts: int) -> None:
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name}: expected at least 0, got {count}")


def _require_proportion(**values: float) -> None:
    for name, value in values.items():
        # NaN must fail: with a threshold of NaN, every image would be predicted benign.
        if not (math.isfinite(value) and 0.0 <= value <= 1.0):
            raise ValueError(f"{name}: expected 0 to 1, got {value}")
