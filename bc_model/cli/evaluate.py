"""Commands on a model and pictures: evaluate, explain."""

from pathlib import Path

import click

from bc_model.cli.options import PATH, as_json_option, print_json, progress


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder for report, pictures and CSV.")
@click.option("--split", "split_file", type=PATH, help="Default: the split of the run.")
@click.option(
    "--part", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True
)
@as_json_option
def evaluate(
    model: Path, data: Path, out: Path, split_file: Path | None, part: str, as_json: bool
) -> None:
    """Evaluate MODEL (a run or a model folder) on the test part of DATA."""
    from bc_model.data.manifest import read_manifest
    from bc_model.data.splits import match_split, read_split
    from bc_model.evaluation.evaluate import evaluate_split
    from bc_model.serving.bundle import open_bundle
    from bc_model.serving.engine import Engine

    bundle = open_bundle(model)
    split_file = split_file or bundle.folder.parent / "split.csv"
    chosen = read_split(split_file)
    manifest = read_manifest(data, progress=progress("reading"))
    match_split(chosen, manifest)
    report = evaluate_split(
        Engine(bundle), manifest.root, chosen, part=part, progress=progress("predicting")
    )
    report.write(out)
    if as_json:
        print_json(report.as_dict())
        return
    (tn, fp), (fn, tp) = report.confusion
    click.echo(f"protocol {report.protocol}{' (LEAKY)' if report.leaky else ''}, {part} part")
    click.echo("                 called benign   called malignant")
    click.echo(f"  benign         {tn:13d}   {fp:16d}")
    click.echo(f"  malignant      {fn:13d}   {tp:16d}")
    for name, figure in report.figures.items():
        click.echo(f"  {name.replace('_', ' ')}: {figure}")
    click.echo(f"  calling everything malignant: {report.always_malignant_accuracy:.2f} accurate")
    for sentence in report.warnings:
        click.echo(f"  note: {sentence}")
    click.echo(f"written to {out}")


@click.command()
@click.argument("pictures", type=PATH, nargs=-1, required=True)
@click.option("--model", type=PATH, required=True, help="A run or a model folder.")
@click.option("--out", type=PATH, required=True, help="Folder for heatmaps and JSON.")
@as_json_option
def explain(pictures: tuple[Path, ...], model: Path, out: Path, as_json: bool) -> None:
    """Predict each of PICTURES and write its heatmaps: PNG, raw map as NPY, JSON."""
    from bc_model.data.pictures import read_picture
    from bc_model.serving.batching import BatchingEngine
    from bc_model.serving.bundle import open_bundle
    from bc_model.serving.engine import Engine
    from bc_model.serving.explain_files import explain_file
    from bc_model.words import probability_in_words

    engine = BatchingEngine(Engine(open_bundle(model)))
    for picture in pictures:
        read_picture(picture)  # all of them can be read, or nothing is written
    results = []
    for picture in pictures:
        result = explain_file(engine, picture, out)
        results.append(result)
        if not as_json:
            click.echo(
                f"{picture}: estimated probability of malignancy "
                f"{probability_in_words(result['prob_malignant'])}, called {result['class']}"
            )
    if as_json:
        print_json(results)
    else:
        click.echo(f"heatmaps written to {out}. Research use only, not a diagnosis.")
