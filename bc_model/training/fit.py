"""A training run from folder to bundle: split, two phases, best weights, model, test figures."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bc_model.data.manifest import Manifest, read_manifest
from bc_model.data.names import CLASSES
from bc_model.data.pipeline import (
    class_weights,
    load_pixels,
    one_hot,
    training_dataset,
    training_size,
    validation_dataset,
)
from bc_model.data.splits import (
    LEAKY_PROTOCOLS,
    count_leaks,
    make_split,
    summarise_parts,
    write_split,
)
from bc_model.errors import RunError
from bc_model.evaluation.evaluate import evaluate_split
from bc_model.model import build_model, freeze, unfreeze
from bc_model.serving.bundle import Bundle
from bc_model.serving.engine import Engine
from bc_model.serving.export import check_bundle, write_bundle
from bc_model.serving.optimise import measure_parity
from bc_model.serving.passport import write_passport
from bc_model.training.callbacks import (
    HEARTBEAT_S,
    EndRequested,
    Phase,
    RunReporter,
    StateKeeper,
    obey,
)
from bc_model.training.checkpoint import TrainState, load_weights, read_state, restore_state
from bc_model.training.describe import describe_run, draft_passport
from bc_model.training.resume import require_unchanged
from bc_model.training.run_folder import RunFolder
from bc_model.training.settings import TrainSettings

logger = logging.getLogger("bc_model.training")

FINETUNE_EPOCH_COST = 3.0
"""What an epoch of phase two costs, in epochs of phase one; only for the first guess of time."""


PHASE_TITLES = {"head": "frozen backbone", "finetune": "fine-tuning"}


@dataclass(frozen=True)
class _Part:
    pixels: np.ndarray
    labels: np.ndarray


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
    set_up_tensorflow(settings)
    keras.utils.set_random_seed(settings.seed)
    run.write_status("starting", message="Building the network")
    # Before the pictures: a download that fails or a block that is not there should not cost the
    # reading of a whole data set.
    model = build_model(
        settings.backbone,
        image_size=settings.image_size,
        weights=settings.weights,
        dense_units=settings.dense_units,
        dropout=settings.dropout,
    )
    unfreeze(model, settings.resolved_unfreeze_from, train_batch_norm=settings.from_scratch)

    manifest = read_manifest(Path(settings.data), progress=_progress(run, "Reading the data set"))
    split = make_split(
        manifest,
        settings.protocol,
        n_folds=settings.n_folds,
        fold=settings.fold,
        seed=settings.split_seed,
    )
    write_split(split, run.split_file)
    config = describe_run(settings, manifest, run.split_file)
    if resume:
        if not accept_changes:
            require_unchanged(run.read_config(), config, run)
        config["started"] = run.read_config().get("started", config["started"])
    run.write_config(config)
    state = read_state(run.state_file) if resume else None
    run.keep_history(state.epoch if state else 0)
    _log_split(manifest, split)
    if state:
        logger.info("Resumed after epoch %d", state.epoch)
    training = _load(run, manifest, split, "train", training_size(settings.image_size))
    validation = _load(run, manifest, split, "validation", settings.image_size)

    run.write_status("starting", message="Preparing the first batch")
    finished = _fit_phases(model, settings, run, training, validation, state)
    if not run.best_weights.exists():
        if not finished:
            return None
        raise RunError(
            "Training gave no finite validation loss in any epoch; lower the learning rates."
        )
    load_weights(run.best_weights, model)
    # From here on a stop asks for what is being done anyway: the best model, kept.
    run.write_status("running", message="Writing the model", phase="export")
    passport = draft_passport(settings, manifest, split, run, model.count_params())
    bundle = write_bundle(model, run.model_folder, passport)
    check_bundle(bundle, validation.pixels[:4])
    bundle = measure_parity(bundle, validation.pixels, validation.labels[:, 1] == 1.0)
    del model, training, validation
    gc.collect()

    run.write_status("running", message="Evaluating on the test part", phase="evaluation")
    report = evaluate_split(Engine(bundle), manifest.root, split, part="test")
    report.write(run.evaluation_folder)
    figures = {key: value for key, value in report.as_dict().items() if key != "roc"}
    passport = bundle.passport | {"metrics": {"test": figures}}
    write_passport(bundle.folder, passport)
    for name in ("accuracy", "balanced_accuracy", "roc_auc"):
        logger.info("test %s: %s", name.replace("_", " "), report.figures[name])
    message = "" if finished else "Stopped on request; the best model so far was kept."
    run.write_status("done", message=message)
    logger.info("%s Model in %s", message or "Finished.", bundle.folder)
    return Bundle(bundle.folder, passport)


def _progress(run: RunFolder, doing: str) -> Callable[[int, int], None]:
    """Return a callback that tells the run folder of a count, and ends it when asked to."""
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > HEARTBEAT_S:
            last = time.monotonic()
            message = f"{doing}: {done} of {total} pictures"
            obey(run, lambda state: run.write_status(state, message=message))
            run.write_status("starting", message=message)

    return tell


def set_up_tensorflow(settings: TrainSettings) -> None:
    """Apply what holds for the whole process; it can be done once, before TensorFlow is used."""
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    if settings.threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
            tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
        except RuntimeError:
            logger.warning("TensorFlow was in use already; it keeps its number of threads.")


def _fit_phases(
    model: keras.Model,
    settings: TrainSettings,
    run: RunFolder,
    training: _Part,
    validation: _Part,
    state: TrainState | None,
) -> bool:
    """Run both phases, or what is left of them; False when the run was stopped on request."""
    best_loss = state.best_loss if state else None
    done = 0
    for name, epochs in (("head", settings.head_epochs), ("finetune", settings.finetune_epochs)):
        if epochs == 0:
            continue
        resumed = state if state and state.phase == name else None
        if name == "head" and state and state.phase == "finetune":
            done = state.phase_first_epoch
            continue
        # A phase that ends early leaves no gap: the next one goes on counting where it ended.
        later = settings.finetune_epochs if name == "head" else 0
        phase = Phase(
            name, PHASE_TITLES[name], done, done + epochs, done + epochs + later,
            later * FINETUNE_EPOCH_COST,
        )  # fmt: skip
        if phase.name == "head":
            freeze(model)
            rate = settings.head_learning_rate
        else:
            if best_loss is not None and resumed is None:
                load_weights(run.best_weights, model)
            unfreeze(
                model,
                settings.resolved_unfreeze_from,
                train_batch_norm=settings.from_scratch,
            )
            rate = settings.resolved_finetune_rate
        model.compile(
            optimizer=keras.optimizers.Adam(rate),
            loss=keras.losses.CategoricalCrossentropy(),
            metrics=["accuracy"],
        )
        if resumed:
            restore_state(run.state_file, model)
        if not (resumed and resumed.phase_over):
            try:
                best_loss = _fit(
                    model, settings, run, phase, training, validation, best_loss, resumed
                )
            except EndRequested as end:
                if end.what == "stop":
                    return False
                raise
        done = len(run.read_history())
        if done < phase.last_epoch:
            logger.info(
                "%s ended early: no lower validation loss for %d epochs",
                phase.title, settings.patience,
            )  # fmt: skip
    return True


def _fit(
    model: keras.Model,
    settings: TrainSettings,
    run: RunFolder,
    phase: Phase,
    training: _Part,
    validation: _Part,
    best_loss: float | None,
    resumed: TrainState | None,
) -> float | None:
    first_epoch = resumed.epoch if resumed else phase.first_epoch
    dataset = training_dataset(
        training.pixels,
        training.labels,
        settings.image_size,
        batch_size=settings.batch_size,
        seed=settings.seed,
        first_epoch=first_epoch,
        last_epoch=phase.last_epoch,
    )
    counting = {
        "plateau": keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss", factor=1 / 3, patience=max(1, settings.patience // 2)
        ),
        "stopping": keras.callbacks.EarlyStopping(monitor="val_loss", patience=settings.patience),
    }
    keeper = StateKeeper(run, phase, model, best_loss, counting, resumed)
    model.fit(
        dataset,
        validation_data=validation_dataset(
            validation.pixels, validation.labels, batch_size=settings.batch_size
        ),
        initial_epoch=first_epoch,
        epochs=phase.last_epoch,
        steps_per_epoch=-(-len(training.pixels) // settings.batch_size),
        class_weight=class_weights(training.labels),
        shuffle=False,  # the data set shuffles by (seed, epoch)
        verbose=0,
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            RunReporter(run, phase),
            *counting.values(),
            keeper,
        ],
    )
    return keeper.best_loss


def _load(
    run: RunFolder, manifest: Manifest, split: pd.DataFrame, part: str, size: tuple[int, int]
) -> _Part:
    rows = split[split["part"] == part]
    progress = _progress(run, f"Loading the {part} part")
    pixels = load_pixels(manifest.root, list(rows["path"]), size, progress=progress)
    return _Part(pixels, one_hot(rows["class"]))


def _log_split(manifest: Manifest, split: pd.DataFrame) -> None:
    logger.info(
        "%d pictures, %d cases; %d files left out",
        len(manifest.pictures), manifest.pictures["case"].nunique(), len(manifest.rejected),
    )  # fmt: skip
    for part, counts in summarise_parts(split).items():
        logger.info(
            "%s: %s", part,
            ", ".join(f"{counts[c]} {c} of {counts[f'{c}_cases']} cases" for c in CLASSES),
        )  # fmt: skip
    protocol = split["protocol"].iloc[0]
    if protocol in LEAKY_PROTOCOLS:
        leak = count_leaks(split)
        logger.warning(
            "The protocol '%s' is leaky: %d of %d test pictures have their case in training. "
            "Figures from it flatter.",
            protocol, leak.test_pictures, leak.n_test,
        )  # fmt: skip
