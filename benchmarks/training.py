"""Training compared with a Keras script: ``python -m benchmarks.training [DATA] [--json]``.

The script calls `fit` on a frozen backbone with augmentation on the fly, then fine-tunes conv5.
`Trainer` uses the same network, weights, images, split, epochs and batch size. Both train in
separate processes and are evaluated with their best epoch on the same validation images. Without
access to the ImageNet weights, the benchmark first trains initial weights from random ones.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from bc_model.data import generate_dataset
from bc_model.errors import WeightsError
from bc_model.training import TrainingConfig
from bc_model.utils import silence_native_stderr, to_json
from benchmarks.timing import describe_machine

INITIAL_EPOCHS = 15
INITIAL_SIDE_PX = 128


def load_subsets(config: TrainingConfig) -> dict[str, Any]:
    """Return the training and validation subsets; training images have a margin for crops."""
    from bc_model.data import load_dataset, load_pixels, make_split, one_hot, training_size
    from bc_model.training import Subset

    dataset = load_dataset(Path(config.data))
    split = make_split(dataset, "case", n_folds=config.n_folds, seed=config.split_seed)
    subsets = {}
    sizes = {"train": training_size(config.image_size), "validation": config.image_size}
    for name, size in sizes.items():
        rows = split[split["subset"] == name]
        pixels = load_pixels(dataset.root, list(rows["path"]), size)
        subsets[name] = Subset(pixels, one_hot(rows["class"]))
    return subsets


def build_network(config: TrainingConfig) -> Any:
    """Return the network with the initial weights of a configuration."""
    import keras

    from bc_model.model import build_model

    keras.utils.set_random_seed(config.seed)
    return build_model(
        config.backbone, image_size=config.image_size, weights=config.weights,
        dense_units=config.dense_units, dropout=config.dropout,
    )  # fmt: skip


def can_fetch_imagenet(config: TrainingConfig) -> bool:
    """Return True if the ImageNet weights are stored or can be downloaded."""
    try:
        # Keras reports downloads on stdout, which is reserved for the results.
        with silence_native_stderr(), redirect_stdout(sys.stderr):
            build_network(replace(config, weights="imagenet"))
    except WeightsError:
        return False
    return True


def train_initial_weights(config: TrainingConfig, path: Path) -> None:
    """Train a network from random weights on small training images and save it."""
    small = replace(
        config, weights="none", image_size=(INITIAL_SIDE_PX, INITIAL_SIDE_PX), head_epochs=0,
        finetune_epochs=INITIAL_EPOCHS,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(small, Path(folder))
        trainer.train_head()
        trainer.fine_tune()
    trainer.model.save(path)


def make_trainer(config: TrainingConfig, folder: Path) -> Any:
    """Return a `Trainer` that has built its model and loaded its images."""
    from bc_model.training import Run, Trainer

    trainer = Trainer(config, Run.create(folder / "run"))
    with silence_native_stderr():
        trainer.build_model()
        trainer.prepare_data()
    return trainer


def run_trainer(config: TrainingConfig) -> dict[str, float]:
    """Train with `Trainer` and return times, balanced accuracy and memory."""
    from bc_model.training import load_weights

    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, Path(folder))
        start = time.time()
        trainer.train_head()
        trainer.fine_tune()
        history = trainer.run_dir.read_history()
        load_weights(trainer.run_dir.best_weights, trainer.model)
    head, tuned = ([r for r in history if r["phase"] == p] for p in ("head", "finetune"))
    before_second = tuned[0]["time"] - tuned[0]["seconds"] - head[-1]["time"]
    # The time from end to end, including checkpoints, as in the Keras script.
    epochs = np.diff([head[-1]["time"] + before_second, *(record["time"] for record in tuned)])
    return {
        "head_s": head[-1]["time"] - start,
        "finetune_epoch_s": float(np.median(epochs[1:] if len(epochs) > 1 else epochs)),
        "finetune_preparation_s": before_second,
        "all_s": tuned[-1]["time"] - start,
        "balanced_accuracy": balanced_accuracy(trainer.model, trainer.validation),
        **peak_memory(),
    }


def run_keras_script(config: TrainingConfig) -> dict[str, float]:
    """Train with the standard Keras script and return the same values."""
    import keras

    from bc_model.data import class_weights, validation_dataset
    from bc_model.model import freeze_backbone, unfreeze_from

    with silence_native_stderr():
        subsets, model = load_subsets(config), build_network(config)
    training, validation = subsets["train"], subsets["validation"]
    batches = augment_batches(training, config)
    held_out = validation_dataset(
        validation.pixels, validation.labels, batch_size=config.batch_size
    )
    best: dict[str, Any] = {"loss": np.inf, "weights": None}

    def keep_best(epoch: int, logs: dict[str, float]) -> None:
        if logs["val_loss"] < best["loss"]:
            best.update(loss=logs["val_loss"], weights=model.get_weights())

    start = time.time()
    phase_ends = []
    for phase, epochs, rate in (
        ("head", config.head_epochs, config.head_learning_rate),
        ("finetune", config.finetune_epochs, config.resolved_finetune_rate),
    ):
        if phase == "head":
            freeze_backbone(model)
        else:
            model.set_weights(best["weights"])
            unfreeze_from(model, config.resolved_unfreeze_from, train_batch_norm=False)
        model.compile(
            keras.optimizers.Adam(rate), loss="categorical_crossentropy", metrics=["accuracy"]
        )
        ends: list[float] = [time.time()]
        model.fit(
            batches,
            validation_data=held_out,
            epochs=epochs,
            class_weight=class_weights(training.labels),
            verbose=0,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs, ends=ends: (
                        ends.append(time.time()),
                        keep_best(epoch, logs),
                    )
                )
            ],
        )
        phase_ends.append(ends)
    model.set_weights(best["weights"])
    tuned = np.diff(phase_ends[1])
    return {
        "head_s": phase_ends[0][-1] - start,
        "finetune_epoch_s": float(np.median(tuned[1:] if len(tuned) > 1 else tuned)),
        "finetune_preparation_s": 0.0,
        "all_s": phase_ends[1][-1] - start,
        "balanced_accuracy": balanced_accuracy(model, validation),
        **peak_memory(),
    }


def augment_batches(subset: Any, config: TrainingConfig) -> Any:
    """Return a `tf.data` pipeline that shuffles and augments with Keras layers."""
    import keras
    import tensorflow as tf

    height, width = config.image_size
    layers = keras.Sequential(
        [
            keras.layers.Resizing(height, width),
            keras.layers.RandomFlip("horizontal_and_vertical"),
            keras.layers.RandomRotation(0.25, fill_mode="reflect"),
            keras.layers.RandomZoom((-0.2, 0.0), fill_mode="reflect"),
            keras.layers.RandomContrast(0.2),
        ]
    )
    dataset = tf.data.Dataset.from_tensor_slices((subset.pixels, subset.labels))
    dataset = dataset.shuffle(len(subset.labels), seed=config.seed).batch(config.batch_size)
    return dataset.map(
        lambda x, y: (layers(tf.cast(x, tf.float32), training=True), y),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(2)


def balanced_accuracy(model: Any, subset: Any) -> float:
    """Return the balanced accuracy on a subset at threshold 0.5, computed in float32."""
    from sklearn.metrics import balanced_accuracy_score

    from bc_model.model import reference_logits

    predicted = reference_logits(model, subset.pixels).argmax(axis=1)
    return float(balanced_accuracy_score(subset.labels.argmax(axis=1), predicted))


def peak_memory() -> dict[str, float]:
    """Return the peak memory of this process with mapped files, MB."""
    import resource  # Not available on Windows.

    return {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}


def run_in_process(action: Any, *arguments: Any) -> Any:
    """Return the result of a function that runs in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(action, arguments)


