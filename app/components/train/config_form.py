"""Form for a training configuration, generated from the fields of `TrainingConfig`."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app.components.checks import show_checks
from app.components.data.summary import draw_headline, draw_left_out, draw_notes
from app.components.dataset_cache import read_folder
from app.components.layout import show_error
from app.components.split_form import draw_folds, draw_protocol, draw_split_seed
from app.components.split_summary import show_subsets, split_or_say
from bc_model.checks import Severity
from bc_model.data import check_leakage, summarize_subsets
from bc_model.errors import BcModelError, ConfigError, WeightsError
from bc_model.inference import bundled_model, has_bundled_model
from bc_model.model import BACKBONES, NAMED_WEIGHTS, require_weights_file
from bc_model.training import OPTIONS, Option, check_initialization_leakage

WEIGHT_LABELS = {
    "imagenet": "ImageNet (download)",
    "bundled": "Bundled model",
    "none": "None (from scratch)",
    "file": "Weights file",
}
PRESETS: dict[str, dict[str, Any]] = {
    "Quick look": {
        "head_epochs": 3, "finetune_epochs": 5, "image_size": (128, 128), "patience": 3,
    },
    "Standard": {},
    "Thorough": {"head_epochs": 20, "finetune_epochs": 60, "patience": 12},
}  # fmt: skip
"""Values that differ from the defaults of the fields."""
PRESET_CAPTIONS = {
    "Quick look": "Small images and few epochs, to test a dataset. Do not report these results.",
    "Standard": "Default image size and epochs, with early stopping.",
    "Thorough": "Twice the patience and up to three times the epochs, for a final model.",
}
SIDES_PX = (32, 64, 96, 128, 160, 192, 224, 256, 320)
AUTOMATIC = "Automatic"
PAGE_SPECIFIC = frozenset(
    {"data", "protocol", "official_fold_file", "n_folds", "test_fold", "split_seed"}
)
"""Fields with widgets that other pages share."""
ESSENTIAL = (("backbone", "weights", "image_size"), ("head_epochs", "finetune_epochs", "patience"))
"""Fields that are always visible, by column; the others are in the expander."""
_ADVANCED_GROUPS = (("Model", "Data"), ("Schedule",), ("Compute",))


def show_config_form(split: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
    """Draw the form and return the values of `TrainingConfig`, without the dataset.

    Parameters
    ----------
    split : callable, optional
        Draws the fields of the split and returns their values, for a page that makes several
        splits. By default, the fields of one split are drawn.

    Raises
    ------
    ConfigError
        A value is invalid, or no weights file is given.
    WeightsError
        The weights file or the bundled model is missing or invalid.
    """
    preset = (
        st.segmented_control(
            "Preset", list(PRESETS), default="Standard", key="preset", required=True
        )
        or "Standard"
    )
    st.caption(PRESET_CAPTIONS[preset])
    chosen: dict[str, Any] = {}
    *columns, last = st.columns(len(ESSENTIAL) + 1, gap="medium")
    for column, names in zip(columns, ESSENTIAL, strict=True):
        with column:
            for name in names:
                chosen[name] = _draw(name, preset, chosen)
    with last:
        chosen |= (split or _draw_split)()
    with st.expander("Advanced", icon=":material/tune:"):
        _draw_advanced(preset, chosen)
    # The values are checked after every field is drawn, because a field that is not drawn in one
    # pass loses its value.
    for name, value in chosen.items():
        if OPTIONS[name].type is tuple and isinstance(value, str):
            chosen[name] = OPTIONS[name].parse(value)
        OPTIONS[name].check(chosen[name])
    _require_weights(chosen["weights"])
    return chosen


def draw_field(name: str, preset: str = "Standard", *, disabled: bool = False) -> Any:
    """Draw the widget of a field by its type and return its value; a tuple is returned as text."""
    option = OPTIONS[name]
    default = PRESETS[preset].get(name, option.default)
    shared: dict[str, Any] = _texts(option) | {"key": _key(name, preset), "disabled": disabled}
    if option.type is bool:
        return st.checkbox(value=default, **shared)
    if option.choices:
        return st.selectbox(options=option.choices, index=option.choices.index(default), **shared)
    if option.type in (str, tuple):
        return st.text_input(value=option.format(default), **shared)
    low, high = (option.ge, option.gt), (option.le, option.lt)
    number: Callable[[Any], Any] = option.type
    return st.number_input(
        min_value=next((number(bound) for bound in low if bound is not None), None),
        max_value=next((number(bound) for bound in high if bound is not None), None),
        value=default,
        step=number(option.step or 1),
        format="%g" if option.type is float else None,
        placeholder=AUTOMATIC if option.nullable else None,
        **shared,
    )


def _draw(name: str, preset: str, chosen: dict[str, Any]) -> Any:
    """Draw a field, with a widget of its own where the choices depend on other values."""
    if name == "backbone":
        return _draw_backbone()
    if name == "weights":
        return _draw_weights()
    if name == "image_size":
        return _draw_image_size(preset, chosen["weights"])
    if name == "unfreeze_from":
        return _draw_unfreeze_from(chosen["backbone"])
    disabled = name == "augmented_copies" and not chosen["cache_features"]
    return draw_field(name, preset, disabled=disabled)


def _draw_advanced(preset: str, chosen: dict[str, Any]) -> None:
    essential = {name for names in ESSENTIAL for name in names}
    for column, groups in zip(st.columns(3, gap="medium"), _ADVANCED_GROUPS, strict=True):
        with column:
            for group in groups:
                for option in OPTIONS.values():
                    if option.group == group and option.name not in essential | PAGE_SPECIFIC:
                        chosen[option.name] = _draw(option.name, preset, chosen)
                if group == "Data":
                    chosen |= draw_split_seed()


def _key(name: str, preset: str) -> str:
    """Return the key of a widget: a field that a preset changes has a widget for each preset.

    A page must not set the value of an existing widget here. The browser can miss the new value
    when a click interrupts the script, and then sends back the minimum.
    """
    return f"config-{name}-{preset}" if name in PRESETS[preset] else f"config-{name}"


def _texts(option: Option) -> dict[str, Any]:
    unit = f" ({option.unit})" if option.unit else ""
    return {"label": option.label + unit, "help": option.help}


def _draw_backbone() -> str:
    return st.selectbox(
        options=list(BACKBONES),
        format_func=lambda name: "tiny (tests only)" if name == "tiny" else name,
        key="config-backbone",
        **_texts(OPTIONS["backbone"]),
    )


def _draw_weights() -> str:
    weights = st.selectbox(
        options=[name for name in WEIGHT_LABELS if name != "bundled" or has_bundled_model()],
        format_func=WEIGHT_LABELS.__getitem__,
        key="config-weights",
        **_texts(OPTIONS["weights"]),
    )
    if weights != "file":
        return weights
    return st.text_input(
        "Weights file", key="config-weights-file", placeholder="/weights/resnet50.h5"
    ).strip()


def _draw_image_size(preset: str, weights: str) -> tuple[int, int]:
    """Draw the image size; with the bundled model, another widget starts with its image size.

    The bundled model was trained on small images that are not square, so no preset applies to it.
    """
    default = PRESETS[preset].get("image_size", OPTIONS["image_size"].default)
    key = _key("image_size", preset)
    if weights == "bundled" and (own := _bundled_size()):
        default, key = own, "config-image_size-bundled"
    sizes = {default, *((side, side) for side in SIDES_PX)}
    by_label = {_size_label(size): size for size in sorted(sizes, key=math.prod)}
    chosen = st.select_slider(
        options=list(by_label),
        value=_size_label(default),
        key=key,
        **_texts(OPTIONS["image_size"]),
    )
    return by_label[chosen]


def _size_label(size: tuple[int, int]) -> str:
    height, width = size
    return str(width) if height == width else f"{height} x {width}"


def _bundled_size() -> tuple[int, int] | None:
    try:
        return bundled_model().image_size
    except WeightsError:
        return None  # The error is raised after every field is drawn.


def _draw_unfreeze_from(backbone: str) -> str | None:
    block = st.selectbox(
        options=[AUTOMATIC, *BACKBONES[backbone].blocks, "all"],
        key="config-unfreeze_from",
        **_texts(OPTIONS["unfreeze_from"]),
    )
    return None if block == AUTOMATIC else block


def _draw_split() -> dict[str, Any]:
    chosen = draw_protocol()
    return chosen | draw_folds(chosen["protocol"])


def _require_weights(weights: str) -> None:
    if weights == "bundled":
        bundled_model()
    elif not weights:
        raise ConfigError(
            "No weights file is given. Expected a .h5, .weights.h5 or .keras file. Enter its path."
        )
    elif weights not in NAMED_WEIGHTS:
        require_weights_file(Path(weights))


def draw_audit(folder: Path, chosen: dict) -> dict[str, dict[str, int]] | None:
    """Draw what a folder holds and how it would be split.

    Parameters
    ----------
    folder : Path
    chosen : dict
        protocol, official_fold_file, n_folds, test_fold, split_seed, weights.

    Returns
    -------
    dict or None
        As `summarize_subsets` counts; None when it cannot be trained on.
    """
    try:
        reading = read_folder(folder)
    except (BcModelError, OSError) as error:
        show_error(error, title="This folder cannot be used")
        return None
    draw_headline(reading)
    draw_left_out(reading, folder.name)
    draw_notes(reading)
    split = split_or_say(reading.dataset, chosen)
    if split is None:
        return None
    parts = summarize_subsets(split)
    show_subsets(parts)
    show_checks(c for c in check_leakage(split, chosen["protocol"]) if c.severity != Severity.INFO)
    if known := check_initialization_leakage(chosen["weights"], reading.dataset, split):
        show_checks([known])
    return parts
