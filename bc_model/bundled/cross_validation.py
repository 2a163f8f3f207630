"""Judging the recipe: every picture by a network that has not seen its case."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bc_model.bundled.recipe import Recipe
from bc_model.data.manifest import Manifest
from bc_model.data.names import CLASSES
from bc_model.data.pipeline import load_pixels
from bc_model.data.splits import make_split
from bc_model.evaluation.calibration import Temperature, fit_temperature
from bc_model.evaluation.predictions import check_predictions
from bc_model.files import write_bytes_atomic
from bc_model.serving.verdict import prob_malignant

logger = logging.getLogger("bc_model.bundled")

LEFT_OUT, LEARNED = -1, -2
"""Instead of a fold: neither learned from nor judged, and learned from in every fold."""

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


def case_folds(table: pd.DataFrame, recipe: Recipe) -> Folds:
    """Deal whole cases into folds, stratified by class.

    Cases that share a picture stay together.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    dealer = StratifiedGroupKFold(recipe.n_folds, shuffle=True, random_state=recipe.seed)
    parts = dealer.split(table, table["class"], table["group"])
    return Folds("case", _fold_of(parts, len(table)))


def image_folds(table: pd.DataFrame, recipe: Recipe) -> Folds:
    """Deal pictures into folds whatever their case, as most papers do: this leaks."""
    from sklearn.model_selection import StratifiedKFold

    dealer = StratifiedKFold(recipe.n_folds, shuffle=True, random_state=recipe.seed)
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
    split = make_split(Manifest(Path(), table, pd.DataFrame()), protocol, folds_file=file)
    part = table["path"].map(split.set_index("path")["part"])
    of = np.where(part == "test", 0, np.where(part.isna(), LEFT_OUT, LEARNED))
    return Folds(protocol, of)


def fold_logits(
    table: pd.DataFrame,
    frames: list[np.ndarray],
    root: Path,
    folds: Folds,
    fold: int,
    recipe: Recipe,
    work: Path,
) -> np.ndarray:
    """Learn without one fold and return the logits of its pictures, or those kept of last time.

    Parameters
    ----------
    table, frames
        As `read_fields` returns them.
    root : Path
        Folder that the table's paths are relative to.
    folds : Folds
    fold : int
    recipe : Recipe
    work : Path
        Where the logits are kept, so that a computation that is cut off goes on.

    Returns
    -------
    ndarray of shape (n_fold, 2), float32
        Of the fold's pictures in the order of the table, through the road of serving.
    """
    kept = work / f"{folds.protocol}-{fold}-{recipe.key[:12]}.npy"
    held_out = folds.of == fold
    if kept.exists():
        logits: np.ndarray = np.load(kept, allow_pickle=False)
        if logits.shape == (int(held_out.sum()), len(CLASSES)):
            return logits
    from bc_model.bundled.learner import learn
    from bc_model.model import reference_logits

    logger.info("fold %d of %d by %s", fold + 1, recipe.n_folds, folds.protocol)
    learning = np.flatnonzero(~held_out & (folds.of != LEFT_OUT))
    model = learn(
        table.iloc[learning], [frames[i] for i in learning], recipe, seed=recipe.seed + 1 + fold
    )
    pixels = load_pixels(root, list(table.loc[held_out, "path"]), recipe.image_size)
    logits = reference_logits(model, pixels)
    work.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(kept, _as_bytes(logits))
    return logits


def crossed_predictions(
    table: pd.DataFrame, folds: Folds, logits: dict[int, np.ndarray]
) -> pd.DataFrame:
    """Return the predictions of several folds, each with the temperature of the others.

    Parameters
    ----------
    table : DataFrame
    folds : Folds
    logits : dict of int to ndarray of shape (n_fold, 2)
        By fold; folds that are missing are left out.

    Returns
    -------
    DataFrame
        As `check_predictions` returns it, with ``subtype``, ``fold`` and ``logit``: malignant minus
        benign, before temperature.
    """
    parts = []
    for fold, found in sorted(logits.items()):
        rows = table.loc[folds.of == fold, list(_KEPT)].reset_index(drop=True)
        others = {other: one for other, one in logits.items() if other != fold}
        temperature = fitted_temperature(table, folds, others).value if others else 1.0
        parts.append(
            rows.assign(
                prob_malignant=prob_malignant(found, temperature),
                logit=found[:, 1] - found[:, 0],
                fold=fold,
            )
        )
    return check_predictions(pd.concat(parts, ignore_index=True))


def fitted_temperature(
    table: pd.DataFrame, folds: Folds, logits: dict[int, np.ndarray]
) -> Temperature:
    """Fit one temperature on the logits of several folds."""
    margin, rows = [], []
    for fold, found in sorted(logits.items()):
        margin.append(found[:, 1] - found[:, 0])
        rows.append(table[folds.of == fold])
    judged = pd.concat(rows)
    return fit_temperature(
        np.concatenate(margin).astype(float),
        (judged["class"] == "malignant").to_numpy(dtype=bool),
        judged["case"].to_numpy(dtype=str),
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
