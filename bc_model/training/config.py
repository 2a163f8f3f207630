"""Training options: one declaration for validation, command line and form.

`option` declares each field of `TrainingConfig` with its default, range, choices and help text.
The command line options and the form widgets are generated from `OPTIONS`.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from bc_model.data.dataset_rules import DatasetRules, parse_rules
from bc_model.data.splits import PROTOCOLS, require_protocol
from bc_model.errors import ConfigError, SplitError
from bc_model.model import BACKBONES, get_backbone
from bc_model.utils.processor import limited_cores, usable_cores

_TYPE_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "whole numbers separated by x, + or a comma, such as 224x224",
}
_DEFAULT_TEXT = "default"
"""Text for the value None."""


@dataclass(frozen=True)
class Option:
    """Declaration of one training option.

    Attributes
    ----------
    type : type
        str, int, float, bool or tuple (of int).
    default : value
        `dataclasses.MISSING` if the option is required.
    nullable : bool
        Whether None is valid. It means a default that depends on other options.
    label, help, group, unit : str
        Texts for a form; `group` is 'Data', 'Model', 'Schedule' or 'Compute'.
    ge, gt, le, lt : int, float or None
        Bounds of the value, or of every value of a tuple.
    choices : tuple of str
        All valid values, or empty.
    length : int or None
        Number of values of a tuple.
    step : float or None
        Step of a number in a form.
    """

    name: str
    type: type
    default: Any
    nullable: bool
    label: str
    help: str
    group: str
    unit: str = ""
    ge: int | float | None = None
    gt: int | float | None = None
    le: int | float | None = None
    lt: int | float | None = None
    choices: tuple[str, ...] = ()
    length: int | None = None
    step: float | None = None

    @property
    def rule(self) -> str:
        """The rule for a value, such as '0 <= dropout < 1'; empty if there is none."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        lower = f"{self.gt:g} < " if self.gt is not None else ""
        lower = f"{self.ge:g} <= " if self.ge is not None else lower
        upper = f" < {self.lt}" if self.lt is not None else ""
        upper = f" <= {self.le}" if self.le is not None else upper
        rule = f"{lower}{self.name}{upper}" if lower or upper else ""
        if self.type is not tuple:
            return rule
        number = f"{self.length} whole numbers" if self.length else "whole numbers"
        return f"{number} with {rule}" if rule else number

    def check(self, value: Any) -> None:
        """Raise `ConfigError` if a value has the wrong type or breaks the rule."""
        if value is None and self.nullable:
            return
        if not self._has_type(value):
            raise invalid(self.name, value, self.rule if self.choices else _TYPE_NAMES[self.type])
        values = value if self.type is tuple else (value,)
        if (
            (self.choices and value not in self.choices)
            or (self.length is not None and len(values) != self.length)
            or not all(map(self._is_in_range, values))
        ):
            raise invalid(self.name, value, self.rule)

    def parse(self, text: str) -> Any:
        """Read a value from text such as '1e-3', '224x224' or 'default'.

        Raises
        ------
        ConfigError
            The text is not of the option's type. The range is not checked.
        """
        text = text.strip()
        if self.nullable and text == _DEFAULT_TEXT:
            return None
        try:
            if self.type is bool:
                return {"true": True, "false": False}[text.lower()]
            if self.type is tuple:
                return tuple(int(number) for number in re.split("[xX+,]", text) if number.strip())
            return self.type(text)
        except (ValueError, KeyError) as error:
            raise invalid(self.name, text, _TYPE_NAMES[self.type]) from error

    def format(self, value: Any) -> str:
        """Return a value as text that `parse` reads."""
        if value is None:
            return _DEFAULT_TEXT
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, tuple | list):
            return ("x" if self.length else "+").join(map(str, value))
        return str(value)

    def _has_type(self, value: Any) -> bool:
        if self.type is tuple:
            return isinstance(value, tuple) and all(map(_is_int, value))
        if self.type is int:
            return _is_int(value)
        if self.type is float:
            return isinstance(value, float) or _is_int(value)
        return isinstance(value, self.type)

    def _is_in_range(self, value: Any) -> bool:
        # Written so that NaN is outside of every range.
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )


