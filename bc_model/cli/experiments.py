"""``experiments``: cross-validation, option sweeps and protocol comparisons."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bc_model.checks import check_to_json
from bc_model.cli.options import (
    PATH,
    Command,
    build_config,
    format_table,
    is_given,
    json_option,
    print_checks,
    print_json,
    progress,
    runs_option,
    training_options,
)
from bc_model.errors import ConfigError
from bc_model.utils import check_writable

if TYPE_CHECKING:
    from bc_model.data import Dataset
    from bc_model.experiments import Experiment, Plan, ProtocolReport, SubgroupMetrics

METRICS = {"balanced_accuracy": "balanced accuracy", "roc_auc": "ROC AUC", "accuracy": "accuracy"}
"""Metrics in printed tables, with their titles. The files contain all metrics."""

_MAX_NAME_LENGTH = 33


@click.group()
def experiments() -> None:
    """Train and compare several runs.

    Ctrl-C does not stop the runs. The same command again continues the experiment and shows its
    results. BC_MAX_RUNS limits the runs at a time.
    """


_data = click.argument("data", type=PATH)
_accept_changes = click.option(
    "--accept-changes", is_flag=True, help="Continue even if data or code have changed."
)
_detach = click.option("--detach", is_flag=True, help="Do not wait for the runs.")


def _sweep_options(command: Command) -> Command:
    """Add the arguments and options that `cv` and `sweep` share."""
    for decorate in reversed(
        (
            _data,
            click.option("--name", required=True, help="Name of the experiment and its runs."),
            runs_option,
            click.option(
                "--test-folds", default="all", show_default=True, metavar="all|N[,N...]",
                help="Test folds. An official fold file has fold 0 only.",
            ),
            training_options(without=["test_fold"]),
            click.option("--scheduler", metavar="tcp://HOST:PORT", help="Use this Dask cluster."),
            _accept_changes,
            _detach,
            json_option,
        )
    ):  # fmt: skip
        command = decorate(command)
    return command


@experiments.command()
@_sweep_options
def cv(**values: Any) -> int:
    """Cross-validate one configuration on DATA: one run per fold, pooled metrics."""
    return _sweep({}, **values)


@experiments.command()
@_sweep_options
@click.option(
    "--set", "assignments", multiple=True, required=True, metavar="OPTION=VALUE[,VALUE...]",
    help="Values to compare, such as image-size=224x224 or dense-units=512+128; repeatable.",
)  # fmt: skip
def sweep(assignments: tuple[str, ...], **values: Any) -> int:
    """Cross-validate every combination of the option values in --set on DATA."""
    return _sweep(_parse_grid(assignments), **values)


def _sweep(
    grid: dict[str, list[Any]],
    *,
    data: Path,
    name: str,
    runs: Path,
    test_folds: str,
    scheduler: str | None,
    accept_changes: bool,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> int:
    from bc_model.experiments import plan_experiment

    weights = {options["weights"], *grid.get("weights", ())}
    has_size = is_given("image_size") or "image_size" in grid
    if len(weights) > 1 and "bundled" in weights and not has_size:
        raise ConfigError(
            "Missing --image-size. The bundled weights have another default image size than "
            "other weights. Give one image size for all runs."
        )
    plan = plan_experiment(build_config(data, options), folds=_parse_folds(test_folds), grid=grid)
    try:
        experiment = _run(name, plan, runs, scheduler, accept_changes=accept_changes, detach=detach)
    except KeyboardInterrupt:
        return _print_interrupted(runs)
    return _print_experiment(experiment, runs, as_json=as_json)


def _run(
    name: str, plan: Plan, runs: Path, scheduler: str | None, *, accept_changes: bool, detach: bool
) -> Experiment:
    from bc_model.experiments import start_experiment, wait_for_experiment

    if scheduler is None:
        experiment = start_experiment(name, plan, runs, accept_changes=accept_changes)
        if not detach:
            wait_for_experiment(experiment, runs, tell=_state_progress())
        return experiment
    from bc_model.experiments import check_workers, connect, settle, submit_experiment

    with connect(scheduler) as client:
        check_workers(client, runs, [config for _, config in plan])
        experiment = start_experiment(
            name, plan, runs, scheduler=scheduler, accept_changes=accept_changes
        )
        futures = submit_experiment(client, experiment, runs)
        if not detach:
            wait_for_experiment(
                experiment, runs, tell=_state_progress(), look=lambda: settle(client, futures, runs)
            )
    return experiment


def _print_experiment(experiment: Experiment, runs: Path, *, as_json: bool) -> int:
    from bc_model.experiments import MISSING, check_selection, run_states, summarize_experiment
    from bc_model.jobs import ENDED_STATES
    from bc_model.utils import to_json

    statuses = run_states(experiment, runs)
    groups = summarize_experiment(experiment, runs)
    checks = check_selection(experiment)
    if as_json:
        print_json(
            {
                "experiment": experiment.name,
                "created": experiment.created,
                "runs": [
                    {
                        "run": member.run, "group": member.group, "fold": member.fold,
                        "state": statuses[member.run]["state"],
                        "message": statuses[member.run].get("message", ""),
                    }
                    for member in experiment.members
                ],
                "groups": [to_json(group) for group in groups],
                "checks": [check_to_json(check) for check in checks],
            }
        )  # fmt: skip
    else:
        _print_groups(experiment.name, groups)
        print_checks(checks)
        if not {str(status["state"]) for status in statuses.values()} <= ENDED_STATES | {MISSING}:
            click.echo(_running(runs))
    return _print_failed(experiment, runs)


def _print_groups(name: str, groups: list[SubgroupMetrics]) -> None:
    rows = [["config", "folds", "no result", *METRICS.values(), "images", "cases"]]
    for group in groups:
        cells = ["-"] * (len(METRICS) + 2)
        if group.report:
            cells = [group.report.metrics[metric].brief() for metric in METRICS]
            cells += [str(group.report.n), str(group.report.n_cases or "unknown")]
        folds = f"{len(group.folds)} of {group.n_runs}"
        rows.append([group.group or name, folds, str(group.n_failed), *cells])
    click.echo("\n".join(format_table(rows)))
    if any(group.report for group in groups):
        click.echo("In brackets: 95 % CI (bootstrap over cases).")
    for group in groups:
        print_checks(group.checks, f"{group.group}: " if group.group else "")


def _print_failed(experiment: Experiment, runs: Path) -> int:
    """Print the runs without a result to stderr; return the exit code."""
    from bc_model.experiments import MISSING, run_states
    from bc_model.jobs import ENDED_STATES

    failed = {
        run: status
        for run, status in run_states(experiment, runs).items()
        if status["state"] in (ENDED_STATES | {MISSING}) - {"done"}
    }
    for run, status in failed.items():
        click.echo(f"{run}: {status['state']}: {status.get('message', '')}", err=True)
    return 1 if failed else 0


def _running(runs: Path) -> str:
    return f"The runs continue. `runs list {runs}` shows them."


def _print_interrupted(runs: Path) -> int:
    click.echo(f"\n{_running(runs)} The same command waits again.", err=True)
    return 130


def _state_progress() -> Callable[[dict[str, int]], None]:
    """Return a callback that prints the number of runs in each state after each change."""
    last: dict[str, int] = {}

    def show(states: dict[str, int]) -> None:
        nonlocal last
        if states != last:
            last = states
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
    from bc_model.experiments import parse_value

    grid: dict[str, list[Any]] = {}
    for text in assignments:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name in grid:
            raise ConfigError(
                f"Invalid --set '{text}'. Expected an option and its values, such as "
                "dropout=0.1,0.5, once per option."
            )
        grid[name] = [parse_value(name, value.strip()) for value in values.split(",")]
    return grid


@experiments.command()
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
@_accept_changes
@_detach
@json_option
def protocols(
    data: Path, protocols: str, fold_files: tuple[Path, ...], test_folds: str, name: str | None,
    runs: Path, out: Path | None, accept_changes: bool, detach: bool, as_json: bool, **options: Any,
) -> int:  # fmt: skip
    """Train one configuration on DATA with several split protocols and measure leakage.

    Protocols that DATA does not support are skipped with a message. The report is written again
    after each run.
    """
    from bc_model.data import FOLDS_PROTOCOLS, list_fold_files
    from bc_model.experiments import known_options, plan_report, start_report

    name = name or _default_name(data)
    out = out or runs / f"{name}.report"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"Invalid --out {out}. Expected a directory, got a file.")
    check_writable(out)
    names = [protocol.strip() for protocol in protocols.split(",") if protocol.strip()]
    if FOLDS_PROTOCOLS & set(names) and not fold_files:
        fold_files = tuple(list_fold_files())
        if fold_files:
            listed = ", ".join(file.name for file in fold_files)
            click.echo(f"fold files of the dataset registry: {listed}", err=True)
    plan = plan_report(
        build_config(data, options),
        dataset=lambda: _read_dataset(data),
        protocols=names,
        fold_files=fold_files,
        test_folds=_parse_folds(test_folds),
        known=known_options(runs, name),
    )
    experiment, note = start_report(name, plan, runs, accept_changes=accept_changes)
    for protocol, checks in note.skipped.items():
        for check in checks:
            click.echo(f"{protocol}: {check.message}", err=True)
    code = 0
    if not detach:
        code = _wait(experiment, runs, out)
    return _print_protocol_report(experiment, runs, out, as_json=as_json) or code


def _wait(experiment: Experiment, runs: Path, out: Path) -> int:
    from bc_model.experiments import wait_for_experiment

    try:
        wait_for_experiment(experiment, runs, tell=_report_progress(experiment, runs, out))
    except KeyboardInterrupt:
        return _print_interrupted(runs)
    return 0


def _report_progress(
    experiment: Experiment, runs: Path, out: Path
) -> Callable[[dict[str, int]], None]:
    """Return a callback that writes the report and prints its new metrics after each run."""
    from bc_model.experiments import summarize_protocols
    from bc_model.reporting import metric_cell, write_protocols

    show_states = _state_progress()
    printed: dict[str, int] = {}

    def show(states: dict[str, int]) -> None:
        show_states(states)
        # After the last run, the command itself writes and prints the report.
        if states.get("done", 0) in (sum(printed.values()), len(experiment.members)):
            return
        report = summarize_protocols(experiment, runs)
        write_protocols(report, out)
        for row in report.rows:
            if row.n_done and row.n_done != printed.get(row.protocol):
                printed[row.protocol] = row.n_done
                cells = [f"{title} {metric_cell(row, key)}" for key, title in METRICS.items()]
                click.echo(f"{row.words}: {', '.join(cells)}; {row.rests_on}", err=True)

    return show


def _print_protocol_report(experiment: Experiment, runs: Path, out: Path, *, as_json: bool) -> int:
    from bc_model.experiments import summarize_protocols
    from bc_model.reporting import write_protocols
    from bc_model.utils import to_json

    report = summarize_protocols(experiment, runs)
    write_protocols(report, out)
    if as_json:
        print_json(to_json(report))
    else:
        _print_protocols(report)
        if not report.is_over:
            click.echo(_running(runs))
        click.echo(f"Report written to {out}")
    return _print_failed(experiment, runs)


def _print_protocols(report: ProtocolReport) -> None:
    from bc_model.reporting import metric_cell, shared_cell

    rows = [["protocol", "runs", *METRICS.values(), "all malignant", "images", "cases", "leakage"]]
    for row in report.rows:
        counts = [str(row.n), str(row.n_cases or "unknown")] if row.metrics else ["-", "-"]
        baseline = "-" if row.malignant_proportion is None else f"{row.malignant_proportion:.3f}"
        cells = [metric_cell(row, key) for key in METRICS]
        runs = f"{row.n_done} of {len(row.runs)}"
        rows.append([row.words, runs, *cells, baseline, *counts, shared_cell(row)])
    click.echo("\n".join(format_table(rows)))
    if any(row.metrics for row in report.rows):
        click.echo(
            "In brackets: 95 % CI. All malignant: accuracy if all images are predicted malignant. "
            "Leakage: test images whose case is in training."
        )
    print_checks(report.checks)
    for row in report.rows:
        print_checks(row.checks, f"{row.words}: ")
    print_checks(effect.check for effect in report.gaps)
    for published in report.published_ranges:
        click.echo(
            f"  {published.words}: {METRICS[published.metric]} {published.low:g} to "
            f"{published.high:g}"
        )


def _read_dataset(data: Path) -> Dataset:
    from bc_model.data import read_dataset

    return read_dataset(data, progress=progress("reading"))


def _default_name(data: Path) -> str:
    """Return a name from the dataset, so that the same command finds its experiment again."""
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", data.resolve().name).strip("-.")
    return f"report-{slug[:_MAX_NAME_LENGTH] or 'data'}"
