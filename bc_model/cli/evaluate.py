"""``evaluate``, ``compare`` and ``report``: metrics of finished models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from bc_model import data, evaluation, experiments, inference, reporting, training
from bc_model.checks import check_to_json
from bc_model.cli.options import (
    MODEL,
    PATH,
    count_failed,
    find_split_file,
    format_table,
    json_option,
    load_dataset,
    print_checks,
    print_json,
    progress,
    rules_of,
    rules_options,
)
from bc_model.errors import ConfigError, DataError, FolderNotFoundError
from bc_model.utils import check_writable, to_json, write_bytes_atomic


@click.command()
@click.argument("model", type=MODEL)
@click.argument("data_dir", type=PATH, metavar="DATA")
@click.option("--out", type=PATH, required=True, help="Directory for the report.")
@click.option("--split", "split_file", type=PATH, help="Default: the split file of the run.")
@click.option(
    "--subset", type=click.Choice(["test", "validation", "train"]),
    help="Subset of the split. Default: test.",
)  # fmt: skip
@click.option("--external", is_flag=True, help="Use all images of DATA as an external dataset.")
@rules_options
@click.option(
    "--include-blocked", is_flag=True,
    help="Include external images that the input checks block.",
)  # fmt: skip
@click.option("--html/--no-html", default=True, show_default=True, help="Write report.html.")
@click.option("--pdf/--no-pdf", default=True, show_default=True, help="Write report.pdf.")
@json_option
def evaluate(
    model: Path, data_dir: Path, out: Path, split_file: Path | None, subset: str | None,
    external: bool, labels: str, case_from: str, include_blocked: bool, html: bool, pdf: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Evaluate MODEL (a run, a directory or 'bundled') on DATA or on an external dataset.

    The exit code is 1 if the report is complete, but one of its documents cannot be written.
    """
    if (external or labels) and (split_file or subset):
        raise click.UsageError("--split and --subset do not apply to an external dataset.")
    check_writable(out)
    bundle = inference.open_bundle(model)
    if external or labels:
        rules = data.parse_rules(labels, case_from)
        report = _evaluate_external(bundle, data_dir, rules, include_blocked)
    else:
        if case_from:
            raise click.UsageError("--case-from requires --external.")
        report = _evaluate_subset(bundle, data_dir, split_file, subset or "test")
    # Every file is rendered before the first one is written.
    files = {reporting.HTML_FILE: reporting.report_to_html(report, bundle.card)} if html else {}
    files |= {reporting.PDF_FILE: reporting.report_to_pdf(report, bundle.card)} if pdf else {}
    report.save(out)
    writers: list[Callable[[], None]] = [partial(reporting.write_plots, report, out)]
    writers += [partial(write_bytes_atomic, out / name, text) for name, text in files.items()]
    n_failed = count_failed(writers)
    if as_json:
        print_json(to_json(report))
    else:
        _print_report(report)
        click.echo(f"Report written to {out}")
    return 1 if n_failed else 0


def _evaluate_subset(
    bundle: inference.Bundle, data_dir: Path, split_file: Path | None, subset: str
) -> evaluation.EvaluationReport:
    alternative = "Evaluate it on other cases with `evaluate --external`."
    split = data.read_split(find_split_file(bundle, split_file, alternative))
    try:
        dataset = load_dataset(data_dir, rules_of(bundle))
        data.require_matching_split(split, dataset)
    except FolderNotFoundError:
        raise
    except DataError as error:
        raise DataError(f"{error} For another dataset, add --external.") from error
    show = progress("predicting")
    return evaluation.evaluate_split(
        inference.Engine(bundle), dataset.root, split, subset=subset, progress=show
    )


def _evaluate_external(
    bundle: inference.Bundle, data_dir: Path, rules: data.DatasetRules, include_blocked: bool
) -> evaluation.EvaluationReport:
    return evaluation.evaluate_external(
        inference.Engine(bundle),
        load_dataset(data_dir, rules),
        include_blocked=include_blocked,
        progress=progress("predicting"),
    )


