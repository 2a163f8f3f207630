"""Judging the choosing: cross-validation with settings of the recipe chosen inside the folds.

For each fold of cases four things are chosen by what is left: the teacher's penalty, how strange
the views are, the penalty of the last layer, and the temperature. A network that learned without
two folds says how well a choice does on either of them, for a verdict about the other one, and
knows neither. Varma and Simon, "Bias in error estimation when using cross-validation for model
selection", BMC Bioinformatics 7:91, 2006.

Logits are told in units of the teacher's spread over the pictures that it learned from: teachers of
different penalties differ threefold in it, and networks are pooled here.

It takes many networks, so that a small one (`probe`) stands for ResNet50.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bc_model.bundled.choosing import Choice, Menu, choose_penalty
from bc_model.bundled.cross_validation import LEFT_OUT, Folds, key_of, predictions_of_fold
from bc_model.bundled.recipe import Recipe
from bc_model.bundled.source import Source
from bc_model.bundled.teacher import Teacher
from bc_model.errors import SettingsError
from bc_model.evaluation.calibration import Temperature, fit_temperature
from bc_model.evaluation.predictions import check_predictions
from bc_model.files import write_bytes_atomic

logger = logging.getLogger("bc_model.bundled")

FEWEST_FOLDS = 4
"""Without two of them, a penalty is still chosen by leaving one of the rest out."""

_VERSION = 2
"""Of what this file and `probe` do beside the recipe's numbers; raised with every change of it."""


class Told(NamedTuple):
    """What a network said of pictures that it has not seen.

    Attributes
    ----------
    logits : ndarray of shape (last penalties, n), float64
        Malignant minus benign, divided by the spread of the teacher's.
    penalty : float
        Of that teacher.
    """

    logits: np.ndarray
    penalty: float


class Nested:
    """The folds, with choices made inside.

    Parameters
    ----------
    source : Source
    folds : Folds
        Every picture in one of them.
    recipe : Recipe
        Of the small network, see `probe_of`.
    menu : Menu
    work : Path
        Keeps what each network said, so that a computation that is cut off goes on.
    processes : int
        That make views beside the one that learns.

    Raises
    ------
    SettingsError
        Fewer than `FEWEST_FOLDS` folds.
    """

    def __init__(
        self, source: Source, folds: Folds, recipe: Recipe, menu: Menu, work: Path,
        processes: int = 0,
    ) -> None:  # fmt: skip
        require_folds(recipe)
        self._source, self._folds, self._recipe = source, folds, recipe
        self._menu, self._work, self._processes = menu, work, processes

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
        for fold in range(self._recipe.n_folds):
            views, last_penalty, area, temperature = self._choose(fold)
            told = self.told((fold,), views)
            choices.append(Choice(fold, views, last_penalty, told.penalty, temperature.value, area))
            logger.info("%s", choices[-1])
            logit = told.logits[self._menu.last_penalties.index(last_penalty)]
            logits = np.stack([-logit, logit], axis=1) / 2.0
            table = self._source.table
            found.append(predictions_of_fold(table, self._folds, fold, logits, temperature))
        return check_predictions(pd.concat(found, ignore_index=True)), choices

    def told(self, without: tuple[int, ...], views: str) -> Told:
        """Learn without some folds and say what comes of it for them, or what is kept of last time.

        Parameters
        ----------
        without : tuple of int
        views : str
            A name of the menu.

        Returns
        -------
        Told
            Of the pictures of these folds, in the table's order.
        """
        out = np.isin(self._folds.of, without)
        recipe = dataclasses.replace(self._recipe, **self._menu.views[views])
        key = key_of(recipe, self._source.table, np.where(out, LEFT_OUT, self._folds.of))
        menu = f"{_VERSION} {self._menu.penalties} {self._menu.last_penalties}"
        key = hashlib.sha256(f"{key} {menu}".encode()).hexdigest()[:12]
        kept = self._work / f"nested-{'-'.join(map(str, sorted(without)))}-{key}.npz"
        if kept.exists():
            with np.load(kept, allow_pickle=False) as file:
                told = Told(file["logits"], float(file["penalty"]))
            if told.logits.shape == (len(self._menu.last_penalties), int(out.sum())):
                return told
        logger.info("chosen inside: without %s, %s views", " and ".join(map(str, without)), views)
        known = self._source.part(~out)
        penalty = choose_penalty(known, self._folds.of[~out], self._menu.penalties)
        seed = recipe.seed + 1 + min(without)
        told = self._learn(out, dataclasses.replace(recipe, penalty=penalty), seed)
        self._work.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        np.savez(stream, logits=told.logits, penalty=told.penalty)
        write_bytes_atomic(kept, stream.getvalue())
        return told

    def _learn(self, out: np.ndarray, recipe: Recipe, seed: int) -> Told:
        from bc_model.bundled.learner import learn
        from bc_model.bundled.settling import fit_line, hidden_units

        known = self._source.part(~out)
        model = learn(known, recipe, seed=seed, processes=self._processes)
        case = known.table["case"].to_numpy(str)
        teacher = Teacher.fit(known.descriptors, known.malignant, case, recipe.penalty)
        taught = teacher.logit(teacher.squashed(known.descriptors))
        hidden = hidden_units(model, self._source.pixels)
        lines = (fit_line(hidden[~out], taught, case, last) for last in self._menu.last_penalties)
        logits = np.stack([hidden[out] @ kernel + bias for kernel, bias in lines])
        return Told(logits / float(taught.std()), recipe.penalty)

    def _choose(self, fold: int) -> tuple[str, float, float, Temperature]:
        """Choose views and last penalty by the other folds; return area and temperature there.

        Each of them is judged by a network that knows neither it nor this fold.
        """
        from sklearn.metrics import roc_auc_score

        known = self._source.part(self._folds.of != fold)
        logits: dict[tuple[str, float], np.ndarray] = {}
        for views in self._menu.views:
            of_others = self._told_of_others(fold, views)
            for last, logit in zip(self._menu.last_penalties, of_others, strict=True):
                logits[views, last] = logit
        areas = {pair: float(roc_auc_score(known.malignant, x)) for pair, x in logits.items()}
        best = max(areas, key=areas.__getitem__)
        case = known.table["case"].to_numpy(str)
        temperature = fit_temperature(logits[best], known.malignant, case)
        return *best, areas[best], temperature

    def _told_of_others(self, fold: int, views: str) -> np.ndarray:
        """Return logits of all pictures but a fold's, shape (last penalties, n_known)."""
        of = self._folds.of
        logits = np.empty((len(self._menu.last_penalties), len(of)))
        for other in range(self._recipe.n_folds):
            if other != fold:
                out = np.isin(of, (fold, other))
                logits[:, of == other] = self.told((fold, other), views).logits[:, of[out] == other]
        return logits[:, of != fold]


def require_folds(recipe: Recipe) -> None:
    """Raise `SettingsError` where choices cannot be made inside the folds."""
    if recipe.n_folds < FEWEST_FOLDS:
        raise SettingsError(
            f"Settings are chosen inside the folds, which takes at least {FEWEST_FOLDS} of them; "
            f"asked for {recipe.n_folds}."
        )
