"""Commands that look into a data set and divide it: audit, split."""

from pathlib import Path

import click

from bc_model.checks import check_to_json
from bc_model.cli.options import (
    PATH,
    as_json_option,
    print_json,
    progress,
    seed_option,
)
from bc_model.cli.train_options import training_options
from bc_model.data.protocols import LEAKY_PROTOCOLS, require_protocol

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
    from bc_model.data.audit import audit_folds, audit_manifest
    from bc_model.data.fold_file import read_fold_file
    from bc_model.data.manifest import read_manifest

    data, files = _data_and_folds(paths, fold_files)
    folds = [read_fold_file(path) for path in files]
    manifest = read_manifest(data, progress=progress("reading")) if data else None
    found = audit_manifest(manifest) if manifest else {}
    if folds:
        found["folds"] = [audit_folds(one, manifest) for one in folds]
    if as_json:
        print_json(found)
        return
    if manifest:
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
    click.echo(f"{found['root']}: {found['pictures']} pictures")
    click.echo(
        f"  {found['cases']} cases ({found['benign_cases']} benign, "
        f"{found['malignant_cases']} malignant), {found['sections']} sections"
    )
    for title, key in (
        ("classes", "by_class"), ("magnifications", "by_magnification"), ("subtypes", "by_subtype"),
        ("sizes", "by_size"), ("near twins, pairs", "near_twins"), ("left out", "rejected"),
    ):  # fmt: skip
        counts = ", ".join(f"{name} {count}" for name, count in found[key].items() if count)
        click.echo(f"  {title}: {counts or 'none'}")
    left_out = found["rejected_files"]
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
    for title, leak in found["siblings"].items():
        shares = [
            f"{leak[shared]} of {leak[of]}" + (f" ({leak[share]:.1%})" if leak[of] else "")
            for shared, of, share in (
                ("shared", "test", "share"),
                ("benign_shared", "benign_test", "benign_share"),
            )
        ]
        click.echo(f"  {title}: {shares[0]}; benign {shares[1]}")
    if twins := found["twins"]:
        click.echo(
            f"  twins, among the {twins['listed']} pictures present and listed: {twins['shared']} "
            f"of {twins['test']} test pictures ({twins['benign_shared']} of {twins['benign_test']} "
            "benign) stand in training pixel for pixel"
        )
        click.echo(
            f"  {twins['not_listed']} pictures are not listed, {twins['absent']} names have no "
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

    from bc_model.data.fold_file import read_fold_file
    from bc_model.data.folds import match_folds
    from bc_model.data.manifest import read_manifest
    from bc_model.data.splits import count_leaks, make_split, summarise_parts, write_split
    from bc_model.words import many

    require_protocol(protocol, official_fold_file)
    folds = read_fold_file(Path(official_fold_file)) if official_fold_file else None
    manifest = read_manifest(data, progress=progress("reading"))
    made = make_split(
        manifest,
        protocol,
        n_folds=n_folds,
        fold=test_fold,
        seed=seed,
        folds_file=official_fold_file,
    )
    leak = count_leaks(made)
    checks = match_folds(manifest, folds).checks() if folds else []
    out.parent.mkdir(parents=True, exist_ok=True)
    write_split(made, out)
    parts = summarise_parts(made)
    leaky = protocol in LEAKY_PROTOCOLS
    if as_json:
        print_json(
            {
                "protocol": protocol,
                "leaky": leaky,
                "out": str(out),
                "parts": parts,
                "shared": asdict(leak),
                "in_no_part": len(manifest.pictures) - len(made),
                "checks": [check_to_json(check) for check in checks],
            }
        )
        return
    for part, counts in parts.items():
        click.echo(
            f"{part}: {counts['pictures']} pictures, {many(counts['cases'], 'case')} "
            f"({counts['benign_cases']} benign)"
        )
    click.echo(
        f"shared with training: {many(leak.cases, 'case')}, {leak.test_pictures} of {leak.n_test} "
        f"test pictures ({leak.benign_test_pictures} of {leak.n_benign_test} benign), "
        f"{leak.pixels} pixel for pixel"
    )
    for check in checks:
        click.echo(f"{check.severity}: {check.message}")
    if left_out := len(manifest.pictures) - len(made):
        click.echo(f"in no part: {left_out} pictures")
    if leaky or leak.test_pictures:
        click.echo("This split is LEAKY: figures from it flatter.")
    click.echo(f"written to {out}")
