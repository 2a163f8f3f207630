"""The whole way of the model in the box, from pictures to a bundle with its model card."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import bc_model
from bc_model.checks import make_check
from bc_model.data.breakhis import is_synthetic
from bc_model.data.splits import PROTOCOLS_WITH_LEAKAGE
from bc_model.data.stain import are_gray, stain_statistics
from bc_model.distillation.config import PROXY, PROXY_IN_WORDS, DistillationConfig
from bc_model.distillation.cross_validation import (
    LEARNED,
    LEFT_OUT,
    Folds,
    Logits,
    case_folds,
    cross_validated_predictions,
    fold_logits,
    image_folds,
    key_of,
    official_folds,
    predictions_of_fold,
    temperature_of,
)
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.nested_cv import (
    SEARCH_SPACE,
    Choice,
    Nested,
    SearchGrid,
    nested_configs,
    require_folds,
)
from bc_model.errors import ConfigError
from bc_model.evaluation.cross_validation import CHOSEN_INSIDE_FILE, CROSS_VALIDATED_FILE
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.predictions import predictions_to_csv
from bc_model.evaluation.report import Report
from bc_model.inference.bundle import SHIPPED_MODELS, Bundle, file_sha256
from bc_model.inference.export import write_half_precision_bundle
from bc_model.inference.input_checks import stain_statistics_summary, unusual_stain_proportion
from bc_model.inference.model_card import (
    LIMITS,
    MODEL_CARD_FILE,
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
    write_model_card,
)
from bc_model.inference.quantization import measure_parity
from bc_model.inference.seen_images import SEEN_IMAGES_FILE, SeenImages
from bc_model.jobs import is_name
from bc_model.training.provenance import input_facts, license_words, scale_facts
from bc_model.utils.io import require_place, write_text_atomic
from bc_model.utils.metric import Metric
from bc_model.utils.serialization import to_json

if TYPE_CHECKING:
    import keras


logger = logging.getLogger("bc_model.distillation")


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
class NestedSelection:
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

    config: DistillationConfig
    chooser: DistillationConfig
    search_space: SearchGrid
    predictions: pd.DataFrame
    choices: list[Choice]


def cross_validate_protocols(
    source: TrainingImages,
    config: DistillationConfig,
    work: Path,
    folds_file: Path | None,
    processes: int = 0,
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
    by_case = case_folds(source.table, config)
    plans = [(by_case, range(config.n_folds)), (image_folds(source.table, config), range(1))]
    if folds_file:
        plans += [
            (official_folds(source.table, folds_file, clean=clean), range(1))
            for clean in (False, True)
        ]
    return [
        Judged(
            folds,
            {fold: fold_logits(source, folds, fold, config, work, processes) for fold in of},
        )
        for folds, of in plans
    ]


def nested_cross_validate(
    source: TrainingImages,
    config: DistillationConfig,
    search_space: SearchGrid,
    work: Path,
    processes: int = 0,
    *,
    chooser: DistillationConfig,
) -> NestedSelection:
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
    folds = case_folds(source.table, config)
    nested = Nested(source, folds, config, search_space, work, processes, chooser=chooser)
    return NestedSelection(config, chooser, search_space, *nested.predictions())


def train_on_all(
    source: TrainingImages, config: DistillationConfig, work: Path, processes: int = 0
) -> keras.Model:
    """Learn from every picture, or take what was learned last time.

    Returns
    -------
    keras.Model
        With the recipe's input size.
    """
    from bc_model.distillation.student import build_network, learn

    everything = np.full(len(source.table), LEARNED)
    kept = work / f"all-{key_of(config, source.table, everything)}.weights.h5"
    if kept.exists():
        model = build_network(config, config.image_size)
        model.load_weights(kept)
        return model
    logger.info("all %d pictures", len(source.table))
    model = learn(
        source, config, seed=config.seed, processes=processes, draft=kept.with_suffix(".draft.npz")
    )
    work.mkdir(parents=True, exist_ok=True)
    written = kept.with_name(f".{kept.name}")
    model.save_weights(written)
    written.replace(kept)
    return model


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
            cross_validated_predictions(table, by_case.folds, by_case.logits),
            protocol="case",
            has_leakage=False,
            checks=[make_check("BC212", n_folds=folds), make_check("BC213")],
        )
    ]
    for one in others:
        ((fold, logits),) = one.logits.items()
        protocol = one.folds.protocol
        has_leakage = protocol in PROTOCOLS_WITH_LEAKAGE
        tested = table["group"].isin(table.loc[one.folds.of == fold, "group"]).to_numpy(bool)
        model_selection = by_case if has_leakage else _without(by_case, tested)
        temperature = temperature_of(table, model_selection.folds, model_selection.logits)
        predictions = predictions_of_fold(table, one.folds, fold, logits, temperature)
        reports.append(
            evaluate_predictions(predictions, protocol=protocol, has_leakage=has_leakage)
        )
    return reports


def _without(judged: Judged, left_out: np.ndarray) -> Judged:
    """Return the same folds without some pictures, shape (n,) of bool."""
    of = judged.folds.of
    logits = {fold: one[~left_out[of == fold]] for fold, one in judged.logits.items()}
    return Judged(Folds(judged.folds.protocol, np.where(left_out, LEFT_OUT, of)), logits)


def bundled_model_card(
    name: str,
    source: TrainingImages,
    config: DistillationConfig,
    judged: list[Judged],
    reports: list[Report],
    temperature: Temperature,
    n_parameters: int,
    nested_selection: NestedSelection | None = None,
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
    nested_selection : NestedSelection, optional
    """
    by_case, table = judged[0], source.table
    method = (
        f"{temperature.method.replace('validation ', '')}; of each picture by the model of its "
        "fold, which had not seen its case"
    )
    magnifications = sorted(int(value) for value in table["magnification"].unique())
    n_cases = int(table["group"].nunique())
    synthetic = bool(table["case"].map(is_synthetic).any())
    return ModelCard(
        name=name,
        version=bc_model.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=Architecture(
            backbone=config.backbone,
            initial_weights="none",
            n_parameters=n_parameters,
            dense_units=(config.hidden_units,),
            config=to_json(config),
        ),
        input=replace(input_facts(config.backbone, config.image_size, table), stain=_stain(source)),
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
            is_synthetic=synthetic,
            license=license_words(synthetic, official=True),
        ),
        metrics=CardMetrics(
            test=reports[0].summary(),
            protocols=tuple(
                ProtocolResult(
                    protocol=report.protocol,
                    has_leakage=report.has_leakage,
                    n_folds=len(one.logits),
                    n_images=report.n,
                    n_cases=report.n_cases,
                    metrics=_shown(report),
                )
                for one, report in zip(judged, reports, strict=True)
            ),
            nested=_nested(nested_selection) if nested_selection else None,
        ),
        threshold=DecisionThreshold(0.5, "default; not chosen on any pictures"),
        temperature=replace(temperature, method=method),
        limits=f"{LIMITS} It learned from {n_cases} cases alone, and its figures are those of a "
        "cross-validation by case over them. It was taught by a linear model over statistics of "
        "colour and texture beside the labels, and presumably goes by these and not by single "
        "cells.",
    )


