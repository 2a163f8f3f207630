"""``train-bundled``: make the model in the box anew from the pictures it learned from."""

import logging
import sys
from pathlib import Path

import click

from bc_model.cli.options import PATH, as_json_option, print_json
from bc_model.training.run_folder import runs_folder
from bc_model.words import many

SETS = ("breakhis_100x", "breakhis_200x_224")
FOLDS_FILE = Path("folds") / "dsfold1.txt"


@click.command("train-bundled")
@click.argument("data", type=PATH, envvar="BC_DATA")
@click.option("--out", type=PATH, help="Folder of the bundle; default: in assets/models.")
@click.option(
    "--work",
    type=PATH,
    default=lambda: runs_folder() / ".bundled",
    show_default="a hidden folder among the runs",
    help="Keeps what each fold came to: cut off, the command goes on where it was.",
)
@click.option(
    "--processes",
    default=0,
    show_default=True,
    type=click.IntRange(0, 256),
    help="That make views beside the one that learns; the result is the same.",
)
@click.option(
    "--learn-only",
    is_flag=True,
    help="Stop when all is learned and kept in WORK: for a machine with an accelerator, where "
    "KERAS_BACKEND may be jax.",
)
@as_json_option
def train_bundled(
    data: Path, out: Path | None, work: Path, processes: int, learn_only: bool, as_json: bool
) -> int:
    """Learn the model in the box from random weights, and judge the recipe by cross-validation.

    DATA holds the sets breakhis_100x and breakhis_200x_224, and the official fold files if they
    are at hand; default: BC_DATA. It takes about seven hours on two cores; an accelerator
    (--learn-only) needs some ten minutes for the long part.
    """
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("bc_model").setLevel(logging.INFO)
    from bc_model.bundled.box import learn_for_box, make_box
    from bc_model.serving.shipped import BUNDLED_NAME, SHIPPED_MODELS

    file = data / FOLDS_FILE
    if not file.is_file():
        click.echo(f"No {file}: the official folds are left out of the table.", err=True)
    given = file if file.is_file() else None
    if learn_only:
        learn_for_box(data, SETS, work, given, processes=processes)
        if as_json:
            print_json({"work": str(work)})
        else:
            click.echo(f"All is learned and kept in {work}")
        return 0
    place = out or SHIPPED_MODELS / BUNDLED_NAME
    bundle = make_box(data, SETS, place, work, given, processes=processes)
    if as_json:
        print_json(bundle.passport)
        return 0
    for row in bundle.passport["metrics"]["protocols"]:
        figures = ", ".join(
            f"{name.replace('_', ' ')} {row['figures'][name]['value']:.3f}"
            for name in ("roc_auc", "balanced_accuracy", "accuracy")
        )
        leaky = " (LEAKY)" if row["leaky"] else ""
        click.echo(
            f"{row['protocol']}{leaky}, {many(row['folds'], 'fold')}: {figures}; "
            f"{row['n']} pictures of {row['n_cases']} cases"
        )
    click.echo(f"Model in {bundle.folder}")
    return 0
