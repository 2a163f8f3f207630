"""The settings of a training run: all of them, checked before anything starts."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from bc_model.data.protocols import PROTOCOLS, require_protocol
from bc_model.errors import SettingsError, SplitError
from bc_model.model import backbone

MAX_DENSE_UNITS = 8192
ZERO_THREADS = "0 leaves one core free where there are three or more"
"""What the setting 'threads' means, for whoever explains it."""
ARITHMETICS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainSettings:
    """Everything that a run depends on, beside the data and the versions.

    Attributes
    ----------
    data : str
        Folder of the data set.
    weights : str
        'imagenet', 'bundled', 'none' or the path of a weights file.
    backbone : str
    protocol : {'case', 'folds-clean', 'folds', 'folder', 'image'}
        How the data is split; see `bc_model.data.protocols`.
    n_folds, fold : int
        The split: how many folds, and which one is the test fold. With a fold file, which gives
        the test part: in how many shares its training cases are dealt, and which one validates.
    folds_file : str
        Path of an official fold file, for the protocols 'folds' and 'folds-clean' alone.
    head_epochs, finetune_epochs : int
        At most this many epochs in each phase; one of them may be 0.
    image_size : (int, int)
        Height and width of the network's input, px.
    batch_size : int
    head_learning_rate : float
    finetune_learning_rate : float or None
        None: 1e-4 from pretrained weights, 5e-4 from scratch.
    unfreeze_from : str or None
        The block where fine-tuning begins. None: the backbone's default from pretrained weights,
        all of it from scratch.
    dense_units : tuple of int
    dropout : float
    patience : int
        Epochs without a better validation loss before a phase ends; half of it before the
        learning rate falls to a third.
    seed : int
        Of weights, order and augmentation.
    split_seed : int
        Of the split alone, so that runs of several seeds can be compared on one test part.
    deterministic : bool
        Repeat a run bit for bit on the same machine; slower.
    arithmetic : {'auto', 'float32', 'bfloat16'}
        Of the convolutions that learn; 'auto' is bfloat16 where the machine is faster in it.
    threads : int
        Of the processor, at most; 0 leaves one core free where there are three or more.
    mirrored : bool
        Share every batch among all graphics cards; there must be two or more.
    cache : bool
        Compute what frozen layers make of the pictures once, and keep it while the run goes on.
    views : int
        Augmented views of each picture in the cache; the first is the picture itself.
    """

    data: str
    weights: str = "imagenet"
    backbone: str = "resnet50"
    protocol: str = "case"
    n_folds: int = 5
    fold: int = 0
    head_epochs: int = 10
    finetune_epochs: int = 20
    image_size: tuple[int, int] = (224, 224)
    batch_size: int = 32
    head_learning_rate: float = 1e-3
    finetune_learning_rate: float | None = None
    unfreeze_from: str | None = None
    dense_units: tuple[int, ...] = (256,)
    dropout: float = 0.3
    patience: int = 6
    seed: int = 0
    split_seed: int = 0
    deterministic: bool = False
    arithmetic: str = "auto"
    threads: int = 0
    mirrored: bool = False
    cache: bool = True
    views: int = 5
    folds_file: str = ""

    def __post_init__(self) -> None:
        entry = backbone(self.backbone)
        _require(self.protocol in PROTOCOLS, "protocol", f"one of {', '.join(PROTOCOLS)}", self)
        try:
            require_protocol(self.protocol, self.folds_file)
        except SplitError as error:
            raise SettingsError(str(error)) from error
        _require(3 <= self.n_folds <= 50, "n_folds", "from 3 to 50", self)
        _require(0 <= self.fold < self.n_folds, "fold", "from 0 to n_folds - 1", self)
        for name in ("head_epochs", "finetune_epochs"):
            _require(0 <= getattr(self, name) <= 1000, name, "from 0 to 1000", self)
        if self.head_epochs + self.finetune_epochs == 0:
            raise SettingsError("Both phases have 0 epochs; at least one needs one.")
        low = entry.min_side_px
        _require(
            len(self.image_size) == 2 and all(low <= side <= 1024 for side in self.image_size),
            "image_size", f"two sides from {low} to 1024 px for {self.backbone}", self,
        )  # fmt: skip
        _require(1 <= self.batch_size <= 512, "batch_size", "from 1 to 512", self)
        for name in ("head_learning_rate", "finetune_learning_rate"):
            rate = getattr(self, name)
            _require(rate is None or 0.0 < rate <= 1.0, name, "above 0 and at most 1", self)
        blocks = (*entry.blocks, "all")
        _require(
            self.unfreeze_from in (None, "all") or str(self.unfreeze_from).startswith(entry.blocks),
            "unfreeze_from", f"one of {', '.join(blocks)}", self,
        )  # fmt: skip
        _require(0.0 <= self.dropout < 1.0, "dropout", "from 0 to below 1", self)
        _require(
            all(1 <= units <= MAX_DENSE_UNITS for units in self.dense_units),
            "dense_units", f"from 1 to {MAX_DENSE_UNITS} each", self,
        )  # fmt: skip
        _require(self.patience >= 1, "patience", "at least 1", self)
        _require(1 <= self.views <= 64, "views", "from 1 to 64", self)
        _require(
            self.arithmetic in ARITHMETICS, "arithmetic", f"one of {', '.join(ARITHMETICS)}", self
        )
        _require(
            0 <= self.threads <= 1024, "threads", f"from 0 to 1024, where {ZERO_THREADS}", self
        )
        for name in ("seed", "split_seed"):
            _require(0 <= getattr(self, name) < 2**31, name, "from 0 to 2147483647", self)
        if self.weights == "imagenet" and not entry.weights_file:
            raise SettingsError(
                f"There are no ImageNet weights for {self.backbone}; train it from scratch "
                "(weights 'none'), or from a weights file."
            )
        if self.weights == "bundled" and self.backbone != "resnet50":
            raise SettingsError(
                f"The model in the box is a resnet50; {self.backbone} cannot start from it. Choose "
                "that backbone, or other weights."
            )

    @property
    def from_scratch(self) -> bool:
        """True when no weights are loaded."""
        return self.weights == "none"

    @property
    def resolved_finetune_rate(self) -> float:
        """The rate of phase two, with the default filled in."""
        if self.finetune_learning_rate is not None:
            return self.finetune_learning_rate
        return 5e-4 if self.from_scratch else 1e-4

    @property
    def resolved_unfreeze_from(self) -> str:
        """The first block of phase two, with the default filled in."""
        if self.unfreeze_from is not None:
            return self.unfreeze_from
        return "all" if self.from_scratch else backbone(self.backbone).default_block

    @property
    def resolved_threads(self) -> int:
        """The most threads to use; 0 where no limit is to be set."""
        cores = os.cpu_count() or 1
        return self.threads or (cores - 1 if cores > 2 else 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-safe values."""
        return dataclasses.asdict(self) | {
            "image_size": list(self.image_size),
            "dense_units": list(self.dense_units),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainSettings:
        """Read what `as_dict` wrote.

        Raises
        ------
        SettingsError
            A key is unknown, or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SettingsError(
                f"There is no setting {unknown[0]}; there are {', '.join(sorted(known))}."
            )
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})


def _require(holds: bool, name: str, rule: str, settings: TrainSettings) -> None:
    if not holds:
        value = getattr(settings, name)
        told = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        raise SettingsError(f"{name} must be {rule}; asked for {told}.")
