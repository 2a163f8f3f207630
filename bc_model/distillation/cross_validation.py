"""Cross-validation of the bundled model under several split protocols.

Each image is evaluated by a network that was not trained on its fold. Logits are saved in a work
directory, so that an interrupted computation continues.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.data.breakhis import CLASSES
from bc_model.data.dataset import Dataset
from bc_model.data.splits import make_split
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.evaluation.calibration import fit_temperature
from bc_model.evaluation.predictions import check_predictions
from bc_model.inference.classifier import compute_prob_malignant
from bc_model.inference.model_card import Temperature
from bc_model.utils.arrays import read_npy
from bc_model.utils.io import write_bytes_atomic

logger = logging.getLogger("bc_model.distillation")

EXCLUDED, ALWAYS_TRAINED = -1, -2
"""Instead of a fold number: used in no fold, and in the training of every fold."""

Logits = dict[int, np.ndarray]
"""Logits by fold, shape (n_fold, 2)."""

_COLUMNS = ["path", "sha256", "case", "class", "magnification", "subtype"]


@dataclass(frozen=True)
class Folds:
    """The fold of each image: a number, `EXCLUDED` or `ALWAYS_TRAINED`, shape (n,), int.

    The protocol is 'case', 'image', 'folds' or 'folds-clean'.
    """

    protocol: str
    assignment: np.ndarray


def case_folds(table: pd.DataFrame, config: DistillationConfig) -> Folds:
    """Return case-level folds, stratified by class; cases with a common image stay together."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(config.n_folds, shuffle=True, random_state=config.seed)
    return Folds("case", _assign(splitter.split(table, table["class"], table["group"]), len(table)))


def image_folds(table: pd.DataFrame, config: DistillationConfig) -> Folds:
    """Return image-level folds, which have leakage."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(config.n_folds, shuffle=True, random_state=config.seed)
    return Folds("image", _assign(splitter.split(table, table["class"]), len(table)))


def official_folds(table: pd.DataFrame, file: Path, *, clean: bool) -> Folds:
    """Return the split of an official fold file; its test subset is fold 0.

    If `clean`, training images of test cases are excluded. Otherwise, the split has leakage.
    """
    protocol = "folds-clean" if clean else "folds"
    split = make_split(Dataset(Path(), table, pd.DataFrame()), protocol, official_fold_file=file)
    subset = table["path"].map(split.set_index("path")["subset"])
    other = np.where(subset.isna(), EXCLUDED, ALWAYS_TRAINED)
    return Folds(protocol, np.where(subset == "test", 0, other))


def _assign(splits: Iterable[tuple[np.ndarray, np.ndarray]], n: int) -> np.ndarray:
    assignment = np.empty(n, int)
    for fold, (_, held_out) in enumerate(splits):
        assignment[held_out] = fold
    return assignment


def cache_key(config: DistillationConfig, table: pd.DataFrame, assignment: np.ndarray) -> str:
    """Return a key of the configuration, the images and their folds, for file names."""
    folds = pd.Series(assignment, table.index).astype(str)
    lines = table["path"] + " " + table["sha256"] + " " + folds
    return hashlib.sha256("\n".join([config.key, *lines]).encode()).hexdigest()[:12]


def fold_logits(
    source: TrainingImages, folds: Folds, fold: int, config: DistillationConfig, work_dir: Path,
    n_processes: int = 0,
) -> np.ndarray:  # fmt: skip
    """Train without one fold and return the logits of its images, or the saved ones.

    The result is float32 of shape (n_fold, 2), in the order of the table.
    """
    held_out = folds.assignment == fold
    key = cache_key(config, source.table, folds.assignment)
    file = work_dir / f"{folds.protocol}-{fold}-{key}.npy"
    if file.exists():
        logits = read_npy(file)
        if logits.shape == (int(held_out.sum()), len(CLASSES)):
            return logits
    from bc_model.distillation.student import train_student
    from bc_model.model import reference_logits

    logger.info("Training without fold %d of protocol %s", fold, folds.protocol)
    model = train_student(
        source.select(~held_out & (folds.assignment != EXCLUDED)), config,
        seed=config.seed + 1 + fold, n_processes=n_processes,
        checkpoint_file=file.with_suffix(".checkpoint.npz"),
    )  # fmt: skip
    logits = reference_logits(model, source.pixels[held_out])
    work_dir.mkdir(parents=True, exist_ok=True)
    stream = BytesIO()
    np.save(stream, logits, allow_pickle=False)
    write_bytes_atomic(file, stream.getvalue())
    return logits


def fit_pooled_temperature(table: pd.DataFrame, folds: Folds, logits: Logits) -> Temperature:
    """Fit a temperature on the pooled logits of several folds."""
    images = pd.concat([table[folds.assignment == fold] for fold in sorted(logits)])
    pooled = np.concatenate([logits[fold] for fold in sorted(logits)]).astype(float)
    return fit_temperature(
        pooled[:, 1] - pooled[:, 0],
        (images["class"] == "malignant").to_numpy(dtype=bool),
        images["case"].to_numpy(dtype=str),
    )


def out_of_fold_predictions(table: pd.DataFrame, folds: Folds, logits: Logits) -> pd.DataFrame:
    """Return the pooled predictions of at least two folds, each with a temperature of the others.

    Besides the columns of `check_predictions`, they have ``subtype``, ``fold`` and ``logit``:
    malignant minus benign, before temperature scaling.
    """
    frames = []
    for fold in sorted(logits):
        others = {other: values for other, values in logits.items() if other != fold}
        temperature = fit_pooled_temperature(table, folds, others)
        frames.append(fold_predictions(table, folds, fold, logits[fold], temperature))
    return check_predictions(pd.concat(frames, ignore_index=True))


def fold_predictions(
    table: pd.DataFrame, folds: Folds, fold: int, logits: np.ndarray, temperature: Temperature
) -> pd.DataFrame:
    """Return the predictions of one fold at a given temperature."""
    return table.loc[folds.assignment == fold, _COLUMNS].assign(
        prob_malignant=compute_prob_malignant(logits, temperature.value),
        logit=logits[:, 1] - logits[:, 0],
        fold=fold,
    )
