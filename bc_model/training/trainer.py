"""Train a model: from a dataset to a model bundle and its evaluation on the test subset.

`Trainer` runs the stages of a training run. Importing this module loads TensorFlow.
"""

from __future__ import annotations

import functools
import gc
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bc_model.utils.processor import require_tensorflow

require_tensorflow()  # Before the import, which ends the process on other processors.

# isort: split
import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bc_model.data.breakhis import CLASSES
from bc_model.data.dataset import Dataset, load_dataset
from bc_model.data.images import crop_to_field, is_enlarged, list_image_files, read_image
from bc_model.data.pipeline import class_weights, load_pixels, one_hot, training_size
from bc_model.data.registry import find_images_dir
from bc_model.data.splits import (
    PROTOCOLS_WITH_LEAKAGE,
    count_leakage,
    make_split,
    summarize_subsets,
    write_split,
)
from bc_model.data.stain import are_gray
from bc_model.errors import BcModelError, ModelError, RunError
from bc_model.evaluation.calibration import VALIDATION_FEATURES_FILE, calibrate_bundle
from bc_model.evaluation.error_analysis import compute_training_features
from bc_model.evaluation.evaluate import evaluate_split
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.report import EvaluationReport
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine
from bc_model.inference.export import check_bundle, write_bundle
from bc_model.inference.input_checks import (
    measure_out_of_distribution_proportion,
    summarize_staining,
)
from bc_model.inference.input_reference import (
    MAX_REFERENCE_IMAGES,
    MIN_REFERENCE_CASES,
    add_input_reference,
)
from bc_model.inference.model_card import StainStatistics, write_model_card
from bc_model.inference.quantization import measure_parity
from bc_model.inference.scale_check import (
    add_scale_estimator,
    choose_frames,
    fit_scale_estimator,
)
from bc_model.inference.seen_images import SEEN_IMAGES_FILE
from bc_model.jobs import hold_job
from bc_model.model import build_model, freeze_backbone, reference_logits, unfreeze_from
from bc_model.training.callbacks import (
    EndRequested,
    Phase,
    RunReporter,
    StateWriter,
    make_progress_callback,
)
from bc_model.training.checkpoint import (
    TrainState,
    delete_temporary_files,
    load_weights,
    read_state,
    restore_state,
)
from bc_model.training.config import TrainingConfig
from bc_model.training.devices import make_strategy, resolve_compute_dtype, use_compute_dtype
from bc_model.training.feature_cache import check_disk_space
from bc_model.training.initial_weights import (
    check_initialization_leakage,
    collect_seen_images,
    load_initial_weights,
)
from bc_model.training.inputs import (
    PhaseInputs,
    Subset,
    count_cache_bytes,
    make_cached_inputs,
    make_image_inputs,
    trained_model,
)
from bc_model.training.provenance import describe_run, draft_model_card
from bc_model.training.resume import require_unchanged
from bc_model.training.run import Run
from bc_model.training.run_queue import resolve_paths
from bc_model.utils.formatting import format_count
from bc_model.utils.io import describe_error

logger = logging.getLogger("bc_model.training")

STAGES = ("build_model", "prepare_data", "train_head", "fine_tune", "export", "evaluate")
"""Methods of `Trainer`, in the order in which they must be called."""

FINETUNE_EPOCH_COST = 3.0
"""Duration of a fine-tuning epoch in head-training epochs, for the first estimate of the time."""

N_COMPARED_IMAGES = 16
LOGIT_NOISE = 1e-6
"""Logits that differ less, relative to the largest or to 1, are equal in float32."""

PHASE_TITLES = {"head": "frozen backbone", "finetune": "fine-tuning"}


def train(
    config: TrainingConfig,
    run_dir: str | Path | Run,
    *,
    resume: bool = False,
    accept_changes: bool = False,
) -> Run:
    """Train, export and evaluate a model in this process.

    Parameters
    ----------
    config : TrainingConfig
        The configuration of the run.
    run_dir : str, Path or Run
        The run directory. A path must be new or empty, unless `resume` is True.
    resume : bool
        Continue after the last completed epoch, with the results of an uninterrupted run.
    accept_changes : bool
        Resume even if the data, the split or the code have changed.

    Returns
    -------
    Run
        The run with the status 'done', or 'canceled' if the end was requested before there was a
        model. Its bundle is in `Run.model_dir`, its report in `Run.evaluation_dir`.

    Raises
    ------
    BcModelError
        The data, the weights or the configuration cannot be used. The run has the status 'failed'.

    See Also
    --------
    Trainer : Run single stages.
    start_run : Train in a process of its own.

    Examples
    --------
    >>> run = train(TrainingConfig("BreaKHis_v1"), "runs/my-run")  # doctest: +SKIP
    >>> run.model_dir  # doctest: +SKIP
    PosixPath('runs/my-run/model')
    """
    if isinstance(run_dir, Run):
        run = run_dir
    else:
        config = resolve_paths(config)
        run = Run.open(Path(run_dir)) if resume else Run.create(Path(run_dir), config)
    with hold_job(run):
        Trainer(config, run, resume=resume, accept_changes=accept_changes).run()
    return run


