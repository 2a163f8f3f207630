"""Judging the choosing: cross-validation with settings of the recipe chosen inside the folds.

For each fold of cases four things are chosen by what is left: the teacher's penalty, how strange
the views are, the penalty of the last layer, and the temperature. A network that learned without
two folds says how well a choice does on either of them, for a verdict about the other one, and
knows neither. Varma and Simon, "Bias in error estimation when using cross-validation for model
selection", BMC Bioinformatics 7:91, 2006.

Networks are pooled here, and each penalty of a last layer shrinks logits to another spread about
their mean. So they are brought to the teacher's mean and spread over the pictures that the network
learned from, and told in units of that spread, in which teachers differ threefold.

It takes many networks to choose, so that a small one (`proxy`) may do so for ResNet50, which is
then judged with what was chosen, by one network a fold. Their temperature is that of the small ones
too, so it says little of how well the large ones' probabilities hold.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bc_model.distillation.config import PROXY, DistillationConfig
from bc_model.distillation.cross_validation import LEFT_OUT, Folds, key_of, predictions_of_fold
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.teacher import Teacher
from bc_model.errors import ConfigError
from bc_model.evaluation.calibration import case_weights, fit_temperature
from bc_model.evaluation.predictions import check_predictions
from bc_model.inference.model_card import Temperature
from bc_model.utils.io import write_bytes_atomic


@dataclass(frozen=True)
class SearchGrid:
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


SEARCH_SPACE = SearchGrid(
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
        Of logits in the teacher's standard deviations.
    roc_auc_of_others : float
        Of the choice, on the folds it was chosen on: flattered, and not the figure of this fold.
    """

    fold: int
    views: str
    last_penalty: float
    penalty: float
    temperature: float
    roc_auc_of_others: float


def proxy_config(config: DistillationConfig) -> DistillationConfig:
    """Return the recipe for the small network."""
    return dataclasses.replace(
        config, backbone=PROXY, steps=3000, batch_size=32, compute_dtype="float32"
    )


def nested_configs(
    networks: str, config: DistillationConfig
) -> tuple[DistillationConfig, DistillationConfig]:
    """Return the recipes of the networks that are judged inside the folds, and that choose there.

    Parameters
    ----------
    networks : {'small-chooses', 'small', 'full'}
        Small ones choose for those of the recipe, or for themselves; or those do both.
    recipe : Recipe
    """
    small = proxy_config(config)
    return {
        "small-chooses": (config, small),
        "small": (small, small),
        "full": (config, config),
    }[networks]


