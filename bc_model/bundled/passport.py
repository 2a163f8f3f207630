"""What the model in the box says of itself: the figures are those of the recipe, and say so."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

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
from bc_model.data.names import is_drawn
from bc_model.data.protocols import LEAKY_PROTOCOLS
from bc_model.data.stain import are_grey, stain_statistics
from bc_model.evaluation.report import Report, evaluate_predictions
from bc_model.serving.input_gate import stain_facts, strange_share
from bc_model.serving.passport import (
    LIMITS,
    Architecture,
    CardMetrics,
    DecisionThreshold,
    FoldChoice,
    ModelCard,
    NestedResult,
    ProtocolResult,
    SearchSpace,
    StainStatistics,
    SubsetCounts,
    Temperature,
    TrainingData,
)
from bc_model.training.describe import input_facts, licence_words, scale_facts
from bc_model.utils.metric import Figure
from bc_model.utils.serialization import to_json

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


def bundled_model_card(
    name: str,
    source: Source,
    recipe: Recipe,
    judged: list[Judged],
    reports: list[Report],
    temperature: Temperature,
    n_parameters: int,
    chosen_inside: ChosenInside | None = None,
) -> ModelCard:
    """Return the model card, without its files.

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
    method = (
        f"{temperature.method.replace('validation ', '')}; of each picture by the model of its "
        "fold, which had not seen its case"
    )
    magnifications = sorted(int(value) for value in table["magnification"].unique())
    n_cases = int(table["group"].nunique())
    drawn = bool(table["case"].map(is_drawn).any())
    return ModelCard(
        name=name,
        version=bc_model.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=Architecture(
            backbone=recipe.backbone,
            initial_weights="none",
            n_parameters=n_parameters,
            dense_units=(recipe.hidden_units,),
            config=to_json(recipe),
        ),
        input=replace(input_facts(recipe.backbone, recipe.image_size, table), stain=_stain(source)),
        scale=scale_facts(magnifications),
        data=TrainingData(
            dataset_sha256=_hash(table["path"] + " " + table["sha256"]),
            split_sha256=_hash(table["path"] + " " + by_case.folds.of.astype(str)),
            protocol="case",
            has_leakage=False,
            n_images=SubsetCounts(train=len(table)),
            n_cases=SubsetCounts(train=n_cases),
            training_cases=tuple(sorted(set(table["case"]))),
            validation_cases=(),
            seen_images_complete=True,
            is_synthetic=drawn,
            license=licence_words(drawn, official=True),
        ),
        metrics=CardMetrics(
            test=reports[0].summary(),
            protocols=tuple(
                ProtocolResult(
                    protocol=report.protocol,
                    has_leakage=report.leaky,
                    n_folds=len(one.logits),
                    n_images=report.n,
                    n_cases=report.n_cases,
                    metrics=_shown(report),
                )
                for one, report in zip(judged, reports, strict=True)
            ),
            nested=_nested(chosen_inside) if chosen_inside else None,
        ),
        threshold=DecisionThreshold(0.5, "default; not chosen on any pictures"),
        temperature=replace(temperature, method=method),
        limits=f"{LIMITS} It learned from {n_cases} cases alone, and its figures are those of a "
        "cross-validation by case over them. It was taught by a linear model over statistics of "
        "colour and texture beside the labels, and presumably goes by these and not by single "
        "cells.",
    )


def _stain(source: Source) -> StainStatistics:
    """Return what the input gate needs, and how often it warns of a case that was left out."""
    stain, case = stain_statistics(source.pixels), source.table["case"].to_numpy(str)
    grey = are_grey(source.pixels)
    strange = 0.0
    for left_out in (case == one for one in np.unique(case)):
        facts = stain_facts(stain[~left_out], grey[~left_out])
        strange += strange_share(stain[left_out], facts) * left_out.sum()
    proportion = float(strange / len(case))
    return replace(stain_facts(stain, grey), out_of_distribution_proportion=proportion)


def _shown(report: Report) -> dict[str, Figure]:
    return {name: report.figures[name] for name in _SHOWN}


def _nested(inside: ChosenInside) -> NestedResult:
    """Return the search space, the choice of each fold and the metrics of nested validation."""
    report = evaluate_predictions(inside.predictions, protocol="case", leaky=False)
    itself = inside.chooser == inside.recipe
    return NestedResult(
        network=_network_words(inside.recipe),
        selected_by="" if itself else _network_words(inside.chooser),
        search_space=SearchSpace(**vars(inside.menu)),
        choices=tuple(FoldChoice(**vars(choice)) for choice in inside.choices),
        n_folds=len(inside.choices),
        n_images=report.n,
        n_cases=report.n_cases,
        metrics=_shown(report),
    )


def _network_words(recipe: Recipe) -> str:
    itself = "networks learned as this one but for what was chosen"
    network = PROBE_IN_WORDS if recipe.backbone == PROBE else itself
    return f"{network} ({recipe.steps:,} steps of {recipe.batch_size} views)"


def _hash(lines: pd.Series) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
