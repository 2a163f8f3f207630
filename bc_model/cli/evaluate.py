"""``evaluate``: a model on the test part of its data, or on another set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bc_model.cli.options import MODEL, PATH, as_json_option, print_json, progress
from bc_model.errors import ConfigError

if TYPE_CHECKING:
    from bc_model.evaluation import EvaluationReport
    from bc_model.inference import Bundle


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
    model: Path, data: Path, out: Path, split_file: Path | None, subset: str | None, external: bool,
    mapping: str | None, case_above: bool, html: bool, pdf: bool, as_json: bool,
) -> None:  # fmt: skip
    """Evaluate MODEL (a run, a folder or 'bundled') on the test part of DATA, or on another set."""
    from bc_model.inference import open_bundle
    from bc_model.reporting import HTML_FILE, PDF_FILE, report_to_html, report_to_pdf, write_plots
    from bc_model.utils import require_place, to_json, write_bytes_atomic

    if (external or mapping) and (split_file or subset):
        raise click.UsageError("--split and --part are of the model's own data, not of another set")
    if case_above and not mapping:
        raise click.UsageError("--case-above goes with --map")
    require_place(out)
    bundle = open_bundle(model)
    if external or mapping:
        report = _on_another_set(bundle, data, mapping, case_above)
    else:
        report = _on_subset(bundle, data, split_file, subset or "test")
    # All of it is made before any of it is written.
    files = {HTML_FILE: report_to_html(report, bundle.card)} if html else {}
    files |= {PDF_FILE: report_to_pdf(report, bundle.card)} if pdf else {}
    report.save(out)
    write_plots(report, out)
    for name, content in files.items():
        write_bytes_atomic(out / name, content)
    if as_json:
        print_json(to_json(report))
    else:
        _print_report(report)
        click.echo(f"written to {out}")


def _on_subset(
    bundle: Bundle, data: Path, split_file: Path | None, subset: str
) -> EvaluationReport:
    from bc_model.cli.options import own_split_file
    from bc_model.data import match_split, read_dataset, read_split
    from bc_model.evaluation import evaluate_split
    from bc_model.inference import Engine

    instead = "`evaluate --unseen` tries it on pictures of other cases."
    chosen = read_split(own_split_file(bundle, split_file, "judge it on", instead))
    dataset = read_dataset(data, progress=progress("reading"))
    match_split(chosen, dataset)
    return evaluate_split(
        Engine(bundle), dataset.root, chosen, subset=subset, progress=progress("predicting")
    )


def _on_another_set(
    bundle: Bundle, data: Path, mapping: str | None, case_above: bool
) -> EvaluationReport:
    from bc_model.data import parse_mapping, read_dataset, read_mapped
    from bc_model.evaluation import evaluate_external
    from bc_model.inference import Engine

    mapped = parse_mapping(mapping) if mapping else None
    tell = progress("reading")
    if mapped:
        dataset = read_mapped(data, mapped, case_above=case_above, progress=tell)
    else:
        dataset = read_dataset(data, progress=tell)
    return evaluate_external(
        Engine(bundle), dataset, mapping=mapped, progress=progress("predicting")
    )


def _print_report(report: EvaluationReport) -> None:
    (tn, fp), (fn, tp) = report.confusion
    click.echo(f"protocol {report.protocol}{' (LEAKY)' if report.has_leakage else ''}")
    click.echo("                 called benign   called malignant")
    click.echo(f"  benign         {tn:13d}   {fp:16d}")
    click.echo(f"  malignant      {fn:13d}   {tp:16d}")
    for name, metric in report.metrics.items():
        click.echo(f"  {name.replace('_', ' ')}: {metric}")
    click.echo(f"  calling everything malignant: {report.malignant_proportion:.2f} accurate")
    if report.case_metrics is not None:
        for name, metric in report.case_metrics.metrics.items():
            click.echo(f"  by case, {name.replace('_', ' ')}: {metric}")
    for group in report.subgroups:
        names = ("accuracy", *(("balanced_accuracy", "roc_auc") if group.kind == "seen" else ()))
        told = "; ".join(f"{name.replace('_', ' ')} {group.metrics[name]}" for name in names)
        click.echo(f"  {group.name}: {told}")
    for check in report.checks:
        click.echo(f"  {check.severity}: {check.message}")


@click.command()
@click.argument("first", type=MODEL, metavar="RUN")
@click.argument("second", type=MODEL, metavar="RUN")
@as_json_option
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Compare two finished runs on the test pictures that both predicted.

    Differences are the second RUN minus the first.
    """
    from bc_model.evaluation import check_multiplicity
    from bc_model.experiments import compare_runs, setting_rows
    from bc_model.training import Run
    from bc_model.utils import to_json

    runs = [Run.open(first), Run.open(second)]
    if first.resolve() == second.resolve():
        raise ConfigError(f"{first} and {second} are one run; name two.")
    found = compare_runs(*runs)
    changed = [row for row in setting_rows(runs) if row.differs]
    if as_json:
        config = {row.name: list(row.values) for row in changed}
        extra = {"settings_that_differ": config}
        print_json(to_json(found) | extra)
        return
    click.echo(
        f"{found.second} minus {found.first}, on {found.n_images} test pictures of "
        f"{found.n_cases or 'unknown'} cases that both predicted"
    )
    for name, difference in found.differences.items():
        click.echo(f"  {name.replace('_', ' ')}: {difference.text()}")
    for row in changed:
        click.echo(f"  setting {row.name}: {row.values[0]} and {row.values[1]}")
    for check in [*found.checks, check_multiplicity(1)]:
        click.echo(f"  {check.severity}: {check.message}")


@click.group()
def export() -> None:
    """Write reports of finished runs as files for people."""


@export.command()
@click.argument("run", type=MODEL)
@click.option("--out", type=PATH, required=True, help="The .html or .pdf to write.")
def report(run: Path, out: Path) -> None:
    """Write the report of RUN as one HTML or PDF file: on its test part.

    Of the model in the box, `bundled`, by its cross-validation.
    """
    from bc_model.evaluation import (
        cross_validation_report,
        is_cross_validated,
        read_report,
        require_evaluation,
    )
    from bc_model.inference import open_bundle
    from bc_model.reporting import save_report

    bundle = open_bundle(run)
    cross_validated = is_cross_validated(bundle)
    found = (
        cross_validation_report(bundle)
        if cross_validated
        else read_report(require_evaluation(bundle))
    )
    save_report(found, out, bundle.card)
    click.echo(f"written to {out}")