def choose_penalty(source: TrainingImages, of: np.ndarray, penalties: tuple[float, ...]) -> float:
    """Return the teacher's penalty that does best when each fold of its pictures is left out.

    Parameters
    ----------
    source : Source
    of : ndarray of int, shape (n,)
        Fold of each picture.
    penalties : tuple of float

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
            learned, judged = of != fold, of == fold
            teacher = Teacher.fit(
                source.features[learned], malignant[learned], case[learned], penalty
            )
            logit[judged] = teacher.logit(teacher.normalized(source.features[judged]))
        return float(roc_auc_score(malignant, logit))

    return max(sorted(penalties), key=area)


logger = logging.getLogger("bc_model.distillation")

FEWEST_FOLDS = 4
"""Without two of them, a penalty is still chosen by leaving one of the rest out."""

_VERSION = 3
"""Of how networks come about here and in `proxy`: raised when the same recipe learns another."""


class Learned(NamedTuple):
    """What is kept of a network: enough to fit its last layer anew.

    Attributes
    ----------
    hidden : ndarray of shape (n, hidden units), float32
        Its hidden layer for every picture of the table, in the table's order.
    penalty : float
        Of its teacher.
    """

    hidden: np.ndarray
    penalty: float


class Told(NamedTuple):
    """What a network said of pictures that it has not seen.

    Attributes
    ----------
    logits : ndarray of shape (last penalties, n), float64
        Malignant minus benign, in the teacher's standard deviations.
    penalty : float
        Of its teacher.
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
        Of the networks that are judged, one a fold.
    menu : Menu
    work : Path
        Keeps what each network learned, so that a computation that is cut off goes on.
    processes : int
        That make views beside the one that learns.
    chooser : Recipe
        Of the networks that choose, one for each two folds and each kind of views; `proxy_of`
        gives small ones.

    Raises
    ------
    ConfigError
        Fewer than `FEWEST_FOLDS` folds.
    """

    def __init__(
        self, source: TrainingImages, folds: Folds, config: DistillationConfig, search_space: SearchGrid, work: Path,
        processes: int = 0, *, chooser: DistillationConfig,
    ) -> None:  # fmt: skip
        require_folds(config)
        self._source, self._folds = source, folds
        self._recipe, self._chooser = config, chooser
        self._search_space, self._work, self._processes = search_space, work, processes

    def predictions(self) -> tuple[pd.DataFrame, list[Choice]]:
        """Choose for each fold without it, learn without it, and judge its pictures.

        Returns
        -------
        predictions : DataFrame
            As `cross_validated_predictions` returns it.
        choices : list of Choice
            By fold.
        """
        found, choices = [], []
        for fold in range(self._recipe.n_folds):
            views, last_penalty, area, temperature = self._choose(fold)
            told = self.told((fold,), views)
            choices.append(Choice(fold, views, last_penalty, told.penalty, temperature.value, area))
            logger.info("%s", choices[-1])
            logit = told.logits[self._search_space.last_penalties.index(last_penalty)]
            logits = np.stack([-logit, logit], axis=1) / 2.0
            table = self._source.table
            found.append(predictions_of_fold(table, self._folds, fold, logits, temperature))
        return check_predictions(pd.concat(found, ignore_index=True)), choices

    def told(self, without: tuple[int, ...], views: str) -> Told:
        """Return what a network without some folds says of them, with each last penalty.

        Parameters
        ----------
        without : tuple of int
            One of them for a network that is judged, two for one that chooses.
        views : str
            A name of the menu.

        Returns
        -------
        Told
            Of the pictures of these folds, in the table's order.
        """
        from bc_model.distillation.student import fit_line

        out = np.isin(self._folds.of, without)
        hidden, penalty = self._learned(without, views)
        known = self._source.select(~out)
        case = known.table["case"].to_numpy(str)
        teacher = Teacher.fit(known.features, known.malignant, case, penalty)
        taught = teacher.logit(teacher.normalized(known.features))
        weight = case_weights(case)
        mean = weight @ taught  # and of what any line says: ridge leaves the intercept alone

        def spread(logit: np.ndarray) -> float:
            return float(np.sqrt(weight @ (logit - mean) ** 2))

        told = []
        for last_penalty in self._search_space.last_penalties:
            kernel, bias = fit_line(hidden[~out], taught, case, last_penalty)
            logit = hidden @ kernel + bias
            told.append(mean / spread(taught) + (logit[out] - mean) / spread(logit[~out]))
        return Told(np.stack(told), penalty)

    def _learned(self, without: tuple[int, ...], views: str) -> Learned:
        """Learn without some folds, or return what is kept of last time."""
        table = self._source.table
        out = np.isin(self._folds.of, without)
        config = self._recipe if len(without) == 1 else self._chooser
        config = dataclasses.replace(config, **self._search_space.views[views])
        key = key_of(config, table, np.where(out, LEFT_OUT, self._folds.of))
        key = hashlib.sha256(
            f"{key} {_VERSION} {self._search_space.penalties}".encode()
        ).hexdigest()[:12]
        kept = self._work / f"nested-{'-'.join(map(str, sorted(without)))}-{key}.npz"
        if kept.exists():
            with np.load(kept, allow_pickle=False) as file:
                learned = Learned(file["hidden"], float(file["penalty"]))
            if learned.hidden.shape == (len(table), config.hidden_units):
                return learned
        logger.info("chosen inside: without %s, %s views", " and ".join(map(str, without)), views)
        draft = kept.with_suffix(".draft.npz")
        learned = self._learn(out, config, config.seed + 1 + min(without), draft)
        self._work.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        np.savez(stream, **learned._asdict())
        write_bytes_atomic(kept, stream.getvalue())
        return learned

    def _learn(
        self, out: np.ndarray, config: DistillationConfig, seed: int, draft: Path
    ) -> Learned:
        from bc_model.distillation.student import hidden_units, learn

        known = self._source.select(~out)
        penalty = choose_penalty(known, self._folds.of[~out], self._search_space.penalties)
        config = dataclasses.replace(config, penalty=penalty)
        model = learn(known, config, seed=seed, processes=self._processes, draft=draft)
        return Learned(hidden_units(model, self._source.pixels), penalty)

    def _choose(self, fold: int) -> tuple[str, float, float, Temperature]:
        """Choose views and last penalty by the other folds; return area and temperature there.

        Each of them is judged by a network that knows neither it nor this fold.
        """
        from sklearn.metrics import roc_auc_score

        known = self._source.select(self._folds.of != fold)
        logits: dict[tuple[str, float], np.ndarray] = {}
        for views in self._search_space.views:
            of_others = self._told_of_others(fold, views)
            for last, logit in zip(self._search_space.last_penalties, of_others, strict=True):
                logits[views, last] = logit
        areas = {pair: float(roc_auc_score(known.malignant, x)) for pair, x in logits.items()}
        best = max(areas, key=areas.__getitem__)
        case = known.table["case"].to_numpy(str)
        temperature = fit_temperature(logits[best], known.malignant, case)
        return *best, areas[best], temperature

    def _told_of_others(self, fold: int, views: str) -> np.ndarray:
        """Return logits of all pictures but a fold's, shape (last penalties, n_known)."""
        of = self._folds.of
        logits = np.empty((len(self._search_space.last_penalties), len(of)))
        for other in range(self._recipe.n_folds):
            if other != fold:
                out = np.isin(of, (fold, other))
                logits[:, of == other] = self.told((fold, other), views).logits[:, of[out] == other]
        return logits[:, of != fold]


def require_folds(config: DistillationConfig) -> None:
    """Raise `ConfigError` where choices cannot be made inside the folds."""
    if config.n_folds < FEWEST_FOLDS:
        raise ConfigError(
            f"Settings are chosen inside the folds, which takes at least {FEWEST_FOLDS} of them; "
            f"asked for {config.n_folds}."
        )
