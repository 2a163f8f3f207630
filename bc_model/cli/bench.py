"""Commands on a model's probabilities and its cut-off: models calibrate, models cutoff."""

from dataclasses import replace
from pathlib import Path

import click

from bc_model.cli.options import MODEL, PATH, as_json_option, print_json, progress


@click.command()
@click.argument("model", type=MODEL)
@click.argument("data", type=PATH)
@as_json_option
def calibrate(model: Path, data: Path, as_json: bool) -> None:
    """Fit the temperature of MODEL anew on the validation part of DATA, as training does.

    Then evaluates it again on the test part: the probabilities have changed. A locked cut-off is
    carried over, so that it calls the same pictures; one chosen by case goes back to 0.5.
    """
    from bc_model.data.manifest import read_manifest
    from bc_model.data.splits import match_split, read_split
    from bc_model.evaluation.evaluate import evaluate_split
    from bc_model.evaluation.lock import change_model_card, require_evaluation
    from bc_model.evaluation.predict import predict_files
    from bc_model.evaluation.store import report_files
    from bc_model.evaluation.validation import calibrated_by
    from bc_model.reporting.plots import write_plots
    from bc_model.serving.bundle import open_bundle
    from bc_model.serving.engine import Engine
    from bc_model.serving.passport import CardMetrics
    from bc_model.utils.serialization import to_json

    bundle = open_bundle(model)
    folder = require_evaluation(bundle)
    split = read_split(folder.parent / "split.csv")
    manifest = read_manifest(data, progress=progress("reading"))
    match_split(split, manifest)
    rows = split[split["part"] == "validation"].reset_index(drop=True)
    tell = progress("predicting")
    predicted = predict_files(Engine(bundle), manifest.root, list(rows["path"]), progress=tell)
    calibrated, files = calibrated_by(bundle, rows, predicted, folder)
    report = evaluate_split(Engine(calibrated), manifest.root, split, progress=tell)
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
@click.option("--by", "unit", type=click.Choice(["picture", "case"]), default="picture")
@click.option("--prevalence", default=0.1, show_default=True, help="For predictive values.")
@click.option("--lock", "reason", metavar="REASON", help="Write it into the model card.")
@as_json_option
def cutoff(
    model: Path, goal: str, wanted: float | None, unit: str, prevalence: float, reason: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Choose a cut-off on MODEL's validation predictions, and try it on its test predictions."""
    from bc_model.evaluation.combined import predictive_values
    from bc_model.evaluation.cutoff import choose_cutoff, try_cutoff
    from bc_model.evaluation.lock import lock_threshold, require_evaluation
    from bc_model.evaluation.report import read_report
    from bc_model.evaluation.validation import read_validation
    from bc_model.reporting.plots import write_plots
    from bc_model.serving.bundle import open_bundle
    from bc_model.utils.serialization import to_json

    if wanted is not None and goal not in ("sensitivity", "specificity"):
        raise click.UsageError(
            f"--wanted goes with --goal sensitivity or specificity, not with {goal}"
        )
    if not 0 < prevalence < 1:
        raise click.BadParameter("lies between 0 and 1", param_hint="--prevalence")
    bundle = open_bundle(model)
    folder = require_evaluation(bundle)
    wish = 0.95 if wanted is None else wanted
    chosen = choose_cutoff(read_validation(folder), goal=goal, wanted=wish, unit=unit)
    predictions = read_report(folder).predictions
    assert predictions is not None, "read_report reads the predictions or fails"
    trial = try_cutoff(predictions, chosen.value, unit=unit)
    rates = trial.figures["sensitivity"], trial.figures["specificity"]
    values = predictive_values(*rates, prevalence)
    if reason is not None:
        lock_threshold(bundle, chosen.value, reason, cutoff=chosen)
        write_plots(read_report(folder), folder)
    if as_json:
        told = {name: to_json(figure) for name, figure in values.items()}
        print_json(
            {"chosen": to_json(chosen), "test": to_json(trial), "predictive_values": told,
             "prevalence": prevalence, "locked": reason is not None}
        )  # fmt: skip
        return
    click.echo(f"cut-off {chosen.value:.3f}, {chosen.chosen}")
    for name, figure in trial.figures.items():
        click.echo(f"  on test, {name.replace('_', ' ')}: {figure}")
    for name, figure in values.items():
        click.echo(f"  {name} predictive value at a prevalence of {prevalence:g}: {figure}")
    if reason is not None:
        click.echo("locked into the model card; the report of the run is at this cut-off now")
