"""Commands on models: list, show, verify, export, optimise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bc_model.cli.options import MODEL, PATH, as_json_option, print_json, progress, runs_option
from bc_model.errors import SplitError
from bc_model.utils import native_stderr_silenced

if TYPE_CHECKING:
    from bc_model.inference import ModelCard


_model = click.argument("model", type=MODEL)


@click.group()
def models() -> None:
    """Look at models, check them, write them in other formats."""


@models.command("list")
@runs_option
@as_json_option
def list_models(runs: Path, as_json: bool) -> None:
    """List the models of finished runs, newest first."""
    from bc_model.inference import bundled_model_dir, list_bundles

    bundles, problems = list_bundles(runs)
    if as_json:
        rows = [{"folder": str(one.folder), "name": one.card.name} for one in bundles]
        print_json({"models": rows, "problems": problems})
        return
    for one in bundles:
        named = (
            ", called 'bundled' by commands" if one.folder == bundled_model_dir("bundled") else ""
        )
        click.echo(f"{one.card.name}{named}  {one.folder}")
        click.echo(f"    {one.card.architecture.backbone}, {_metric_of(one.card)}")
    for sentence in problems:
        click.echo(f"left out: {sentence}")
    if not bundles:
        click.echo(f"No model under {runs}; train one first.")


@models.command()
@_model
def show(model: Path) -> None:
    """Print the model card of MODEL as JSON."""
    from bc_model.inference import open_bundle
    from bc_model.utils import dumps

    click.echo(dumps(open_bundle(model).card), nl=False)


@models.command()
@_model
def verify(model: Path) -> None:
    """Check every file of MODEL against its model card, and that it loads and answers."""
    import numpy as np

    from bc_model.inference import Engine, open_bundle

    bundle = open_bundle(model)
    bundle.verify()
    Engine(bundle).explain(np.zeros((1, *bundle.image_size, 3), np.uint8))
    click.echo(f"{bundle.folder}: {len(bundle.card.files)} files are what they should be")


@models.command()
@_model
@click.option("--out", type=PATH, required=True, help="Folder to write into.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["keras", "onnx", "tflite"]),
    help="May be given several times; default is all.",
)
@as_json_option
def export(model: Path, out: Path, formats: tuple[str, ...], as_json: bool) -> None:
    """Write MODEL as .keras, ONNX and TFLite, each compared with the reference.

    Its card is written beside them: how to feed it, and what its answers are.
    """
    from bc_model.inference import FORMATS, export_model, open_bundle
    from bc_model.reporting import card_markdown
    from bc_model.utils import write_text_atomic

    bundle = open_bundle(model)
    bundle.verify()
    click.echo("loading TensorFlow", err=True)
    with native_stderr_silenced():
        import tensorflow  # noqa: F401

    written = []
    for fmt in formats or FORMATS:
        click.echo(f"{fmt}: converting and comparing", err=True)
        one = export_model(bundle, fmt, out)
        written.append(
            {
                "format": fmt,
                "path": str(one.path),
                "max_difference": one.max_difference,
                "n_images": one.n_images,
            }
        )
        if not as_json:
            click.echo(
                f"{one.path}: largest difference from the reference {one.max_difference:.1e} "
                f"on {one.n_images} images"
            )
    card_file = out / f"{bundle.card.name}.md"
    write_text_atomic(card_file, card_markdown(bundle.card))
    if as_json:
        print_json(written)
    else:
        click.echo(f"{card_file}: how to feed it, and what its answers are")


@models.command()
@_model
@click.argument("data", type=PATH)
@click.option("--split", "split_file", type=PATH, help="Default: the split of the run.")
@as_json_option
def quantize(model: Path, data: Path, split_file: Path | None, as_json: bool) -> None:
    """Add int8 to MODEL and compare every precision with the reference.

    Quantises on the training pictures of DATA and compares on its validation pictures.
    """
    from bc_model.cli.options import own_split_file
    from bc_model.data import load_pixels, match_split, read_dataset, read_split
    from bc_model.inference import (
        N_CALIBRATION_IMAGES,
        file_sha256,
        measure_parity,
        open_bundle,
        quantize,
    )
    from bc_model.utils import to_json

    bundle = open_bundle(model)
    instead = "int8 is for models that `train` made; this one keeps the precisions it came with."
    split_file = own_split_file(bundle, split_file, "compare its precisions on", instead)
    split = read_split(split_file)
    if file_sha256(split_file) != bundle.card.data.split_sha256:
        raise SplitError(
            f"{split_file} is not the split that the model {bundle.label} was trained with; its "
            "own validation pictures are needed. Give its run's split.csv with --split."
        )
    with native_stderr_silenced():
        import tensorflow  # noqa: F401
    dataset = read_dataset(data, progress=progress("reading"))
    match_split(split, dataset)
    training, validation = (split[split["subset"] == subset] for subset in ("train", "validation"))
    size = bundle.image_size
    every = -(-len(training) // N_CALIBRATION_IMAGES)  # spread over all cases
    calibration = load_pixels(dataset.root, list(training["path"])[::every], size)
    bundle = quantize(bundle, calibration)
    bundle = measure_parity(
        bundle,
        load_pixels(dataset.root, list(validation["path"]), size),
        (validation["class"] == "malignant").to_numpy(),
    )
    precisions = bundle.card.precisions
    if as_json:
        print_json({name: to_json(one) for name, one in precisions.items()})
        return
    for name, parity in precisions.items():
        auc = parity.auc_difference
        click.echo(
            f"{name}: {'allowed' if parity.passes_parity else 'not allowed'}; probability within "
            f"{parity.prob_difference_p99:.5f} (99th percentile), AUC within "
            f"{'not defined' if auc is None else f'{auc:.5f}'}, {parity.n_images} pictures"
        )


@models.command()
@_model
@click.option("--out", type=PATH, help="The Markdown file to write; default: print it.")
def card(model: Path, out: Path | None) -> None:
    """Make a model card from the model card of MODEL, as Markdown."""
    from bc_model.inference import open_bundle
    from bc_model.reporting import card_markdown
    from bc_model.utils import write_text_atomic

    text = card_markdown(open_bundle(model).card)
    if out is None:
        click.echo(text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(out, text)
    click.echo(f"written to {out}")


def _metric_of(card: ModelCard) -> str:
    test = card.metrics.test
    metric = test.metrics["balanced_accuracy"] if test else None
    if test is None or metric is None or metric.value is None:
        return "not evaluated"
    interval = ""
    if metric.low is not None:
        interval = f" (95 % {metric.low:.2f}-{metric.high:.2f})"
    has_leakage = ", LEAKY" if card.data.has_leakage or test.has_leakage else ""
    return (
        f"balanced accuracy {metric.value:.2f}{interval} on {metric.n} pictures of "
        f"{metric.n_cases} cases{has_leakage}"
    )


@click.command()
@click.argument("model", type=MODEL)
@click.argument("data", type=PATH)
@as_json_option
def calibrate(model: Path, data: Path, as_json: bool) -> None:
    """Fit the temperature of MODEL anew on the validation part of DATA, as training does.

    Then evaluates it again on the test part: the probabilities have changed. A locked cut-off is
    carried over, so that it calls the same pictures; one chosen by case goes back to 0.5.
    """
    from bc_model.data import match_split, read_dataset, read_split
    from bc_model.evaluation import (
        calibrated_by,
        change_model_card,
        evaluate_split,
        report_files,
        require_evaluation,
    )
    from bc_model.inference import CardMetrics, Engine, open_bundle, predict_files
    from bc_model.reporting import write_plots
    from bc_model.utils import to_json

    bundle = open_bundle(model)
    folder = require_evaluation(bundle)
    split = read_split(folder.parent / "split.csv")
    dataset = read_dataset(data, progress=progress("reading"))
    match_split(split, dataset)
    rows = split[split["subset"] == "validation"].reset_index(drop=True)
    tell = progress("predicting")
    predicted = predict_files(Engine(bundle), dataset.root, list(rows["path"]), progress=tell)
    calibrated, files = calibrated_by(bundle, rows, predicted, folder)
    report = evaluate_split(Engine(calibrated), dataset.root, split, progress=tell)
    card = replace(calibrated.card, metrics=CardMetrics(test=report.summary()))
    change_model_card(bundle, card, files | report_files(report, folder))
    write_plots(report, folder)
    temperature, threshold = card.temperature, card.threshold
    if as_json:
        print_json(to_json(temperature) | {"threshold": to_json(threshold)})
        return
    click.echo(f"temperature {temperature.value:.3f}, {temperature.method}")
    kept = " as before" if threshold == bundle.card.threshold else ""
    click.echo(f"cut-off {threshold.value:.3f}{kept}, {threshold.method}")


@click.command()
@click.argument("model", type=MODEL)
@click.option(
    "--goal", type=click.Choice(["sensitivity", "specificity", "youden", "balanced"]),
    default="sensitivity", show_default=True, help="What the cut-off is chosen by.",
)  # fmt: skip
@click.option("--wanted", type=float, help="Sensitivity or specificity; default 0.95.")
@click.option("--by", "unit", type=click.Choice(["image", "case"]), default="image")
@click.option("--prevalence", default=0.1, show_default=True, help="For predictive values.")
@click.option("--lock", "reason", metavar="REASON", help="Write it into the model card.")
@as_json_option
def threshold_choice(
    model: Path, criterion: str, target: float | None, unit: str, prevalence: float, reason: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Choose a cut-off on MODEL's validation predictions, and try it on its test predictions."""
    from bc_model.evaluation import (
        choose_threshold,
        predictive_values,
        read_report,
        read_validation,
        require_evaluation,
        set_threshold,
        try_threshold,
    )
    from bc_model.inference import open_bundle
    from bc_model.reporting import write_plots
    from bc_model.utils import to_json

    if target is not None and criterion not in ("sensitivity", "specificity"):
        raise click.UsageError(
            f"--wanted goes with --goal sensitivity or specificity, not with {criterion}"
        )
    if not 0 < prevalence < 1:
        raise click.BadParameter("lies between 0 and 1", param_hint="--prevalence")
    bundle = open_bundle(model)
    folder = require_evaluation(bundle)
    wish = 0.95 if target is None else target
    chosen = choose_threshold(read_validation(folder), criterion=criterion, target=wish, unit=unit)
    predictions = read_report(folder).predictions
    assert predictions is not None, "read_report reads the predictions or fails"
    trial = try_threshold(predictions, chosen.value, unit=unit)
    rates = trial.metrics["sensitivity"], trial.metrics["specificity"]
    values = predictive_values(*rates, prevalence)
    if reason is not None:
        set_threshold(bundle, chosen.value, reason, threshold_choice=chosen)
        write_plots(read_report(folder), folder)
    if as_json:
        told = {name: to_json(metric) for name, metric in values.items()}
        print_json(
            {"chosen": to_json(chosen), "test": to_json(trial), "predictive_values": told,
             "prevalence": prevalence, "locked": reason is not None}
        )  # fmt: skip
        return
    click.echo(f"cut-off {chosen.value:.3f}, {chosen.chosen}")
    for name, metric in trial.metrics.items():
        click.echo(f"  on test, {name.replace('_', ' ')}: {metric}")
    for name, metric in values.items():
        click.echo(f"  {name} predictive value at a prevalence of {prevalence:g}: {metric}")
    if reason is not None:
        click.echo("locked into the model card; the report of the run is at this cut-off now")
