"""``data``: register, generate, summarize (``audit``) and split datasets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bc_model import data, inference
from bc_model.checks import check_from_json, check_to_json
from bc_model.cli.options import (
    MODEL,
    PATH,
    byte_progress,
    json_option,
    load_dataset,
    parse_size,
    print_checks,
    print_json,
    progress,
    rules_options,
    seed_option,
    training_options,
)
from bc_model.utils import format_count

MAX_LISTED = 20
"""Files that are listed as text; a folder can contain thousands of other files."""


@click.group("data")
def data_commands() -> None:
    """Add, list, generate, summarize and split datasets.

    The dataset registry is the directory BC_DATASETS. The default is `data` in the checkout of the
    program or, if it is installed, in the current directory.
    """


@data_commands.command()
@click.argument("source", type=PATH)
@click.option("--name", help="Name in the registry. Default: from SOURCE.")
@json_option
def add(source: Path, name: str | None, as_json: bool) -> None:
    """Add SOURCE to the registry: unpack a zip or tar.gz archive, or link a folder.

    Only images are unpacked; other files are listed. An archive is rejected if it contains a path
    outside of itself, a link, a password, a name twice, or a decompression bomb.
    """
    source_name = source.resolve().name
    name = name or data.suggest_name(source_name) or source_name
    _print_added(data.add_dataset(source, name, progress=byte_progress()), as_json)


@data_commands.command()
@click.option("--name", default="BreaKHis_v1", show_default=True, help="Name in the registry.")
@click.option("--url", help="URL of another archive.")
@click.option("--sha256", default="", help="Checksum to verify before unpacking.")
@json_option
def download(name: str, url: str | None, sha256: str, as_json: bool) -> None:
    """Download BreakHis (about 4 GB) and unpack it.

    The same command resumes an interrupted download. The Data page of the app shows its progress.
    """
    added = data.run_download(
        name, url=url or data.OFFICIAL_URL, sha256=sha256, progress=byte_progress()
    )
    _print_added(added, as_json)


@data_commands.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the datasets in the registry."""
    datasets, problems = data.list_datasets()
    if as_json:
        print_json({"datasets": [_to_dict(row) for row in datasets], "problems": problems})
        return
    for row in datasets:
        missing = "" if row.is_available else ", missing"
        origin = f", from {row.source}" if row.source and row.kind != "linked" else ""
        click.echo(f"{row.name}: {row.images_dir} ({row.kind}{missing}{origin})")
    for problem in problems:
        click.echo(f"  note: {problem}")
    if not datasets:
        click.echo(f"No dataset in {data.datasets_dir()}. Use `data add` or `data download`.")


