"""The settings of a new run: a preset, and every parameter open to change."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app.components.split_fields import draw_folds, draw_protocol, draw_split_seed
from bc_model.errors import SettingsError, WeightsError
from bc_model.model import BACKBONES, NAMED_WEIGHTS, require_weights_file
from bc_model.serving.shipped import bundled_model, has_bundled_model
from bc_model.training.settings import ARITHMETICS, MAX_DENSE_UNITS, ZERO_THREADS

WEIGHT_WORDS = {
    "imagenet": "ImageNet (download)",
    "bundled": "The model in the box",
    "none": "None: from scratch",
    "file": "A file",
}
PRESETS: dict[str, dict[str, Any]] = {
    "Quick look": {"head_epochs": 3, "finetune_epochs": 5, "size_px": (128, 128), "patience": 3},
    "Standard": {"head_epochs": 10, "finetune_epochs": 20, "size_px": (224, 224), "patience": 6},
    "Thorough": {"head_epochs": 20, "finetune_epochs": 60, "size_px": (224, 224), "patience": 12},
}
SIDES_PX = (32, 64, 96, 128, 160, 192, 224, 256, 320)
PRESET_WORDS = {
    "Quick look": "Small pictures and few epochs: does the data set work at all? Not for results.",
    "Standard": "The network's own picture size; ends by itself when nothing gets better.",
    "Thorough": "Twice the patience and three times the epochs, for the model that you keep.",
}
AUTOMATIC = "Automatic"
ARITHMETIC_WORDS = {"auto": AUTOMATIC, "float32": "float32", "bfloat16": "bfloat16"}


def draw_settings(split: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
    """Draw the widgets and return what `TrainSettings` takes, without the data.

    Parameters
    ----------
    split : callable, optional
        Draws the fields of the split and returns what of it is a setting, for a page that makes
        several splits. Default draws those of one run.

    Raises
    ------
    SettingsError
        A text among them cannot be read, or no weights file is named.
    WeightsError
        The weights file is missing, or is none; or the model in the box is.
    """
    preset = (
        st.segmented_control(
            "Preset", list(PRESETS), default="Standard", key="preset", required=True
        )
        or "Standard"
    )
    st.caption(PRESET_WORDS[preset])
    left, middle, right = st.columns(3, gap="medium")
    with left:
        chosen = _network(preset)
    with middle:
        chosen |= _length(preset)
    with right:
        chosen |= (split or _split)()
    with st.expander("Every other parameter", icon=":material/tune:"):
        chosen |= _others(chosen["backbone"])
    # After every field is drawn: one that is left out would forget what was typed.
    if chosen["weights"] == "bundled":
        bundled_model()
    elif chosen["weights"] not in NAMED_WEIGHTS:
        _require_weights(chosen["weights"])
    return chosen


def _preset_field(preset: str, name: str) -> dict[str, Any]:
    """Return value and key of a field that a preset fills in: a field of its own for each preset.

    One field whose value the page sets is not safe: the message that tells the browser is lost when
    a click cuts the page short, and the browser then answers with the smallest number there is.
    """
    return {"value": PRESETS[preset][name], "key": f"{name}-{preset}"}


def _network(preset: str) -> dict[str, Any]:
    backbone = st.selectbox(
        "Backbone",
        list(BACKBONES),
        format_func=lambda name: "tiny (dry runs only)" if name == "tiny" else name,
        key="backbone",
        help="The network that turns a picture into features. ResNet50 is the one to begin with.",
    )
    weights = st.selectbox(
        "Initial weights",
        [name for name in WEIGHT_WORDS if name != "bundled" or has_bundled_model()],
        format_func=WEIGHT_WORDS.__getitem__,
        key="weights",
        help="Weights learned from everyday pictures save most of the training. From scratch "
        "needs more pictures than most have.",
    )
    if weights == "file":
        weights = st.text_input(
            "Weights file", key="weights_file", placeholder="/weights/resnet50.h5"
        ).strip()
    return {"backbone": backbone, "weights": weights, "image_size": _image_size(preset, weights)}


def _image_size(preset: str, weights: str) -> tuple[int, int]:
    """Draw the field of the size; with the model in the box another one, which begins with its own.

    Whatever the preset: its pictures are small, and a square would squash what it knows.
    """
    usual, key = PRESETS[preset]["size_px"], f"side-{preset}"
    if weights == "bundled" and (own := _bundled_size()):
        usual, key = own, f"{key}-bundled"
    sizes = {usual, *((side, side) for side in SIDES_PX)}
    by_words = {_size_words(size): size for size in sorted(sizes, key=math.prod)}
    chosen = st.select_slider(
        "Picture size, px",
        list(by_words),
        value=_size_words(usual),
        key=key,
        help="Pictures are shrunk to a square of this side, or to this height and width. Time "
        "grows with the area.",
    )
    return by_words[chosen]


def _size_words(size: tuple[int, int]) -> str:
    height, width = size
    return str(width) if height == width else f"{height} x {width}"


def _bundled_size() -> tuple[int, int] | None:
    try:
        return bundled_model().image_size
    except WeightsError:
        return None  # said once every field is drawn


def _length(preset: str) -> dict[str, Any]:
    return {
        "head_epochs": st.number_input(
            "Epochs with the backbone frozen",
            0,
            1000,
            **_preset_field(preset, "head_epochs"),
            help="First phase: only the new layers behind the backbone learn.",
        ),
        "finetune_epochs": st.number_input(
            "Epochs of fine-tuning",
            0,
            1000,
            **_preset_field(preset, "finetune_epochs"),
            help="Second phase: the last blocks learn too, at a lower rate.",
        ),
        "patience": st.number_input(
            "Patience, epochs",
            1,
            1000,
            **_preset_field(preset, "patience"),
            help="A phase ends after so many epochs without a lower validation loss; after half "
            "as many the learning rate falls to a third.",
        ),
    }


def _split() -> dict[str, Any]:
    chosen = draw_protocol()
    return chosen | draw_folds(chosen["protocol"])


def _others(backbone: str) -> dict[str, Any]:
    left, middle, right = st.columns(3, gap="medium")
    with left:
        head_rate = st.text_input(
            "Learning rate, frozen", "0.001", key="head_rate", help="Step size of the first phase."
        )
        finetune_rate = st.text_input(
            "Learning rate, fine-tuning",
            AUTOMATIC,
            key="finetune_rate",
            help="Automatic: 1e-4 from pretrained weights, 5e-4 from scratch.",
        )
        unfreeze_from = st.selectbox(
            "Fine-tune from",
            [AUTOMATIC, *BACKBONES[backbone].blocks, "all"],
            key="unfreeze_from",
            help="The first block that learns in the second phase. Automatic: the last one from "
            "pretrained weights, all from scratch.",
        )
        cache = st.checkbox(
            "Keep features",
            value=True,
            key="cache",
            help="Compute what frozen layers make of the pictures once, not in every epoch.",
        )
        deterministic = st.checkbox(
            "Repeat bit for bit",
            key="deterministic",
            help="The same seed gives the same weights on the same machine; slower.",
        )
        mirrored = st.checkbox(
            "All graphics cards",
            key="mirrored",
            help="Share each batch among all cards of this machine; it needs two or more.",
        )
    with middle:
        dense = st.text_input(
            "Dense layers",
            "256",
            key="dense_units",
            help="Widths of the layers behind the backbone, such as 256 or 512, 128; may be empty.",
        )
        dropout = st.number_input(
            "Dropout",
            0.0,
            0.95,
            0.3,
            0.05,
            key="dropout",
            help="Share of features left out at random while training, against overfitting.",
        )
        batch_size = st.number_input(
            "Batch size", 1, 512, 32, key="batch_size", help="Pictures between two steps."
        )
        views = st.number_input(
            "Views of a picture",
            1,
            64,
            5,
            key="views",
            disabled=not cache,
            help="Turned, cropped and tinted versions of each picture among the kept features.",
        )
    with right:
        seed = st.number_input(
            "Seed", 0, 2**31 - 1, 0, key="seed", help="Of weights, order and augmentation."
        )
        split_seed = draw_split_seed()
        threads = st.number_input(
            "Threads",
            0,
            1024,
            0,
            key="threads",
            help=f"At most so many; {ZERO_THREADS}.",
        )
        arithmetic = st.selectbox(
            "Arithmetic",
            ARITHMETICS,
            format_func=ARITHMETIC_WORDS.__getitem__,
            key="arithmetic",
            help="Of the convolutions that learn. bfloat16 is faster where the processor or card "
            "has it, and is chosen there.",
        )
    return {
        "head_learning_rate": _rate("Learning rate, frozen", head_rate),
        "finetune_learning_rate": None
        if finetune_rate.strip().lower() in ("", AUTOMATIC.lower())
        else _rate("Learning rate, fine-tuning", finetune_rate, f", or {AUTOMATIC}"),
        "unfreeze_from": None if unfreeze_from == AUTOMATIC else unfreeze_from,
        "dense_units": _units(dense),
        "dropout": float(dropout),
        "batch_size": int(batch_size),
        "seed": int(seed),
        **split_seed,
        "arithmetic": arithmetic,
        "threads": int(threads),
        "mirrored": mirrored,
        "deterministic": deterministic,
        "cache": cache,
        "views": int(views),
    }


def _require_weights(text: str) -> None:
    if not text:
        raise SettingsError("Name the weights file: a .h5, .weights.h5 or .keras file.")
    require_weights_file(Path(text))


def _rate(label: str, text: str, or_else: str = "") -> float:
    try:
        rate = float(text)
        if not 0.0 < rate <= 1.0:
            raise ValueError
    except ValueError:
        raise SettingsError(
            f"{label} must be a number above 0 and at most 1 such as 0.001{or_else}; it is "
            f"'{text}'."
        ) from None
    return rate


def _units(text: str) -> tuple[int, ...]:
    try:
        units = tuple(int(width) for width in text.split(",") if width.strip())
        if not all(1 <= width <= MAX_DENSE_UNITS for width in units):
            raise ValueError
    except ValueError:
        raise SettingsError(
            f"Dense layers must be numbers such as 256 or 512, 128, from 1 to {MAX_DENSE_UNITS} "
            f"each; they are '{text}'."
        ) from None
    return units
