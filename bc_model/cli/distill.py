"""``build-bundled-model``: train the bundled model and evaluate its configuration."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from bc_model import distillation, evaluation, inference
from bc_model.cli.options import PATH, json_option, print_json
from bc_model.errors import ConfigError, FolderNotFoundError
from bc_model.training import runs_dir
from bc_model.utils import (
    check_writable,
    format_count,
    require_tensorflow,
    to_json,
    usable_cores,
)

DATASETS = ("breakhis_100x", "breakhis_200x_224")
EXTRA_DATASETS = ("breakhis_originals", "breakhis_originals_more")
FOLD_FILE = Path("folds") / "dsfold1.txt"


@click.command("build-bundled-model")
@click.argument("data_dir", type=PATH, envvar="BC_DATA", metavar="[DATA]")
@click.option("--out", type=PATH, help="Model directory to replace. Default: in assets/models.")
@click.option(
    "--work", type=PATH, default=lambda: runs_dir() / ".bundled",
    show_default="a hidden directory among the runs",
    help="Directory for intermediate results, from which an interrupted build resumes.",
)  # fmt: skip
@click.option(
    "--processes", type=click.IntRange(0, 61), default=lambda: min(usable_cores(), 61),
    show_default="all cores",
    help="Processes that make training views. The result is the same.",
)  # fmt: skip
@click.option(
    "--train-only", is_flag=True, help="Only train and store results in the work directory."
)
@click.option(
    "--inputs-only", is_flag=True, help="Only fit the input checks of an existing model again."
)
@json_option
def build_bundled(
    data_dir: Path, out: Path | None, work: Path, processes: int, train_only: bool,
    inputs_only: bool, as_json: bool,
) -> int:  # fmt: skip
    """Train the bundled model from random weights and cross-validate its configuration.

    DATA (default: BC_DATA) contains breakhis_100x, breakhis_200x_224 and optionally the official
    fold files and two extracts of full-size images, breakhis_originals and
    breakhis_originals_more. The build needs the packages of requirements-distill.txt and about two
    hours on two cores with bfloat16.

    --train-only runs the long part on an accelerator, also with KERAS_BACKEND=jax. --inputs-only
    takes about a minute and leaves the weights as they are.
    """
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    if inputs_only:
        return _fit_inputs(data_dir, out or inference.bundled_model_dir("bundled"), as_json)
    _prepare_backend()
    logging.getLogger("bc_model").setLevel(logging.INFO)
    _require_datasets(data_dir)
    check_writable(work)
    out = out or inference.bundled_model_dir("bundled")
    config = distillation.DistillationConfig()
    if not train_only:
        distillation.require_buildable(out, config)
    fold_file = data_dir / FOLD_FILE if (data_dir / FOLD_FILE).is_file() else None
    if fold_file is None:
        click.echo(f"No {data_dir / FOLD_FILE}. The official folds are skipped.", err=True)
    extra = tuple(name for name in EXTRA_DATASETS if (data_dir / name).is_dir())
    networks = distillation.prepare_networks(data_dir, DATASETS, extra, work, config, processes)
    if train_only:
        distillation.cross_validate_protocols(networks, fold_file)
        networks.final_model()
        text = f"Training results written to {work}"
        print_json({"work": str(work)}) if as_json else click.echo(text)
        return 0
    bundle = distillation.build_bundled_model(networks, out, fold_file)
    if as_json:
        print_json(to_json(bundle.card))
        return 0
    for row in bundle.card.metrics.protocols:
        _print_row(row.protocol + (" (with leakage)" if row.has_leakage else ""), row)
    if result := bundle.card.metrics.nested:
        _print_row(f"case, nested; evaluated with {result.network}", result)
    click.echo(f"Model written to {bundle.folder}")
    return 0


@click.command("build-demo-model", hidden=True)
@click.option("--out", type=PATH, help="Model directory to replace. Default: in assets/models.")
@json_option
def build_demo(out: Path | None, as_json: bool) -> int:
    """Train the demo model on synthetic images. Needs no data and a few minutes."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("bc_model").setLevel(logging.INFO)
    folder = out or inference.bundled_model_dir(evaluation.DEMO_MODEL_NAME)
    bundle = distillation.build_demo_model(folder)
    if as_json:
        print_json(to_json(bundle.card))
    else:
        click.echo(f"Model written to {bundle.folder}")
    return 0


def _fit_inputs(data_dir: Path, folder: Path, as_json: bool) -> int:
    _require_datasets(data_dir)
    bundle = inference.open_bundle(folder)
    extra = tuple(name for name in EXTRA_DATASETS if (data_dir / name).is_dir())
    source = distillation.TrainingImages.read(data_dir, DATASETS, bundle.image_size, extra)
    bundle = distillation.write_input_files(bundle, source)
    if as_json:
        print_json(to_json(bundle.card))
    else:
        click.echo(f"Input checks of {bundle.folder} fitted to {len(source.table):,} images")
    return 0


def _print_row(name: str, row: inference.ProtocolResult | inference.NestedResult) -> None:
    metrics = ", ".join(
        f"{metric.replace('_', ' ')} {row.metrics[metric].value:.3f}"
        for metric in ("roc_auc", "balanced_accuracy", "accuracy")
    )
    click.echo(
        f"{name}, {format_count(row.n_folds, 'fold')}: {metrics}; "
        f"{row.n_images:,} images of {row.n_cases} cases"
    )


def _prepare_backend() -> None:
    """Set the precision of JAX and check the Keras backend before hours of work."""
    # GPUs multiply float32 with fewer bits by default. The training steps use bfloat16 anyway.
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    backend = os.environ.get("KERAS_BACKEND")
    if backend in (None, "", "tensorflow"):
        require_tensorflow()
    if backend:
        try:
            import keras  # noqa: F401
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"KERAS_BACKEND '{backend}' is not available ({error}). Install it, for example "
                "with 'pip install jax', or unset the variable."
            ) from error


def _require_datasets(data_dir: Path) -> None:
    missing = [name for name in DATASETS if not (data_dir / name).is_dir()]
    if missing:
        raise FolderNotFoundError(
            f"Missing dataset {' and '.join(missing)} in {data_dir}. Expected the folders "
            f"{' and '.join(DATASETS)}, two extracts of BreakHis."
        )
