"""Train a model: from a dataset to a model bundle and its evaluation on the test subset.

`Trainer` runs the stages of a training run. Importing this module loads TensorFlow.
"""

from __future__ import annotations

import functools
import gc
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bc_model.data.breakhis import CLASSES
from bc_model.data.dataset import Dataset, read_dataset
from bc_model.data.images import image_files
from bc_model.data.pipeline import class_weights, load_pixels, one_hot, training_size
from bc_model.data.splits import (
    PROTOCOLS_WITH_LEAKAGE,
    count_leaks,
    make_split,
    summarize_subsets,
    write_split,
)
from bc_model.data.stain import are_gray
from bc_model.errors import BcModelError, RunError
from bc_model.evaluation.calibration import VALIDATION_FEATURES_FILE, calibrate_bundle
from bc_model.evaluation.error_analysis import compute_training_features
from bc_model.evaluation.evaluate import evaluate_split
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.report import EvaluationReport
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine
from bc_model.inference.export import check_bundle, write_bundle
from bc_model.inference.input_checks import stain_statistics_summary, unusual_stain_proportion
from bc_model.inference.model_card import CardMetrics, StainStatistics, write_model_card
from bc_model.inference.quantization import measure_parity
from bc_model.inference.seen_images import SEEN_IMAGES_FILE
from bc_model.model import build_model, freeze_backbone, unfreeze_from
from bc_model.training.callbacks import (
    EndRequested,
    Phase,
    RunReporter,
    StateKeeper,
    make_progress_callback,
)
from bc_model.training.checkpoint import TrainState, load_weights, read_state, restore_state, sweep
from bc_model.training.config import TrainingConfig
from bc_model.training.devices import make_strategy, resolve_compute_dtype, use_compute_dtype
from bc_model.training.feature_cache import check_room
from bc_model.training.initial_weights import (
    check_initialization_leakage,
    collect_seen_images,
    load_initial_weights,
)
from bc_model.training.inputs import (
    Feed,
    Subset,
    cache_bytes,
    cached_feed,
    fitted_subset,
    plain_feed,
)
from bc_model.training.provenance import describe_run, draft_model_card
from bc_model.training.resume import require_unchanged
from bc_model.training.run import Run
from bc_model.utils.formatting import many

logger = logging.getLogger("bc_model.training")

STAGES = ("build_model", "prepare_data", "train_head", "fine_tune", "export", "evaluate")
"""Methods of `Trainer`, in the order in which they must be called."""

FINETUNE_EPOCH_COST = 3.0
"""Duration of a fine-tuning epoch in head-training epochs, for the first estimate of the time."""

PHASE_TITLES = {"head": "frozen backbone", "finetune": "fine-tuning"}


