"""A training run from folder to bundle: split, two phases, best weights, model, test figures."""

from __future__ import annotations

import gc
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bc_model.data.manifest import Manifest, read_manifest
from bc_model.data.names import CLASSES
from bc_model.data.picture_files import picture_files
from bc_model.data.pipeline import load_pixels, one_hot, training_size
from bc_model.data.splits import (
    LEAKY_PROTOCOLS,
    count_leaks,
    make_split,
    summarise_parts,
    write_split,
)
from bc_model.data.stain import are_grey
from bc_model.errors import BcModelError, RunError
from bc_model.evaluation.evaluate import evaluate_split
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.neighbours import training_features
from bc_model.evaluation.validation import FEATURES_FILE, calibrate_bundle
from bc_model.model import build_model, unfreeze
from bc_model.serving.bundle import Bundle
from bc_model.serving.engine import Engine
from bc_model.serving.export import check_bundle, write_bundle
from bc_model.serving.input_gate import stain_facts, strange_share
from bc_model.serving.known_pictures import KNOWN_FILE
from bc_model.serving.optimise import measure_parity
from bc_model.serving.passport import CardMetrics, StainStatistics, write_model_card
from bc_model.training.cache import check_room
from bc_model.training.callbacks import EndRequested, progress_of
from bc_model.training.checkpoint import load_weights, read_state, sweep
from bc_model.training.describe import describe_run, draft_model_card
from bc_model.training.distribute import strategy_for
from bc_model.training.feed import Part, cache_bytes
from bc_model.training.initial_model import all_known, known_at_first
from bc_model.training.phases import fit_phases
from bc_model.training.resume import require_unchanged
from bc_model.training.run_folder import RunFolder
from bc_model.training.settings import TrainSettings
from bc_model.words import many

logger = logging.getLogger("bc_model.training")


def train(
    settings: TrainSettings, run: RunFolder, *, resume: bool = False, accept_changes: bool = False
) -> Bundle | None:
    """Train, export and evaluate a model, and say everything in the run folder.

    Parameters
    ----------
    settings : TrainSettings
    run : RunFolder
        Fresh, from `RunFolder.create`, or with `resume` one that ended before it was done.
    resume : bool
        Go on after the run's last whole epoch, exactly as if it had never ended.
    accept_changes : bool
        Resume even though data, split or code are not what they were.

    Returns
    -------
    Bundle or None
        None when the run was cancelled, or stopped before its first epoch ended.

    Raises
    ------
    BcModelError
        The data, the weights or the settings cannot be used; the status then says 'failed'.
    """
    try:
        bundle = _train(settings, run, resume, accept_changes)
    except EndRequested as end:
        bundle = None
        asked = "Cancelled on request" if end.what == "cancel" else "Stopped"
    except BaseException as error:
        run.write_status("failed", message=str(error) or type(error).__name__)
        raise
    else:
        asked = "Stopped"
    if bundle is None:
        when = "; no model was made" if run.read_history() else " before its first epoch had ended"
        run.write_status("cancelled", message=f"{asked}{when}.")
    return bundle


