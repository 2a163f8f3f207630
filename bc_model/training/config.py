"""Training options: one declaration for validation, command line and form.

Every field of `TrainingConfig` is declared by `option`, with its default, range, choices and help
text. `OPTIONS` lists these declarations. The command line options and the form widgets are
generated from it; nothing repeats a default, a range or a help text.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from bc_model.data.splits import PROTOCOLS, require_protocol
from bc_model.errors import ConfigError, SplitError
from bc_model.model import BACKBONES, get_backbone

_TYPE_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "whole numbers separated by x, + or a comma, such as 224x224",
}
_DEFAULT_TEXT = "default"
"""Text of the value None, which stands for a default that depends on other options."""


@dataclass(frozen=True)
class Option:
    """Declaration of one training option.

    Attributes
    ----------
    name : str
        Name of the field of `TrainingConfig`.
    type : type
        str, int, float, bool or tuple (of int).
    default : value
        `dataclasses.MISSING` if the option is required.
    nullable : bool
        Whether None is a value; it stands for a default that depends on other options.
    label : str
        One to three words, for a form.
    help : str
        One sentence of at most 15 words.
    group : str
        Heading in a form: 'Data', 'Model', 'Schedule' or 'Compute'.
    unit : str
    ge, gt, le, lt : int, float or None
        Bounds of the value, or of every value of a tuple.
    choices : tuple of str
        All values, if they are a fixed list.
    length : int or None
        Number of values of a tuple; None means any number.
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
        low = f"{self.gt:g} < " if self.gt is not None else ""
        low = f"{self.ge:g} <= " if self.ge is not None else low
        high = f" < {self.lt}" if self.lt is not None else ""
        high = f" <= {self.le}" if self.le is not None else high
        rule = f"{low}{self.name}{high}" if low or high else ""
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
        if self.choices and value not in self.choices:
            raise invalid(self.name, value, self.rule)
        if self.length is not None and len(values) != self.length:
            raise invalid(self.name, value, self.rule)
        if not all(self._is_within(one) for one in values):
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
                return tuple(int(subset) for subset in re.split("[xX+,]", text) if subset.strip())
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

    def _is_within(self, value: Any) -> bool:
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

    The data and the software versions are the only other inputs of a run.

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

    data: str = option(
        label="Dataset", help="Directory of the dataset.", group="Data",
    )  # fmt: skip
    weights: str = option(
        "imagenet", label="Initial weights", group="Model",
        help="Weights at the start: imagenet, bundled, none or the path of a weights file.",
    )  # fmt: skip
    backbone: str = option(
        "resnet50", label="Backbone", group="Model", choices=tuple(BACKBONES),
        help="Network that computes the image features. Start with resnet50.",
    )  # fmt: skip
    protocol: str = option(
        "case", label="Split protocol", group="Data", choices=PROTOCOLS,
        help="How images are split; folder, folds and image have leakage.",
    )  # fmt: skip
    n_folds: int = option(
        5, label="Folds", group="Data", ge=3, le=50,
        help="Number of folds: one for testing, one for validation, the others for training.",
    )  # fmt: skip
    test_fold: int = option(
        0, label="Test fold", group="Data", ge=0,
        help="Number of the test fold, from 0; with a fold file, the validation fold.",
    )  # fmt: skip
    official_fold_file: str = option(
        "", label="Official fold file", group="Data",
        help="Published fold file; required by the protocols folds and folds-clean.",
    )  # fmt: skip
    split_seed: int = option(
        0, label="Split seed", group="Data", ge=0, le=2**31 - 1,
        help="Random seed of the split; keep it to compare runs on one test subset.",
    )  # fmt: skip
    image_size: tuple[int, int] = option(
        (224, 224), label="Image size", group="Model", unit="px", ge=32, le=1024, length=2,
        help="Height and width of the network input. Training time grows with the area.",
    )  # fmt: skip
    dense_units: tuple[int, ...] = option(
        (256,), label="Dense layers", group="Model", ge=1, le=8192,
        help="Widths of the dense layers after the backbone, such as 512,128; may be empty.",
    )  # fmt: skip
    dropout: float = option(
        0.3, label="Dropout", group="Model", ge=0, lt=1, step=0.05,
        help="Proportion of features that are randomly dropped in training to reduce overfitting.",
    )  # fmt: skip
    unfreeze_from: str | None = option(
        None, label="Fine-tune from", group="Model",
        help="First block to fine-tune. Default: the last from pretrained weights, otherwise all.",
    )  # fmt: skip
    head_epochs: int = option(
        10, label="Head epochs", group="Schedule", ge=0, le=1000,
        help="Maximum epochs of head training, with a frozen backbone.",
    )  # fmt: skip
    finetune_epochs: int = option(
        20, label="Fine-tuning epochs", group="Schedule", ge=0, le=1000,
        help="Maximum epochs of fine-tuning, which trains the last blocks too.",
    )  # fmt: skip
    patience: int = option(
        6, label="Patience", group="Schedule", unit="epochs", ge=1, le=1000,
        help="Epochs without a lower validation loss before a phase ends.",
    )  # fmt: skip
    batch_size: int = option(
        32, label="Batch size", group="Schedule", unit="images", ge=1, le=512,
        help="Number of images in each training step.",
    )  # fmt: skip
    head_learning_rate: float = option(
        1e-3, label="Head learning rate", group="Schedule", gt=0, le=1, step=1e-4,
        help="Learning rate of head training.",
    )  # fmt: skip
    finetune_learning_rate: float | None = option(
        None, label="Fine-tuning rate", group="Schedule", gt=0, le=1, step=1e-5,
        help="Learning rate of fine-tuning. Default: 1e-4 from pretrained weights, otherwise 5e-4.",
    )  # fmt: skip
    seed: int = option(
        0, label="Random seed", group="Schedule", ge=0, le=2**31 - 1,
        help="Random seed of weight initialization, image order and augmentation.",
    )  # fmt: skip
    deterministic: bool = option(
        False, label="Deterministic", group="Compute",
        help="Reproduce a run exactly on the same machine; slower.",
    )  # fmt: skip
    compute_dtype: str = option(
        "auto", label="Compute dtype", group="Compute", choices=("auto", "float32", "bfloat16"),
        help="Data type of trained convolutions; auto uses bfloat16 where hardware supports it.",
    )  # fmt: skip
    cache_features: bool = option(
        True, label="Cache features", group="Compute",
        help="Compute the features of frozen layers once, not in every epoch.",
    )  # fmt: skip
    augmented_copies: int = option(
        5, label="Augmented copies", group="Compute", ge=1, le=64,
        help="Versions of each image in the feature cache; the first is not augmented.",
    )  # fmt: skip
    threads: int = option(
        0, label="CPU threads", group="Compute", ge=0, le=1024,
        help="Maximum number of CPU threads; 0 leaves one of three or more cores free.",
    )  # fmt: skip
    multi_gpu: bool = option(
        False, label="Multi-GPU", group="Compute",
        help="Share each batch among all GPUs of this machine; requires two or more.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for one in OPTIONS.values():
            one.check(getattr(self, one.name))
        self._check_split()
        self._check_epochs()
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

    def _check_epochs(self) -> None:
        if self.head_epochs + self.finetune_epochs == 0:
            raise ConfigError(
                "Invalid head_epochs 0 and finetune_epochs 0. Expected at least one epoch in "
                "total. Increase one of them."
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
        """The maximum number of threads; 0 means no limit."""
        cores = os.cpu_count() or 1
        return self.threads or (cores - 1 if cores > 2 else 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the options as JSON-safe values."""
        return dataclasses.asdict(self) | {
            "image_size": list(self.image_size),
            "dense_units": list(self.dense_units),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """Return the configuration that `as_dict` wrote.

        Raises
        ------
        ConfigError
            A key is unknown, or a value is invalid.
        """
        if unknown := sorted(values.keys() - OPTIONS.keys()):
            raise ConfigError(
                f"Unknown option '{unknown[0]}'. Expected one of {', '.join(sorted(OPTIONS))}. "
                "Remove or rename it."
            )
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})


def invalid(name: str, value: Any, rule: str) -> ConfigError:
    """Return the error for an invalid value of an option."""
    if isinstance(value, tuple | list):
        shown = ", ".join(map(str, value)) or "(empty)"
    else:
        shown = repr(value)
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


SIDE = 1536
TRIES = 3
START_S = 20.0
"""Starting TensorFlow, building the network, and writing the model at the end."""

BACKWARD_PROPORTION = {"all": 2.0, "default": 0.5}
"""A backward pass in forward passes: through everything, or through the last blocks."""
TAIL_PROPORTION = 0.25
"""Forward pass of the last blocks alone, as a share of the whole."""
BFLOAT16_GAIN = 2.2
"""How much faster the passes through a pretrained network are in bfloat16, measured with ResNet50
on a processor that has it; training from scratch waits for memory and gains little."""


def measure_gflops() -> float:
    """Return this machine's rate of float32 matrix products, GFLOP/s: a tenth of a second's work.

    Rates of convolutions lie close to it on processors; a GPU is not counted on.
    """
    matrix = np.ones((SIDE, SIDE), np.float32)
    best = np.inf
    for _ in range(TRIES):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9


def estimate_duration_s(
    config: TrainingConfig,
    n_training: int,
    n_validation: int,
    gflops: float,
    *,
    has_bfloat16: bool = False,
) -> float:
    """Estimate the duration of a run with all its epochs.

    Parameters
    ----------
    config : TrainingConfig
    n_training, n_validation : int
        Pictures.
    gflops : float
        From `measure_gflops`.
    has_bfloat16 : bool
        Of this processor, as `bc_model.inference.precision.supported_precisions` tells.

    Returns
    -------
    float
        Seconds.
    """
    height, width = config.image_size
    forward_s = get_backbone(config.backbone).gflop * height * width / 224**2 / gflops
    if has_bfloat16 and config.compute_dtype != "float32" and not config.from_scratch:
        forward_s /= BFLOAT16_GAIN
    epoch = n_training + n_validation
    once = n_training * config.augmented_copies + n_validation
    head = config.head_epochs * epoch
    if config.cache_features and config.head_epochs:
        head = once
    if config.resolved_unfreeze_from == "all":
        tuned = config.finetune_epochs * (epoch + BACKWARD_PROPORTION["all"] * n_training)
    elif config.cache_features:
        tuned = config.finetune_epochs * TAIL_PROPORTION * (epoch + 2.0 * n_training)
        tuned += 0.0 if config.head_epochs else once  # one pass serves both phases
    else:
        tuned = config.finetune_epochs * (epoch + BACKWARD_PROPORTION["default"] * n_training)
    if not config.finetune_epochs:
        tuned = 0.0
    return START_S + (head + tuned) * forward_s
