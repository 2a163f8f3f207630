"""Form for a training configuration, generated from the fields of `TrainingConfig`.

It also previews the selected dataset and its split. Starting runs is in `start_button`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app.components.checks import show_checks
from app.components.data.summary import show_counts, show_dataset_checks, show_excluded
from app.components.dataset_cache import load_folder
from app.components.layout import show_error
from app.components.paths import list_roots, parse_path
from app.components.split_form import show_folds, show_protocol, show_split_seed
from app.components.split_summary import show_subsets, split_dataset
from bc_model.checks import Severity
from bc_model.data import check_leakage, parse_rules, summarize_subsets
from bc_model.errors import BcModelError, ConfigError, WeightsError
from bc_model.inference import has_bundled_model, open_bundled_model
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
    "Quick look": "Small images and few epochs, to test a dataset; not for reported results.",
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
    """Show the form and return the values of `TrainingConfig`, without the dataset.

    Parameters
    ----------
    split : callable, optional
        Shows the fields of the split and returns their values, for a page that makes several
        splits. By default, the fields of one split are shown.

    Raises
    ------
    ConfigError
        A value is invalid, or no weights file is given.
    DataError
        The weights file is not in a folder that users can read.
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
                chosen[name] = _show_field(name, preset, chosen)
    with last:
        chosen |= (split or _show_split)()
    with st.expander("Advanced", icon=":material/tune:"):
        _show_advanced(preset, chosen)
    # The values are checked after every field is shown, because a field that is not shown in one
    # run of the page loses its value.
    for name, value in chosen.items():
        if OPTIONS[name].type is tuple and isinstance(value, str):
            chosen[name] = OPTIONS[name].parse(value)
        OPTIONS[name].check(chosen[name])
    chosen["weights"] = _check_weights(chosen["weights"])
    return chosen


def show_field(name: str, preset: str = "Standard", *, disabled: bool = False) -> Any:
    """Show the widget of a field by its type and return its value; a tuple is returned as text."""
    option = OPTIONS[name]
    default = PRESETS[preset].get(name, option.default)
    shared: dict[str, Any] = _label_and_help(option) | {
        "key": _key(name, preset),
        "disabled": disabled,
    }
    if option.type is bool:
        return st.checkbox(value=default, **shared)
    if option.choices:
        return st.selectbox(options=option.choices, index=option.choices.index(default), **shared)
    if option.type in (str, tuple):
        return st.text_input(value=option.format(default), **shared)
    lower, upper = (option.ge, option.gt), (option.le, option.lt)
    number: Callable[[Any], Any] = option.type
    return st.number_input(
        min_value=next((number(bound) for bound in lower if bound is not None), None),
        max_value=next((number(bound) for bound in upper if bound is not None), None),
        value=default,
        step=number(option.step or 1),
        format="%g" if option.type is float else None,
        placeholder=AUTOMATIC if option.nullable else None,
        **shared,
    )


def _show_field(name: str, preset: str, chosen: dict[str, Any]) -> Any:
    """Show a field, with a special widget if its choices depend on other values."""
    if name == "backbone":
        return _show_backbone()
    if name == "weights":
        return _show_weights()
    if name == "image_size":
        return _show_image_size(preset, chosen["weights"])
    if name == "unfreeze_from":
        return _show_unfreeze_from(chosen["backbone"])
    disabled = name == "augmented_copies" and not chosen["cache_features"]
    return show_field(name, preset, disabled=disabled)


def _show_advanced(preset: str, chosen: dict[str, Any]) -> None:
    essential = {name for names in ESSENTIAL for name in names}
    for column, groups in zip(st.columns(3, gap="medium"), _ADVANCED_GROUPS, strict=True):
        with column:
            for group in groups:
                for option in OPTIONS.values():
                    if option.group == group and option.name not in essential | PAGE_SPECIFIC:
                        chosen[option.name] = _show_field(option.name, preset, chosen)
                if group == "Data":
                    chosen |= show_split_seed()


def _key(name: str, preset: str) -> str:
    """Return the key of a widget: a field that a preset changes has a widget for each preset.

    A page must not set the value of an existing widget here. The browser can miss the new value
    when a click interrupts the script, and then sends back the minimum.
    """
    return f"config-{name}-{preset}" if name in PRESETS[preset] else f"config-{name}"