def _train(
    settings: TrainSettings, run: RunFolder, resume: bool, accept_changes: bool
) -> Bundle | None:
    picture_files(Path(settings.data))  # what is not there should not cost a download of weights
    set_up_tensorflow(settings)
    keras.utils.set_random_seed(settings.seed)
    run.write_status("starting", message="Building the network")
    # Before the pictures: a download that fails or a block that is not there should not cost the
    # reading of a whole data set.
    strategy = strategy_for(settings)
    with strategy.scope():
        model = build_model(
            settings.backbone,
            image_size=settings.image_size,
            weights=settings.weights,
            dense_units=settings.dense_units,
            dropout=settings.dropout,
        )
        unfreeze(model, settings.resolved_unfreeze_from, train_batch_norm=settings.from_scratch)

    manifest = read_manifest(Path(settings.data), progress=progress_of(run, "Reading the data set"))
    split = make_split(
        manifest,
        settings.protocol,
        n_folds=settings.n_folds,
        fold=settings.fold,
        seed=settings.split_seed,
        folds_file=settings.folds_file,
    )
    write_split(split, run.split_file)
    with strategy.scope():
        config = describe_run(settings, manifest, run.split_file)
    if resume:
        sweep(run.state_file.parent)
        if not accept_changes:
            require_unchanged(run.read_config(), config, run)
        config["started"] = run.read_config().get("started", config["started"])
    run.write_config(config)
    state = read_state(run.state_file) if resume else None
    run.keep_history(state.epoch if state else 0)
    _log_split(manifest, split, settings.weights)
    if state:
        logger.info("Resumed after epoch %d", state.epoch)
    if settings.cache and not run.cache_folder.exists():
        # Found now, not after the pictures or the first phase. A resumed run has its room already.
        counts = (int((split["part"] == part).sum()) for part in ("train", "validation"))
        check_room(run.cache_folder, cache_bytes(model, settings, *counts))
    training = _load(run, manifest, split, "train", training_size(settings.image_size))
    grey = are_grey(training.pixels)
    validation = _load(run, manifest, split, "validation", settings.image_size)

    run.write_status("starting", message="Preparing the first batch")
    with strategy.scope():
        finished = fit_phases(model, settings, run, training, validation, state)
    del training  # the largest thing in memory, while the model's files are the next to be
    if run.requested() == "cancel":
        raise EndRequested("cancel")
    if not run.best_weights.exists():
        if not finished:
            return None
        raise RunError(
            "Training gave no finite validation loss in any epoch; lower the learning rates."
        )
    load_weights(run.best_weights, model)
    # From here on nothing is obeyed: a stop asks for what is being done anyway.
    run.write_status("running", message="Writing the model", phase="export")
    known = all_known(settings.weights, manifest, split)
    card = draft_model_card(settings, manifest, split, run, known, model.count_params())
    bundle = write_bundle(model, run.model_folder, card, {KNOWN_FILE: known.as_csv()})
    check_bundle(bundle, validation.pixels[:4])
    rows = split[split["part"] == "validation"]
    bundle = calibrate_bundle(bundle, rows, validation.pixels, run.evaluation_folder)
    bundle = measure_parity(bundle, validation.pixels, validation.labels[:, 1] == 1.0)
    del model, validation
    gc.collect()

    run.write_status("running", message="Evaluating on the test part", phase="evaluation")
    report = evaluate_split(Engine(bundle), manifest.root, split, part="test")
    report.write(run.evaluation_folder)
    stain = _seen_in_training(bundle, manifest.root, split, grey, run)
    card = replace(
        bundle.card,
        metrics=CardMetrics(test=report.summary()),
        input=replace(bundle.card.input, stain=stain),
    )
    write_model_card(bundle.folder, card)
    leaky = " (LEAKY)" if report.leaky else ""
    for name in ("accuracy", "balanced_accuracy", "roc_auc"):
        logger.info("test %s%s: %s", name.replace("_", " "), leaky, report.figures[name])
    for sentence in (*report.warnings, *report.notes):
        logger.info("note: %s", sentence)
    shutil.rmtree(run.cache_folder, ignore_errors=True)  # as large as all the rest a hundred times
    message = "" if finished else "Stopped on request; the best model so far was kept."
    run.write_status("done", message=message)
    logger.info("%s Model in %s", message or "Finished.", bundle.folder)
    return Bundle(bundle.folder, card)


def set_up_tensorflow(settings: TrainSettings) -> None:
    """Apply what holds for the whole process; it can be done once, before TensorFlow is used."""
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    if threads := settings.resolved_threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:
            logger.warning("TensorFlow was in use already; it keeps its number of threads.")


def _load(
    run: RunFolder, manifest: Manifest, split: pd.DataFrame, part: str, size: tuple[int, int]
) -> Part:
    rows = split[split["part"] == part]
    progress = progress_of(run, f"Loading the {part} part")
    pixels = load_pixels(manifest.root, list(rows["path"]), size, progress=progress)
    return Part(pixels, one_hot(rows["class"]))


def _seen_in_training(
    bundle: Bundle, root: Path, split: pd.DataFrame, grey: np.ndarray, run: RunFolder
) -> StainStatistics | None:
    """Keep the features that the error gallery compares with, and return what the gate does.

    A run does not fail for the lack of them.
    """
    run.write_status("running", message="Keeping what it sees in training", phase="evaluation")
    try:
        found = training_features(Engine(bundle), root, split, run.evaluation_folder)
    except (BcModelError, OSError) as error:
        logger.warning("The features of the training part were not kept: %s", error)
        return None
    facts = stain_facts(found.stain, grey)
    validation = FeatureTable.load(run.evaluation_folder / FEATURES_FILE, bundle.network)
    # Else it knows the cases of the validation part, or nobody can tell.
    if validation is not None and split["protocol"].iloc[0] not in LEAKY_PROTOCOLS:
        share = strange_share(validation.stain, facts)
        facts = replace(facts, out_of_distribution_proportion=share)
    return facts


def _cases(number: int) -> str:
    return many(number, "case") if number else "unknown cases"


def _log_split(manifest: Manifest, split: pd.DataFrame, weights: str) -> None:
    case = manifest.pictures["case"]
    logger.info(
        "%d pictures of %s cases; %d files left out",
        len(case), case[case != ""].nunique() or "unknown", len(manifest.rejected),
    )  # fmt: skip
    for part, counts in summarise_parts(split).items():
        logger.info(
            "%s: %s", part,
            ", ".join(
                f"{counts[c]} {c} of {_cases(counts[f'{c}_cases'])}" for c in CLASSES
            ),
        )  # fmt: skip
    protocol = split["protocol"].iloc[0]
    if protocol in LEAKY_PROTOCOLS:
        leak = count_leaks(split)
        logger.warning(
            "The protocol '%s' does not keep the pictures of a case on one side: here %d of %d "
            "test pictures have their case in training. Its figures are marked as leaky.",
            protocol, leak.test_pictures, leak.n_test,
        )  # fmt: skip
    if known := known_at_first(weights, manifest, split):
        logger.warning("%s", known)
