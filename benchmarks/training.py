"""Training against the usual Keras recipe: ``python -m benchmarks.training [DATA] [--json]``.

The recipe: a frozen backbone, `fit` with augmentation on the fly, then conv5 unfrozen and `fit`
again. Ours: the same network, weights, pictures, split, epochs and batch size, through the cache.
Each side trains in a process of its own, one after the other, and both are judged by the weights
of their best epoch on the same validation pictures. Without a network, the weights that both start
from are learned here first, from scratch, on the training part.
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

from bc_model.cli.options import parse_size
from bc_model.data import write_synthetic
from bc_model.errors import WeightsError
from bc_model.training import TrainingConfig
from bc_model.utils import native_stderr_silenced, to_json
from benchmarks.timing import describe_machine

OWN_EPOCHS = 15
OWN_SIDE_PX = 128


def load(config: TrainingConfig) -> dict[str, Any]:
    """Read the training and the validation part; training pictures with their margin for crops."""
    from bc_model.data import load_pixels, make_split, one_hot, read_dataset, training_size
    from bc_model.training import Subset

    dataset = read_dataset(Path(config.data))
    split = make_split(dataset, "case", n_folds=config.n_folds, seed=config.split_seed)
    parts = {}
    sizes = {"train": training_size(config.image_size), "validation": config.image_size}
    for name, size in sizes.items():
        rows = split[split["subset"] == name]
        pixels = load_pixels(dataset.root, list(rows["path"]), size)
        parts[name] = Subset(pixels, one_hot(rows["class"]))
    return parts


def build(config: TrainingConfig) -> Any:
    """Return the same network with the same weights for both sides."""
    import keras

    from bc_model.model import build_model

    keras.utils.set_random_seed(config.seed)
    return build_model(
        config.backbone,
        image_size=config.image_size,
        weights=config.weights,
        dense_units=config.dense_units,
        dropout=config.dropout,
    )


def can_fetch_imagenet(config: TrainingConfig) -> bool:
    """Tell whether the pretrained weights are there or can be had."""
    try:
        # Keras tells of downloads on stdout, which belongs to the figures.
        with native_stderr_silenced(), redirect_stdout(sys.stderr):
            build(replace(config, weights="imagenet"))
    except WeightsError:
        return False
    return True


def learn_own_weights(config: TrainingConfig, path: Path) -> None:
    """Train a network from scratch on small pictures of the training part and save it."""
    small = replace(
        config, weights="none", image_size=(OWN_SIDE_PX, OWN_SIDE_PX), head_epochs=0,
        finetune_epochs=OWN_EPOCHS,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = prepared_trainer(small, Path(folder))
        trainer.train_head()
        trainer.fine_tune()
    trainer.model.save(path)


def prepared_trainer(config: TrainingConfig, folder: Path) -> Any:
    """Return a `Trainer` that has built its model and loaded its images."""
    from bc_model.training import Run, Trainer

    trainer = Trainer(config, Run.create(folder / "run"))
    with native_stderr_silenced():
        trainer.build_model()
        trainer.prepare_data()
    return trainer


def ours(config: TrainingConfig) -> dict[str, float]:
    """Train through the cache, as `train` does."""
    from bc_model.training import load_weights

    with tempfile.TemporaryDirectory() as folder:
        trainer = prepared_trainer(config, Path(folder))
        began = time.time()
        trainer.train_head()
        trainer.fine_tune()
        history = trainer.run_dir.read_history()
        load_weights(trainer.run_dir.best_weights, trainer.model)
    head, tuned = ([r for r in history if r["phase"] == p] for p in ("head", "finetune"))
    before_second = tuned[0]["time"] - tuned[0]["seconds"] - head[-1]["time"]
    # From end to end, with all that is kept in between, as the recipe's are.
    epochs = np.diff([head[-1]["time"] + before_second, *(record["time"] for record in tuned)])
    return {
        "head_s": head[-1]["time"] - began,
        "finetune_epoch_s": float(np.median(epochs[1:] if len(epochs) > 1 else epochs)),
        "finetune_preparation_s": before_second,
        "all_s": tuned[-1]["time"] - began,
        "balanced_accuracy": judge(trainer.model, trainer.validation),
        **memory(),
    }


def baseline(config: TrainingConfig) -> dict[str, float]:
    """Train as the tutorials do."""
    import keras

    from bc_model.data import class_weights, validation_dataset
    from bc_model.model import freeze_backbone, unfreeze_from

    with native_stderr_silenced():
        parts, model = load(config), build(config)
    training, validation = parts["train"], parts["validation"]
    batches = augmented(training, config)
    held_out = validation_dataset(
        validation.pixels, validation.labels, batch_size=config.batch_size
    )
    best: dict[str, Any] = {"loss": np.inf, "weights": None}

    def keep(epoch: int, logs: dict[str, float]) -> None:
        if logs["val_loss"] < best["loss"]:
            best.update(loss=logs["val_loss"], weights=model.get_weights())

    began = time.time()
    marks = []
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
            optimizer=keras.optimizers.Adam(rate),
            loss="categorical_crossentropy",
            metrics=["accuracy"],
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
                        keep(epoch, logs),
                    )
                )
            ],
        )
        marks.append(ends)
    model.set_weights(best["weights"])
    tuned = np.diff(marks[1])
    return {
        "head_s": marks[0][-1] - began,
        "finetune_epoch_s": float(np.median(tuned[1:] if len(tuned) > 1 else tuned)),
        "finetune_preparation_s": 0.0,
        "all_s": marks[1][-1] - began,
        "balanced_accuracy": judge(model, validation),
        **memory(),
    }


def augmented(subset: Any, config: TrainingConfig) -> Any:
    """Shuffle and augment on the fly, by Keras's own layers on several pictures at a time."""
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