def _stain(source: TrainingImages) -> StainStatistics:
    """Return what the input gate needs, and how often it warns of a case that was left out."""
    stain, case = stain_statistics(source.pixels), source.table["case"].to_numpy(str)
    gray = are_gray(source.pixels)
    unusual = 0.0
    for left_out in (case == one for one in np.unique(case)):
        facts = stain_statistics_summary(stain[~left_out], gray[~left_out])
        unusual += unusual_stain_proportion(stain[left_out], facts) * left_out.sum()
    proportion = float(unusual / len(case))
    return replace(stain_statistics_summary(stain, gray), out_of_distribution_proportion=proportion)


def _shown(report: Report) -> dict[str, Metric]:
    return {name: report.metrics[name] for name in _SHOWN}


def _nested(inside: NestedSelection) -> NestedResult:
    """Return the search space, the choice of each fold and the metrics of nested validation."""
    report = evaluate_predictions(inside.predictions, protocol="case", has_leakage=False)
    itself = inside.chooser == inside.config
    return NestedResult(
        network=_network_words(inside.config),
        selected_by="" if itself else _network_words(inside.chooser),
        search_space=SearchSpace(**vars(inside.search_space)),
        choices=tuple(FoldChoice(**vars(choice)) for choice in inside.choices),
        n_folds=len(inside.choices),
        n_images=report.n,
        n_cases=report.n_cases,
        metrics=_shown(report),
    )


