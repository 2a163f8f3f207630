"""Judging the recipe: every picture by a network that has not seen its case."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bc_model.data.breakhis import CLASSES
from bc_model.data.dataset import Dataset
from bc_model.data.splits import make_split
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.evaluation.calibration import fit_temperature
from bc_model.evaluation.predictions import check_predictions
from bc_model.inference.classifier import prob_malignant
from bc_model.inference.model_card import Temperature
from bc_model.utils.io import write_bytes_atomic

logger = logging.getLogger("bc_model.distillation")

LEFT_OUT, LEARNED = -1, -2
"""Instead of a fold: neither learned from nor judged, and learned from in every fold."""

Logits = dict[int, np.ndarray]
"""By fold: shape (n_fold, 2)."""

_KEPT = ("path", "sha256", "case", "class", "magnification", "subtype")


@dataclass(frozen=True)
class Folds:
    """Which fold each picture is in.

    Attributes
    ----------
    protocol : {'case', 'image', 'folds', 'folds-clean'}
    of : ndarray of int, shape (n,)
        Or `LEFT_OUT`, or `LEARNED`.
    """

    protocol: str
    of: np.ndarray


def case_folds(table: pd.DataFrame, config: DistillationConfig) -> Folds:
    """Deal whole cases into folds, stratified by class.

    Cases that share a picture stay together.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    dealer = StratifiedGroupKFold(config.n_folds, shuffle=True, random_state=config.seed)
    parts = dealer.split(table, table["class"], table["group"])
    return Folds("case", _fold_of(parts, len(table)))


def image_folds(table: pd.DataFrame, config: DistillationConfig) -> Folds:
    """Deal pictures into folds whatever their case, as most papers do: this leaks."""
    from sklearn.model_selection import StratifiedKFold

    dealer = StratifiedKFold(config.n_folds, shuffle=True, random_state=config.seed)
    return Folds("image", _fold_of(dealer.split(table, table["class"]), len(table)))


def official_folds(table: pd.DataFrame, file: Path, *, clean: bool) -> Folds:
    """Divide as an official fold file does: its test part is fold 0.

    Parameters
    ----------
    table : DataFrame
    file : Path
    clean : bool
        Leave out of training what has its case in the test part; else this leaks.
    """
    protocol = "folds-clean" if clean else "folds"
    split = make_split(Dataset(Path(), table, pd.DataFrame()), protocol, folds_file=file)
    subset = table["path"].map(split.set_index("path")["subset"])
    of = np.where(subset == "test", 0, np.where(subset.isna(), LEFT_OUT, LEARNED))
    return Folds(protocol, of)


def key_of(config: DistillationConfig, table: pd.DataFrame, folds: np.ndarray) -> str:
    """Identify a learning: what one made must not be taken for what another made."""
    lines = table["path"] + " " + table["sha256"] + " " + pd.Series(folds, table.index).astype(str)
    return hashlib.sha256("\n".join([config.key, *lines]).encode()).hexdigest()[:12]


def fold_logits(
    source: TrainingImages,
    folds: Folds,
    fold: int,
    config: DistillationConfig,
    work: Path,
    processes: int = 0,
) -> np.ndarray:
    """Learn without one fold and return the logits of its pictures, or those kept of last time.

    Parameters
    ----------
    source : Source
    folds : Folds
    fold : int
    recipe : Recipe
    work : Path
        Where the logits are kept, so that a computation that is cut off goes on.
    processes : int
        That make views beside the one that learns.

    Returns
    -------
    ndarray of shape (n_fold, 2), float32
        Of the fold's pictures in the order of the table.
    """
    held_out = folds.of == fold
    kept = work / f"{folds.protocol}-{fold}-{key_of(config, source.table, folds.of)}.npy"
    if kept.exists():
        logits: np.ndarray = np.load(kept, allow_pickle=False)
        if logits.shape == (int(held_out.sum()), len(CLASSES)):
            return logits
    from bc_model.distillation.student import learn
    from bc_model.model import reference_logits

    logger.info("%s, fold %d", folds.protocol, fold)
    learning = source.select(~held_out & (folds.of != LEFT_OUT))
    model = learn(
        learning, config, seed=config.seed + 1 + fold, processes=processes,
        draft=kept.with_suffix(".draft.npz"),
    )  # fmt: skip
    logits = reference_logits(model, source.pixels[held_out])
    work.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(kept, _as_bytes(logits))
    return logits


def temperature_of(table: pd.DataFrame, folds: Folds, logits: Logits) -> Temperature:
    """Fit a temperature on the logits of several folds."""
    judged = pd.concat([table[folds.of == fold] for fold in sorted(logits)])
    found = np.concatenate([one for _, one in sorted(logits.items())]).astype(float)
    return fit_temperature(
        found[:, 1] - found[:, 0],
        (judged["class"] == "malignant").to_numpy(dtype=bool),
        judged["case"].to_numpy(dtype=str),
    )


def cross_validated_predictions(table: pd.DataFrame, folds: Folds, logits: Logits) -> pd.DataFrame:
    """Return the predictions of several folds, each with a temperature of the others.

    Parameters
    ----------
    table : DataFrame
    folds : Folds
    logits : dict of int to ndarray of shape (n_fold, 2)
        By fold, of two folds or more.

    Returns
    -------
    DataFrame
        As `check_predictions` returns it, with ``subtype``, ``fold`` and ``logit``: malignant minus
        benign, before temperature.
    """
    parts = []
    for fold in sorted(logits):
        others = {other: one for other, one in logits.items() if other != fold}
        temperature = temperature_of(table, folds, others)
        parts.append(predictions_of_fold(table, folds, fold, logits[fold], temperature))
    return check_predictions(pd.concat(parts, ignore_index=True))


def predictions_of_fold(
    table: pd.DataFrame, folds: Folds, fold: int, logits: np.ndarray, temperature: Temperature
) -> pd.DataFrame:
    """Return the predictions of one fold, with a temperature from elsewhere."""
    return table.loc[folds.of == fold, list(_KEPT)].assign(
        prob_malignant=prob_malignant(logits, temperature.value),
        logit=logits[:, 1] - logits[:, 0],
        fold=fold,
    )


def _fold_of(parts: Any, n: int) -> np.ndarray:
    of = np.empty(n, int)
    for fold, (_, held_out) in enumerate(parts):
        of[held_out] = fold
    return of


def _as_bytes(array: np.ndarray) -> bytes:
    from io import BytesIO

    stream = BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