def _label_and_help(option: Option) -> dict[str, Any]:
    unit = f" ({option.unit})" if option.unit else ""
    return {"label": option.label + unit, "help": option.help}


def _show_backbone() -> str:
    return st.selectbox(
        options=list(BACKBONES),
        format_func=lambda name: "tiny (tests only)" if name == "tiny" else name,
        key="config-backbone",
        **_label_and_help(OPTIONS["backbone"]),
    )


def _show_weights() -> str:
    is_offered = {"bundled": has_bundled_model(), "file": bool(list_roots())}
    weights = st.selectbox(
        options=[name for name in WEIGHT_LABELS if is_offered.get(name, True)],
        format_func=WEIGHT_LABELS.__getitem__,
        key="config-weights",
        **_label_and_help(OPTIONS["weights"]),
    )
    if weights != "file":
        return weights
    return st.text_input(
        "Weights file", key="config-weights-file", placeholder="/weights/resnet50.h5"
    ).strip()


def _show_image_size(preset: str, weights: str) -> tuple[int, int]:
    """Show the image size; the bundled model has another widget with its own image size.

    The bundled model was trained on small images that are not square, so no preset applies to it.
    """
    default = PRESETS[preset].get("image_size", OPTIONS["image_size"].default)
    key = _key("image_size", preset)
    if weights == "bundled" and (bundled_size := _bundled_size()):
        default, key = bundled_size, "config-image_size-bundled"
    sizes = {default, *((side, side) for side in SIDES_PX)}
    by_label = {_size_label(size): size for size in sorted(sizes, key=math.prod)}
    chosen = st.select_slider(
        options=list(by_label),
        value=_size_label(default),
        key=key,
        **_label_and_help(OPTIONS["image_size"]),
    )
    return by_label[chosen]


def _size_label(size: tuple[int, int]) -> str:
    height, width = size
    return str(width) if height == width else f"{height} x {width}"


def _bundled_size() -> tuple[int, int] | None:
    try:
        return open_bundled_model().image_size
    except WeightsError:
        return None  # The error is raised after every field is shown.


def _show_unfreeze_from(backbone: str) -> str | None:
    block = st.selectbox(
        options=[AUTOMATIC, *BACKBONES[backbone].blocks, "all"],
        key="config-unfreeze_from",
        **_label_and_help(OPTIONS["unfreeze_from"]),
    )
    return None if block == AUTOMATIC else block


def _show_split() -> dict[str, Any]:
    chosen = show_protocol()
    return chosen | show_folds(chosen["protocol"])


def _check_weights(weights: str) -> str:
    """Return the named weights, or the path of an existing weights file."""
    if weights == "bundled":
        open_bundled_model()
    elif not weights:
        raise ConfigError(
            "No weights file is given. Expected a .h5, .weights.h5 or .keras file. Enter its path."
        )
    elif weights not in NAMED_WEIGHTS:
        path = parse_path(weights)
        require_weights_file(path)
        return str(path)
    return weights


def show_dataset_audit(folder: Path, chosen: dict) -> dict[str, dict[str, int]] | None:
    """Show the contents of a dataset and of the subsets of its split.

    Parameters
    ----------
    folder : Path
        The folder of the dataset.
    chosen : dict
        labels, case_from, protocol, official_fold_file, n_folds, test_fold, split_seed, weights.

    Returns
    -------
    dict or None
        The counts of `summarize_subsets`; None if the dataset cannot be used for training.
    """
    try:
        loaded = load_folder(folder, parse_rules(chosen["labels"], chosen["case_from"]))
    except (BcModelError, OSError) as error:
        show_error(error, title="Dataset not usable")
        return None
    show_counts(loaded)
    show_excluded(loaded, folder.name)
    show_dataset_checks(loaded)
    split = split_dataset(loaded.dataset, chosen)
    if split is None:
        return None
    subsets = summarize_subsets(split)
    show_subsets(subsets)
    leakage = check_leakage(split, chosen["protocol"])
    checks = [check for check in leakage if check.severity != Severity.INFO]
    if check := check_initialization_leakage(chosen["weights"], loaded.dataset, split):
        checks.append(check)
    show_checks(checks)
    return subsets
