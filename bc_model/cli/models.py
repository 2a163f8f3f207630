"""``models``: inspect, export and adjust trained models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from bc_model import data, evaluation, inference, reporting
from bc_model.cli.options import (
    MODEL,
    PATH,
    find_split_file,
    json_option,
    load_dataset,
    print_json,
    progress,
    rules_of,
    runs_option,
)
from bc_model.errors import BcModelError, ModelError, SplitError
from bc_model.utils import (
    describe_error,
    require_tensorflow,
    silence_native_stderr,
    to_json,
    write_text_atomic,
)

_model = click.argument("model", type=MODEL)


@click.group("models")
def model_commands() -> None:
    """Inspect, export and adjust models."""


@model_commands.command("list")
@runs_option
@json_option
def list_(runs: Path, as_json: bool) -> None:
    """List the models of finished runs, newest first, and the bundled model."""
    bundles, problems = inference.list_bundles(runs, inference.BUNDLED_MODELS_DIR)
    if as_json:
        rows = [{"folder": str(bundle.folder), "name": bundle.card.name} for bundle in bundles]
        print_json({"models": rows, "problems": problems})
        return
    for bundle in bundles:
        is_bundled = bundle.folder == inference.bundled_model_dir("bundled")
        alias = " (alias 'bundled')" if is_bundled else ""
        click.echo(f"{bundle.card.name}{alias}  {bundle.folder}")
        click.echo(f"    {bundle.card.architecture.backbone}, {_summarize(bundle.card)}")
    for problem in problems:
        click.echo(f"skipped: {problem}")
    if not bundles:
        click.echo(f"No model in {runs}. Train one with `train`.")


@model_commands.command()
@_model
def show(model: Path) -> None:
    """Print the model card of MODEL as JSON."""
    print_json(to_json(inference.open_bundle(model).card))


@model_commands.command()
@_model
def verify(model: Path) -> None:
    """Check the checksum of every file of MODEL and compute one prediction."""
    bundle = inference.open_bundle(model)
    bundle.verify()
    inference.Engine(bundle).explain(np.zeros((1, *bundle.image_size, 3), np.uint8))
    click.echo(f"{bundle.folder}: all {len(bundle.card.files)} files are valid")


@model_commands.command()
@_model
@click.option("--out", type=PATH, help="Markdown file to write. Default: print it.")
def card(model: Path, out: Path | None) -> None:
    """Write the model card of MODEL as Markdown."""
    text = reporting.card_to_markdown(inference.open_bundle(model).card)
    if out is None:
        click.echo(text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(out, text)
    click.echo(f"Model card written to {out}")


@model_commands.command()
@_model
@click.option("--out", type=PATH, required=True, help="Directory for the exported files.")
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(["keras", "onnx", "tflite"]),
    help="Format to write; repeatable. Default: all.",
)  # fmt: skip
@json_option
def export(model: Path, out: Path, formats: tuple[str, ...], as_json: bool) -> int:
    """Export MODEL and its model card; compare each exported file with the original.

    If one of several formats fails, the others are written and the exit code is 1.
    """
    bundle = inference.open_bundle(model)
    bundle.verify()
    require_tensorflow()
    click.echo("loading TensorFlow", err=True)
    with silence_native_stderr():
        import tensorflow  # noqa: F401

    rows: list[dict[str, Any]] = []
    formats = formats or tuple(inference.FORMATS)
    n_failed = 0
    for name in formats:
        click.echo(f"{name}: converting and comparing", err=True)
        try:
            file = inference.export_model(bundle, name, out)
        except (BcModelError, OSError) as error:
            if len(formats) == 1:
                raise
            n_failed += 1
            message = describe_error(error)
            rows.append({"format": name, "error": message})
            click.echo(f"{name}: not exported. {message}", err=True)
            continue
        difference, n_images = file.max_difference, file.n_images
        row = {"format": name, "path": str(file.path)}
        rows.append(row | {"max_difference": difference, "n_images": n_images})
        if not as_json:
            text = f"largest difference from the original {difference:.1e} on {n_images} images"
            click.echo(f"{file.path}: {text}")
    if n_failed == len(formats):
        raise ModelError(
            f"None of {n_failed} formats could be exported. Expected a writable directory and the "
            "packages for export. The reason for each is listed above."
        )
    card_file = out / f"{bundle.card.name}.md"
    write_text_atomic(card_file, reporting.card_to_markdown(bundle.card))
    print_json(rows) if as_json else click.echo(f"{card_file}: inputs and outputs")
    return 1 if n_failed else 0


@model_commands.command()
@_model
@click.argument("data_dir", type=PATH, metavar="DATA")
@click.option("--split", "split_file", type=PATH, help="Default: the split file of the run.")
@json_option
def quantize(model: Path, data_dir: Path, split_file: Path | None, as_json: bool) -> None:
    """Add int8 to MODEL and check the parity of every precision with the original.

    The training images of DATA calibrate int8, and its validation images measure parity.
    """
    bundle = inference.open_bundle(model)
    alternative = "Quantize a model from `train`, or use the precisions that this model includes."
    split_file = find_split_file(bundle, split_file, alternative)
    split = data.read_split(split_file)
    if inference.file_sha256(split_file) != bundle.card.data.split_sha256:
        raise SplitError(
            f"{split_file} is not the split that model '{bundle.label}' was trained with. "
            "Parity requires the model's own validation images. Give the split.csv of its run "
            "with --split."
        )
    require_tensorflow()
    with silence_native_stderr():
        import tensorflow  # noqa: F401
    dataset = load_dataset(data_dir, rules_of(bundle))
    data.require_matching_split(split, dataset)
    training, validation = (split[split["subset"] == subset] for subset in ("train", "validation"))
    size = bundle.image_size
    step = -(-len(training) // inference.N_CALIBRATION_IMAGES)  # images from all cases
    bundle = inference.quantize(
        bundle, data.load_pixels(dataset.root, list(training["path"])[::step], size)
    )
    bundle = inference.measure_parity(
        bundle,
        data.load_pixels(dataset.root, list(validation["path"]), size),
        (validation["class"] == "malignant").to_numpy(),
    )
    precisions = bundle.card.precisions
    if as_json:
        print_json({name: to_json(parity) for name, parity in precisions.items()})
        return
    for name, parity in precisions.items():
        auc = parity.auc_difference
        click.echo(
            f"{name}: {'passes' if parity.passes_parity else 'fails'} the parity check; "
            f"probability difference {parity.prob_difference_p99:.5f} (99th percentile), ROC AUC "
            f"difference {'undefined' if auc is None else f'{auc:.5f}'}, {parity.n_images} images"
        )


@model_commands.command()
@_model
@click.argument("data_dir", type=PATH, metavar="DATA")
@json_option
def calibrate(model: Path, data_dir: Path, as_json: bool) -> None:
    """Fit the temperature of MODEL on the validation subset of DATA, as training does.

    Then evaluate MODEL on the test subset. A set threshold is converted, so that image-level
    predictions stay the same; a threshold at case level returns to 0.5.
    """
    bundle = inference.open_bundle(model)
    directory = evaluation.require_evaluation(bundle)
    split = data.read_split(directory.parent / "split.csv")
    dataset = load_dataset(data_dir, rules_of(bundle))
    data.require_matching_split(split, dataset)
    rows = split[split["subset"] == "validation"].reset_index(drop=True)
    show = progress("predicting")
    predicted = inference.predict_files(
        inference.Engine(bundle), dataset.root, list(rows["path"]), progress=show
    )
    calibrated, files = evaluation.fit_bundle_temperature(bundle, rows, predicted, directory)
    report = evaluation.evaluate_split(
        inference.Engine(calibrated), dataset.root, split, progress=show
    )
    metrics = replace(calibrated.card.metrics, test=report.summary())
    card = replace(calibrated.card, metrics=metrics)
    evaluation.update_model_card(bundle, card, files | evaluation.report_files(report, directory))
    reporting.write_plots(report, directory)
    temperature, threshold = card.temperature, card.threshold
    if as_json:
        print_json(to_json(temperature) | {"threshold": to_json(threshold)})
        return
    click.echo(f"temperature {temperature.value:.3f}, {temperature.method}")
    unchanged = " (unchanged)" if threshold == bundle.card.threshold else ""
    click.echo(f"threshold {threshold.value:.3f}{unchanged}, {threshold.method}")


@model_commands.command("choose-threshold")
@_model
@click.option(
    "--criterion", type=click.Choice(["sensitivity", "specificity", "youden", "balanced"]),
    default="sensitivity", show_default=True, help="Criterion on the validation predictions.",
)  # fmt: skip
@click.option("--target", type=float, help="Sensitivity or specificity to reach. Default: 0.95.")
@click.option(
    "--unit", type=click.Choice(["image", "case"]), default="image", show_default=True,
    help="Unit that the threshold classifies.",
)  # fmt: skip
@click.option("--prevalence", default=0.1, show_default=True, help="For the predictive values.")
@click.option("--set", "reason", metavar="REASON", help="Set the threshold and store the reason.")
@json_option
def choose_threshold(
    model: Path, criterion: str, target: float | None, unit: str, prevalence: float,
    reason: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Choose a decision threshold on the validation predictions of MODEL and test it."""
    if target is not None and criterion not in ("sensitivity", "specificity"):
        raise click.UsageError(
            f"--target requires --criterion sensitivity or specificity, not {criterion}."
        )
    if not 0 < prevalence < 1:
        raise click.BadParameter("Expected 0 < prevalence < 1.", param_hint="--prevalence")
    bundle = inference.open_bundle(model)
    directory = evaluation.require_evaluation(bundle)
    choice = evaluation.choose_threshold(
        evaluation.read_validation_predictions(directory), criterion=criterion, unit=unit,
        target=0.95 if target is None else target,
    )  # fmt: skip
    predictions = evaluation.read_report(directory).predictions
    assert predictions is not None, "read_report reads the predictions or fails"
    trial = evaluation.evaluate_threshold(predictions, choice.value, unit=unit)
    rates = trial.metrics["sensitivity"], trial.metrics["specificity"]
    values = evaluation.predictive_values(*rates, prevalence)
    if reason is not None:
        evaluation.set_threshold(bundle, choice.value, reason, threshold_choice=choice)
        reporting.write_plots(evaluation.read_report(directory), directory)
    if as_json:
        print_json(
            {"choice": to_json(choice), "test": to_json(trial), "prevalence": prevalence,
             "predictive_values": {name: to_json(value) for name, value in values.items()},
             "is_set": reason is not None}
        )  # fmt: skip
        return
    click.echo(f"threshold {choice.value:.3f}, {choice.method}")
    for name, metric in trial.metrics.items():
        click.echo(f"  test {name.replace('_', ' ')}: {metric}")
    for name, metric in values.items():
        click.echo(f"  {name} predictive value at a prevalence of {prevalence:g}: {metric}")
    if reason is not None:
        click.echo("The threshold is set. The report of the run now uses it.")


@model_commands.command("set-threshold")
@_model
@click.argument("value", type=click.FloatRange(0, 1))
@click.option("--reason", required=True, help="Reason, stored in the model card.")
def set_threshold(model: Path, value: float, reason: str) -> None:
    """Set the decision threshold of MODEL to VALUE and update the report of its run."""
    bundle = inference.open_bundle(model)
    if bundle.folder.resolve().is_relative_to(inference.BUNDLED_MODELS_DIR.resolve()):
        raise ModelError(
            f"The bundled model in {bundle.folder} belongs to the program and is not changed. Copy "
            "this folder, and set the threshold of the copy."
        )
    bundle = evaluation.set_threshold(bundle, value, reason)
    if directory := evaluation.find_evaluation_dir(bundle):
        reporting.write_plots(evaluation.read_report(directory), directory)
    click.echo(f"threshold {bundle.threshold:.3f}, {bundle.card.threshold.method}")


def _summarize(card: inference.ModelCard) -> str:
    test = card.metrics.test
    if test is None:
        return "not evaluated"
    leakage = ", with leakage" if card.data.has_leakage or test.has_leakage else ""
    return f"balanced accuracy {test.metrics['balanced_accuracy']}{leakage}"