def judge(model: Any, subset: Any) -> float:
    """Return the balanced accuracy at 0.5 on a part, computed in float32 by the whole network."""
    from sklearn.metrics import balanced_accuracy_score

    from bc_model.model import reference_logits

    called = reference_logits(model, subset.pixels).argmax(axis=1)
    return float(balanced_accuracy_score(subset.labels.argmax(axis=1), called))


def memory() -> dict[str, float]:
    """Return this process's memory at its highest, mapped files with it, in MB."""
    import resource  # not on Windows, where nobody measures this

    return {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}


def separability(action: Any, *arguments: Any) -> Any:
    """Call a function in a fresh process: nothing is left of the other side."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(action, arguments)


def measure(config: TrainingConfig, seeds: int) -> dict[str, Any]:
    """Train both sides once a seed and return figures and their ratios."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "baseline": []}
    for seed in range(seeds):
        here = replace(config, seed=seed)
        sides = [("ours", ours), ("baseline", baseline)]
        for name, side in sides if seed % 2 == 0 else sides[::-1]:
            found[name].append(separability(side, here))
            click.echo(f"seed {seed}, {name}: {found[name][-1]}", err=True)
    return {
        "machine": describe_machine(),
        "images": {name: len(subset.labels) for name, subset in load(config).items()},
        "config": to_json(config),
        **summarize(found),
    }


def summarize(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Turn figures by side and seed into medians, and ratios within each seed."""
    table = {
        side: {key: [one[key] for one in runs] for key in runs[0]} for side, runs in found.items()
    }
    ratios = {
        key: [
            theirs / mine
            for theirs, mine in zip(table["baseline"][key], table["ours"][key], strict=True)
        ]
        for key in ("head_s", "finetune_epoch_s", "all_s")
    }
    gain = np.subtract(table["ours"]["balanced_accuracy"], table["baseline"]["balanced_accuracy"])
    return {
        "seeds": len(found["ours"]),
        "by_seed": table,
        "times_faster": {
            key: {"median": float(np.median(v)), "low": min(v), "high": max(v)}
            for key, v in ratios.items()
        },
        "balanced_accuracy_gain": {
            "mean": float(gain.mean()), "low": float(gain.min()), "high": float(gain.max()),
        },
    }  # fmt: skip


def default_data(folder: Path) -> Path:
    """Return the real 200X pictures when they are there, else draw some."""
    real = Path(os.environ.get("BC_DATA", "../shared/data")) / "breakhis_200x_224"
    if real.is_dir():
        return real
    write_synthetic(folder / "drawn", n_cases=30, images_per_case=20)
    return folder / "drawn"


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--weights", help="imagenet or a file; default: imagenet, or else learned here.")
@click.option("--head-epochs", default=20, show_default=True)
@click.option("--finetune-epochs", default=3, show_default=True)
@click.option("--image-size", default="224x224", show_default=True, metavar="HxW")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1, 20))
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(
    data: Path | None,
    weights: str | None,
    head_epochs: int,
    finetune_epochs: int,
    image_size: str,
    seeds: int,
    as_json: bool,
) -> None:
    """Measure training side by side with the usual recipe, on the pictures in DATA."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = TrainingConfig(
            data=str((data or default_data(folder)).resolve()),
            weights=weights or "imagenet",
            head_epochs=head_epochs,
            finetune_epochs=finetune_epochs,
            image_size=parse_size(image_size),
            patience=1000,  # the same number of epochs on both sides
        )
        if config.from_scratch:
            raise click.UsageError("From scratch nothing is frozen; give 'imagenet' or a file.")
        if weights is None and not separability(can_fetch_imagenet, config):
            click.echo("No ImageNet weights to be had; learning some here first", err=True)
            config = replace(config, weights=str(folder / "own.keras"))
            separability(learn_own_weights, config, folder / "own.keras")
        found = measure(config, seeds)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, ratio in found["times_faster"].items():
        click.echo(f"{name}: {ratio['median']:.1f}x ({ratio['low']:.1f}-{ratio['high']:.1f})")
    gain = found["balanced_accuracy_gain"]
    click.echo(
        f"balanced accuracy, ours minus the recipe's: {gain['mean']:+.3f} "
        f"({gain['low']:+.3f} to {gain['high']:+.3f}) over {found['seeds']} seeds"
    )


if __name__ == "__main__":
    main()