def measure(config: TrainingConfig, seeds: int) -> dict[str, Any]:
    """Train with both programs and each seed and return values and ratios."""
    found: dict[str, list[dict[str, float]]] = {"trainer": [], "keras_script": []}
    for seed in range(seeds):
        seeded = replace(config, seed=seed)
        programs = [("trainer", run_trainer), ("keras_script", run_keras_script)]
        for name, program in programs if seed % 2 == 0 else programs[::-1]:
            found[name].append(run_in_process(program, seeded))
            click.echo(f"seed {seed}, {name}: {found[name][-1]}", err=True)
    return {
        "machine": describe_machine(),
        "images": {name: len(subset.labels) for name, subset in load_subsets(config).items()},
        "config": to_json(config),
        **summarize(found),
    }


def summarize(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return medians of the values by program, and ratios within each seed."""
    table = {
        name: {key: [run[key] for run in runs] for key in runs[0]} for name, runs in found.items()
    }
    script_values, trainer_values = table["keras_script"], table["trainer"]
    ratios = {
        key: [
            script / trainer
            for script, trainer in zip(script_values[key], trainer_values[key], strict=True)
        ]
        for key in ("head_s", "finetune_epoch_s", "all_s")
    }
    gain = np.subtract(trainer_values["balanced_accuracy"], script_values["balanced_accuracy"])
    return {
        "seeds": len(found["trainer"]),
        "by_seed": table,
        "speedup": {
            key: {"median": float(np.median(v)), "low": min(v), "high": max(v)}
            for key, v in ratios.items()
        },
        "balanced_accuracy_gain": {
            "mean": float(gain.mean()), "low": float(gain.min()), "high": float(gain.max()),
        },
    }  # fmt: skip


def default_data(folder: Path) -> Path:
    """Return the BreakHis images at 200X if available, else synthetic images."""
    breakhis = Path(os.environ.get("BC_DATA", "data")) / "breakhis_200x_224"
    if breakhis.is_dir():
        return breakhis
    generate_dataset(folder / "synthetic", n_cases=30, images_per_case=20)
    return folder / "synthetic"


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--weights", help="'imagenet' or a file; default: 'imagenet' if available.")
@click.option("--head-epochs", default=20, show_default=True)
@click.option("--finetune-epochs", default=3, show_default=True)
@click.option("--side", "side_px", default=224, show_default=True, help="Image side, px.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1, 20))
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(
    data: Path | None, weights: str | None, head_epochs: int, finetune_epochs: int, side_px: int,
    seeds: int, as_json: bool,
) -> None:  # fmt: skip
    """Compare training with a standard Keras script on the images in DATA."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = TrainingConfig(
            data=str((data or default_data(folder)).resolve()),
            weights=weights or "imagenet",
            head_epochs=head_epochs,
            finetune_epochs=finetune_epochs,
            image_size=(side_px, side_px),
            patience=1000,  # Both programs train the same number of epochs.
        )
        if config.from_scratch:
            raise click.UsageError(
                "Training from random weights has no frozen backbone. Use 'imagenet' or a file."
            )
        if weights is None and not run_in_process(can_fetch_imagenet, config):
            click.echo("No ImageNet weights available. Training initial weights.", err=True)
            config = replace(config, weights=str(folder / "initial.keras"))
            run_in_process(train_initial_weights, config, folder / "initial.keras")
        found = measure(config, seeds)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, ratio in found["speedup"].items():
        click.echo(
            f"speedup of {name}: {ratio['median']:.1f}x ({ratio['low']:.1f}-{ratio['high']:.1f})"
        )
    gain = found["balanced_accuracy_gain"]
    click.echo(
        f"balanced accuracy, difference from the Keras script: {gain['mean']:+.3f} "
        f"({gain['low']:+.3f} to {gain['high']:+.3f}) over {found['seeds']} seeds"
    )


if __name__ == "__main__":
    main()