def _print_report(report: evaluation.EvaluationReport) -> None:
    (tn, fp), (fn, tp) = report.confusion
    click.echo(f"protocol {report.protocol}{' (with leakage)' if report.has_leakage else ''}")
    click.echo("                 predicted benign   predicted malignant")
    click.echo(f"  benign         {tn:16d}   {fp:19d}")
    click.echo(f"  malignant      {fn:16d}   {tp:19d}")
    for name, metric in report.metrics.items():
        click.echo(f"  {_label(name)}: {metric}")
    majority, accuracy = evaluation.majority_baseline(report.malignant_proportion)
    click.echo(f"  majority baseline (always {majority}): accuracy {accuracy:.2f}")
    if report.case_metrics is not None:
        for name, metric in report.case_metrics.metrics.items():
            click.echo(f"  by case, {_label(name)}: {metric}")
    for group in report.subgroups:
        names = ("accuracy", *(("balanced_accuracy", "roc_auc") if group.kind == "seen" else ()))
        metrics = "; ".join(f"{_label(name)} {group.metrics[name]}" for name in names)
        click.echo(f"  {group.name}: {metrics}")
    print_checks(report.checks)


def _label(name: str) -> str:
    return name.replace("_", " ")


@click.command("evaluate-robustness")
@click.argument("model", type=MODEL)
@click.argument("data_dir", type=PATH, metavar="DATA")
@rules_options
@json_option
def evaluate_robustness(
    model: Path, data_dir: Path, labels: str, case_from: str, as_json: bool
) -> None:
    """Measure how blur, compression, crops, staining and scale affect the predictions of MODEL.

    MODEL is a run, a directory or 'bundled'. All images of DATA are used. A check states how many
    of them the model was trained on.
    """
    bundle = inference.open_bundle(model)
    dataset = load_dataset(data_dir, data.parse_rules(labels, case_from))
    table = evaluation.evaluate_robustness(
        inference.Engine(bundle), dataset, progress=progress("predicting")
    )
    checks = inference.find_seen_images(bundle, dataset.images).checks
    if as_json:
        print_json(to_json(table) | {"checks": [check_to_json(check) for check in checks]})
        return
    click.echo(f"unchanged images: ROC AUC {table.unchanged_roc_auc}")
    header = ["change", "class changes", "to malignant", "to benign", "ROC AUC"]
    rows = [
        [
            row.label, row.flips.brief(), str(row.n_to_malignant), str(row.n_to_benign),
            row.roc_auc.brief(),
        ]
        for row in table.rows
    ]  # fmt: skip
    for line in format_table([header, *rows]):
        click.echo(f"  {line}")
    print_checks(checks)


@click.command()
@click.argument("first", type=MODEL, metavar="RUN")
@click.argument("second", type=MODEL, metavar="RUN")
@json_option
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Compare two finished runs on their common test images.

    Differences are the second RUN minus the first.
    """
    runs = [training.Run.open(first), training.Run.open(second)]
    if first.resolve() == second.resolve():
        raise ConfigError(f"{first} and {second} are the same run. Give two different runs.")
    comparison = experiments.compare_runs(*runs)
    rows = [row for row in experiments.compare_configs(runs) if row.differs]
    if as_json:
        print_json(to_json(comparison) | {"config": {row.name: list(row.values) for row in rows}})
        return
    support = f"{comparison.n_images} common test images of {comparison.n_cases or 'unknown'} cases"
    click.echo(f"{comparison.second} minus {comparison.first}, on {support}")
    for name, difference in comparison.differences.items():
        click.echo(f"  {_label(name)}: {difference.text()}")
    for row in rows:
        click.echo(f"  option {row.name}: {row.values[0]} and {row.values[1]}")
    print_checks([*comparison.checks, evaluation.check_multiplicity(1)])


@click.command()
@click.argument("model", type=MODEL)
@click.option("--out", type=PATH, required=True, help="File to write: .html or .pdf.")
def report(model: Path, out: Path) -> None:
    """Write the test report of MODEL, or the cross-validation report of 'bundled', as a file."""
    bundle = inference.open_bundle(model)
    if evaluation.is_cross_validated(bundle):
        content = evaluation.cross_validation_report(bundle)
    else:
        content = evaluation.read_report(evaluation.require_evaluation(bundle))
    reporting.save_report(content, out, bundle.card)
    click.echo(f"Report written to {out}")
