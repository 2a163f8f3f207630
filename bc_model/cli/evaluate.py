"""``evaluate``: a model on the test part of its data, or on another set."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bc_model.cli.options import MODEL, PATH, as_json_option, print_json, progress

if TYPE_CHECKING:
    from bc_model.evaluation.report import Report
    from bc_model.serving.bundle import Bundle


@click.command()
@click.argument("model", type=MODEL)
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder for report, pictures and CSV.")
@click.option("--split", "split_file", type=PATH, help="Default: the split of the run.")
@click.option("--part", type=click.Choice(["test", "validation", "train"]), help="Default: test.")
@click.option("--unseen", is_flag=True, help="DATA is another set: take every picture of it.")
@click.option(
    "--map", "mapping", metavar="LABEL=CLASS,...",
    help="Another set, in folders named by labels, such as 0=benign,1=malignant.",
)  # fmt: skip
@click.option("--case-above", is_flag=True, help="With --map: the folder above names the case.")
@click.option("--html/--no-html", default=True, help="Write report.html too; the default.")
@click.option("--pdf/--no-pdf", default=True, help="Write report.pdf too; the default.")
@as_json_option
def evaluate(
    model: Path, data: Path, out: Path, split_file: Path | None, part: str | None, unseen: bool,
    mapping: str | None, case_above: bool, html: bool, pdf: bool, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate MODEL (a run, a folder or 'bundled') on the test part of DATA, or on another set."""
    from bc_model.files import require_place, write_bytes_atomic
    from bc_model.reporting.evaluation_report import HTML_FILE, PDF_FILE, report_html, report_pdf
    from bc_model.reporting.plots import write_plots
    from bc_model.serving.bundle import open_bundle
    from bc_model.utils.serialization import to_json

    if (unseen or mapping) and (split_file or part):
        raise click.UsageError("--split and --part are of the model's own data, not of another set")
    if case_above and not mapping:
        raise click.UsageError("--case-above goes with --map")
    require_place(out)
    bundle = open_bundle(model)
    if unseen or mapping:
        report = _on_another_set(bundle, data, mapping, case_above)
    else:
        report = _on_a_part(bundle, data, split_file, part or "test")
    # All of it is made before any of it is written.
    files = {HTML_FILE: report_html(report, bundle.card)} if html else {}
    files |= {PDF_FILE: report_pdf(report, bundle.card)} if pdf else {}
    report.write(out)
    write_plots(report, out)
    for name, content in files.items():
        write_bytes_atomic(out / name, content)
    if as_json:
        print_json(to_json(report))
    else:
        _print_report(report)
        click.echo(f"written to {out}")


def _on_a_part(bundle: "Bundle", data: Path, split_file: Path | None, part: str) -> "Report":
    from bc_model.cli.own_split import own_split_file
    from bc_model.data.manifest import read_manifest
    from bc_model.data.splits import match_split, read_split
    from bc_model.evaluation.evaluate import evaluate_split
    from bc_model.serving.engine import Engine

    instead = "`evaluate --unseen` tries it on pictures of other cases."
    chosen = read_split(own_split_file(bundle, split_file, "judge it on", instead))
    manifest = read_manifest(data, progress=progress("reading"))
    match_split(chosen, manifest)
    return evaluate_split(
        Engine(bundle), manifest.root, chosen, part=part, progress=progress("predicting")
    )


def _on_another_set(
    bundle: "Bundle", data: Path, mapping: str | None, case_above: bool
) -> "Report":
    from bc_model.data.manifest import read_manifest
    from bc_model.data.mapped import parse_mapping, read_mapped
    from bc_model.evaluation.unseen import evaluate_unseen
    from bc_model.serving.engine import Engine

    mapped = parse_mapping(mapping) if mapping else None
    tell = progress("reading")
    if mapped:
        manifest = read_mapped(data, mapped, case_above=case_above, progress=tell)
    else:
        manifest = read_manifest(data, progress=tell)
    return evaluate_unseen(
        Engine(bundle), manifest, mapping=mapped, progress=progress("predicting")
    )


def _print_report(report: "Report") -> None:
    (tn, fp), (fn, tp) = report.confusion
    click.echo(f"protocol {report.protocol}{' (LEAKY)' if report.leaky else ''}")
    click.echo("                 called benign   called malignant")
    click.echo(f"  benign         {tn:13d}   {fp:16d}")
    click.echo(f"  malignant      {fn:13d}   {tp:16d}")
    for name, figure in report.figures.items():
        click.echo(f"  {name.replace('_', ' ')}: {figure}")
    click.echo(f"  calling everything malignant: {report.always_malignant_accuracy:.2f} accurate")
    if report.by_case is not None:
        for name, figure in report.by_case.figures.items():
            click.echo(f"  by case, {name.replace('_', ' ')}: {figure}")
    for group in report.groups:
        names = ("accuracy", *(("balanced_accuracy", "roc_auc") if group.kind == "known" else ()))
        told = "; ".join(f"{name.replace('_', ' ')} {group.figures[name]}" for name in names)
        click.echo(f"  {group.name}: {told}")
    for check in report.checks:
        click.echo(f"  {check.severity}: {check.message}")