def _stage(method: Callable[[Trainer], None]) -> Callable[[Trainer], None]:
    """Let a method of `Trainer` run only after the stages before it."""

    @functools.wraps(method)
    def run_in_order(self: Trainer) -> None:
        name = method.__name__
        expected = (*STAGES, None)[len(self.completed_stages)]
        if name != expected:
            raise RunError(
                f"Invalid stage '{name}'. Expected "
                + (f"'{expected}'" if expected else "no stage after the last one")
                + f" after {list(self.completed_stages)}. "
                f"Call the stages in the order {', '.join(STAGES)}."
            )
        method(self)
        self.completed_stages += (name,)

    return run_in_order


class Trainer:
    """A training run in stages.

    `run` calls the stages in the order of `STAGES` and writes the status of the run. Single stages
    can be called instead, for example in a notebook or a test.

    Parameters
    ----------
    config : TrainingConfig
        The configuration of the run.
    run_dir : Run
        A new run from `Run.create`, or with `resume` one that has not finished.
    resume, accept_changes : bool
        As for `train`. A resumed run repeats the fast stages and restores the training state.

    Attributes
    ----------
    completed_stages : tuple of str
    stopped : bool
        True after the user has stopped the training early.
    diverged_epoch : int or None
        The last epoch whose loss is not finite.
    strategy : tf.distribute.Strategy
        The devices that share each batch. Set by `build_model`.
    model : keras.Model
        Set by `build_model`, trained in place, deleted by `export`.
    dataset, split : Dataset, DataFrame
        Set by `prepare_data`. The split has one row per image, as in ``split.csv``.
    training, validation : Subset
        Set by `prepare_data`. `fine_tune` deletes the first, `export` the second, to free memory.
    training_is_gray : ndarray of shape (n_training,), bool
        True for each grayscale training image. Set by `prepare_data`.
    bundle : Bundle
        The exported model. Set by `export`, replaced by `evaluate`.

    Examples
    --------
    >>> trainer = Trainer(config, Run.create(Path("runs/my-run")))  # doctest: +SKIP
    >>> trainer.build_model()  # doctest: +SKIP
    >>> trainer.prepare_data()  # doctest: +SKIP
    >>> trainer.train_head()  # doctest: +SKIP
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    dataset: Dataset
    split: pd.DataFrame
    training: Subset
    validation: Subset
    training_is_gray: np.ndarray
    bundle: Bundle

    def __init__(
        self, config: TrainingConfig, run_dir: Run, *, resume: bool = False,
        accept_changes: bool = False,
    ) -> None:  # fmt: skip
        self.config = config
        self.run_dir = run_dir
        self.resume = resume
        self.accept_changes = accept_changes
        self.completed_stages: tuple[str, ...] = ()
        self.stopped = False
        self.diverged_epoch: int | None = None

    def run(self) -> None:
        """Run all stages and write the final status of the run."""
        try:
            # The model comes first, because it fails faster than reading an entire dataset.
            self.build_model()
            self.prepare_data()
            self.train_head()
            self.fine_tune()
            self.export()
            self.evaluate()
            self._finish()
        except EndRequested as end:
            self._write_canceled(end)
        except BaseException as error:
            message, name = describe_error(error), type(error).__name__
            with suppress(OSError):  # The disk may be full, and the error is more important.
                self.run_dir.write_status("failed", message=message, error=name)
            raise

    @_stage
    def build_model(self) -> None:
        """Build the model with its initial weights, and check that fine-tuning can start."""
        config = self.config
        # A missing dataset should not cost a download of weights.
        list_image_files(find_images_dir(config.data))
        _configure_tensorflow(config)
        keras.utils.set_random_seed(config.seed)
        self.run_dir.write_status("starting", message="Building the model")
        self.strategy = make_strategy(config)
        with self.strategy.scope():
            self.model = build_model(
                config.backbone, image_size=config.image_size,
                weights=load_initial_weights(config.weights), dense_units=config.dense_units,
                dropout=config.dropout,
            )  # fmt: skip
            self._unfreeze()

    @_stage
    def prepare_data(self) -> None:
        """Read and split the dataset, and load the training and validation images.

        Writes ``split.csv`` and ``config.json``. Raises `RunError` if a resumed run has changed, if
        a new run has a training state already, or if the disk is too small for the feature cache.
        """
        self._read_split()
        self._write_config()
        state = read_state(self.run_dir.state_file)
        self.run_dir.truncate_history(state.epoch if state else 0)
        _log_split(self.dataset, self.split, self.config.weights)
        if state:
            logger.info("Resumed after epoch %d", state.epoch)
        self._check_cache_space()
        self.training = self._load_subset("train", training_size(self.config.image_size))
        self.training_is_gray = are_gray(self.training.pixels)
        self.validation = self._load_subset("validation", self.config.image_size)
        self.run_dir.write_status("starting", message="Preparing the first batch")

    @_stage
    def train_head(self) -> None:
        """Train the head on the frozen backbone.

        Writes ``history.jsonl``, the training state and the best weights after each epoch. Does
        nothing without head epochs, or if a resumed run has reached fine-tuning.
        """
        state = read_state(self.run_dir.state_file)
        if self.config.head_epochs == 0 or (state and state.phase == "finetune"):
            return
        with self.strategy.scope():
            freeze_backbone(self.model)
            self._train_phase("head", self.config.head_learning_rate, state)

    @_stage
    def fine_tune(self) -> None:
        """Train the head and the last blocks, starting from the best weights of head training.

        Writes the same files as `train_head`. Does nothing without fine-tuning epochs, or if the
        run was stopped. Deletes the training images from memory.
        """
        if self.config.finetune_epochs and not self.stopped:
            state = read_state(self.run_dir.state_file)
            with self.strategy.scope():
                if state and state.phase == "head" and state.best_loss is not None:
                    load_weights(self.run_dir.best_weights, self.model)
                self._unfreeze()
                self._train_phase("finetune", self.config.resolved_finetune_rate, state)
        del self.training  # The largest object in memory; `export` writes the next largest.

    @_stage
    def export(self) -> None:
        """Write the bundle of the model with the lowest validation loss, and calibrate it.

        Writes ``model/``. Deletes the model and the validation images from memory. Raises
        `EndRequested` after a cancel request, or after a stop request before the first epoch.
        """
        config, run_dir, validation = self.config, self.run_dir, self.validation
        if run_dir.requested_action() == "cancel":
            raise EndRequested("cancel")
        if not run_dir.best_weights.exists():
            if self.stopped:
                raise EndRequested("stop")
            raise RunError(
                f"The loss of epoch {self.diverged_epoch or 1} is not finite. Expected a finite "
                "loss in at least one epoch, got none. Use lower learning rates."
            )
        load_weights(run_dir.best_weights, self.model)
        require_varying_logits(self.model, validation.pixels)
        # From here on, requests are ignored, because the run ends soon.
        run_dir.write_status("running", message="Writing the model", phase="export")
        seen = collect_seen_images(config.weights, self.dataset, self.split)
        n_parameters = self.model.count_params()
        card = draft_model_card(config, self.dataset, self.split, run_dir, seen, n_parameters)
        bundle = write_bundle(
            self.model, run_dir.model_dir, card, {SEEN_IMAGES_FILE: seen.to_csv()}
        )
        check_bundle(bundle, validation.pixels[:4])
        rows = self.split[self.split["subset"] == "validation"]
        bundle = calibrate_bundle(bundle, rows, validation.pixels, run_dir.evaluation_dir)
        is_malignant = validation.labels[:, CLASSES.index("malignant")] == 1.0
        self.bundle = measure_parity(bundle, validation.pixels, is_malignant)
        del self.model, self.validation
        gc.collect()

    @_stage
    def evaluate(self) -> None:
        """Evaluate the model on the test subset, and add the metrics to its bundle."""
        run_dir, bundle = self.run_dir, self.bundle
        run_dir.write_status("running", message="Evaluating the test subset", phase="evaluation")
        report = evaluate_split(Engine(bundle), self.dataset.root, self.split, subset="test")
        report.save(run_dir.evaluation_dir)
        card = replace(
            bundle.card,
            metrics=replace(bundle.card.metrics, test=report.summary()),
            input=replace(bundle.card.input, stain=self._training_statistics()),
        )
        write_model_card(bundle.folder, card)
        self.bundle = self._add_input_reference(Bundle(bundle.folder, card))
        self.bundle = self._add_scale_estimator(self.bundle)
        _log_report(report)

    def _finish(self) -> None:
        # The cached features are about a hundred times as large as the rest of the run directory.
        shutil.rmtree(self.run_dir.cache_dir, ignore_errors=True)
        message = "Stopped on request with the best model so far." if self.stopped else ""
        if self.diverged_epoch and not message:
            message = (
                f"Training ended in epoch {self.diverged_epoch}, because its loss is not finite. "
                "The model is the best one of the epochs before."
            )
        self.run_dir.write_status("done", message=message)
        logger.info("%s Model in %s", message or "Finished.", self.bundle.folder)

    def _write_canceled(self, end: EndRequested) -> None:
        verb = "Canceled" if end.action == "cancel" else "Stopped"
        when = "" if self.run_dir.read_history() else " before the end of the first epoch"
        self.run_dir.write_status("canceled", message=f"{verb} on request{when}, without a model.")

    def _unfreeze(self) -> None:
        block, from_scratch = self.config.resolved_unfreeze_from, self.config.from_scratch
        unfreeze_from(self.model, block, train_batch_norm=from_scratch)

    def _read_split(self) -> None:
        config = self.config
        progress = self._make_loading_callback("Reading the dataset")
        self.dataset = load_dataset(config.data, rules=config.rules, progress=progress)
        self.split = make_split(
            self.dataset, config.protocol, n_folds=config.n_folds, test_fold=config.test_fold,
            seed=config.split_seed, official_fold_file=config.official_fold_file,
        )  # fmt: skip
        write_split(self.split, self.run_dir.split_file)

    def _write_config(self) -> None:
        run_dir = self.run_dir
        with self.strategy.scope():
            record = describe_run(self.config, self.dataset, run_dir.split_file)
        if self.resume:
            delete_temporary_files(run_dir.state_file.parent)
            before = run_dir.read_config()
            if not self.accept_changes:
                require_unchanged(before, record, run_dir)
            record["started"] = before.get("started", record["started"])
        elif run_dir.state_file.exists():
            raise RunError(
                f"{run_dir.title} has a training state already. Expected a new run directory, got "
                f"{run_dir.path}. Resume this run, or use a new directory."
            )
        run_dir.write_config(record)

    def _check_cache_space(self) -> None:
        """Check the disk space before images are read; a resumed run has used it already."""
        directory = self.run_dir.cache_dir
        if self.config.cache_features and not directory.exists():
            counts = (int((self.split["subset"] == name).sum()) for name in ("train", "validation"))
            check_disk_space(directory, count_cache_bytes(self.model, self.config, *counts))

    def _load_subset(self, name: str, size: tuple[int, int]) -> Subset:
        rows = self.split[self.split["subset"] == name]
        progress = self._make_loading_callback(f"Loading the {name} subset")
        pixels = load_pixels(self.dataset.root, list(rows["path"]), size, progress=progress)
        return Subset(pixels, one_hot(rows["class"]))

    def _make_loading_callback(self, description: str) -> Callable[[int, int], None]:
        # If there is a best model, a stop request waits for the first batch, which leads to the
        # export of this model. Before that, there is nothing to export.
        has_model = self.run_dir.best_weights.exists()
        return make_progress_callback(self.run_dir, description, can_stop=not has_model)

    def _train_phase(self, name: str, rate: float, state: TrainState | None) -> None:
        """Train until a new or resumed phase ends, or set `stopped`."""
        epochs = self.config.head_epochs if name == "head" else self.config.finetune_epochs
        resumed = state if state and state.phase == name else None
        # After a phase that ended early, the next phase continues its epoch numbers.
        first_epoch = resumed.phase_first_epoch if resumed else len(self.run_dir.read_history())
        if resumed and resumed.phase_over:
            # The next phase needs its weights and the seeds of its dropout layers.
            model = trained_model(self.model, name, self.config)
            _compile(model, rate)
            restore_state(self.run_dir.state_file, model)
        else:
            try:
                inputs = self._make_inputs(name)
                _compile(inputs.model, rate)
                if resumed:
                    restore_state(self.run_dir.state_file, inputs.model)
                phase = _make_phase(name, first_epoch, self.config, inputs)
                self._fit(inputs, phase, resumed, state.best_loss if state else None)
            except EndRequested as end:
                if end.action != "stop":
                    raise
                self.stopped = True
                return
        if len(self.run_dir.read_history()) < first_epoch + epochs:
            logger.info(
                "%s ended early: no lower validation loss for %d epochs",
                PHASE_TITLES[name], self.config.patience,
            )  # fmt: skip

    def _make_inputs(self, phase: str) -> PhaseInputs:
        arguments = self.config, self.training, self.validation
        if self.config.cache_features:
            message = "Computing the features of the {} subset"
            callbacks = {
                name: make_progress_callback(self.run_dir, message.format(name))
                for name in ("training", "validation")
            }
            inputs = make_cached_inputs(
                self.model, phase, *arguments, self.run_dir.cache_dir, callbacks
            )
            if inputs:
                return inputs
        return make_image_inputs(self.model, *arguments)

    def _fit(
        self, inputs: PhaseInputs, phase: Phase, resumed: TrainState | None, best_loss: float | None
    ) -> None:
        patience = self.config.patience
        counting = {
            "plateau": keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss", factor=1 / 3, patience=max(1, patience // 2)
            ),
            "stopping": keras.callbacks.EarlyStopping(monitor="val_loss", patience=patience),
        }
        reporter = RunReporter(self.run_dir, phase)
        first_epoch = resumed.epoch if resumed else phase.first_epoch
        with use_compute_dtype(inputs.model, resolve_compute_dtype(self.config)):
            inputs.model.fit(
                inputs.training(first_epoch, phase.last_epoch), validation_data=inputs.validation,
                initial_epoch=first_epoch, epochs=phase.last_epoch, steps_per_epoch=inputs.steps,
                class_weight=class_weights(self.training.labels), verbose=0,
                shuffle=False,  # The batches are shuffled already, by seed and epoch.
                callbacks=[
                    keras.callbacks.TerminateOnNaN(),
                    reporter,
                    *counting.values(),
                    StateWriter(self.run_dir, phase, self.model, best_loss, counting, resumed),
                ],
            )  # fmt: skip
        self.diverged_epoch = reporter.diverged_epoch or self.diverged_epoch

    def _add_input_reference(self, bundle: Bundle) -> Bundle:
        """Return the bundle with an input reference, if there are enough training cases."""
        rows = self.split[(self.split["subset"] == "train") & (self.split["case"] != "")]
        if rows["case"].nunique() < MIN_REFERENCE_CASES:
            return bundle
        message = "Measuring the training images for the input checks"
        self.run_dir.write_status("running", message=message, phase="evaluation")
        rows = rows.sample(min(len(rows), MAX_REFERENCE_IMAGES), random_state=self.config.seed)
        try:
            pixels = load_pixels(self.dataset.root, list(rows["path"]), bundle.image_size)
            images = self.dataset.images.set_index("path").loc[rows["path"]]
            shapes = zip(images["width_px"], images["height_px"], strict=True)
            enlarged = np.array(
                [is_enlarged(width, height, bundle.image_size) for width, height in shapes]
            )
            return add_input_reference(bundle, pixels, rows["case"].to_numpy(str), enlarged)
        except (BcModelError, OSError) as error:  # The run does not need it.
            logger.warning("The input reference was not saved: %s", error)
            return bundle

    def _add_scale_estimator(self, bundle: Bundle) -> Bundle:
        """Return the bundle with a scale estimator, if enough cases have frames of known scale."""
        rows = self.split[(self.split["subset"] == "train") & (self.split["case"] != "")]
        images = self.dataset.images.set_index("path", drop=False).loc[rows["path"]]
        chosen = choose_frames(images, seed=self.config.seed)
        if chosen["case"].nunique() < MIN_REFERENCE_CASES:
            return bundle
        message = "Measuring the scale of the training images"
        self.run_dir.write_status("running", message=message, phase="evaluation")
        frames = (
            np.ascontiguousarray(crop_to_field(read_image(self.dataset.root / path)))
            for path in chosen["path"]
        )
        try:
            estimator = fit_scale_estimator(
                frames, chosen["mpp"].to_numpy(), bundle.image_size, seed=self.config.seed
            )
            return add_scale_estimator(bundle, estimator)
        except (BcModelError, OSError) as error:  # The run does not need it.
            logger.warning("The scale check was not saved: %s", error)
            return bundle

    def _training_statistics(self) -> StainStatistics | None:
        """Write the features of the training images, and return the limits of the input checks."""
        bundle, directory = self.bundle, self.run_dir.evaluation_dir
        message = "Computing the features of the training images"
        self.run_dir.write_status("running", message=message, phase="evaluation")
        try:
            features = compute_training_features(
                Engine(bundle), self.dataset.root, self.split, directory
            )
        except (BcModelError, OSError) as error:  # The run does not need them.
            logger.warning("The features of the training images were not saved: %s", error)
            return None
        statistics = summarize_staining(features.stain, self.training_is_gray)
        validation = FeatureTable.load(directory / VALIDATION_FEATURES_FILE, bundle.graph_sha256)
        # With leakage, the validation images do not represent the staining of new cases.
        if validation is not None and self.split["protocol"].iloc[0] not in PROTOCOLS_WITH_LEAKAGE:
            proportion = measure_out_of_distribution_proportion(validation.stain, statistics)
            statistics = replace(statistics, out_of_distribution_proportion=proportion)
        return statistics


def require_varying_logits(model: keras.Model, pixels: np.ndarray) -> None:
    """Raise a `ModelError` if a model returns the same logits for images that differ.

    `pixels` are the validation images, shape (n, height, width, 3), uint8. Such a model has learned
    nothing, for example because all units of a layer return 0.
    """
    step = max(1, len(pixels) // N_COMPARED_IMAGES)
    for images in (pixels[::step], pixels):  # Most models differ on the first few images.
        logits = reference_logits(model, images)
        if np.ptp(logits, axis=0).max() > LOGIT_NOISE * max(1.0, float(np.abs(logits).max())):
            return
    if (pixels != pixels[:1]).any():
        raise ModelError(
            f"The model returns the same logits for all {len(pixels):,} validation images. "
            "Expected different logits for different images. Use lower learning rates or other "
            "initial weights."
        )


def _configure_tensorflow(config: TrainingConfig) -> None:
    """Configure the process; this is possible only before TensorFlow computes anything."""
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    if threads := config.resolved_threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:
            logger.warning("TensorFlow was in use already, so its number of threads is unchanged.")


def _compile(model: keras.Model, rate: float) -> None:
    loss = keras.losses.CategoricalCrossentropy()
    model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])


def _make_phase(name: str, first_epoch: int, config: TrainingConfig, inputs: PhaseInputs) -> Phase:
    later = config.finetune_epochs if name == "head" else 0
    epochs = config.head_epochs if name == "head" else config.finetune_epochs
    return Phase(
        name=name, title=PHASE_TITLES[name], first_epoch=first_epoch,
        last_epoch=first_epoch + epochs, total_epochs=first_epoch + epochs + later,
        later_epoch_cost=0.0 if inputs.seconds_per_image else later * FINETUNE_EPOCH_COST,
        later_seconds=later * inputs.n_training * inputs.seconds_per_image,
    )  # fmt: skip


def _log_report(report: EvaluationReport) -> None:
    leakage = " (with leakage)" if report.has_leakage else ""
    for name in ("accuracy", "balanced_accuracy", "roc_auc"):
        logger.info("test %s%s: %s", name.replace("_", " "), leakage, report.metrics[name])
    for check in report.checks:
        logger.info("%s: %s", check.severity, check.message)


def _log_split(dataset: Dataset, split: pd.DataFrame, weights: str) -> None:
    case = dataset.images["case"]
    logger.info(
        "%d images of %s cases; %d files excluded",
        len(case), case[case != ""].nunique() or "unknown", len(dataset.excluded),
    )  # fmt: skip
    for name, counts in summarize_subsets(split).items():
        n_cases = {c: counts[f"{c}_cases"] for c in CLASSES}
        cases = {c: format_count(n, "case") if n else "unknown cases" for c, n in n_cases.items()}
        logger.info("%s: %s", name, ", ".join(f"{counts[c]} {c} of {cases[c]}" for c in CLASSES))
    protocol = split["protocol"].iloc[0]
    if protocol in PROTOCOLS_WITH_LEAKAGE:
        leaks = count_leakage(split)
        logger.warning(
            "The protocol '%s' has leakage: the cases of %d of %d test images are in training. "
            "The metrics of this run overestimate performance.",
            protocol, leaks.n_test_images, leaks.total_test_images,
        )  # fmt: skip
    if leakage := check_initialization_leakage(weights, dataset, split):
        logger.warning("%s", leakage.message)