def train(
    config: TrainingConfig, run: Run, *, resume: bool = False, accept_changes: bool = False
) -> Bundle | None:
    """Train, export and evaluate a model in a run directory.

    Parameters
    ----------
    settings : TrainingConfig
        Configuration of the run.
    run : Run
        New run directory from `Run.create`, or with `resume` one whose run has not finished.
    resume : bool
        Continue after the last completed epoch, with the results of an uninterrupted run.
    accept_changes : bool
        Resume even if the data, the split or the code have changed.

    Returns
    -------
    Bundle or None
        None if the run was canceled, or stopped before its first epoch was completed.

    Raises
    ------
    BcModelError
        The data, the weights or the configuration cannot be used. The run has the status 'failed'.

    See Also
    --------
    Trainer : Run single stages.
    """
    return Trainer(config, run, resume=resume, accept_changes=accept_changes).run()


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

    `run` calls the stages in the order of `STAGES` and writes the status of the run. A single
    stage can be called instead, for example in a notebook or a test; it raises `RunError` if the
    stages before it have not been called. A new `Trainer` with `resume` continues an interrupted
    run: it repeats the fast stages and restores the training state from the run directory.

    Parameters
    ----------
    settings : TrainingConfig
        Configuration of the run.
    run_dir : Run
        New run directory, or with `resume` one whose run has not finished.
    resume : bool
        Continue after the last completed epoch, with the results of an uninterrupted run.
    accept_changes : bool
        Resume even if the data, the split or the code have changed.

    Attributes
    ----------
    completed_stages : tuple of str
        Names of the stages that have been completed.
    stopped : bool
        True after the user has stopped the training early.
    strategy : tf.distribute.Strategy
        Devices that share a batch. Set by `build_model`.
    model : keras.Model
        Set by `build_model`, trained in place, deleted by `export`.
    dataset : Manifest
        Index of the dataset. Set by `prepare_data`.
    split : DataFrame
        One row per image, as in ``split.csv``. Set by `prepare_data`.
    training, validation : Part
        Images and labels of these subsets. Set by `prepare_data`; `fine_tune` deletes the first
        and `export` the second, to free memory.
    training_is_gray : ndarray of shape (n_training,), bool
        True for each grayscale training image. Set by `prepare_data`.
    bundle : Bundle
        Exported model. Set by `export`, replaced by `evaluate`.

    Examples
    --------
    >>> trainer = Trainer(settings, Run.create(Path("runs/my-run")))  # doctest: +SKIP
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
        self,
        config: TrainingConfig,
        run_dir: Run,
        *,
        resume: bool = False,
        accept_changes: bool = False,
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.resume = resume
        self.accept_changes = accept_changes
        self.completed_stages: tuple[str, ...] = ()
        self.stopped = False

    def run(self) -> Bundle | None:
        """Run all stages and write the final status of the run.

        Returns
        -------
        Bundle or None
            None if the run was canceled, or stopped before its first epoch was completed.

        Raises
        ------
        BcModelError
            A stage failed. The run has the status 'failed'.
        """
        try:
            # The model comes before the data: a failed download or an unknown block should not
            # cost the time to read an entire dataset.
            self.build_model()
            self.prepare_data()
            self.train_head()
            self.fine_tune()
            self.export()
            self.evaluate()
            self._finish()
        except EndRequested as end:
            self._write_canceled(end)
            return None
        except BaseException as error:
            self.run_dir.write_status("failed", message=str(error) or type(error).__name__)
            raise
        return self.bundle

    @_stage
    def build_model(self) -> None:
        """Build the model with its initial weights, and check that fine-tuning can start.

        Raises
        ------
        ConfigError
            The model does not have the block at which fine-tuning starts.
        WeightsError
            The initial weights cannot be downloaded or read, or belong to another backbone.
        """
        config = self.config
        image_files(Path(config.data))  # A missing dataset should not cost a download.
        _configure_tensorflow(config)
        keras.utils.set_random_seed(config.seed)
        self.run_dir.write_status("starting", message="Building the model")
        self.strategy = make_strategy(config)
        with self.strategy.scope():
            self.model = build_model(
                config.backbone,
                image_size=config.image_size,
                weights=load_initial_weights(config.weights),
                dense_units=config.dense_units,
                dropout=config.dropout,
            )
            self._unfreeze()

    @_stage
    def prepare_data(self) -> None:
        """Read and split the dataset, and load the training and validation images.

        Writes ``split.csv`` and ``config.json``.

        Raises
        ------
        RunError
            A resumed run has changed, a new run has a training state already, or the disk has no
            room for the cached features.
        """
        self._read_split()
        self._write_config()
        state = self._read_state()
        self.run_dir.truncate_history(state.epoch if state else 0)
        _log_split(self.dataset, self.split, self.config.weights)
        if state:
            logger.info("Resumed after epoch %d", state.epoch)
        self._check_cache_room()
        self.training = self._load_subset("train", training_size(self.config.image_size))
        self.training_is_gray = are_gray(self.training.pixels)
        self.validation = self._load_subset("validation", self.config.image_size)
        self.run_dir.write_status("starting", message="Preparing the first batch")

    @_stage
    def train_head(self) -> None:
        """Train the head on the frozen backbone.

        Writes ``history.jsonl``, the training state and the best weights after each epoch. Does
        nothing without epochs of head training, or if the run has reached fine-tuning before.
        """
        state = self._read_state()
        if self.config.head_epochs == 0 or (state and state.phase == "finetune"):
            return
        with self.strategy.scope():
            freeze_backbone(self.model)
            self._train_phase("head", self.config.head_learning_rate, state)

    @_stage
    def fine_tune(self) -> None:
        """Train the head and the last blocks, starting from the best weights of head training.

        Writes the same files as `train_head`. Does nothing without epochs of fine-tuning, or if
        the run was stopped. Afterwards the training images are no longer in memory.
        """
        if self.config.finetune_epochs and not self.stopped:
            state = self._read_state()
            with self.strategy.scope():
                if state and state.phase == "head" and state.best_loss is not None:
                    load_weights(self.run_dir.best_weights, self.model)
                self._unfreeze()
                self._train_phase("finetune", self.config.resolved_finetune_rate, state)
        del self.training  # The largest object in memory; `export` writes the next largest.

    @_stage
    def export(self) -> None:
        """Write the bundle of the model with the lowest validation loss, and calibrate it.

        Writes ``model/``. Afterwards the model and the validation images are no longer in memory.

        Raises
        ------
        EndRequested
            The run is to be canceled, or was stopped before its first epoch was completed.
        RunError
            No epoch had a finite validation loss.
        """
        config, run_dir, validation = self.config, self.run_dir, self.validation
        if run_dir.requested_action() == "cancel":
            raise EndRequested("cancel")
        if not run_dir.best_weights.exists():
            if self.stopped:
                raise EndRequested("stop")
            raise RunError(
                "No epoch has a finite validation loss. Expected at least one, got none. "
                "Use lower learning rates."
            )
        load_weights(run_dir.best_weights, self.model)
        # Requests are ignored from here on: the run ends soon, as a stop would end it.
        run_dir.write_status("running", message="Writing the model", phase="export")
        known = collect_seen_images(config.weights, self.dataset, self.split)
        n_parameters = self.model.count_params()
        card = draft_model_card(config, self.dataset, self.split, run_dir, known, n_parameters)
        bundle = write_bundle(
            self.model, run_dir.model_dir, card, {SEEN_IMAGES_FILE: known.as_csv()}
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
        """Evaluate the exported model on the test subset.

        Writes ``evaluation/`` and adds the metrics to the bundle.
        """
        self.run_dir.write_status(
            "running", message="Evaluating the test subset", phase="evaluation"
        )
        bundle = self.bundle
        report = evaluate_split(Engine(bundle), self.dataset.root, self.split, subset="test")
        report.save(self.run_dir.evaluation_dir)
        card = replace(
            bundle.card,
            metrics=CardMetrics(test=report.summary()),
            input=replace(bundle.card.input, stain=self._training_statistics()),
        )
        write_model_card(bundle.folder, card)
        self.bundle = Bundle(bundle.folder, card)
        _log_report(report)

    def _finish(self) -> None:
        # The cached features are about a hundred times as large as the rest of the run directory.
        shutil.rmtree(self.run_dir.cache_dir, ignore_errors=True)
        message = "Stopped on request; the best model so far was kept." if self.stopped else ""
        self.run_dir.write_status("done", message=message)
        logger.info("%s Model in %s", message or "Finished.", self.bundle.folder)

    def _write_canceled(self, end: EndRequested) -> None:
        what = "Cancelled on request" if end.what == "cancel" else "Stopped"
        epochs = self.run_dir.read_history()
        when = "; no model was made" if epochs else " before its first epoch had ended"
        self.run_dir.write_status("canceled", message=f"{what}{when}.")

    def _read_state(self) -> TrainState | None:
        return read_state(self.run_dir.state_file)

    def _unfreeze(self) -> None:
        config = self.config
        unfreeze_from(
            self.model, config.resolved_unfreeze_from, train_batch_norm=config.from_scratch
        )

    def _read_split(self) -> None:
        config = self.config
        progress = make_progress_callback(self.run_dir, "Reading the dataset")
        self.dataset = read_dataset(Path(config.data), progress=progress)
        self.split = make_split(
            self.dataset,
            config.protocol,
            n_folds=config.n_folds,
            fold=config.test_fold,
            seed=config.split_seed,
            folds_file=config.official_fold_file,
        )
        write_split(self.split, self.run_dir.split_file)

    def _write_config(self) -> None:
        run_dir = self.run_dir
        with self.strategy.scope():
            record = describe_run(self.config, self.dataset, run_dir.split_file)
        if self.resume:
            sweep(run_dir.state_file.parent)
            before = run_dir.read_config()
            if not self.accept_changes:
                require_unchanged(before, record, run_dir)
            record["started"] = before.get("started", record["started"])
        elif run_dir.state_file.exists():
            raise RunError(
                f"The run {run_dir.name} has a training state already. Expected a new run "
                f"directory, got {run_dir.path}. Resume this run, or use a new directory."
            )
        run_dir.write_config(record)

    def _check_cache_room(self) -> None:
        """Check the disk space before images are read; a resumed run has reserved it already."""
        folder = self.run_dir.cache_dir
        if self.config.cache_features and not folder.exists():
            counts = (int((self.split["subset"] == name).sum()) for name in ("train", "validation"))
            check_room(folder, cache_bytes(self.model, self.config, *counts))

    def _load_subset(self, name: str, size: tuple[int, int]) -> Subset:
        rows = self.split[self.split["subset"] == name]
        progress = make_progress_callback(self.run_dir, f"Loading the {name} subset")
        pixels = load_pixels(self.dataset.root, list(rows["path"]), size, progress=progress)
        return Subset(pixels, one_hot(rows["class"]))

    def _train_phase(self, name: str, rate: float, state: TrainState | None) -> None:
        """Train until a phase ends, or set `stopped`; a phase can be new, resumed or over."""
        epochs = self.config.head_epochs if name == "head" else self.config.finetune_epochs
        resumed = state if state and state.phase == name else None
        # After a phase that ended early, the next phase continues its epoch numbers.
        first_epoch = resumed.phase_first_epoch if resumed else len(self.run_dir.read_history())
        if resumed and resumed.phase_over:
            # The next phase needs its weights and the seeds of its dropout layers.
            fitted = fitted_subset(self.model, name, self.config)
            _compile(fitted, rate)
            restore_state(self.run_dir.state_file, fitted)
        else:
            try:
                feed = self._make_feed(name)
                _compile(feed.fitted, rate)
                if resumed:
                    restore_state(self.run_dir.state_file, feed.fitted)
                phase = _describe_phase(name, first_epoch, self.config, feed)
                self._fit(feed, phase, resumed, state.best_loss if state else None)
            except EndRequested as end:
                if end.what != "stop":
                    raise
                self.stopped = True
                return
        if len(self.run_dir.read_history()) < first_epoch + epochs:
            logger.info(
                "%s ended early: no lower validation loss for %d epochs",
                PHASE_TITLES[name], self.config.patience,
            )  # fmt: skip

    def _make_feed(self, phase: str) -> Feed:
        model, config, training, validation = (
            self.model, self.config, self.training, self.validation,
        )  # fmt: skip
        feed = None
        if config.cache_features:
            report = {
                name: make_progress_callback(
                    self.run_dir, f"Computing the features of the {name} subset"
                )
                for name in ("training", "validation")
            }
            feed = cached_feed(
                model, phase, config, training, validation, self.run_dir.cache_dir,
                lambda name, done, total: report[name](done, total),
            )  # fmt: skip
        return feed or plain_feed(model, config, training, validation)

    def _fit(
        self, feed: Feed, phase: Phase, resumed: TrainState | None, best_loss: float | None
    ) -> None:
        patience = self.config.patience
        counting = {
            "plateau": keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss", factor=1 / 3, patience=max(1, patience // 2)
            ),
            "stopping": keras.callbacks.EarlyStopping(monitor="val_loss", patience=patience),
        }
        first_epoch = resumed.epoch if resumed else phase.first_epoch
        with use_compute_dtype(feed.fitted, resolve_compute_dtype(self.config)):
            feed.fitted.fit(
                feed.training(first_epoch, phase.last_epoch),
                validation_data=feed.validation,
                initial_epoch=first_epoch,
                epochs=phase.last_epoch,
                steps_per_epoch=feed.steps,
                class_weight=class_weights(self.training.labels),
                shuffle=False,  # The batches are shuffled already, by seed and epoch.
                verbose=0,
                callbacks=[
                    keras.callbacks.TerminateOnNaN(),
                    RunReporter(self.run_dir, phase),
                    *counting.values(),
                    StateKeeper(self.run_dir, phase, self.model, best_loss, counting, resumed),
                ],
            )

    def _training_statistics(self) -> StainStatistics | None:
        """Write the features of the training images, and return the limits of the input checks.

        The run does not fail if this fails.
        """
        bundle, folder = self.bundle, self.run_dir.evaluation_dir
        self.run_dir.write_status(
            "running", message="Computing the features of the training images", phase="evaluation"
        )
        try:
            found = compute_training_features(Engine(bundle), self.dataset.root, self.split, folder)
        except (BcModelError, OSError) as error:
            logger.warning("The features of the training images were not saved: %s", error)
            return None
        facts = stain_statistics_summary(found.stain, self.training_is_gray)
        validation = FeatureTable.load(folder / VALIDATION_FEATURES_FILE, bundle.network)
        # With leakage, the validation images say nothing about the staining of new cases.
        if validation is not None and self.split["protocol"].iloc[0] not in PROTOCOLS_WITH_LEAKAGE:
            proportion = unusual_stain_proportion(validation.stain, facts)
            facts = replace(facts, out_of_distribution_proportion=proportion)
        return facts


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
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.CategoricalCrossentropy(),
        metrics=["accuracy"],
    )


