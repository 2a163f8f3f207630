"""From folders of pictures to the model in the box: folds, figures, one model of all cases."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bc_model.bundled.cross_validation import (
    LEARNED,
    Folds,
    Logits,
    case_folds,
    fold_logits,
    image_folds,
    key_of,
    official_folds,
)
from bc_model.bundled.fields import read_fields
from bc_model.bundled.recipe import Recipe
from bc_model.data.pipeline import load_pixels

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("bc_model.bundled")


@dataclass(frozen=True)
class Judged:
    """What one protocol came to.

    Attributes
    ----------
    folds : Folds
    logits : dict of int to ndarray of shape (n_checkpoints, n_fold, 2)
        By fold; one fold is enough to show what a leak is worth.
    """

    folds: Folds
    logits: Logits


@dataclass(frozen=True)
class Source:
    """The pictures, read once.

    Attributes
    ----------
    table : DataFrame
    frames : list of ndarray
        As `read_fields` returns them.
    pixels : ndarray of shape (n, height, width, 3), uint8
        As they are served.
    """

    table: pd.DataFrame
    frames: list[np.ndarray]
    pixels: np.ndarray

    @classmethod
    def read(cls, root: Path, sets: tuple[str, ...], image_size: tuple[int, int]) -> Source:
        """Read the sets under a folder."""
        table, frames = read_fields([root / name for name in sets])
        pixels = load_pixels(root, list(table["path"]), image_size)
        logger.info("%d pictures of %d cases", len(table), table["group"].nunique())
        return cls(table, frames, pixels)


def judge(source: Source, recipe: Recipe, work: Path, folds_file: Path | None) -> list[Judged]:
    """Cross-validate the recipe by case, and hold one fold of the leaky protocols against it.

    Parameters
    ----------
    source : Source
    recipe : Recipe
    work : Path
        Keeps what each fold came to.
    folds_file : Path or None
        An official fold file, for two more protocols.

    Returns
    -------
    list of Judged
        The one by case first.
    """
    by_case = case_folds(source.table, recipe)
    plans = [(by_case, range(recipe.n_folds)), (image_folds(source.table, recipe), range(1))]
    if folds_file:
        plans += [
            (official_folds(source.table, folds_file, clean=clean), range(1))
            for clean in (False, True)
        ]
    return [
        Judged(
            folds,
            {
                fold: fold_logits(
                    source.table, source.frames, source.pixels, folds, fold, recipe, work
                )
                for fold in of
            },
        )
        for folds, of in plans
    ]


def learn_all(source: Source, recipe: Recipe, work: Path, checkpoint: int) -> keras.Model:
    """Learn from every picture up to a checkpoint, or take what was learned last time.

    Parameters
    ----------
    source, recipe, work
        As for `judge`.
    checkpoint : int
        Its number among the recipe's.

    Returns
    -------
    keras.Model
        With the recipe's input size.
    """
    from bc_model.bundled.learner import learn
    from bc_model.model import build_model

    model = build_model(
        recipe.backbone, image_size=recipe.image_size, weights="none", dense_units=(),
        dropout=recipe.dropout,
    )  # fmt: skip
    steps = recipe.checkpoints[checkpoint]
    everything = np.full(len(source.table), LEARNED)
    kept = work / f"all-{steps}-{key_of(recipe, source.table, everything)}.weights.h5"
    if kept.exists():
        model.load_weights(kept)
        return model
    logger.info("all %d pictures, %d steps", len(source.table), steps)
    models = learn(source.table, source.frames, source.pixels, recipe, seed=recipe.seed)
    for done, learned in models:
        if done == steps:
            model.set_weights(learned.get_weights())
            break
    work.mkdir(parents=True, exist_ok=True)
    draft = kept.with_name(f".{kept.name}")
    model.save_weights(draft)
    draft.replace(kept)
    return model
