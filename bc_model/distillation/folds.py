"""The folds of the cross-validation under several split protocols."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.data.dataset import Dataset
from bc_model.data.splits import make_split
from bc_model.distillation.config import DistillationConfig

EXCLUDED, ALWAYS_TRAINED = -1, -2
"""Instead of a fold number: used in no fold, and in the training of every fold."""


@dataclass(frozen=True)
class Folds:
    """The fold of each image: a number, `EXCLUDED` or `ALWAYS_TRAINED`, shape (n,), int.

    The protocol is 'case', 'image', 'folds' or 'folds-clean'.
    """

    protocol: str
    assignment: np.ndarray


def case_folds(table: pd.DataFrame, config: DistillationConfig) -> Folds:
    """Return case-level folds, stratified by class; cases with a common image stay together.

    Extra images are in the fold of their case. They are trained in every fold if no other image is
    of their case.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    main = table[~table["is_extra"]]
    splitter = StratifiedGroupKFold(config.n_folds, shuffle=True, random_state=config.seed)
    assigned = _assign(splitter.split(main, main["class"], main["group"]), len(main))
    fold_of = dict(zip(main["group"], assigned, strict=True))
    return Folds("case", table["group"].map(fold_of).fillna(ALWAYS_TRAINED).to_numpy(int))


def image_folds(table: pd.DataFrame, config: DistillationConfig) -> Folds:
    """Return image-level folds, which have leakage. Extra images are excluded."""
    from sklearn.model_selection import StratifiedKFold

    is_main = ~table["is_extra"].to_numpy(bool)
    classes = table.loc[is_main, "class"]
    splitter = StratifiedKFold(config.n_folds, shuffle=True, random_state=config.seed)
    assignment = np.full(len(table), EXCLUDED)
    assignment[is_main] = _assign(splitter.split(classes, classes), len(classes))
    return Folds("image", assignment)


def official_folds(table: pd.DataFrame, file: Path, *, clean: bool) -> Folds:
    """Return the split of an official fold file; its test subset is fold 0.

    If `clean`, training images of test cases are excluded. Otherwise, the split has leakage. Extra
    images are excluded.
    """
    protocol = "folds-clean" if clean else "folds"
    main = table[~table["is_extra"]]
    split = make_split(Dataset(Path(), main, pd.DataFrame()), protocol, official_fold_file=file)
    subset = table["path"].map(split.set_index("path")["subset"])
    other = np.where(subset.isna(), EXCLUDED, ALWAYS_TRAINED)
    return Folds(protocol, np.where(subset == "test", 0, other))


def _assign(splits: Iterable[tuple[np.ndarray, np.ndarray]], n: int) -> np.ndarray:
    assignment = np.empty(n, int)
    for fold, (_, left_out) in enumerate(splits):
        assignment[left_out] = fold
    return assignment


def is_training_image(folds: Folds, fold: int) -> np.ndarray:
    """Return which images are trained without a fold, shape (n,), bool."""
    return (folds.assignment != fold) & (folds.assignment != EXCLUDED)


def is_test_image(table: pd.DataFrame, folds: Folds, fold: int) -> np.ndarray:
    """Return which images are evaluated in a fold, without the extra ones, shape (n,), bool."""
    mask: np.ndarray = (folds.assignment == fold) & ~table["is_extra"].to_numpy(bool)
    return mask
