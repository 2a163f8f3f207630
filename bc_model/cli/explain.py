"""``explain``: verdicts and heatmaps of pictures on disk, one by one or whole folders of them."""

from pathlib import Path
from typing import Any

import click

from bc_model.cli.options import MODEL, PATH, as_json_option, print_json
from bc_model.errors import DataError, PictureError
from bc_model.words import many, probability_in_words


@click.command()
@click.argument("pictures", type=PATH, nargs=-1, required=True)
@click.option("--model", type=MODEL, required=True, help="A run, a model folder, or 'bundled'.")
@click.option("--out", type=PATH, required=True, help="Folder for heatmaps and JSON.")
@as_json_option
def explain(pictures: tuple[Path, ...], model: Path, out: Path, as_json: bool) -> int:
    """Predict each of PICTURES and write its heatmaps: PNG, raw map as NPY, JSON.

    A folder stands for every picture in it that no explanation wrote. Of several pictures one that
    is damaged is named and passed over, and the exit code is 1; a name that nothing is under stops
    all before anything is written.
    """
    from bc_model.files import require_place
    from bc_model.serving.batching import BatchingEngine
    from bc_model.serving.bundle import open_bundle
    from bc_model.serving.engine import Engine
    from bc_model.serving.explain_files import explain_file, pictures_to_explain

    require_place(out)
    files = pictures_to_explain(pictures)
    engine = BatchingEngine(Engine(open_bundle(model)))
    results: list[dict[str, Any]] = []
    passed_over: list[dict[str, str]] = []
    for file in files:
        try:
            result = explain_file(engine, file, out)
        except PictureError as error:
            if len(files) == 1:
                raise
            passed_over.append({"picture": str(file), "passed_over": str(error)})
            click.echo(f"passed over in {file.parent}: {error}", err=True)
            continue
        results.append(result)
        if not as_json:
            _print_result(file, result)
    if not results:
        raise DataError(
            f"None of {len(files)} pictures can be read; a picture is a PNG, JPEG or TIFF file. "
            "The reason for each stands above."
        )
    if as_json:
        print_json([*results, *passed_over])
    else:
        click.echo(f"heatmaps written to {out}. Research use only, not a diagnosis.")
    if passed_over:
        click.echo(f"{len(passed_over)} of {many(len(files), 'picture')} passed over.", err=True)
    return 1 if passed_over else 0


def _print_result(file: Path, result: dict[str, Any]) -> None:
    click.echo(
        f"{file}: estimated probability of malignancy "
        f"{probability_in_words(result['prob_malignant'])}, "
        + (f"called {result['class']}" if result["class"] else "not called: see the first note")
    )
    for sentence in [*result["warnings"], *result["cautions"]]:
        click.echo(f"  note: {sentence}")
