"""The command line: one command for each thing the app can do.

Bad input ends with one line on stderr and exit code 2. With ``--json`` stdout carries JSON and
nothing else. Commands import what they need when they run, so that ``--help`` is quick.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bc_model import __version__
from bc_model.errors import BcModelError, FolderNotFound, SettingsError
from bc_model.quiet import native_stderr_silenced

_FOLDER = click.Path(path_type=Path)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, only that.")
_seed = click.option("--seed", default=0, show_default=True, help="Of every random choice.")
_n_folds = click.option("--n-folds", default=5, show_default=True, help="Folds to divide into.")
_fold = click.option("--fold", default=0, show_default=True, help="Which fold is the test fold.")


def main() -> None:
    """Run the command line and turn every error into one line and an exit code."""
    try:
        code = commands(standalone_mode=False)
    except BcModelError as error:
        code = _fail(str(error), 2)
    except BrokenPipeError:
        # The reader of our output (head, less) has left: nobody to tell.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        code = 1
    except OSError as error:
        name = error.filename2 or error.filename
        place = f"{name} " if name else "A file "
        code = _fail(f"{place}cannot be read or written: {error.strerror}.", 2)
    except click.exceptions.Abort:
        code = _fail("stopped.", 130)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        code = _fail(error.format_message() + hint, 2)
    except KeyboardInterrupt:
        code = _fail("stopped.", 130)
    except Exception as error:  # a fault of ours: say so, and keep the details for a report
        if os.environ.get("BC_DEBUG"):
            traceback.print_exc()
        code = _fail(
            f"a fault in the program ({type(error).__name__}: {error}); "
            "run again with BC_DEBUG=1 and report what it prints.",
            1,
        )
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bc_model")
def commands() -> None:
    """Classify breast histopathology pictures and explain each verdict. Research use only."""


@commands.command()
@click.argument("data", type=_FOLDER)
@_as_json
def audit(data: Path, as_json: bool) -> None:
    """Count pictures, cases and magnifications in DATA and list what was left out, and why."""
    from bc_model.data.audit import audit_manifest
    from bc_model.data.manifest import read_manifest

    found = audit_manifest(read_manifest(data, progress=_progress("reading")))
    if as_json:
        _print_json(found)
        return
    click.echo(f"{found['root']}: {found['pictures']} pictures")
    click.echo(
        f"  {found['cases']} cases ({found['benign_cases']} benign, "
        f"{found['malignant_cases']} malignant), {found['sections']} sections"
    )
    for title, key in (
        ("classes", "by_class"), ("magnifications", "by_magnification"), ("subtypes", "by_subtype"),
        ("sizes", "by_size"), ("left out", "rejected"),
    ):  # fmt: skip
        counts = ", ".join(f"{name} {count}" for name, count in found[key].items())
        click.echo(f"  {title}: {counts or 'none'}")
    for file in found["rejected_files"]:
        click.echo(f"    {file['path']}: {file['reason']}. {file['detail']}")
    for sentence in found["warnings"]:
        click.echo(f"  note: {sentence}")


@commands.command()
@click.argument("data", type=_FOLDER)
@click.option("--protocol", type=click.Choice(["case", "image"]), default="case", show_default=True)
@click.option("--out", type=_FOLDER, required=True, help="The CSV to write.")
@_n_folds
@_fold
@_seed
@_as_json
def split(
    data: Path, protocol: str, out: Path, n_folds: int, fold: int, seed: int, as_json: bool
) -> None:
    """Divide DATA into training, validation and test, and prove what they share."""
    from dataclasses import asdict

    from bc_model.data.manifest import read_manifest
    from bc_model.data.splits import PARTS, count_leaks, make_split, write_split

    manifest = read_manifest(data, progress=_progress("reading"))
    made = make_split(manifest, protocol, n_folds=n_folds, fold=fold, seed=seed)
    leak = count_leaks(made)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_split(made, out)
    parts = {
        part: {
            "pictures": len(rows),
            "cases": int(rows.loc[rows["case"] != "", "case"].nunique()),
            "benign_cases": int(rows.loc[rows["class"] == "benign", "case"].nunique()),
        }
        for part in PARTS
        for rows in [made[made["part"] == part]]
    }
    if as_json:
        _print_json({"protocol": protocol, "out": str(out), "parts": parts, "shared": asdict(leak)})
        return
    for part, counts in parts.items():
        click.echo(
            f"{part}: {counts['pictures']} pictures, {counts['cases']} cases "
            f"({counts['benign_cases']} benign)"
        )
    click.echo(
        f"shared with training: {leak.cases} cases, {leak.test_pictures} of {leak.n_test} test "
        f"pictures ({leak.benign_test_pictures} of {leak.n_benign_test} benign), "
        f"{leak.pixels} pixel for pixel"
    )
    if leak.test_pictures:
        click.echo("This split is LEAKY: figures from it flatter.")
    click.echo(f"written to {out}")


@commands.command()
@click.argument("data", type=_FOLDER)
@click.option("--run", "run_path", type=_FOLDER, required=True, help="Run folder to write.")
@click.option("--weights", default="imagenet", show_default=True, help="imagenet, none or a file.")
@click.option("--backbone", default="resnet50", show_default=True)
@click.option("--protocol", type=click.Choice(["case", "image"]), default="case", show_default=True)
@_n_folds
@_fold
@click.option("--head-epochs", default=10, show_default=True, help="Frozen backbone.")
@click.option("--finetune-epochs", default=20, show_default=True, help="Fine-tuning.")
@click.option("--image-size", default="224x224", show_default=True, metavar="HxW")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--head-learning-rate", default=1e-3, show_default=True)
@click.option("--finetune-learning-rate", type=float, help="1e-4; from scratch 5e-4.")
@click.option("--unfreeze-from", help="Block where fine-tuning begins, or 'all'.")
@click.option("--dense-units", default="256", show_default=True, metavar="N[,N...]")
@click.option("--dropout", default=0.3, show_default=True)
@click.option("--patience", default=6, show_default=True, help="Epochs without a better loss.")
@_seed
def train(data: Path, run_path: Path, image_size: str, dense_units: str, **options: Any) -> None:
    """Train on DATA: frozen backbone first, then fine-tuning; ends with a model and its figures.

    Ctrl-C ends the run within one batch and keeps the best model so far.
    """
    from bc_model.training.run_folder import RunFolder
    from bc_model.training.settings import TrainSettings

    settings = TrainSettings(
        data=str(data),
        image_size=_parse_size(image_size),
        dense_units=_parse_units(dense_units),
        **options,
    )
    if not data.is_dir():
        raise FolderNotFound(f"There is no folder {data}; check the path of the data set.")
    run = RunFolder.create(run_path)
    _log_to(run.path / "log.txt")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.request_stop())
    # TensorFlow takes seconds to import: the run says that it is there before that.
    run.write_status("starting", message="Starting TensorFlow")
    with native_stderr_silenced():
        from bc_model.training.fit import train as train_model

    train_model(settings, run)


@commands.command()
@click.argument("model", type=_FOLDER)
@click.argument("data", type=_FOLDER)
@click.option("--out", type=_FOLDER, required=True, help="Folder for report, pictures and CSV.")
@click.option("--split", "split_file", type=_FOLDER, help="Default: the split of the run.")
@click.option(
    "--part", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True
)
@_as_json
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
    manifest = read_manifest(data, progress=_progress("reading"))
    match_split(chosen, manifest)
    report = evaluate_split(
        Engine(bundle), manifest.root, chosen, part=part, progress=_progress("predicting")
    )
    report.write(out)
    if as_json:
        _print_json(report.as_dict())
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


@commands.command()
@click.argument("pictures", type=_FOLDER, nargs=-1, required=True)
@click.option("--model", type=_FOLDER, required=True, help="A run or a model folder.")
@click.option("--out", type=_FOLDER, required=True, help="Folder for heatmaps and JSON.")
@_as_json
def explain(pictures: tuple[Path, ...], model: Path, out: Path, as_json: bool) -> None:
    """Predict each of PICTURES and write its heatmaps: PNG, raw map as NPY, JSON."""
    from bc_model.serving.bundle import open_bundle
    from bc_model.serving.engine import Engine
    from bc_model.serving.explain_files import explain_file

    engine = Engine(open_bundle(model))
    results = []
    for picture in pictures:
        result = explain_file(engine, picture, out)
        results.append(result)
        if not as_json:
            click.echo(
                f"{picture}: estimated probability of malignancy "
                f"{result['prob_malignant']:.3f}, called {result['class']}"
            )
    if as_json:
        _print_json(results)
    else:
        click.echo(f"heatmaps written to {out}. Research use only, not a diagnosis.")


@commands.group()
def data() -> None:
    """Make data sets."""


@data.command()
@click.argument("folder", type=_FOLDER)
@click.option("--cases", default=12, show_default=True)
@click.option("--pictures-per-case", default=6, show_default=True)
@click.option("--image-size", default="460x700", show_default=True, metavar="HxW")
@_seed
def synthetic(folder: Path, cases: int, pictures_per_case: int, image_size: str, seed: int) -> None:
    """Draw a data set of invented pictures into FOLDER, to try the program without real ones."""
    from bc_model.data.synthetic import write_synthetic

    written = write_synthetic(
        folder,
        n_cases=cases,
        pictures_per_case=pictures_per_case,
        size=_parse_size(image_size),
        seed=seed,
    )
    click.echo(f"{written} drawn pictures of {cases} invented cases in {folder}")


def _parse_size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError as error:
        raise SettingsError(
            f"--image-size must be height x width such as 224x224; asked for '{text}'."
        ) from error
    return height, width


def _parse_units(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(units) for units in text.split(",") if units.strip())
    except ValueError as error:
        raise SettingsError(
            f"--dense-units must be numbers such as 256 or 512,128; asked for '{text}'."
        ) from error


def _progress(verb: str) -> Callable[[int, int], None]:
    """Return a callback that keeps one line of stderr up to date, on a terminal only."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty() and (done % 20 == 0 or done == total):
            end = "\n" if done == total else ""
            click.echo(f"\r{verb} {done}/{total}", nl=False, err=True)
            click.echo(end, nl=False, err=True)

    return show


def _log_to(path: Path) -> None:
    logger = logging.getLogger("bc_model")
    logger.setLevel(logging.INFO)
    plain, dated = logging.StreamHandler(sys.stdout), logging.FileHandler(path, encoding="utf-8")
    dated.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for handler in (plain, dated):
        logger.addHandler(handler)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def _fail(message: str, code: int) -> int:
    click.echo("Error: " + " ".join(message.split()), err=True)
    return code
