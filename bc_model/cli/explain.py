"""``explain``: write predictions, contribution maps and heatmaps of image files."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from bc_model import evaluation, inference, training
from bc_model.checks import Check, check_to_json, make_check
from bc_model.cli.options import MODEL, PATH, json_option, print_json, progress
from bc_model.data import ImageChange, parse_change, parse_scale, preprocess_image
from bc_model.errors import BcModelError, DataError
from bc_model.utils import (
    check_writable,
    describe_error,
    format_count,
    format_with_threshold,
    to_json,
    write_text_atomic,
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
@click.option(
    "--scale", metavar="SCALE",
    help="Scale: 20x (objective), 0.5 (um/px), 200X (BreakHis frame) or unknown; else of the file.",
)  # fmt: skip
@click.option("--show-anyway", is_flag=True, help="Also write the results of blocked images.")
@click.option("--views", is_flag=True, help="Add the spread over rotated and shifted views.")
@click.option(
    "--nearest", type=click.IntRange(1, 50), metavar="N",
    help="Add the N nearest training images of other cases, if they are on this machine.",
)  # fmt: skip
@click.option(
    "--layer", "layers", type=click.Choice(inference.LAYERS), multiple=True,
    help="Also write this layer as PNG and NPY; may be repeated.",
)  # fmt: skip
@click.option("--page", type=int, help="Page of a TIFF file, from 1; the largest one if omitted.")
@click.option(
    "--what-if", "change", metavar="CHANGE",
    help="Add the result of a change, such as rectangle=0.1:0.2:0.5:0.6,fill=blur,blur=2.",
)  # fmt: skip
@click.option("--trust-test", is_flag=True, help="Compare each map with 30 random maps.")
@json_option
def explain(
    images: tuple[Path, ...], model: Path, out: Path, resolution: str, precision: str,
    scale: str | None, show_anyway: bool, views: bool, nearest: int | None,
    layers: tuple[str, ...], page: int | None, change: str | None, trust_test: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Classify IMAGES and write their heatmaps (PNG and NPY) and results (JSON).

    For each image, there is a contribution map and a Grad-CAM heatmap for each class.

    A directory adds every image in it, except heatmaps of earlier calls. If one of several images
    is damaged, or its results cannot be written, it is skipped and the exit code is 1. If a path
    does not exist, nothing is written. The results of several images are also in predictions.csv.
    No heatmap is written for an image that the model cannot interpret.
    """
    check_writable(out)
    declared = parse_scale(scale) if scale else None
    image_change = parse_change(change) if change else None
    files = inference.collect_images(images)
    if precision == "auto":
        # The stored features of the training images are in f32.
        precision = "fastest" if len(files) > 1 and not nearest else "f32"
    classifier = inference.load_classifier(model, precision=precision)
    inference.require_resolution(classifier.bundle, resolution)
    reference = _load_reference(classifier) if nearest else None

    def extend(image: np.ndarray, prediction: inference.Prediction) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        if image_change is not None and prediction.is_classified:
            entries["what_if"] = _describe_change(classifier, image, prediction, image_change)
        # These compare one field of view with others.
        is_one_field = prediction.is_classified and not prediction.is_tiled
        if missing := _find_missing(prediction, one_field, image_change is not None):
            entries["not_computed"] = [check_to_json(check) for check in missing]
        if views and is_one_field:
            entries["views"] = _describe_views(classifier.predict_views(image))
        if trust_test and is_one_field:
            entries["trust_tests"] = {
                name: _test_map(classifier, image, prediction, name)
                for name in ("contribution", *layers)
            }
        if reference is not None and is_one_field:
            entries |= _describe_nearest(
                classifier, reference, image, prediction.name, nearest or 1
            )
        return entries

    asked = {"views": views, "trust test": trust_test, "nearest images": nearest}
    one_field = [name for name, is_asked in asked.items() if is_asked] + list(layers)
    results: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for file in files:
        try:
            result = inference.explain_file(
                classifier,
                file,
                out,
                scale=declared,
                show_anyway=show_anyway,
                resolution=resolution,
                layers=layers,
                page=page,
                extend=extend,
            )
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
    if len(files) > 1:
        write_text_atomic(out / "predictions.csv", inference.results_to_csv(results))
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
            f"outcome {result['outcome']} (threshold {threshold})"
        )
        if result["is_forced"]:
            click.echo("  blocked, shown anyway: the prediction is not reliable")
        if tiles := result["tiles"]:
            click.echo(
                f"  {tiles['n_tiles']} tiles: largest probability "
                f"{tiles['max_prob_malignant']:.3f}, malignant {tiles['malignant_proportion']:.0%}"
            )
        if band := result["uncertain_band"]:
            low, high = band
            click.echo(f"  uncertain range {low:.3f} to {high:.3f}")
    if views := result.get("views"):
        click.echo(
            f"  {len(views['prob_malignant'])} views: mean {views['mean']:.3f}, standard deviation "
            f"{views['sd']:.3f}, {views['minimum']:.3f} to {views['maximum']:.3f}"
        )
    tests = result.get("trust_tests", {})
    for name, tested in tests.items():
        click.echo(
            f"  trust test of {name}: better than {tested['proportion']:.0%} of the random maps "
            f"(95 % interval {tested['ci_low']:.0%} to {tested['ci_high']:.0%})"
        )
    for neighbor in result.get("nearest", ()):
        click.echo(
            f"  nearest: {neighbor['class']}, case {neighbor['case'] or 'unknown'}, distance "
            f"{neighbor['distance']:.3f}, {neighbor['path']}"
        )
    if location := result["location"]:
        click.echo(f"  {location['severity']} {location['code']}: {location['message']}")
    if changed := result.get("what_if"):
        forced = ", which alone would be blocked" if changed["is_forced"] else ""
        click.echo(
            f"  changed image{forced}: estimated probability of malignancy "
            f"{changed['prob_malignant']:.3f} ({changed['prob_difference']:+.3f})"
        )
    checks = [
        *result["checks"],
        *result.get("not_computed", ()),
        *(result.get("views") or {}).get("checks", ()),
    ]
    checks += [check for tested in tests.values() for check in tested["checks"]]
    if "nearest_check" in result:
        checks.append(result["nearest_check"])
    for check in checks:
        click.echo(f"  {check['severity']} {check['code']}: {check['message']}")


