"""``experiments``: cross-validation, option sweeps and protocol comparisons."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click

from bc_model import data, experiments, reporting
from bc_model.checks import check_to_json
from bc_model.cli.options import (
    PATH,
    accept_changes_option,
    build_config,
    combine,
    count_failed,
    format_table,
    is_given,
    json_option,
    load_dataset,
    print_checks,
    print_json,
    runs_option,
    training_options,
)
from bc_model.errors import ConfigError
from bc_model.jobs import ENDED_STATES
from bc_model.utils import check_writable, to_json

METRICS = {"balanced_accuracy": "balanced accuracy", "roc_auc": "ROC AUC", "accuracy": "accuracy"}
"""Metrics in printed tables, with their titles. The files contain all metrics."""


@click.group("experiments")
def experiment_commands() -> None:
    """Train and compare several runs.

    Ctrl-C does not stop the runs. The same command again continues the experiment and shows its
    results. BC_MAX_RUNS limits the runs at a time.
    """


_data = click.argument("data_dir", type=PATH, metavar="DATA")
_end_options = combine(
    accept_changes_option,
    click.option("--detach", is_flag=True, help="Do not wait for the runs."),
    json_option,
)
_cv_options = combine(
    _data,
    click.option("--name", required=True, help="Name of the experiment and its runs."),
    runs_option,
    click.option(
        "--test-folds", default="all", show_default=True, metavar="all|N[,N...]",
        help="Test folds. An official fold file has fold 0 only.",
    ),
    training_options(without=["test_fold"]),
    click.option("--scheduler", metavar="tcp://HOST:PORT", help="Use this Dask cluster."),
    _end_options,
)  # fmt: skip


@experiment_commands.command()
@_cv_options
def cv(**values: Any) -> int:
    """Cross-validate one configuration on DATA: one run per fold, pooled metrics."""
    return _sweep({}, **values)


@experiment_commands.command()
@_cv_options
@click.option(
    "--set", "assignments", multiple=True, required=True, metavar="OPTION=VALUE[,VALUE...]",
    help="Values to compare, such as image-size=224x224 or dense-units=512+128; repeatable.",
)  # fmt: skip
def sweep(assignments: tuple[str, ...], **values: Any) -> int:
    """Cross-validate every combination of the option values in --set on DATA."""
    return _sweep(_parse_grid(assignments), **values)


def _sweep(
    grid: dict[str, list[Any]], *, data_dir: Path, name: str, runs: Path, test_folds: str,
    scheduler: str | None, accept_changes: bool, detach: bool, as_json: bool, **options: Any,
) -> int:  # fmt: skip
    weights = {options["weights"], *grid.get("weights", ())}
    has_size = is_given("image_size") or "image_size" in grid
    if len(weights) > 1 and "bundled" in weights and not has_size:
        raise ConfigError(
            "Missing --image-size. The bundled weights have another default image size than "
            "other weights. Give one image size for all runs."
        )
    plan = experiments.plan_experiment(
        build_config(data_dir, options), folds=_parse_folds(test_folds), grid=grid
    )
    try:
        with experiments.connect_cluster(scheduler) if scheduler else nullcontext() as client:
            if client:
                experiments.check_workers(client, runs, [config for _, config in plan])
            experiment = experiments.start_experiment(
                name, plan, runs, scheduler=scheduler, accept_changes=accept_changes
            )
            advance = None
            if client:
                futures = experiments.submit_experiment(client, experiment, runs)
                advance = partial(experiments.collect_finished, client, futures, runs)
            if not detach:
                show = _state_progress()
                experiments.wait_for_experiment(experiment, runs, on_update=show, advance=advance)
    except KeyboardInterrupt:
        return _print_interrupted(runs)
    return _print_experiment(experiment, runs, as_json=as_json)


def _print_experiment(experiment: experiments.Experiment, runs: Path, *, as_json: bool) -> int:
    statuses = experiments.run_states(experiment, runs)
    groups = experiments.summarize_experiment(experiment, runs)
    checks = experiments.check_selection(experiment)
    if as_json:
        rows = [
            {"run": member.name, "group": member.group, "fold": member.fold}
            | {key: statuses[member.name].get(key, "") for key in ("state", "message")}
            for member in experiment.runs
        ]
        print_json(
            {"experiment": experiment.name, "created": experiment.created, "runs": rows,
             "groups": [to_json(group) for group in groups],
             "checks": [check_to_json(check) for check in checks]}
        )  # fmt: skip
    else:
        _print_groups(experiment.name, groups)
        print_checks(checks)
        if any(status["state"] not in _ended_states() for status in statuses.values()):
            click.echo(_running(runs))
    return _print_failed(experiment, runs)


def _print_groups(name: str, groups: list[experiments.GroupMetrics]) -> None:
    rows = [["config", "folds", "no result", *METRICS.values(), "images", "cases"]]
    for group in groups:
        cells = ["-"] * (len(METRICS) + 2)
        if group.report:
            cells = [group.report.metrics[metric].brief() for metric in METRICS]
            cells += [str(group.report.n_images), str(group.report.n_cases or "unknown")]
        folds = f"{len(group.folds)} of {group.n_runs}"
        rows.append([group.group or name, folds, str(group.n_failed), *cells])
    click.echo("\n".join(format_table(rows)))
    if any(group.report for group in groups):
        click.echo("In brackets: 95 % CI (bootstrap over cases).")
    for group in groups:
        print_checks(group.checks, f"{group.group}: " if group.group else "")


def _print_failed(experiment: experiments.Experiment, runs: Path) -> int:
    """Print the runs without a result to stderr; return the exit code."""
    code = 0
    for run, status in experiments.run_states(experiment, runs).items():
        if status["state"] in _ended_states() - {"done"}:
            click.echo(f"{run}: {status['state']}: {status.get('message', '')}", err=True)
            code = 1
    return code


def _ended_states() -> frozenset[str]:
    return frozenset({*ENDED_STATES, experiments.MISSING})


def _running(runs: Path) -> str:
    return f"The runs continue. `runs list {runs}` shows them."


def _print_interrupted(runs: Path) -> int:
    click.echo(f"\n{_running(runs)} The same command waits again.", err=True)
    return 130


def _state_progress() -> Callable[[dict[str, int]], None]:
    """Return a callback that prints the number of runs in each state after each change."""
    printed: list[dict[str, int]] = []

    def show(states: dict[str, int]) -> None:
        if states not in printed[-1:]:
            printed.append(states)
            counts = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
            click.echo(counts, err=True)

    return show


def _parse_folds(text: str) -> list[int] | str:
    """Return test folds: 'all', or numbers such as '0,1,2'."""
    if text == "all":
        return text
    try:
        return [int(fold) for fold in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"Invalid --test-folds '{text}'. Expected all, or numbers such as 0,1,2."
        ) from error


def _parse_grid(assignments: tuple[str, ...]) -> dict[str, list[Any]]:
    grid: dict[str, list[Any]] = {}
    for text in assignments:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name in grid:
            raise ConfigError(
                f"Invalid --set '{text}'. Expected an option and its values, such as "
                "dropout=0.1,0.5, once per option."
            )
        grid[name] = [experiments.parse_value(name, value.strip()) for value in values.split(",")]
    return grid


@experiment_commands.command()
@_data
@click.option(
    "--protocols", default="image,folds,folds-clean,case", show_default=True,
    metavar="NAME[,NAME...]", help="Split protocols to compare.",
)  # fmt: skip
@click.option(
    "--fold-file", "fold_files", multiple=True, type=PATH, metavar="FILE",
    help="Official fold file; repeatable. Default: those of the dataset registry.",
)  # fmt: skip
@click.option(
    "--test-folds", default="0", show_default=True, metavar="all|N[,N...]",
    help="Test folds of protocols without an official fold file.",
)  # fmt: skip
@click.option("--name", help="Name of the experiment and its runs. Default: from DATA.")
@runs_option
@click.option("--out", type=PATH, help="Directory for the report. Default: RUNS/NAME.report.")
@training_options(without=["protocol", "official_fold_file", "test_fold"])
@_end_options
def protocols(
    data_dir: Path, protocols: str, fold_files: tuple[Path, ...], test_folds: str, name: str | None,
    runs: Path, out: Path | None, accept_changes: bool, detach: bool, as_json: bool, **options: Any,
) -> int:  # fmt: skip
    """Train one configuration on DATA with several split protocols and measure leakage.

    Protocols that DATA does not support are skipped with a message. The report is written again
    after each run.
    """
    name = name or _default_name(data_dir)
    out = out or runs / f"{name}.report"
    check_writable(out)
    names = [protocol.strip() for protocol in protocols.split(",") if protocol.strip()]
    if data.FOLDS_PROTOCOLS & set(names) and not fold_files:
        fold_files = tuple(data.list_fold_files())
        if fold_files:
            listed = ", ".join(file.name for file in fold_files)
            click.echo(f"fold files of the dataset registry: {listed}", err=True)
    plan = experiments.plan_comparison(
        build_config(data_dir, options), protocols=names, fold_files=fold_files,
        dataset=lambda: load_dataset(
            data_dir, data.parse_rules(options["labels"], options["case_from"])
        ),
        test_folds=_parse_folds(test_folds), known=experiments.planned_configs(runs, name),
    )  # fmt: skip
    experiment, spec = experiments.start_comparison(name, plan, runs, accept_changes=accept_changes)
    for protocol, checks in spec.skipped.items():
        click.echo(f"{protocol}: {' '.join(check.message for check in checks)}", err=True)
    code = 0
    if not detach:
        try:
            show = _report_progress(experiment, runs, out)
            experiments.wait_for_experiment(experiment, runs, on_update=show)
        except KeyboardInterrupt:
            code = _print_interrupted(runs)
    return _print_protocol_report(experiment, runs, out, as_json=as_json) or code


def _report_progress(
    experiment: experiments.Experiment, runs: Path, out: Path
) -> Callable[[dict[str, int]], None]:
    """Return a callback that writes the report and prints its new metrics after each run."""
    show_states = _state_progress()
    printed: dict[str, int] = {}

    def show(states: dict[str, int]) -> None:
        show_states(states)
        # After the last run, the command itself writes and prints the report.
        if states.get("done", 0) in (sum(printed.values()), len(experiment.runs)):
            return
        report = experiments.compare_protocols(experiment, runs)
        count_failed([partial(reporting.write_protocols, report, out)])
        for row in report.rows:
            if row.n_done and row.n_done != printed.get(row.protocol):
                printed[row.protocol] = row.n_done
                cells = zip(METRICS.values(), _format_metrics(row), strict=True)
                metrics = ", ".join(f"{title} {cell}" for title, cell in cells)
                click.echo(f"{row.label}: {metrics}; {row.test_data}", err=True)

    return show


def _print_protocol_report(
    experiment: experiments.Experiment, runs: Path, out: Path, *, as_json: bool
) -> int:
    report = experiments.compare_protocols(experiment, runs)
    n_failed = count_failed([partial(reporting.write_protocols, report, out)])
    if as_json:
        print_json(to_json(report))
    else:
        _print_protocols(report)
        if not report.is_finished:
            click.echo(_running(runs))
        if not n_failed:
            click.echo(f"Report written to {out}")
    return _print_failed(experiment, runs) or min(n_failed, 1)


def _print_protocols(report: experiments.ProtocolComparison) -> None:
    rows = [["protocol", "runs", *METRICS.values(), "baseline", "images", "cases", "leakage"]]
    for row in report.rows:
        counts = [str(row.n_images), str(row.n_cases or "unknown")] if row.metrics else ["-", "-"]
        baseline = reporting.format_baseline_cell(row)
        runs, leakage = f"{row.n_done} of {len(row.runs)}", reporting.format_leakage_cell(row)
        rows.append([row.label, runs, *_format_metrics(row), baseline, *counts, leakage])
    click.echo("\n".join(format_table(rows)))
    if any(row.metrics for row in report.rows):
        click.echo(
            "In brackets: 95 % CI. Baseline: accuracy of always predicting malignant. "
            "Leakage: test images whose case is in training."
        )
    print_checks(report.checks)
    for row in report.rows:
        print_checks(row.checks, f"{row.label}: ")
    print_checks(effect.check for effect in report.leakage_effects)
    for published in report.published_ranges:
        limits = f"{published.lowest:g} to {published.highest:g}"
        click.echo(f"  {published.label}: {METRICS[published.metric]} {limits}")


def _format_metrics(row: experiments.ProtocolRow) -> list[str]:
    return [reporting.format_metric_cell(row, key) for key in METRICS]


def _default_name(data_dir: Path) -> str:
    """Return a name of at most 40 characters, always the same for a dataset directory."""
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", data_dir.resolve().name).strip("-.")
    return f"report-{slug[:33] or 'data'}"
