"""Build the bundled model: cross-validation, training on all images, and the model card."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

import bc_model
from bc_model.checks import make_check
from bc_model.data.breakhis import is_synthetic
from bc_model.data.splits import PROTOCOLS_WITH_LEAKAGE
from bc_model.data.stain import are_gray, stain_statistics
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.cross_validation import (
    Logits,
    Networks,
    fit_pooled_temperature,
    fold_logits,
    fold_predictions,
    out_of_fold_predictions,
)
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.folds import (
    EXCLUDED,
    Folds,
    case_folds,
    image_folds,
    is_test_image,
    official_folds,
)
from bc_model.distillation.imagenet import write_networks
from bc_model.distillation.input_fit import write_input_files
from bc_model.distillation.left_out import measure_left_out
from bc_model.distillation.nested_cv import SEARCH_SPACE, NestedCrossValidation, require_folds
from bc_model.distillation.view_pool import ViewPool
from bc_model.errors import ConfigError
from bc_model.evaluation.cross_validation import CROSS_VALIDATION_FILE, NESTED_CROSS_VALIDATION_FILE
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.predictions import predictions_to_csv
from bc_model.evaluation.report import EvaluationReport, require_predictions
from bc_model.evaluation.selective import OUT_OF_FOLD_IMAGES, summarize_selective
from bc_model.inference.bundle import BUNDLED_MODELS_DIR, Bundle, file_sha256
from bc_model.inference.export import write_half_precision_bundle
from bc_model.inference.input_checks import (
    measure_out_of_distribution_proportion,
    summarize_staining,
)
from bc_model.inference.model_card import (
    LIMITS,
    MODEL_CARD_FILE,
    Architecture,
    CardMetrics,
    DecisionThreshold,
    ModelCard,
    NestedResult,
    ProtocolResult,
    SearchSpace,
    StainStatistics,
    SubsetCounts,
    Temperature,
    TrainingData,
)
from bc_model.inference.seen_images import SEEN_IMAGES_FILE, SeenImages
from bc_model.jobs import is_name
from bc_model.training.provenance import describe_input, describe_license, describe_scale
from bc_model.utils.io import check_writable, write_text_atomic
from bc_model.utils.processor import require_tensorflow
from bc_model.utils.serialization import to_json

logger = logging.getLogger("bc_model.distillation")

DEFAULT_THRESHOLD = 0.5

_CARD_METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "roc_auc")


@dataclass(frozen=True)
class ProtocolLogits:
    """The logits under one protocol, of all folds or of one fold that shows the leakage effect.

    `teacher` are the logits of the teachers of the same folds.
    """

    folds: Folds
    logits: Logits
    teacher: Logits


def prepare_networks(
    root: Path, dataset_names: tuple[str, ...], extra_names: tuple[str, ...], work_dir: Path,
    config: DistillationConfig, n_processes: int = 0,
) -> Networks:  # fmt: skip
    """Read the images and make the training views.

    Parameters
    ----------
    root : Path
        Directory of the datasets.
    dataset_names, extra_names : tuple of str
        Evaluated datasets, and datasets for training views only; see `TrainingImages.read`.
    work_dir : Path
        Directory of intermediate results, from which an interrupted computation continues.
    config : DistillationConfig
    n_processes : int
        Number of worker processes that make views.

    Raises
    ------
    DataError, FolderNotFoundError
        The datasets cannot be used.
    ConfigError
        The networks with ImageNet weights are not installed.
    """
    source = TrainingImages.read(root, dataset_names, config.image_size, extra_names)
    write_networks(work_dir)
    pool = ViewPool.load_or_make(source, config, work_dir, n_processes)
    return Networks(source, pool, config, work_dir)


def build_bundled_model(
    networks: Networks, bundle_dir: Path, fold_file: Path | None,
    search_space: SearchSpace = SEARCH_SPACE,
) -> Bundle:  # fmt: skip
    """Cross-validate the configuration, train on all images, and write the model bundle.

    Parameters
    ----------
    networks : Networks
        From `prepare_networks`.
    bundle_dir : Path
        Directory of the bundle; replaced if it exists.
    fold_file : Path or None
        Official fold file.
    search_space : SearchSpace
        Search space of nested cross-validation.

    Returns
    -------
    Bundle

    Raises
    ------
    ConfigError
        The bundle cannot be written to this directory, there are too few folds for nested
        cross-validation, or the Keras backend is not TensorFlow.
    """
    require_buildable(bundle_dir, networks.config)
    source = networks.source
    _require_tissue(source, bundle_dir)
    results = cross_validate_protocols(networks, fold_file)
    nested_result, nested_predictions = nested_cross_validate(networks, search_space)
    model = networks.final_model()
    reports = protocol_reports(source.table, results)
    temperature = fit_pooled_temperature(source.table, results[0].folds, results[0].logits)
    card = bundled_model_card(
        bundle_dir.name, source, networks.config, results, reports, temperature,
        model.count_params(), nested_result,
    )  # fmt: skip
    measured = measure_left_out(networks, results[0].folds, card)
    metrics = replace(
        card.metrics, robustness=measured.robustness, explanations=measured.explanations
    )
    card = replace(card, metrics=metrics, precisions=measured.precisions)
    predictions = reports[0].predictions
    assert predictions is not None, "a new report has predictions"

    def complete(draft: Bundle) -> None:
        known = dict(zip(source.table["sha256"], source.table["dhash"], strict=True))
        tables = {
            CROSS_VALIDATION_FILE: predictions_to_csv(predictions),
            SEEN_IMAGES_FILE: SeenImages(known, is_complete=True).to_csv(),
            NESTED_CROSS_VALIDATION_FILE: predictions_to_csv(nested_predictions),
        }
        files = dict(draft.card.files)
        for name, text in tables.items():
            write_text_atomic(draft.folder / name, text)
            files[name] = file_sha256(draft.folder / name)
        write_input_files(replace(draft, card=replace(draft.card, files=files)), source)

    return write_half_precision_bundle(
        model, bundle_dir, card, source.pixels[:4], complete=complete
    )


def require_buildable(bundle_dir: Path, config: DistillationConfig) -> None:
    """Raise `ConfigError` as `build_bundled_model` does, before hours of work."""
    require_folds(config)
    _require_bundle_dir(bundle_dir)
    _require_tensorflow_backend()


def _require_bundle_dir(bundle_dir: Path) -> None:
    if not is_name(bundle_dir.name):
        raise ConfigError(
            f"Invalid model directory '{bundle_dir}'. Expected a name of letters, digits, '.', '_' "
            "and '-'. Use another directory."
        )
    check_writable(bundle_dir)
    has_card = (bundle_dir / MODEL_CARD_FILE).is_file()
    if bundle_dir.exists() and not has_card and any(bundle_dir.iterdir()):
        raise ConfigError(
            f"{bundle_dir} contains files that are not a model. Expected a model or an empty "
            "directory. Use another directory."
        )


def _require_tensorflow_backend() -> None:
    """Refuse another backend, which cannot export a model."""
    require_tensorflow()
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        raise ConfigError(
            f"KERAS_BACKEND is '{backend}'. Expected tensorflow, which the export requires. Train "
            "only with this backend, and build the model without the variable."
        )


def _require_tissue(source: TrainingImages, bundle_dir: Path) -> None:
    in_shipped = bundle_dir.resolve().parent == BUNDLED_MODELS_DIR
    if in_shipped and source.table["case"].map(is_synthetic).any():
        raise ConfigError(
            f"{bundle_dir} is the directory of the bundled model. Expected images of tissue, got "
            "synthetic images. Use another directory."
        )


def cross_validate_protocols(networks: Networks, fold_file: Path | None) -> list[ProtocolLogits]:
    """Cross-validate at case level, and train one fold of the other protocols for comparison.

    Parameters
    ----------
    networks : Networks
    fold_file : Path or None
        Official fold file, for two more protocols.

    Returns
    -------
    list of ProtocolLogits
        Case level first.
    """
    table, config = networks.source.table, networks.config
    others = [image_folds(table, config)]
    if fold_file:
        others += [official_folds(table, fold_file, clean=clean) for clean in (False, True)]
    plans = [(case_folds(table, config), range(config.n_folds))]
    plans += [(folds, range(1)) for folds in others]
    results = []
    for folds, numbers in plans:
        found = {k: fold_logits(networks, folds, k) for k in numbers}
        logits, teacher = ({k: pair[i] for k, pair in found.items()} for i in (0, 1))
        results.append(ProtocolLogits(folds, logits, teacher))
    return results


def teacher_correlation(result: ProtocolLogits) -> float:
    """Return the correlation of the logits of networks and teachers on images of other cases."""
    logits = np.concatenate([logit[:, 1] - logit[:, 0] for logit in result.logits.values()])
    return float(np.corrcoef(logits, np.concatenate(list(result.teacher.values())))[0, 1])


def nested_cross_validate(
    networks: Networks, search_space: SearchSpace
) -> tuple[NestedResult, pd.DataFrame]:
    """Return the result and the predictions of `NestedCrossValidation` at case level."""
    folds = case_folds(networks.source.table, networks.config)
    predictions, choices = NestedCrossValidation(networks, folds, search_space).run()
    report = evaluate_predictions(predictions, protocol="case", has_leakage=False)
    result = NestedResult(
        network=_describe_network(networks.config),
        search_space=search_space,
        choices=tuple(choices),
        n_folds=len(choices),
        n_images=report.n_images,
        n_cases=report.n_cases,
        metrics={name: report.metrics[name] for name in _CARD_METRICS},
    )
    return result, predictions


def protocol_reports(table: pd.DataFrame, results: list[ProtocolLogits]) -> list[EvaluationReport]:
    """Return a report for each protocol, case level first.

    At case level, the temperature of a fold is fitted on the other folds. The temperature of the
    other protocols is fitted on the case-level folds; for a leakage-free protocol, without the test
    cases.
    """
    by_case, *others = results
    reports = [
        evaluate_predictions(
            out_of_fold_predictions(table, by_case.folds, by_case.logits),
            protocol="case",
            has_leakage=False,
            checks=[make_check("BC212", n_folds=len(by_case.logits)), make_check("BC213")],
        )
    ]
    for result in others:
        ((fold, logits),) = result.logits.items()
        protocol = result.folds.protocol
        has_leakage = protocol in PROTOCOLS_WITH_LEAKAGE
        test_groups = table.loc[is_test_image(table, result.folds, fold), "group"]
        is_test_case = table["group"].isin(test_groups).to_numpy(bool)
        fitted_on = by_case if has_leakage else _exclude(table, by_case, is_test_case)
        temperature = fit_pooled_temperature(table, fitted_on.folds, fitted_on.logits)
        predictions = fold_predictions(table, result.folds, fold, logits, temperature)
        reports.append(
            evaluate_predictions(predictions, protocol=protocol, has_leakage=has_leakage)
        )
    return reports


def _exclude(table: pd.DataFrame, result: ProtocolLogits, mask: np.ndarray) -> ProtocolLogits:
    """Return the same folds without the images of a mask of shape (n,), bool."""
    kept = {fold: ~mask[is_test_image(table, result.folds, fold)] for fold in result.logits}
    logits, teacher = (
        {fold: values[kept[fold]] for fold, values in of.items()}
        for of in (result.logits, result.teacher)
    )
    assignment = np.where(mask, EXCLUDED, result.folds.assignment)
    return ProtocolLogits(Folds(result.folds.protocol, assignment), logits, teacher)


def bundled_model_card(
    name: str, source: TrainingImages, config: DistillationConfig, results: list[ProtocolLogits],
    reports: list[EvaluationReport], temperature: Temperature, n_parameters: int,
    nested: NestedResult | None = None,
) -> ModelCard:  # fmt: skip
    """Return the model card without its files."""
    table = source.table
    method = (
        "fitted by minimal log loss to the cross-validation predictions of "
        f"{reports[0].n_images:,} images "
        f"of {temperature.n_cases} cases, with equal weight per case"
    )
    main = table[~table["is_extra"]]
    magnifications = sorted(int(value) for value in main["magnification"].unique())
    n_cases = int(table["group"].nunique())
    synthetic = bool(table["case"].map(is_synthetic).any())
    assignment = pd.Series(results[0].folds.assignment, table.index).astype(str)
    return ModelCard(
        name=name,
        version=bc_model.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=Architecture(
            backbone=config.backbone,
            initial_weights="none",
            n_parameters=n_parameters,
            dense_units=(),
            config=to_json(config),
        ),
        input=replace(
            describe_input(config.backbone, config.image_size, main),
            stain=_summarize_stain(source.evaluated),
        ),
        scale=describe_scale(magnifications),
        data=TrainingData(
            dataset_sha256=_hash_lines(table["path"] + " " + table["sha256"]),
            split_sha256=_hash_lines(table["path"] + " " + assignment),
            protocol="case",
            has_leakage=False,
            n_images=SubsetCounts(train=len(table)),
            n_cases=SubsetCounts(train=n_cases),
            training_cases=tuple(sorted(set(table["case"]))),
            validation_cases=(),
            seen_images_complete=True,
            is_synthetic=synthetic,
            license=describe_license(synthetic, official=True),
        ),
        metrics=CardMetrics(
            test=reports[0].summary(),
            protocols=tuple(
                ProtocolResult(
                    protocol=report.protocol,
                    has_leakage=report.has_leakage,
                    n_folds=len(result.logits),
                    n_images=report.n_images,
                    n_cases=report.n_cases,
                    metrics={name: report.metrics[name] for name in _CARD_METRICS},
                )
                for result, report in zip(results, reports, strict=True)
            ),
            nested=nested,
            teacher_correlation=teacher_correlation(results[0]),
            selective=summarize_selective(
                require_predictions(reports[0]),
                images=OUT_OF_FOLD_IMAGES,
                threshold=DEFAULT_THRESHOLD,
                target_risk=config.target_risk,
            ),
        ),
        threshold=DecisionThreshold(DEFAULT_THRESHOLD, "default, not selected on images"),
        temperature=replace(temperature, method=method),
        limits=f"{LIMITS} The bundled model was trained on only {n_cases} cases. Its metrics are "
        f"from a case-level cross-validation of {reports[0].n_cases} of these cases. Its training "
        "targets are the logits of linear models of color, texture and general visual features, so "
        "it probably relies on them more than on single cells.",
    )


def _summarize_stain(source: TrainingImages) -> StainStatistics:
    """Return the stain statistics, and how often the input check warns for a left-out case."""
    stain, gray = stain_statistics(source.pixels), are_gray(source.pixels)
    n_unusual = 0.0
    for left_out in (source.case == case for case in np.unique(source.case)):
        statistics = summarize_staining(stain[~left_out], gray[~left_out])
        proportion = measure_out_of_distribution_proportion(stain[left_out], statistics)
        n_unusual += proportion * left_out.sum()
    proportion = float(n_unusual / len(stain))
    return replace(summarize_staining(stain, gray), out_of_distribution_proportion=proportion)


def _describe_network(config: DistillationConfig) -> str:
    return (
        "networks trained like the bundled model, whose last layer has the selected options "
        f"({config.steps:,} steps of {config.batch_size} augmented views)"
    )


def _hash_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
