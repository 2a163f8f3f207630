"""What is chosen of the recipe, from what, and the choosing of the teacher's penalty."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from bc_model.bundled.recipe import PROBE, Recipe
from bc_model.bundled.source import Source
from bc_model.bundled.teacher import Teacher


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


def probe_of(recipe: Recipe) -> Recipe:
    """Return the recipe for the small network."""
    return dataclasses.replace(
        recipe, backbone=PROBE, steps=3000, batch_size=32, arithmetic="float32"
    )


def recipes_inside(networks: str, recipe: Recipe) -> tuple[Recipe, Recipe]:
    """Return the recipes of the networks that are judged inside the folds, and that choose there.

    Parameters
    ----------
    networks : {'small-chooses', 'small', 'full'}
        Small ones choose for those of the recipe, or for themselves; or those do both.
    recipe : Recipe
    """
    small = probe_of(recipe)
    return {
        "small-chooses": (recipe, small),
        "small": (small, small),
        "full": (recipe, recipe),
    }[networks]


def choose_penalty(source: Source, of: np.ndarray, penalties: tuple[float, ...]) -> float:
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
                source.descriptors[learned], malignant[learned], case[learned], penalty
            )
            logit[judged] = teacher.logit(teacher.squashed(source.descriptors[judged]))
        return float(roc_auc_score(malignant, logit))

    return max(sorted(penalties), key=area)
