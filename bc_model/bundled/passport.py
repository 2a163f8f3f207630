"""What the model in the box says of itself: the figures are those of the recipe, and say so."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

import bc_model
from bc_model.bundled.cross_validation import (
    LEFT_OUT,
    Folds,
    crossed_predictions,
    predictions_of_fold,
    temperature_of,
)
from bc_model.bundled.make import ChosenInside, Judged
from bc_model.bundled.recipe import PROBE, PROBE_IN_WORDS, Recipe
from bc_model.bundled.source import Source
from bc_model.checks import make_check
from bc_model.data.names import CLASSES, is_drawn
from bc_model.data.protocols import LEAKY_PROTOCOLS
from bc_model.data.stain import are_grey, stain_statistics
from bc_model.evaluation.calibration import Temperature
from bc_model.evaluation.report import Report, evaluate_predictions
from bc_model.serving.input_gate import stain_facts, strange_share
from bc_model.serving.passport import INTENDED_USE, LIMITS, SCHEMA_VERSION
from bc_model.training.describe import input_facts, licence_words, scale_facts

_SHOWN = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "roc_auc")


def judged_reports(table: pd.DataFrame, judged: list[Judged]) -> list[Report]:
    """Return a report for each protocol, the one by case first.

    By case, the temperature is fitted for each fold on the other folds. For the single fold of
    another protocol it is fitted on the folds by case, and for an honest one on the pictures of
    other cases than its own.
    """
    by_case, *others = judged
    folds = len(by_case.logits)
    reports = [
        evaluate_predictions(
            crossed_predictions(table, by_case.folds, by_case.logits),
            protocol="case",
            leaky=False,
            checks=[make_check("BC212", n_folds=folds), make_check("BC213")],
        )
    ]
    for one in others:
        ((fold, logits),) = one.logits.items()
        protocol = one.folds.protocol
        leaky = protocol in LEAKY_PROTOCOLS
        tested = table["group"].isin(table.loc[one.folds.of == fold, "group"]).to_numpy(bool)
        choosing = by_case if leaky else _without(by_case, tested)
        temperature = temperature_of(table, choosing.folds, choosing.logits)
        predictions = predictions_of_fold(table, one.folds, fold, logits, temperature)
        reports.append(evaluate_predictions(predictions, protocol=protocol, leaky=leaky))
    return reports


def _without(judged: Judged, left_out: np.ndarray) -> Judged:
    """Return the same folds without some pictures, shape (n,) of bool."""
    of = judged.folds.of
    logits = {fold: one[~left_out[of == fold]] for fold, one in judged.logits.items()}
    return Judged(Folds(judged.folds.protocol, np.where(left_out, LEFT_OUT, of)), logits)


def box_passport(
    name: str,
    source: Source,
    recipe: Recipe,
    judged: list[Judged],
    reports: list[Report],
    temperature: Temperature,
    n_parameters: int,
    chosen_inside: ChosenInside | None = None,
) -> dict[str, Any]:
    """Return the passport, without its files.

    Parameters
    ----------
    name : str
    source : Source
    recipe : Recipe
    judged : list of Judged
    reports : list of Report
        In the same order, the one by case first.
    temperature : Temperature
        Of all the folds by case.
    n_parameters : int
    chosen_inside : ChosenInside, optional
    """
    by_case, table = judged[0], source.table
    warmth = temperature.as_dict()
    warmth["chosen"] = (
        f"{warmth['chosen'].replace('validation ', '')}; of each picture by the model of its fold, "
        "which had not seen its case"
    )
    magnifications = sorted(int(value) for value in table["magnification"].unique())
    n_cases = int(table["group"].nunique())
    drawn = bool(table["case"].map(is_drawn).any())
    none = {"validation": 0, "test": 0}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "version": bc_model.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "architecture": {
            "backbone": recipe.backbone,
            "initial_weights": "none",
            "dense_units": [recipe.hidden_units],
            "dropout": 0.0,
            "parameters": n_parameters,
            "recipe": recipe.as_dict(),
        },
        "classes": list(CLASSES),
        "input": input_facts(recipe.backbone, recipe.image_size, table)
        | {"statistics": _stain(source)},
        "scale": scale_facts(magnifications),
        "data": {
            "manifest_sha256": _hash(table["path"] + " " + table["sha256"]),
            "split_sha256": _hash(table["path"] + " " + by_case.folds.of.astype(str)),
            "protocol": "case",
            "leaky": False,
            "pictures": {"train": len(table), **none},
            "cases": {"train": n_cases, **none},
            "training_cases": sorted(set(table["case"])),
            "validation_cases": [],
            "all_known_listed": True,
            "drawn": drawn,
            "licence": licence_words(drawn, official=True),
        },
        "metrics": {
            "test": reports[0].summary(),
            "protocols": [
                {"protocol": report.protocol, "leaky": report.leaky}
                | _figures(report, len(one.logits))
                for one, report in zip(judged, reports, strict=True)
            ],
        }
        | ({"chosen_inside": _chosen(chosen_inside)} if chosen_inside else {}),
        "threshold": {
            "value": 0.5,
            "chosen": "default; not chosen on any pictures",
        },
        "temperature": warmth,
        "precisions": {},
        "intended_use": INTENDED_USE,
        "limits": f"{LIMITS} It learned from {n_cases} cases alone, and its figures are those of a "
        "cross-validation by case over them. It was taught by a linear model over statistics of "
        "colour and texture beside the labels, and presumably goes by these and not by single "
        "cells.",
    }


def _stain(source: Source) -> dict[str, Any]:
    """Return what the input gate needs, and how often it warns of a case that was left out."""
    stain, case = stain_statistics(source.pixels), source.table["case"].to_numpy(str)
    grey = are_grey(source.pixels)
    strange = 0.0
    for left_out in (case == one for one in np.unique(case)):
        facts = stain_facts(stain[~left_out], grey[~left_out])
        strange += strange_share(stain[left_out], facts) * left_out.sum()
    return stain_facts(stain, grey) | {"strange_share": float(strange / len(case))}


def _figures(report: Report, folds: int) -> dict[str, Any]:
    return {
        "folds": folds,
        "n": report.n,
        "n_cases": report.n_cases,
        "figures": {name: report.figures[name].as_dict() for name in _SHOWN},
    }


def _chosen(inside: ChosenInside) -> dict[str, Any]:
    """Return what the choosing came to, what was on offer, and what was chosen for each fold."""
    report = evaluate_predictions(inside.predictions, protocol="case", leaky=False)
    itself = inside.chooser == inside.recipe
    return {
        "network": _network_words(inside.recipe),
        **({} if itself else {"chosen_by": _network_words(inside.chooser)}),
        "offered": dataclasses.asdict(inside.menu),
        "choices": [dataclasses.asdict(choice) for choice in inside.choices],
    } | _figures(report, len(inside.choices))


def _network_words(recipe: Recipe) -> str:
    itself = "networks learned as this one but for what was chosen"
    network = PROBE_IN_WORDS if recipe.backbone == PROBE else itself
    return f"{network} ({recipe.steps:,} steps of {recipe.batch_size} views)"


def _hash(lines: pd.Series) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
