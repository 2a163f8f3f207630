"""The commands for the shelf of data sets: add, download, list, remove, synthetic."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bc_model.cli.options import (
    PATH,
    as_json_option,
    byte_progress,
    parse_size,
    print_json,
    seed_option,
)

if TYPE_CHECKING:
    from bc_model.data.intake import Added
    from bc_model.data.sets import DataSet

_SHOWN = 20


@click.group()
def data() -> None:
    """Add data sets to the shelf, list them, draw one.

    The shelf is the folder named by BC_DATASETS, or `data` beside the program.
    """


@data.command()
@click.argument("source", type=PATH)
@click.option("--name", help="What to call it; else after the name of SOURCE.")
@as_json_option
def add(source: Path, name: str | None, as_json: bool) -> None:
    """Add SOURCE: a zip or tar.gz of pictures is unpacked, a folder stays where it is.

    Only pictures are taken from an archive; other files are listed. An archive with a path that
    leads out, a link, a password or a name twice, or one that unpacks to far more than it is, is
    refused whole.
    """
    from bc_model.data.intake import add as add_set
    from bc_model.data.set_names import suggest_name

    called = source.resolve().name
    _tell(
        add_set(source, name or suggest_name(called) or called, progress=byte_progress()), as_json
    )


@data.command()
@click.option("--name", default="BreaKHis_v1", show_default=True, help="What to call it.")
@click.option("--url", help="Another archive than the official one.")
@click.option("--sha256", default="", help="Refuse other bytes than these, before unpacking.")
@as_json_option
def download(name: str, url: str | None, sha256: str, as_json: bool) -> None:
    """Download BreakHis, about 4 GB, and unpack it; after a break, the same command goes on.

    The app's Data page shows how far it is, too.
    """
    from bc_model.data.download import OFFICIAL_URL
    from bc_model.data.download_job import run_download

    added = run_download(name, url=url or OFFICIAL_URL, sha256=sha256, progress=byte_progress())
    _tell(added, as_json)


@data.command("list")
@as_json_option
def list_(as_json: bool) -> None:
    """List the data sets on the shelf."""
    from bc_model.data.sets import datasets_folder, list_sets

    sets, problems = list_sets()
    if as_json:
        print_json({"sets": [_as_dict(one) for one in sets], "problems": problems})
        return
    for one in sets:
        gone = "" if one.is_there else ", GONE"
        origin = f", from {one.source}" if one.source and one.kind != "linked" else ""
        click.echo(f"{one.name}: {one.pictures} ({one.kind}{gone}{origin})")
    for sentence in problems:
        click.echo(f"  note: {sentence}")
    if not sets:
        click.echo(f"No data set in {datasets_folder()}; see `data add` and `data download`.")


@data.command()
@click.argument("name")
def remove(name: str) -> None:
    """Take the data set NAME off the shelf; the pictures of a linked folder stay."""
    from bc_model.data.sets import remove_set

    remove_set(name)


@data.command()
@click.argument("folder", type=PATH)
@click.option("--cases", default=12, show_default=True)
@click.option("--pictures-per-case", default=6, show_default=True)
@click.option("--image-size", default="460x700", show_default=True, metavar="HxW")
@seed_option
def synthetic(folder: Path, cases: int, pictures_per_case: int, image_size: str, seed: int) -> None:
    """Draw a data set of invented pictures into FOLDER, to try the program without real ones."""
    from bc_model.data.synthetic import write_synthetic

    written = write_synthetic(
        folder,
        n_cases=cases,
        pictures_per_case=pictures_per_case,
        size=parse_size(image_size),
        seed=seed,
    )
    click.echo(f"{written} drawn pictures of {cases} invented cases in {folder}")


def _tell(added: "Added", as_json: bool) -> None:
    if as_json:
        print_json(
            {
                **_as_dict(added.data_set),
                "n_pictures": added.pictures,
                "skipped": added.skipped,
                "notes": added.notes,
            }
        )
        return
    one = added.data_set
    count = f"{added.pictures} pictures" if one.kind == "stored" else "a folder that stays there"
    click.echo(f"{one.name}: {count}, in {one.pictures}")
    for path, reason in added.skipped[:_SHOWN]:
        click.echo(f"  left out: {path}: {reason}")
    if len(added.skipped) > _SHOWN:
        click.echo(f"  left out: {len(added.skipped) - _SHOWN} more")
    for sentence in added.notes:
        click.echo(f"  note: {sentence}")
    if sha256 := one.details.get("sha256"):
        click.echo(f"  SHA-256 of the archive: {sha256}")


def _as_dict(one: "DataSet") -> dict[str, Any]:
    return {
        "name": one.name,
        "pictures": str(one.pictures),
        "kind": one.kind,
        "source": one.source,
        "added": one.added,
        "is_there": one.is_there,
        "sha256": one.details.get("sha256"),
    }