def _network_words(config: DistillationConfig) -> str:
    itself = "networks learned as this one but for what was chosen"
    network = PROXY_IN_WORDS if config.backbone == PROXY else itself
    return f"{network} ({config.steps:,} steps of {config.batch_size} views)"


def _hash(lines: pd.Series) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def build_bundled_model(
    root: Path,
    sets: tuple[str, ...],
    folder: Path,
    work: Path,
    folds_file: Path | None,
    config: DistillationConfig | None = None,
    processes: int = 0,
    search_space: SearchGrid | None = SEARCH_SPACE,
    inside: tuple[DistillationConfig, DistillationConfig] | None = None,
) -> Bundle:
    """Judge the recipe, learn from everything, and write the bundle.

    Parameters
    ----------
    root : Path
        Folder that holds the sets.
    sets : tuple of str
    folder : Path
        Of the bundle; replaced when it exists.
    work : Path
        Keeps what each fold came to.
    folds_file : Path or None
        An official fold file.
    recipe : Recipe, optional
    processes : int
        That make views beside the one that learns.
    menu : Menu or None
        Judge the choosing from it as well; five folds and two kinds of views take 25 networks.
    inside : (Recipe, Recipe), optional
        Of these; default are `recipes_inside` with small ones that choose.

    Raises
    ------
    DataError, FolderNotFoundError
        The sets cannot be used.
    ConfigError
        Too few folds to choose inside them; the bundle cannot be put there, or would replace the
        one that comes with the program by one of drawn pictures; or Keras computes with another
        backend than TensorFlow, from which alone a graph can be served.
    """
    _require_name_and_room(folder)
    _require_tensorflow()
    config = config or DistillationConfig()
    judged_inside, chooser = inside or nested_configs("small-chooses", config)
    if search_space:
        require_folds(judged_inside)
    source = TrainingImages.read(root, sets, config.image_size)
    _require_tissue(source, folder)
    judged = cross_validate_protocols(source, config, work, folds_file, processes)
    nested_selection = None
    if search_space:
        nested_selection = nested_cross_validate(
            source, judged_inside, search_space, work, processes, chooser=chooser
        )
    model = train_on_all(source, config, work, processes)
    reports = judged_reports(source.table, judged)
    temperature = temperature_of(source.table, judged[0].folds, judged[0].logits)
    card = bundled_model_card(
        folder.name, source, config, judged, reports, temperature, model.count_params(),
        nested_selection,
    )  # fmt: skip
    predictions = reports[0].predictions
    assert predictions is not None, "a report that was just made has them"

    def complete(draft: Bundle) -> None:
        draft = measure_parity(draft, source.pixels, source.malignant)
        known = dict(zip(source.table["sha256"], source.table["dhash"], strict=True))
        tables = {
            CROSS_VALIDATED_FILE: predictions_to_csv(predictions),
            SEEN_IMAGES_FILE: SeenImages(known, whole=True).as_csv(),
        }
        if nested_selection:
            tables[CHOSEN_INSIDE_FILE] = predictions_to_csv(nested_selection.predictions)
        files = dict(draft.card.files)
        for name, text in tables.items():
            write_text_atomic(draft.folder / name, text)
            files[name] = file_sha256(draft.folder / name)
        write_model_card(draft.folder, replace(draft.card, files=files))

    return write_half_precision_bundle(model, folder, card, source.pixels[:4], complete=complete)


def _require_tensorflow() -> None:
    """Refuse what could learn for hours and then not be served."""
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        raise ConfigError(
            f"A model is written with Keras on TensorFlow; KERAS_BACKEND is '{backend}'. Learn "
            "with --learn-only, then run the command again without the variable."
        )


def _require_tissue(source: TrainingImages, folder: Path) -> None:
    if folder.resolve().parent == SHIPPED_MODELS and source.table["case"].map(is_synthetic).any():
        raise ConfigError(
            f"{folder} holds what comes with the program, which knows tissue; these pictures are "
            "drawn. Name another folder with --out."
        )


def _require_name_and_room(folder: Path) -> None:
    """Refuse a place for the bundle before hours of work, not after."""
    if not is_name(folder.name):
        raise ConfigError(
            f"The folder of a model has a name of letters, digits and -._ alone; asked for "
            f"'{folder}'."
        )
    require_place(folder)
    if folder.exists() and not (folder / MODEL_CARD_FILE).is_file() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} holds something else than a model and would be replaced; choose another one."
        )
