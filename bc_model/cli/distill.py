"""``train-bundled``: make the model in the box anew from the pictures it learned from."""

import logging
import os
import sys
from pathlib import Path

import click

from bc_model.cli.options import PATH, as_json_option, print_json
from bc_model.distillation import INSIDE
from bc_model.errors import ConfigError, FolderNotFoundError
from bc_model.inference import NestedResult, ProtocolResult
from bc_model.training import runs_dir
from bc_model.utils import many, require_place

SETS = ("breakhis_100x", "breakhis_200x_224")
FOLDS_FILE = Path("folds") / "dsfold1.txt"


@click.command("train-bundled")
@click.argument("data", type=PATH, envvar="BC_DATA", metavar="[DATA]")
@click.option(
    "--out",
    type=PATH,
    help="Folder of the bundle; a model that is there is replaced. Default: in assets/models.",
)
@click.option(
    "--work",
    type=PATH,
    default=lambda: runs_dir() / ".bundled",
    show_default="a hidden folder among the runs",
    help="Keeps what each fold came to: cut off, the command goes on where it was.",
)
@click.option(
    "--processes",
    default=0,
    show_default=True,
    type=click.IntRange(0, 61),
    help="That make views beside the one that learns; the result is the same.",
)
@click.option(
    "--inside",
    type=click.Choice(INSIDE),
    default="small-chooses",
    show_default=True,
    help="The networks that learn inside the folds, where the choosing is judged. small-chooses: "
    "20 small ones choose, 5 ResNet50s are judged; small: 25 small ones; full: 25 ResNet50s, which "
    "is for an accelerator.",
)
@click.option(
    "--learn-only",
    is_flag=True,
    help="Stop when all is learned and kept in WORK, with KERAS_BACKEND=jax too: for a machine "
    "with an accelerator.",
)
@as_json_option
def train_bundled(
    data: Path, out: Path | None, work: Path, processes: int, inside: str, learn_only: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Learn the model in the box from random weights, and judge the recipe by cross-validation.

    DATA holds the sets breakhis_100x and breakhis_200x_224, and the official fold files if they
    are at hand; default: BC_DATA. It takes some twelve hours on two cores that have bfloat16;
    --learn-only lets an accelerator do the long part.
    """
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    _prepare_backend()
    logging.getLogger("bc_model").setLevel(logging.INFO)
    from bc_model.distillation import DistillationConfig, build_bundled_model, recipes_inside
    from bc_model.inference import bundled_model_dir
    from bc_model.utils import to_json

    _require_datasets(data)
    require_place(work)
    file = data / FOLDS_FILE
    if not file.is_file():
        click.echo(f"No {file}: the official folds are left out of the table.", err=True)
    given = file if file.is_file() else None
    if learn_only:
        _learn(data, work, given, processes, inside)
        if as_json:
            print_json({"work": str(work)})
        else:
            click.echo(f"All is learned and kept in {work}")
        return 0
    place = out or bundled_model_dir("bundled")
    networks = recipes_inside(inside, DistillationConfig())
    bundle = build_bundled_model(
        data, SETS, place, work, given, processes=processes, inside=networks
    )
    if as_json:
        print_json(to_json(bundle.card))
        return 0
    metrics = bundle.card.metrics
    for row in metrics.protocols:
        _echo_row(row.protocol + (" (LEAKY)" if row.has_leakage else ""), row)
    if nested := metrics.nested:
        by = f", by {nested.selected_by}" if nested.selected_by else ""
        told = f"case, four settings chosen inside the folds{by}, judged with {nested.network}"
        _echo_row(told, nested)
    click.echo(f"Model in {bundle.folder}")
    return 0


def _echo_row(name: str, row: ProtocolResult | NestedResult) -> None:
    metrics = ", ".join(
        f"{metric.replace('_', ' ')} {row.metrics[metric].value:.3f}"
        for metric in ("roc_auc", "balanced_accuracy", "accuracy")
    )
    click.echo(
        f"{name}, {many(row.n_folds, 'fold')}: {metrics}; "
        f"{row.n_images:,} pictures of {row.n_cases} cases"
    )


def _prepare_backend() -> None:
    """Ask for full float32 of JAX, and refuse a backend that is not there before hours of work."""
    # Cards would multiply float32 in fewer bits; the steps compute in bfloat16 all the same.
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    if backend := os.environ.get("KERAS_BACKEND"):
        try:
            import keras  # noqa: F401
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"KERAS_BACKEND is '{backend}', which Keras cannot use here ({error}): install it, "
                "as with 'pip install jax', or leave the variable out."
            ) from error


def _learn(data: Path, work: Path, folds_file: Path | None, processes: int, inside: str) -> None:
    from bc_model.distillation import (
        SEARCH_SPACE,
        DistillationConfig,
        Source,
        judge,
        judge_choosing,
        learn_all,
        recipes_inside,
    )

    config = DistillationConfig()
    source = Source.read(data, SETS, config.image_size)
    judge(source, config, work, folds_file, processes)
    judged_inside, chooser = recipes_inside(inside, config)
    judge_choosing(source, judged_inside, SEARCH_SPACE, work, processes, chooser=chooser)
    learn_all(source, config, work, processes)


def _require_datasets(data: Path) -> None:
    missing = [name for name in SETS if not (data / name).is_dir()]
    if missing:
        raise FolderNotFoundError(
            f"DATA holds {' and '.join(SETS)}, two extracts of BreakHis; {data} has no "
            f"{' and no '.join(missing)}."
        )
