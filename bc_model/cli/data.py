"""Commands that look into a data set and divide it: audit, split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bc_model.checks import check_to_json
from bc_model.cli.options import (
    PATH,
    as_json_option,
    byte_progress,
    parse_size,
    print_json,
    progress,
    seed_option,
    training_options,
)
from bc_model.data import PROTOCOLS_WITH_LEAKAGE, require_protocol

if TYPE_CHECKING:
    from bc_model.data import IngestResult, RegisteredDataset


MOST_LEFT_OUT = 20
"""Files that an audit lists in words: of a folder of something else there may be thousands."""


@click.command()
@click.argument("paths", type=PATH, nargs=-1, metavar="[DATA]")
@click.option(
    "--folds",
    "fold_files",
    type=PATH,
    multiple=True,
    metavar="FILE...",
    help="Fold files to audit.",
)
@as_json_option
def audit(paths: tuple[Path, ...], fold_files: tuple[Path, ...], as_json: bool) -> None:
    """Count pictures, cases and magnifications in DATA and list what was left out, and why.

    With --folds, count for each official fold file the test pictures that have a sibling section
    of the same slide number in training, over all names in the file; DATA may then be left out.
    """
    from bc_model.data import load_dataset, read_fold_file, summarize_dataset, summarize_fold_file

    data, files = _data_and_folds(paths, fold_files)
    folds = [read_fold_file(path) for path in files]
    dataset = load_dataset(data, progress=progress("reading")) if data else None
    found = summarize_dataset(dataset) if dataset else {}
    if folds:
        found["folds"] = [summarize_fold_file(one, dataset) for one in folds]
    if as_json:
        print_json(found)
        return
    if dataset:
        _print_audit(found)
    for one in found.get("folds", ()):
        _print_folds(one)


def _data_and_folds(
    paths: tuple[Path, ...], fold_files: tuple[Path, ...]
) -> tuple[Path | None, tuple[Path, ...]]:
    """Tell DATA from fold files: of ``--folds dsfold*.txt`` the option takes the first alone."""
    if not fold_files:
        if len(paths) != 1:
            raise click.UsageError("Name one folder as DATA, or fold files with --folds.")
        return paths[0], ()
    folders = [path for path in paths if not path.is_file()]
    if len(folders) > 1:
        raise click.UsageError(
            f"One folder can be audited at a time; {folders[0]} and {folders[1]} are not files."
        )
    files = (*fold_files, *(path for path in paths if path.is_file()))
    return (folders[0] if folders else None), files


def _print_audit(found: dict) -> None:
    click.echo(f"{found['root']}: {found['images']} pictures")
    click.echo(
        f"  {found['cases']} cases ({found['benign_cases']} benign, "
        f"{found['malignant_cases']} malignant), {found['sections']} sections"
    )
    for title, key in (
        ("classes", "by_class"), ("magnifications", "by_magnification"), ("subtypes", "by_subtype"),
        ("sizes", "by_size"), ("near twins, pairs", "near_duplicates"), ("left out", "excluded"),
    ):  # fmt: skip
        counts = ", ".join(f"{name} {count}" for name, count in found[key].items() if count)
        click.echo(f"  {title}: {counts or 'none'}")
    left_out = found["excluded_files"]
    for file in left_out[:MOST_LEFT_OUT]:
        click.echo(f"    {file['path']}: {file['reason']}. {file['detail']}")
    if len(left_out) > MOST_LEFT_OUT:
        click.echo(f"    and {len(left_out) - MOST_LEFT_OUT:,} more; --json lists all of them")
    for check in found["checks"]:
        click.echo(f"  {check['severity']}: {check['message']}")


def _print_folds(found: dict) -> None:
    click.echo(
        f"{found['file']}: fold {found['fold']}, {found['names']} names. Test pictures with a "
        "sibling section in training:"
    )
    for title, leak in found["section_leakage"].items():
        proportions = [
            f"{leak[shared]} of {leak[of]}" + (f" ({leak[proportion]:.1%})" if leak[of] else "")
            for shared, of, proportion in (
                ("n_shared", "n_test", "proportion"),
                ("n_benign_shared", "n_benign_test", "benign_proportion"),
            )
        ]
        click.echo(f"  {title}: {proportions[0]}; benign {proportions[1]}")
    if duplicates := found["duplicates"]:
        click.echo(
            f"  twins, among the {duplicates['n_listed']} pictures present and listed: {duplicates['n_shared']} "
            f"of {duplicates['n_test']} test pictures ({duplicates['n_benign_shared']} of {duplicates['n_benign_test']} "
            "benign) stand in training pixel for pixel"
        )
        click.echo(
            f"  {duplicates['n_unlisted']} pictures are not listed, {duplicates['n_missing']} names have no "
            "picture here"
        )


@click.command()
@click.argument("data", type=PATH)
@training_options(only=["protocol", "official_fold_file", "n_folds", "test_fold"])
@click.option("--out", type=PATH, required=True, help="The CSV to write.")
@seed_option
@as_json_option
def split(
    data: Path,
    protocol: str,
    official_fold_file: str,
    out: Path,
    n_folds: int,
    test_fold: int,
    seed: int,
    as_json: bool,
) -> None:
    """Divide DATA into training, validation and test, and prove what they share."""
    from dataclasses import asdict

    from bc_model.data import (
        count_leakage,
        load_dataset,
        make_split,
        match_folds,
        read_fold_file,
        summarize_subsets,
        write_split,
    )
    from bc_model.utils import many

    require_protocol(protocol, official_fold_file)
    folds = read_fold_file(Path(official_fold_file)) if official_fold_file else None
    dataset = load_dataset(data, progress=progress("reading"))
    made = make_split(
        dataset,
        protocol,
        n_folds=n_folds,
        test_fold=test_fold,
        seed=seed,
        official_fold_file=official_fold_file,
    )
    leak = count_leakage(made)
    checks = match_folds(dataset, folds).checks() if folds else []
    out.parent.mkdir(parents=True, exist_ok=True)
    write_split(made, out)
    parts = summarize_subsets(made)
    has_leakage = protocol in PROTOCOLS_WITH_LEAKAGE
    if as_json:
        print_json(
            {
                "protocol": protocol,
                "has_leakage": has_leakage,
                "out": str(out),
                "parts": parts,
                "shared": asdict(leak),
                "in_no_part": len(dataset.images) - len(made),
                "checks": [check_to_json(check) for check in checks],
            }
        )
        return
    for subset, counts in parts.items():
        click.echo(
            f"{subset}: {counts['images']} pictures, {many(counts['cases'], 'case')} "
            f"({counts['benign_cases']} benign)"
        )
    click.echo(
        f"shared with training: {many(leak.n_cases, 'case')}, {leak.n_test_images} of {leak.total_test_images} "
        f"test pictures ({leak.n_benign_test_images} of {leak.total_benign_test_images} benign), "
        f"{leak.n_duplicates} pixel for pixel"
    )
    for check in checks:
        click.echo(f"{check.severity}: {check.message}")
    if left_out := len(dataset.images) - len(made):
        click.echo(f"in no part: {left_out} pictures")
    if has_leakage or leak.n_test_images:
        click.echo("This split is LEAKY: figures from it flatter.")
    click.echo(f"written to {out}")


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
    from bc_model.data import add_dataset, suggest_name

    called = source.resolve().name
    _tell(
        add_dataset(source, name or suggest_name(called) or called, progress=byte_progress()),
        as_json,
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
    from bc_model.data import OFFICIAL_URL, run_download

    added = run_download(name, url=url or OFFICIAL_URL, sha256=sha256, progress=byte_progress())
    _tell(added, as_json)


@data.command("list")
@as_json_option
def list_(as_json: bool) -> None:
    """List the data sets on the shelf."""
    from bc_model.data import datasets_dir, list_datasets

    sets, problems = list_datasets()
    if as_json:
        print_json({"sets": [_as_dict(one) for one in sets], "problems": problems})
        return
    for one in sets:
        gone = "" if one.is_available else ", GONE"
        origin = f", from {one.source}" if one.source and one.kind != "linked" else ""
        click.echo(f"{one.name}: {one.images_dir} ({one.kind}{gone}{origin})")
    for sentence in problems:
        click.echo(f"  note: {sentence}")
    if not sets:
        click.echo(f"No data set in {datasets_dir()}; see `data add` and `data download`.")


@data.command()
@click.argument("name")
def remove(name: str) -> None:
    """Take the data set NAME off the shelf; the pictures of a linked folder stay."""
    from bc_model.data import remove_dataset

    remove_dataset(name)


@data.command()
@click.argument("folder", type=PATH)
@click.option("--cases", default=12, show_default=True)
@click.option("--pictures-per-case", default=6, show_default=True)
@click.option("--image-size", default="460x700", show_default=True, metavar="HxW")
@seed_option
def synthetic(folder: Path, cases: int, images_per_case: int, image_size: str, seed: int) -> None:
    """Draw a data set of invented pictures into FOLDER, to try the program without real ones."""
    from bc_model.data import generate_dataset

    written = generate_dataset(
        folder,
        n_cases=cases,
        images_per_case=images_per_case,
        size=parse_size(image_size),
        seed=seed,
    )
    click.echo(f"{written} drawn pictures of {cases} invented cases in {folder}")


def _tell(added: IngestResult, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                **_as_dict(added.dataset),
                "n_images": added.n_images,
                "skipped": added.skipped,
                "notes": added.notes,
            }
        )
        return
    one = added.dataset
    count = f"{added.n_images} pictures" if one.kind == "stored" else "a folder that stays there"
    click.echo(f"{one.name}: {count}, in {one.images_dir}")
    for path, reason in added.skipped[:_SHOWN]:
        click.echo(f"  left out: {path}: {reason}")
    if len(added.skipped) > _SHOWN:
        click.echo(f"  left out: {len(added.skipped) - _SHOWN} more")
    for sentence in added.notes:
        click.echo(f"  note: {sentence}")
    if sha256 := one.details.get("sha256"):
        click.echo(f"  SHA-256 of the archive: {sha256}")


def _as_dict(one: RegisteredDataset) -> dict[str, Any]:
    return {
        "name": one.name,
        "images_dir": str(one.images_dir),
        "kind": one.kind,
        "source": one.source,
        "added": one.added,
        "is_available": one.is_available,
        "sha256": one.details.get("sha256"),
    }