@data_commands.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the dataset NAME from the registry; a linked folder keeps its images."""
    data.remove_dataset(name)


@data_commands.command()
@click.argument("folder", type=PATH)
@click.option("--cases", default=12, show_default=True, help="Number of cases.")
@click.option("--images-per-case", default=6, show_default=True, help="Number of images per case.")
@click.option(
    "--image-size", default="460x700", show_default=True, metavar="HxW",
    help="Height and width of the images, px.",
)  # fmt: skip
@seed_option
def generate(folder: Path, cases: int, images_per_case: int, image_size: str, seed: int) -> None:
    """Generate a synthetic dataset in FOLDER, for trying the program."""
    size = parse_size(image_size)
    n_images = data.generate_dataset(
        folder, n_cases=cases, images_per_case=images_per_case, size=size, seed=seed
    )
    click.echo(f"{n_images} synthetic images of {cases} cases written to {folder}")


@data_commands.command()
@click.argument("paths", type=PATH, nargs=-1, metavar="[DATA]")
@click.option(
    "--fold-file", "fold_files", type=PATH, multiple=True, metavar="FILE...",
    help="Official fold files to check for leakage.",
)  # fmt: skip
@click.option("--inputs", type=MODEL, metavar="MODEL", help="Also count the input checks of MODEL.")
@rules_options
@json_option
def summary(
    paths: tuple[Path, ...], fold_files: tuple[Path, ...], inputs: Path | None, labels: str,
    case_from: str, as_json: bool,
) -> None:  # fmt: skip
    """Summarize DATA: images, cases, magnifications, excluded files and near-duplicates.

    With --fold-file, count for each official fold file the test images with another section of
    the same slide in training. DATA is then optional. With --inputs, count the images that the
    input checks of a model, such as 'bundled', would block.
    """
    folder, files = _separate_paths(paths, fold_files)
    folds = [data.read_fold_file(path) for path in files]
    rules = data.parse_rules(labels, case_from)
    dataset = load_dataset(folder, rules) if folder else None
    result = data.summarize_dataset(dataset) if dataset else {}
    if folds:
        result["folds"] = [data.summarize_fold_file(fold, dataset) for fold in folds]
    if inputs and dataset:
        result["inputs"] = _check_inputs(dataset, inputs)
    if as_json:
        print_json(result)
        return
    if dataset:
        _print_summary(result)
    if checked := result.get("inputs"):
        click.echo(f"  blocked by the input checks: {checked['n_blocked']:,}")
        for title, n_images in checked["reasons"].items():
            click.echo(f"    {title}: {n_images:,}")
    for fold in result.get("folds", ()):
        _print_fold(fold)


def _check_inputs(dataset: data.Dataset, model: Path) -> dict[str, Any]:
    """Return the number of blocked images, their reasons, and the codes of each image."""
    engine = inference.Engine(inference.open_bundle(model))
    table = inference.check_files(
        engine, dataset.root, dataset.images, progress=progress("checking")
    )
    failed = table[table["codes"] != ""]
    return {
        "model": engine.bundle.card.name,
        "n_blocked": int(table["is_blocked"].sum()),
        "reasons": inference.count_reasons(table),
        "images": failed[["path", "codes", "is_blocked"]].to_dict("records"),
    }


def _separate_paths(
    paths: tuple[Path, ...], fold_files: tuple[Path, ...]
) -> tuple[Path | None, tuple[Path, ...]]:
    """Return DATA and fold files; a shell expands ``--fold-file dsfold*.txt`` into arguments."""
    if not fold_files:
        if len(paths) != 1:
            raise click.UsageError("Give one dataset as DATA, or fold files with --fold-file.")
        return paths[0], ()
    folders = [path for path in paths if not path.is_file()]
    if len(folders) > 1:
        raise click.UsageError(
            f"Expected one dataset, got {folders[0]} and {folders[1]}, which are not files."
        )
    files = (*fold_files, *(path for path in paths if path.is_file()))
    return (folders[0] if folders else None), files


def _print_summary(result: dict[str, Any]) -> None:
    click.echo(f"{result['root']}: {result['images']} images")
    click.echo(
        f"  {result['cases']} cases ({result['benign_cases']} benign, "
        f"{result['malignant_cases']} malignant), {result['sections']} sections"
    )
    for title, key in (
        ("classes", "by_class"), ("magnifications", "by_magnification"), ("subtypes", "by_subtype"),
        ("sizes", "by_size"), ("near-duplicate pairs", "near_duplicates"), ("excluded", "excluded"),
    ):  # fmt: skip
        counts = ", ".join(f"{name} {count}" for name, count in result[key].items() if count)
        click.echo(f"  {title}: {counts or 'none'}")
    excluded = result["excluded_files"]
    for file in excluded[:MAX_LISTED]:
        click.echo(f"    {file['path']}: {file['reason']}. {file['detail']}")
    if len(excluded) > MAX_LISTED:
        click.echo(f"    and {len(excluded) - MAX_LISTED:,} more; --json lists all of them")
    print_checks(map(check_from_json, result["checks"]))


def _print_fold(fold: dict[str, Any]) -> None:
    click.echo(
        f"{fold['file']}: fold {fold['fold']}, {fold['names']} names. Test images with another "
        "section of the same slide in training:"
    )
    for title, leak in fold["section_leakage"].items():
        shown = _proportion(leak["n_shared"], leak["n_test"])
        benign = _proportion(leak["n_benign_shared"], leak["n_benign_test"])
        click.echo(f"  {title}: {shown}; benign {benign}")
    if leak := fold["duplicates"]:
        click.echo(
            f"  duplicates: {leak['n_shared']} of {leak['n_test']} test images "
            f"({leak['n_benign_shared']} of {leak['n_benign_test']} benign) are also in training"
        )
        click.echo(
            f"  {leak['n_listed']} images are listed, {leak['n_unlisted']} are not listed, "
            f"{leak['n_missing']} listed images are missing"
        )


def _proportion(n: int, total: int) -> str:
    return f"{n} of {total}" + (f" ({n / total:.1%})" if total else "")


@data_commands.command()
@click.argument("data_dir", type=PATH, metavar="DATA")
@training_options(only=["protocol", "official_fold_file", "n_folds", "test_fold"])
@click.option("--out", type=PATH, required=True, help="CSV file to write.")
@rules_options
@seed_option
@json_option
def split(
    data_dir: Path, protocol: str, official_fold_file: str, out: Path, n_folds: int, test_fold: int,
    labels: str, case_from: str, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Split DATA into training, validation and test subsets and report leakage."""
    data.require_protocol(protocol, official_fold_file)
    folds = data.read_fold_file(Path(official_fold_file)) if official_fold_file else None
    dataset = load_dataset(data_dir, data.parse_rules(labels, case_from))
    rows = data.make_split(
        dataset, protocol, n_folds=n_folds, test_fold=test_fold, seed=seed,
        official_fold_file=official_fold_file,
    )  # fmt: skip
    leak = data.count_leakage(rows)
    checks = data.match_folds(dataset, folds).checks() if folds else []
    out.parent.mkdir(parents=True, exist_ok=True)
    data.write_split(rows, out)
    subsets = data.summarize_subsets(rows)
    has_leakage = protocol in data.PROTOCOLS_WITH_LEAKAGE
    n_excluded = len(dataset.images) - len(rows)
    if as_json:
        print_json(
            {"protocol": protocol, "has_leakage": has_leakage, "out": str(out), "subsets": subsets,
             "leakage": asdict(leak), "n_excluded": n_excluded,
             "checks": [check_to_json(check) for check in checks]}
        )  # fmt: skip
        return
    for subset, counts in subsets.items():
        click.echo(
            f"{subset}: {counts['images']} images, {format_count(counts['cases'], 'case')} "
            f"({counts['benign_cases']} benign)"
        )
    click.echo(
        f"shared with training: {format_count(leak.n_cases, 'case')}, {leak.n_test_images} of "
        f"{leak.total_test_images} test images ({leak.n_benign_test_images} of "
        f"{leak.total_benign_test_images} benign), {leak.n_duplicates} duplicates"
    )
    print_checks(checks)
    if n_excluded:
        click.echo(f"in no subset: {n_excluded} images")
    if has_leakage or leak.n_test_images:
        click.echo("This split has leakage. Its metrics overestimate performance.")
    click.echo(f"Split written to {out}")


def _print_added(added: data.IngestResult, as_json: bool) -> None:
    dataset = added.dataset
    if as_json:
        details = {"n_images": added.n_images, "skipped": added.skipped, "notes": added.notes}
        print_json(_to_dict(dataset) | details)
        return
    content = f"{added.n_images} images" if dataset.kind == "stored" else "linked folder"
    click.echo(f"{dataset.name}: {content}, in {dataset.images_dir}")
    for path, reason in added.skipped[:MAX_LISTED]:
        click.echo(f"  skipped: {path}: {reason}")
    if len(added.skipped) > MAX_LISTED:
        click.echo(f"  skipped: {len(added.skipped) - MAX_LISTED} more files")
    for note in added.notes:
        click.echo(f"  note: {note}")
    if sha256 := dataset.details.get("sha256"):
        click.echo(f"  SHA-256 of the archive: {sha256}")


def _to_dict(dataset: data.RegisteredDataset) -> dict[str, Any]:
    row = {name: getattr(dataset, name) for name in ("name", "kind", "source", "added")}
    row |= {"images_dir": str(dataset.images_dir), "is_available": dataset.is_available}
    return row | {"sha256": dataset.details.get("sha256")}
