"""The two phases: a new head on the frozen backbone, then fine-tuning from a block on."""

from __future__ import annotations

import logging

import keras

from bc_model.data.pipeline import class_weights
from bc_model.model import freeze, unfreeze
from bc_model.training.arithmetic import computing_in, resolve_arithmetic
from bc_model.training.callbacks import (
    EndRequested,
    Phase,
    RunReporter,
    StateKeeper,
    progress_of,
)
from bc_model.training.checkpoint import TrainState, load_weights, restore_state
from bc_model.training.feed import Feed, Part, cached_feed, fitted_part, plain_feed
from bc_model.training.run_folder import RunFolder
from bc_model.training.settings import TrainingConfig

logger = logging.getLogger("bc_model.training")

FINETUNE_EPOCH_COST = 3.0
"""What an epoch of phase two costs, in epochs of phase one; only for the first guess of time."""

PHASE_TITLES = {"head": "frozen backbone", "finetune": "fine-tuning"}


def fit_phases(
    model: keras.Model,
    settings: TrainingConfig,
    run: RunFolder,
    training: Part,
    validation: Part,
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
        if name == "head":
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
        if resumed and resumed.phase_over:
            # Nothing is left to do in it, but what its layers came to, down to dropout's seeds.
            over = fitted_part(model, name, settings)
            _compile(over, rate)
            restore_state(run.state_file, over)
        else:
            try:
                feed = _feed(model, name, settings, run, training, validation)
                _compile(feed.fitted, rate)
                if resumed:
                    restore_state(run.state_file, feed.fitted)
                phase = _phase(name, done, settings, feed)
                weights = class_weights(training.labels)
                best_loss = _fit(feed, model, weights, settings, run, phase, best_loss, resumed)
            except EndRequested as end:
                if end.what == "stop":
                    return False
                raise
        ended = len(run.read_history())
        if ended < done + epochs:
            logger.info(
                "%s ended early: no lower validation loss for %d epochs",
                PHASE_TITLES[name], settings.patience,
            )  # fmt: skip
        done = ended
    return True


def _compile(model: keras.Model, rate: float) -> None:
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.CategoricalCrossentropy(),
        metrics=["accuracy"],
    )


def _phase(name: str, first_epoch: int, settings: TrainingConfig, feed: Feed) -> Phase:
    # A phase that ends early leaves no gap: the next one goes on counting where it ended.
    later = settings.finetune_epochs if name == "head" else 0
    epochs = settings.head_epochs if name == "head" else settings.finetune_epochs
    return Phase(
        name=name,
        title=PHASE_TITLES[name],
        first_epoch=first_epoch,
        last_epoch=first_epoch + epochs,
        total_epochs=first_epoch + epochs + later,
        later_epoch_cost=0.0 if feed.seconds_a_picture else later * FINETUNE_EPOCH_COST,
        later_seconds=later * feed.n_training * feed.seconds_a_picture,
    )


def _feed(
    model: keras.Model,
    phase: str,
    settings: TrainingConfig,
    run: RunFolder,
    training: Part,
    validation: Part,
) -> Feed:
    feed = None
    if settings.cache_features:
        tell = {
            part: progress_of(run, f"Computing what the frozen layers make of the {part} part")
            for part in ("training", "validation")
        }
        feed = cached_feed(
            model, phase, settings, training, validation, run.cache_folder,
            lambda part, done, total: tell[part](done, total),
        )  # fmt: skip
    return feed or plain_feed(model, settings, training, validation)


def _fit(
    feed: Feed,
    model: keras.Model,
    weights: dict[int, float],
    settings: TrainingConfig,
    run: RunFolder,
    phase: Phase,
    best_loss: float | None,
    resumed: TrainState | None,
) -> float | None:
    first_epoch = resumed.epoch if resumed else phase.first_epoch
    counting = {
        "plateau": keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss", factor=1 / 3, patience=max(1, settings.patience // 2)
        ),
        "stopping": keras.callbacks.EarlyStopping(monitor="val_loss", patience=settings.patience),
    }
    keeper = StateKeeper(run, phase, model, best_loss, counting, resumed)
    with computing_in(feed.fitted, resolve_arithmetic(settings)):
        feed.fitted.fit(
            feed.training(first_epoch, phase.last_epoch),
            validation_data=feed.validation,
            initial_epoch=first_epoch,
            epochs=phase.last_epoch,
            steps_per_epoch=feed.steps,
            class_weight=weights,
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
