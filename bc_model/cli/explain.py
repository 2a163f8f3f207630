"""``explain``: write predictions, contribution maps and heatmaps of image files."""

from pathlib import Path
from typing import Any

import click

from bc_model import inference
from bc_model.cli.options import MODEL, PATH, json_option, print_json
from bc_model.errors import BcModelError, DataError
from bc_model.utils import (
    check_writable,
    describe_error,
    format_count,
    format_with_threshold,
)


@click.command()
@click.argument("images", type=PATH, nargs=-1, required=True)
@click.option("--model", type=MODEL, required=True, help="A run, a model directory, or 'bundled'.")
@click.option("--out", type=PATH, required=True, help="Directory for heatmaps and JSON files.")
@click.option(
    "--resolution", type=click.Choice(list(inference.RESOLUTIONS)), default="standard",
    show_default=True, help="Cells of the heatmaps; fine and finest are for ResNet50.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["auto", *inference.PRECISIONS]), default="auto",
    show_default=True,
    help="Precision; auto: f32 for one image, otherwise the fastest that passed its parity check.",
)  # fmt: skip
@json_option
def explain(
    images: tuple[Path, ...], model: Path, out: Path, resolution: str, precision: str,
    as_json: bool,
) -> int:  # fmt: skip
    """Classify IMAGES and write their heatmaps (PNG and NPY) and results (JSON).

    For each image, there is a contribution map and a Grad-CAM heatmap for each class.

    A directory adds every image in it, except heatmaps of earlier calls. If one of several images
    is damaged, or its results cannot be written, it is skipped and the exit code is 1. If a path
    does not exist, nothing is written.
    No heatmap is written for an image that the model cannot interpret.
    """
    check_writable(out)
    files = inference.collect_images(images)
    if precision == "auto":
        precision = "fastest" if len(files) > 1 else "f32"
    classifier = inference.load_classifier(model, precision=precision)
    inference.require_resolution(classifier.bundle, resolution)
    results: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for file in files:
        try:
            result = inference.explain_file(classifier, file, out, resolution=resolution)
        except (BcModelError, OSError) as error:
            if len(files) == 1:
                raise
            message = describe_error(error)
            skipped.append({"image": str(file), "error": message})
            click.echo(f"skipped in {file.parent}: {message}", err=True)
            continue
        results.append(result)
        if not as_json:
            _print_result(file, result)
    if not results:
        raise DataError(
            f"None of {len(files)} images could be explained. Expected PNG, JPEG or TIFF files and "
            "a writable directory. The reason for each is listed above."
        )
    if as_json:
        print_json([*results, *skipped])
    else:
        click.echo(f"Results written to {out}. Research use only, not a diagnosis.")
    if skipped:
        click.echo(f"{len(skipped)} of {format_count(len(files), 'image')} skipped.", err=True)
    return 1 if skipped else 0


def _print_result(file: Path, result: dict[str, Any]) -> None:
    if result["predicted_class"] is None:
        click.echo(f"{file}: not classified")
    else:
        shown, threshold = format_with_threshold(result["prob_malignant"], result["threshold"])
        click.echo(
            f"{file}: estimated probability of malignancy {shown}, "
            f"predicted {result['predicted_class']} (threshold {threshold})"
        )
    if location := result["location"]:
        click.echo(f"  {location['severity']} {location['code']}: {location['message']}")
    for check in result["checks"]:
        click.echo(f"  {check['severity']} {check['code']}: {check['message']}")