def _describe_phase(name: str, first_epoch: int, config: TrainingConfig, feed: Feed) -> Phase:
    later = config.finetune_epochs if name == "head" else 0
    epochs = config.head_epochs if name == "head" else config.finetune_epochs
    return Phase(
        name=name,
        title=PHASE_TITLES[name],
        first_epoch=first_epoch,
        last_epoch=first_epoch + epochs,
        total_epochs=first_epoch + epochs + later,
        later_epoch_cost=0.0 if feed.seconds_a_image else later * FINETUNE_EPOCH_COST,
        later_seconds=later * feed.n_training * feed.seconds_a_image,
    )


def _log_report(report: EvaluationReport) -> None:
    has_leakage = " (LEAKY)" if report.has_leakage else ""
    for name in ("accuracy", "balanced_accuracy", "roc_auc"):
        logger.info("test %s%s: %s", name.replace("_", " "), has_leakage, report.metrics[name])
    for check in report.checks:
        logger.info("%s: %s", check.severity, check.message)


def _log_split(dataset: Dataset, split: pd.DataFrame, weights: str) -> None:
    case = dataset.images["case"]
    logger.info(
        "%d images of %s cases; %d files excluded",
        len(case), case[case != ""].nunique() or "unknown", len(dataset.excluded),
    )  # fmt: skip
    for name, counts in summarize_subsets(split).items():
        numbers = (f"{counts[c]} {c} of {_cases(counts[f'{c}_cases'])}" for c in CLASSES)
        logger.info("%s: %s", name, ", ".join(numbers))
    protocol = split["protocol"].iloc[0]
    if protocol in PROTOCOLS_WITH_LEAKAGE:
        leak = count_leaks(split)
        logger.warning(
            "The protocol '%s' puts images of the same case into training and test: here %d of %d "
            "test images. The metrics of this run are marked as leaky.",
            protocol, leak.test_images, leak.n_test,
        )  # fmt: skip
    if known := check_initialization_leakage(weights, dataset, split):
        logger.warning("%s", known.message)


def _cases(number: int) -> str:
    return many(number, "case") if number else "unknown cases"
