"""Commands on data sets: audit, split, data."""

from pathlib import Path

import click

from bc_model.cli.options import (
    PATH,
    as_json_option,
    fold_option,
    n_folds_option,
    parse_size,
    print_json,
    progress,
    seed_option,
)


@click.command()
@click.argument("data", type=PATH)
@as_json_option
def audit(data: Path, as_json: bool) -> None:
    """Count pictures, cases and magnifications in DATA and list what was left out, and why."""
    from bc_model.data.audit import audit_manifest
    from bc_model.data.manifest import read_manifest

    found = audit_manifest(read_manifest(data, progress=progress("reading")))
    if as_json:
        print_json(found)
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


@click.command()
@click.argument("data", type=PATH)
@click.option("--protocol", type=click.Choice(["case", "image"]), default="case", show_default=True)
@click.option("--out", type=PATH, required=True, help="The CSV to write.")
@n_folds_option
@fold_option
@seed_option
@as_json_option
def split(
    data: Path, protocol: str, out: Path, n_folds: int, fold: int, seed: int, as_json: bool
) -> None:
    """Divide DATA into training, validation and test, and prove what they share."""
    from dataclasses import asdict

    from bc_model.data.manifest import read_manifest
    from bc_model.data.splits import (
        count_leaks,
        make_split,
        summarise_parts,
        write_split,
    )

    manifest = read_manifest(data, progress=progress("reading"))
    made = make_split(manifest, protocol, n_folds=n_folds, fold=fold, seed=seed)
    leak = count_leaks(made)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_split(made, out)
    parts = summarise_parts(made)
    if as_json:
        print_json({"protocol": protocol, "out": str(out), "parts": parts, "shared": asdict(leak)})
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


@click.group()
def data() -> None:
    """Make data sets."""


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
