"""From folders of pictures to the model in the box: folds, figures, one model of all cases."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bc_model.bundled.choosing import Choice, Menu
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
from bc_model.bundled.nested import Nested
from bc_model.bundled.recipe import Recipe
from bc_model.bundled.source import Source

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("bc_model.bundled")


@dataclass(frozen=True)
class Judged:
    """What one protocol came to.

    Attributes
    ----------
    folds : Folds
    logits : dict of int to ndarray of shape (n_fold, 2)
        By fold; one fold is enough to show what a leak is worth.
    """

    folds: Folds
    logits: Logits


@dataclass(frozen=True)
class ChosenInside:
    """What the way the recipe is chosen came to.

    Attributes
    ----------
    recipe : Recipe
        Of the networks that were judged.
    chooser : Recipe
        Of those that chose.
    menu : Menu
        What there was to choose from.
    predictions : DataFrame
        Of every picture, by a network for which nothing was chosen with its fold.
    choices : list of Choice
        By fold.
    """

    recipe: Recipe
    chooser: Recipe
    menu: Menu
    predictions: pd.DataFrame
    choices: list[Choice]


def judge(
    source: Source, recipe: Recipe, work: Path, folds_file: Path | None, processes: int = 0
) -> list[Judged]:
    """Cross-validate the recipe by case, and hold one fold of the leaky protocols against it.

    Parameters
    ----------
    source : Source
    recipe : Recipe
    work : Path
        Keeps what each fold came to.
    folds_file : Path or None
        An official fold file, for two more protocols.
    processes : int
        That make views beside the one that learns.

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
            {fold: fold_logits(source, folds, fold, recipe, work, processes) for fold in of},
        )
        for folds, of in plans
    ]


def judge_choosing(
    source: Source, recipe: Recipe, menu: Menu, work: Path, processes: int = 0, *, chooser: Recipe
) -> ChosenInside:
    """Cross-validate by case with settings chosen inside the folds, see `Nested`.

    Parameters
    ----------
    source : Source
    recipe : Recipe
        Of the networks that are judged.
    menu : Menu
    work : Path
        Keeps what each network learned.
    processes : int
        That make views beside the one that learns.
    chooser : Recipe
        Of those that choose.
    """
    folds = case_folds(source.table, recipe)
    nested = Nested(source, folds, recipe, menu, work, processes, chooser=chooser)
    return ChosenInside(recipe, chooser, menu, *nested.predictions())


def learn_all(source: Source, recipe: Recipe, work: Path, processes: int = 0) -> keras.Model:
    """Learn from every picture, or take what was learned last time.

    Returns
    -------
    keras.Model
        With the recipe's input size.
    """
    from bc_model.bundled.learner import build_network, learn

    everything = np.full(len(source.table), LEARNED)
    kept = work / f"all-{key_of(recipe, source.table, everything)}.weights.h5"
    if kept.exists():
        model = build_network(recipe, recipe.image_size)
        model.load_weights(kept)
        return model
    logger.info("all %d pictures", len(source.table))
    model = learn(
        source, recipe, seed=recipe.seed, processes=processes, draft=kept.with_suffix(".draft.npz")
    )
    work.mkdir(parents=True, exist_ok=True)
    written = kept.with_name(f".{kept.name}")
    model.save_weights(written)
    written.replace(kept)
    return model