def _find_missing(
    prediction: inference.Prediction, one_field: list[str], has_change: bool
) -> list[Check]:
    """Return why some of the results that the user asked for are not computed."""
    if not prediction.is_classified:
        names = one_field + ["what-if"] * has_change
        return [make_check("BC147", names=names)] if names else []
    if prediction.is_tiled and one_field:
        return [make_check("BC146", names=one_field)]
    return []


def _describe_change(
    classifier: inference.Classifier,
    image: np.ndarray,
    prediction: inference.Prediction,
    change: ImageChange,
) -> dict[str, Any]:
    found = inference.predict_change(classifier, image, prediction, change)
    return {
        "change": asdict(change),
        "prob_malignant": found.prediction.prob_malignant,
        "prob_difference": found.prob_difference,
        "margin_difference": found.margin_difference,
        "outcome": found.prediction.outcome,
        "is_forced": found.prediction.is_forced,
        "checks": [check_to_json(check) for check in found.prediction.checks],
    }


def _test_map(
    classifier: inference.Classifier,
    image: np.ndarray,
    prediction: inference.Prediction,
    name: str,
) -> dict[str, Any]:
    """Return the trust test of the contribution map, or of a layer for the predicted class."""
    engine, tested = classifier.engine.engine, None
    if name in inference.LAYERS:
        pixels = preprocess_image(image, engine.bundle.image_size)
        tested = inference.explain_layer(
            engine, pixels, name, prediction.predicted_class or "malignant"
        )
    result = evaluation.measure_prediction_faithfulness(engine, image, prediction, tested)
    checks = [check_to_json(check) for check in result.checks]
    return to_json(result) | {"checks": checks}


def _load_reference(
    classifier: inference.Classifier,
) -> training.TrainingReference | Check:
    """Return the training images of the model with their features, and show the progress."""
    images = training.find_reference_images(classifier.bundle, progress=progress("reading"))
    if isinstance(images, Check):
        return images
    return training.load_training_reference(
        images, classifier.engine.engine, progress=progress("training images")
    )


def _describe_views(spread: inference.ViewSpread) -> dict[str, Any]:
    return {
        "prob_malignant": spread.prob_malignant,
        "mean": spread.mean,
        "sd": spread.sd,
        "minimum": spread.minimum,
        "maximum": spread.maximum,
        "n_malignant": spread.n_malignant,
        "checks": [check_to_json(check) for check in spread.checks],
    }


def _describe_nearest(
    classifier: inference.Classifier, reference: training.TrainingReference | Check,
    image: np.ndarray, name: str, count: int,
) -> dict[str, Any]:  # fmt: skip
    found = (
        reference
        if isinstance(reference, Check)
        else training.find_nearest_images(
            classifier.engine.engine, reference, image, name=name, k=count
        )
    )
    if isinstance(found, Check):
        return {"nearest": [], "nearest_check": check_to_json(found)}
    return {
        "nearest": [
            {
                "path": neighbor.path,
                "case": neighbor.case,
                "class": neighbor.class_name,
                "distance": neighbor.distance,
            }
            for neighbor in found
        ]
    }
