"""Judging the way the recipe is chosen: cross-validation with every choice made inside the folds.

For each fold of cases three things are chosen by what is left: the teacher's penalty, how strange
the views are, and the penalty of the last layer; and a temperature is fitted there too. A network
that learned without two folds says how well a choice does on either of them, for a verdict about
the other one, and knows neither. Varma and Simon, "Bias in error estimation when using
cross-validation for model selection", BMC Bioinformatics 7:91, 2006.

It takes many networks, so that a small one (`probe`) stands for ResNet50.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bc_model.bundled.cross_validation import (
    LEFT_OUT,
    Folds,
    as_bytes,
    key_of,
    predictions_of_fold,
)
from bc_model.bundled.recipe import PROBE, Recipe
from bc_model.bundled.source import Source
from bc_model.bundled.teacher import Teacher
from bc_model.evaluation.calibration import Temperature, fit_temperature
from bc_model.evaluation.predictions import check_predictions
from bc_model.files import write_bytes_atomic

logger = logging.getLogger("bc_model.bundled")


@dataclass(frozen=True)
class Menu:
    """What is chosen from.

    Attributes
    ----------
    views : dict of str to dict
        By name: what to set in the recipe.
    penalties : tuple of float
        Of the teacher.
    last_penalties : tuple of float
        Of the last layer.
    """

    views: dict[str, dict[str, Any]]
    penalties: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)
    last_penalties: tuple[float, ...] = (1.0, 10.0, 30.0, 100.0, 1000.0)


MENU = Menu(
    {
        "strange": {},  # as the recipe has them
        "plain": {"zoom": (0.75, 1.3), "recolouring": 0.4, "strange": 0.0, "mixed": 0.3},
    }
)


@dataclass(frozen=True)
class Choice:
    """What was chosen for one fold, without it.

    Attributes
    ----------
    fold : int
    views : str
        A name of the menu.
    last_penalty, penalty : float
    temperature : float
    roc_auc : float
        Of the choice, on the folds it was chosen on: flattered, and not the figure of the fold.
    """

    fold: int
    views: str
    last_penalty: float
    penalty: float
    temperature: float
    roc_auc: float


def probe_of(recipe: Recipe) -> Recipe:
    """Return the recipe for the small network."""
    return dataclasses.replace(
        recipe, backbone=PROBE, steps=3000, batch_size=32, arithmetic="float32"
    )


class Nested:
    """The folds with every choice made inside.

    Parameters
    ----------
    source : Source
    folds : Folds
        Four or more: a penalty is chosen without two of them.
    recipe : Recipe
        Of the small network, see `probe_of`.
    menu : Menu
    work : Path
        Keeps what each network said, so that a computation that is cut off goes on.
    processes : int
        That make views beside the one that learns.
    """

    def __init__(
        self, source: Source, folds: Folds, recipe: Recipe, menu: Menu, work: Path,
        processes: int = 0,
    ) -> None:  # fmt: skip
        self._source, self._folds, self._recipe = source, folds, recipe
        self._menu, self._work, self._processes = menu, work, processes
        self._numbers = sorted(set(folds.of.tolist()))

    def predictions(self) -> tuple[pd.DataFrame, list[Choice]]:
        """Choose for each fold without it, learn without it, and judge its pictures.

        Returns
        -------
        predictions : DataFrame
            As `crossed_predictions` returns it.
        choices : list of Choice
            By fold.
        """
        found, choices = [], []
        for fold in self._numbers:
            choice, temperature = self._choose(fold)
            logger.info("%s", choice)
            position = self._menu.last_penalties.index(choice.last_penalty)
            logit = self.told((fold,), choice.views)[position]
            logits = np.stack([-logit, logit], axis=1) / 2.0
            table = self._source.table
            found.append(predictions_of_fold(table, self._folds, fold, logits, temperature))
            choices.append(choice)
        return check_predictions(pd.concat(found, ignore_index=True)), choices

    def told(self, without: tuple[int, ...], views: str) -> np.ndarray:
        """Return what a network said that learned without some folds, or what is kept of it.

        Parameters
        ----------
        without : tuple of int
        views : str
            A name of the menu.

        Returns
        -------
        ndarray of shape (last penalties, n_without), float
            Logits, malignant minus benign, of the pictures it has not seen, in the table's order.
        """
        out = np.isin(self._folds.of, without)
        recipe = dataclasses.replace(self._recipe, **self._menu.views[views])
        key = key_of(recipe, self._source.table, np.where(out, LEFT_OUT, self._folds.of))
        menu = f"{self._menu.penalties} {self._menu.last_penalties}"
        key = hashlib.sha256(f"{key} {menu}".encode()).hexdigest()[:12]
        kept = self._work / f"nested-{'-'.join(map(str, sorted(without)))}-{key}.npy"
        if kept.exists():
            logits: np.ndarray = np.load(kept, allow_pickle=False)
            return logits
        logger.info("nested, without %s, %s views", " and ".join(map(str, without)), views)
        penalty = choose_penalty(self._source.part(~out), self._folds.of[~out], self._menu)
        seed = recipe.seed + 1 + min(without)
        logits = self._learn(out, dataclasses.replace(recipe, penalty=penalty), seed)
        self._work.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(kept, as_bytes(logits))
        return logits

    def _learn(self, out: np.ndarray, recipe: Recipe, seed: int) -> np.ndarray:
        from bc_model.bundled.learner import learn
        from bc_model.bundled.settling import fit_line, hidden_units

        known = self._source.part(~out)
        model = learn(known, recipe, seed=seed, processes=self._processes)
        case = known.table["case"].to_numpy(str)
        teacher = Teacher.fit(known.descriptors, known.malignant, case, recipe.penalty)
        taught = teacher.logit(teacher.squashed(known.descriptors))
        hidden = hidden_units(model, self._source.pixels)
        lines = (fit_line(hidden[~out], taught, case, last) for last in self._menu.last_penalties)
        return np.stack([hidden[out] @ kernel + bias for kernel, bias in lines])

    def _choose(self, fold: int) -> tuple[Choice, Temperature]:
        """Choose by the other folds, each judged by a network that knows neither."""
        from sklearn.metrics import roc_auc_score

        known = self._source.part(self._folds.of != fold)
        told: dict[tuple[str, float], np.ndarray] = {}
        for views in self._menu.views:
            logits = self._told_of_others(fold, views)
            told |= {(views, p): x for p, x in zip(self._menu.last_penalties, logits, strict=True)}
        areas = {pair: float(roc_auc_score(known.malignant, x)) for pair, x in told.items()}
        best = max(areas, key=areas.__getitem__)
        temperature = fit_temperature(
            told[best], known.malignant, known.table["case"].to_numpy(str)
        )
        choice = Choice(
            fold=fold,
            views=best[0],
            last_penalty=best[1],
            penalty=choose_penalty(known, self._folds.of[self._folds.of != fold], self._menu),
            temperature=temperature.value,
            roc_auc=areas[best],
        )
        return choice, temperature

    def _told_of_others(self, fold: int, views: str) -> np.ndarray:
        """Return logits of all pictures but a fold's, shape (last penalties, n_known)."""
        of = self._folds.of
        told = np.empty((len(self._menu.last_penalties), len(of)))
        for other in self._numbers:
            if other != fold:
                out = np.isin(of, (fold, other))
                told[:, of == other] = self.told((fold, other), views)[:, of[out] == other]
        return told[:, of != fold]


def choose_penalty(source: Source, of: np.ndarray, menu: Menu) -> float:
    """Return the teacher's penalty that does best when each fold of its pictures is left out.

    Parameters
    ----------
    source : Source
    of : ndarray of int, shape (n,)
        Fold of each picture.
    menu : Menu

    Returns
    -------
    float
        The one of the largest pooled area under the ROC curve; the smallest one of equals.
    """
    from sklearn.metrics import roc_auc_score

    case, malignant = source.table["case"].to_numpy(str), source.malignant

    def area(penalty: float) -> float:
        logit = np.zeros(len(of))
        for fold in set(of.tolist()):
            told, judged = of != fold, of == fold
            teacher = Teacher.fit(source.descriptors[told], malignant[told], case[told], penalty)
            logit[judged] = teacher.logit(teacher.squashed(source.descriptors[judged]))
        return float(roc_auc_score(malignant, logit))

    return max(sorted(menu.penalties), key=area)