def option(
    default: Any = dataclasses.MISSING, *, label: str, help: str, group: str, **rules: Any
) -> Any:
    """Return a dataclass field with the metadata of an `Option`."""
    metadata = {"label": label, "help": help, "group": group, **rules}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainingConfig:
    """Options of a training run, validated when the object is created.

    `OPTIONS` describes the fields. The results of a run depend only on these options, the data and
    the software versions.

    Raises
    ------
    ConfigError
        A value has the wrong type or is out of range, or two values contradict each other.

    Notes
    -----
    With an official fold file, the file defines the test subset. Then `n_folds` is the number of
    folds of its training cases, and `test_fold` selects the fold for validation.

    Examples
    --------
    >>> config = TrainingConfig("BreaKHis_v1", weights="none", head_epochs=2)
    >>> config.resolved_finetune_rate
    0.0005
    """

    # fmt: off
    data: str = option(label="Dataset", group="Data",
        help="Directory of the images, or name of a registered dataset.")
    labels: str = option("", label="Labels", group="Data",
        help="Class of each folder or name: benign, malignant or exclude; 0=benign,1=malignant.")
    case_from: str = option("", label="Case from", group="Data",
        help="Case of each image: breakhis, folder:N (1 contains the image) or regex:PATTERN.")
    weights: str = option("imagenet", label="Initial weights", group="Model",
        help="Weights at the start: imagenet, bundled, none or the path of a weights file.")
    backbone: str = option("resnet50", label="Backbone", group="Model", choices=tuple(BACKBONES),
        help="Network that computes the image features. Start with resnet50.")
    protocol: str = option("case", label="Split protocol", group="Data", choices=PROTOCOLS,
        help="How images are split; folder, folds and image have leakage.")
    n_folds: int = option(5, label="Folds", group="Data", ge=3, le=50,
        help="Number of folds: one for testing, one for validation, the others for training.")
    test_fold: int = option(0, label="Test fold", group="Data", ge=0,
        help="Number of the test fold, from 0; with a fold file, the validation fold.")
    official_fold_file: str = option("", label="Official fold file", group="Data",
        help="Published fold file; required by the protocols folds and folds-clean.")
    split_seed: int = option(0, label="Split seed", group="Data", ge=0, le=2**31 - 1,
        help="Random seed of the split; keep it to compare runs on one test subset.")
    image_size: tuple[int, int] = option(
        (224, 224), label="Image size", group="Model", unit="px", ge=32, le=1024, length=2,
        help="Height and width of the network input. Training time grows with the area.")
    dense_units: tuple[int, ...] = option(
        (256,), label="Dense layers", group="Model", ge=1, le=8192,
        help="Widths of the dense layers after the backbone, such as 512,128; may be empty.")
    dropout: float = option(0.3, label="Dropout", group="Model", ge=0, lt=1, step=0.05,
        help="Proportion of features that are randomly dropped in training to reduce overfitting.")
    unfreeze_from: str | None = option(None, label="Fine-tune from", group="Model",
        help="First block to fine-tune. Default: the last from pretrained weights, otherwise all.")
    head_epochs: int = option(10, label="Head epochs", group="Schedule", ge=0, le=1000,
        help="Maximum epochs of head training, with a frozen backbone.")
    finetune_epochs: int = option(20, label="Fine-tuning epochs", group="Schedule", ge=0, le=1000,
        help="Maximum epochs of fine-tuning, which trains the last blocks too.")
    patience: int = option(6, label="Patience", group="Schedule", unit="epochs", ge=1, le=1000,
        help="Epochs without a lower validation loss before a phase ends.")
    batch_size: int = option(32, label="Batch size", group="Schedule", unit="images", ge=1, le=512,
        help="Number of images in each training step.")
    head_learning_rate: float = option(
        1e-3, label="Head learning rate", group="Schedule", gt=0, le=1, step=1e-4,
        help="Learning rate of head training.")
    finetune_learning_rate: float | None = option(
        None, label="Fine-tuning rate", group="Schedule", gt=0, le=1, step=1e-5,
        help="Learning rate of fine-tuning. Default: 1e-4 from pretrained weights, otherwise 5e-4.")
    seed: int = option(0, label="Random seed", group="Schedule", ge=0, le=2**31 - 1,
        help="Random seed of weight initialization, image order and augmentation.")
    deterministic: bool = option(False, label="Deterministic", group="Compute",
        help="Reproduce a run exactly on the same machine; slower.")
    compute_dtype: str = option(
        "auto", label="Compute dtype", group="Compute", choices=("auto", "float32", "bfloat16"),
        help="Data type of trained convolutions; auto uses bfloat16 where hardware supports it.")
    cache_features: bool = option(True, label="Cache features", group="Compute",
        help="Compute the features of frozen layers once, not in every epoch.")
    augmented_copies: int = option(5, label="Augmented copies", group="Compute", ge=1, le=64,
        help="Versions of each image in the feature cache; the first is not augmented.")
    threads: int = option(0, label="CPU threads", group="Compute", ge=0, le=1024,
        help="Maximum number of CPU threads; 0 leaves one of three or more cores free.")
    multi_gpu: bool = option(False, label="Multi-GPU", group="Compute",
        help="Split each batch across all GPUs of this machine; requires two or more.")
    # fmt: on

    def __post_init__(self) -> None:
        for name, declaration in OPTIONS.items():
            declaration.check(getattr(self, name))
        self._check_split()
        parse_rules(self.labels, self.case_from)
        if self.head_epochs + self.finetune_epochs == 0:
            raise ConfigError(
                "Invalid head_epochs 0 and finetune_epochs 0. Expected at least one epoch in "
                "total. Increase one of them."
            )
        self._check_network()
        self._check_weights()

    def _check_split(self) -> None:
        try:
            require_protocol(self.protocol, self.official_fold_file)
        except SplitError as error:
            raise ConfigError(str(error)) from error
        if self.test_fold >= self.n_folds:
            raise ConfigError(
                f"Invalid test_fold {self.test_fold}. Expected 0 <= test_fold < {self.n_folds}. "
                f"Use a fold from 0 to {self.n_folds - 1}."
            )

    def _check_network(self) -> None:
        network = get_backbone(self.backbone)
        if min(self.image_size) < network.min_side_px:
            rule = f"two sides of at least {network.min_side_px} px for {self.backbone}"
            raise invalid("image_size", self.image_size, rule)
        # The name of a layer, such as conv4_block6_out, is valid too.
        block = self.unfreeze_from
        if block not in (None, "all") and not str(block).startswith(network.blocks):
            raise invalid("unfreeze_from", block, f"one of {', '.join((*network.blocks, 'all'))}")

    def _check_weights(self) -> None:
        if self.weights == "imagenet" and not get_backbone(self.backbone).weights_file:
            raise ConfigError(
                f"Invalid weights 'imagenet' for {self.backbone}. There are no ImageNet weights "
                "for this backbone. Use the weights 'none' or a weights file."
            )
        if self.weights == "bundled" and self.backbone != "resnet50":
            raise ConfigError(
                f"Invalid weights 'bundled' for {self.backbone}. The bundled model is a resnet50. "
                "Use this backbone or other weights."
            )

    @property
    def rules(self) -> DatasetRules:
        """The rules that give each image its class and its case."""
        return parse_rules(self.labels, self.case_from)

    @property
    def from_scratch(self) -> bool:
        """True when no weights are loaded."""
        return self.weights == "none"

    @property
    def resolved_finetune_rate(self) -> float:
        """The learning rate of fine-tuning, with the default filled in."""
        if self.finetune_learning_rate is not None:
            return self.finetune_learning_rate
        return 5e-4 if self.from_scratch else 1e-4

    @property
    def resolved_unfreeze_from(self) -> str:
        """The first block to fine-tune, with the default filled in."""
        if self.unfreeze_from is not None:
            return self.unfreeze_from
        return "all" if self.from_scratch else get_backbone(self.backbone).default_block

    @property
    def resolved_threads(self) -> int:
        """The maximum number of threads, at most the usable cores; 0 means no limit."""
        cores = usable_cores()
        if self.threads:
            return min(self.threads, cores)
        return cores - 1 if cores > 2 else limited_cores() or 0


def invalid(name: str, value: Any, rule: str) -> ConfigError:
    """Return the error for an invalid value of an option."""
    shown = repr(value)
    if isinstance(value, tuple | list):
        shown = ", ".join(map(str, value)) or "(empty)"
    return ConfigError(f"Invalid {name} {shown}. Expected {rule}. Use another value.")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _declare() -> dict[str, Option]:
    hints = get_type_hints(TrainingConfig)
    declared = {}
    for field in dataclasses.fields(TrainingConfig):
        hint = hints[field.name]
        nullable = type(None) in get_args(hint)
        if nullable:
            (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
        kind = get_origin(hint) or hint
        declared[field.name] = Option(field.name, kind, field.default, nullable, **field.metadata)
    return declared


OPTIONS: dict[str, Option] = _declare()
"""Every training option by its name, in the order of the fields."""
