"""What a run says of itself: the configuration beside it and the model card of its model."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

import bc_model
from bc_model.data.breakhis import MPP_RANGE, is_synthetic
from bc_model.data.dataset import Dataset
from bc_model.data.images import FIELD_PX
from bc_model.data.splits import PROTOCOLS_WITH_LEAKAGE, summarize_subsets
from bc_model.inference.bundle import bundled_model, file_sha256
from bc_model.inference.input_checks import size_facts
from bc_model.inference.model_card import (
    Architecture,
    DecisionThreshold,
    ModelCard,
    ModelInput,
    Scale,
    SubsetCounts,
    Temperature,
    TrainingData,
)
from bc_model.inference.seen_images import SeenImages
from bc_model.model import NAMED_WEIGHTS, backbone
from bc_model.training.config import TrainingConfig
from bc_model.training.devices import resolve_compute_dtype
from bc_model.training.initial_weights import check_initialization_leakage, find_initial_bundle
from bc_model.training.inputs import extractor_name
from bc_model.training.run import Run

_BREAKHIS_LICENSE = (
    "BreakHis: Spanhol et al., IEEE Transactions on Biomedical Engineering 63(7), 2016, "
    "doi 10.1109/TBME.2015.2496264. Third parties state CC BY 4.0; the pictures are not included."
)
_UNKNOWN_LICENSE = "Not stated: ask the owner of the pictures before passing the model on."


def describe_run(config: TrainingConfig, dataset: Dataset, split_file: Path) -> dict[str, Any]:
    """Return the content of `config.json`: settings, versions, commit, hashes of data and split."""
    import tensorflow as tf

    packages = ("keras", "numpy", "openvino", "opencv-python-headless", "pillow")
    return {
        "config": config.as_dict(),
        "data_sha256": dataset_sha256(dataset),
        "split_sha256": file_sha256(split_file),
        "weights_sha256": _weights_sha256(config.weights),
        "compute_dtype": resolve_compute_dtype(config),
        "features_by": extractor_name(config) if config.cache_features else None,
        "devices": tf.distribute.get_strategy().num_replicas_in_sync,
        "versions": {
            "bc_model": bc_model.__version__,
            "python": platform.python_version(),
            "tensorflow": _tensorflow_version(),
            **{name: version(name) for name in packages},
        },
        "git_commit": git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def dataset_sha256(dataset: Dataset) -> str:
    """Hash names and pixels of a data set: equal hashes mean the same pictures."""
    lines = dataset.images["path"] + " " + dataset.images["sha256"]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def git_commit() -> str | None:
    """Return the commit of the program, with '+changes' when it is not clean; None outside git."""
    place = Path(bc_model.__file__).parent
    try:
        commit, changes = (
            subprocess.run(
                ["git", *command], cwd=place, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changes else commit


def draft_model_card(
    config: TrainingConfig,
    dataset: Dataset,
    split: pd.DataFrame,
    run: Run,
    known: SeenImages,
    n_parameters: int,
) -> ModelCard:
    """Return the model card of a fresh model, without its files and its figures."""
    training, validation = (split[split["subset"] == subset] for subset in ("train", "validation"))
    synthetic = bool(training["case"].map(is_synthetic).any())
    # Drawn pictures bear a magnification in their names and have none.
    seen = set() if synthetic else set(training["magnification"].dropna())
    magnifications = sorted(int(value) for value in seen)
    parts = summarize_subsets(split)
    has_initialization_leakage = (
        check_initialization_leakage(config.weights, dataset, split) is not None
    )
    initial = config.weights
    return ModelCard(
        name=run.name,
        version=bc_model.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=Architecture(
            backbone=config.backbone,
            initial_weights=initial if initial in NAMED_WEIGHTS else Path(initial).name,
            n_parameters=n_parameters,
            dense_units=tuple(config.dense_units),
            dropout=config.dropout,
        ),
        input=describe_input(config.backbone, config.image_size, _rows(dataset, training)),
        scale=describe_scale(magnifications),
        data=TrainingData(
            dataset_sha256=dataset_sha256(dataset),
            split_sha256=file_sha256(run.split_file),
            protocol=config.protocol,
            has_leakage=config.protocol in PROTOCOLS_WITH_LEAKAGE or has_initialization_leakage,
            has_initialization_leakage=has_initialization_leakage,
            n_images=SubsetCounts(**{subset: one["images"] for subset, one in parts.items()}),
            n_cases=SubsetCounts(**{subset: one["cases"] for subset, one in parts.items()}),
            training_cases=tuple(sorted(set(training["case"]) - {""})),
            validation_cases=tuple(sorted(set(validation["case"]) - {""})),
            initial_cases=_initial_cases(initial),
            seen_images_complete=known.whole,
            is_synthetic=synthetic,
            license=_license(initial, synthetic, bool(magnifications)),
        ),
        threshold=DecisionThreshold(0.5, "default, not tuned"),
        temperature=Temperature(1.0, "default, not fitted: probabilities are raw"),
    )


def describe_input(
    backbone_name: str, image_size: tuple[int, int], images: pd.DataFrame
) -> ModelInput:
    """Return what a model card says of the pictures that go into the network.

    Parameters
    ----------
    backbone_name : str
    image_size : (int, int)
        Height and width, px.
    pictures : DataFrame
        Rows of a manifest: what it learned from.
    """
    sizes = size_facts(_without_drawn_scale(images))
    return ModelInput(
        height_px=image_size[0],
        width_px=image_size[1],
        preprocessing=f"in the graph: {backbone(backbone_name).preprocessing}",
        field_of_view=f"official frames trimmed to {FIELD_PX[0]}x{FIELD_PX[1]}, others whole",
        training_sizes=sizes["training_sizes"],
        reshaped_sizes=sizes["reshaped_sizes"],
    )


def describe_scale(magnifications: list[int]) -> Scale:
    """Return the physical scale of images at some magnifications."""
    return Scale(
        magnifications=tuple(magnifications),
        mpp_range={str(m): MPP_RANGE[m] for m in magnifications},
        source="rough estimate for the original 700x460 frame, from the size of red cells",
    )


def _weights_sha256(weights: str) -> str | None:
    if weights == "bundled":
        return bundled_model().network
    return None if weights in NAMED_WEIGHTS else file_sha256(Path(weights))


def _initial_cases(weights: str) -> tuple[str, ...]:
    """Return the cases that the initial weights know; those of a stranger's file cannot be told."""
    known = find_initial_bundle(weights)
    return tuple(sorted(known.seen_cases)) if known else ()


def _license(weights: str, synthetic: bool, official: bool) -> str:
    own = describe_license(synthetic, official)
    known = find_initial_bundle(weights)
    first = known.card.data.license if known else own
    return own if first == own else f"{own} It began with weights learned from: {first}"


def describe_license(synthetic: bool, official: bool) -> str:
    """Say whose the pictures are that a model learned from."""
    if synthetic:
        return "Drawn by this program: invented pictures, not tissue."
    return _BREAKHIS_LICENSE if official else _UNKNOWN_LICENSE


def _rows(dataset: Dataset, training: pd.DataFrame) -> pd.DataFrame:
    return dataset.images[dataset.images["path"].isin(training["path"])]


def _without_drawn_scale(images: pd.DataFrame) -> pd.DataFrame:
    """Drawn pictures bear a magnification in their names and have none."""
    known = images["magnification"].mask(images["case"].map(is_synthetic))
    return images.assign(magnification=known)


def _tensorflow_version() -> str:
    import tensorflow as tf

    return str(tf.__version__)
