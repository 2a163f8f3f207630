"""The command that runs a study: folds and settings as jobs, here or on a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bc_model.checks import check_to_json
from bc_model.cli.options import (
    PATH,
    aligned,
    as_json_option,
    config_from,
    is_given,
    print_json,
    progress,
    runs_option,
    training_options,
)
from bc_model.data import FOLDS_PROTOCOLS, list_fold_files
from bc_model.errors import ConfigError
from bc_model.utils import require_place

if TYPE_CHECKING:
    from bc_model.data import Dataset
    from bc_model.experiments import Experiment, GroupMetrics, Plan, ProtocolComparison


SHOWN = {"balanced_accuracy": "balanced accuracy", "roc_auc": "ROC AUC", "accuracy": "accuracy"}
"""Figures of the table, with their titles."""


@click.command()
@click.argument("data", type=PATH)
@click.option("--study", "name", required=True, metavar="NAME", help="Begins the runs' names.")
@runs_option
@click.option(
    "--test-folds", "folds", default="all", show_default=True, metavar="all|N[,N...]",
    help="With --official-fold-file, which has one test subset: fold 0 alone.",
)  # fmt: skip
@click.option(
    "--set", "tried", multiple=True, metavar="SETTING=VALUE[,VALUE...]",
    help="Values to try of a setting; every combination is run. Sizes as 224x224, layers as "
    "512+128, what is not set as default.",
)  # fmt: skip
@training_options(without=["test_fold"])
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="Run on this Dask cluster.")
@click.option("--accept-changes", is_flag=True, help="Go on though data or code changed.")
@click.option("--detach", is_flag=True, help="Do not wait for the runs.")
@as_json_option
def sweep(
    data: Path,
    name: str,
    runs: Path,
    folds: str,
    tried: tuple[str, ...],
    scheduler: str | None,
    accept_changes: bool,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Cross-validate on DATA, and try settings: one run each, figures pooled over the folds.

    Ctrl-C leaves the runs going on. The same command again goes on with what is not done, and
    shows what there is. Without --scheduler BC_MAX_RUNS runs go on at a time.
    """
    from bc_model.experiments import plan_experiment

    grid = _grid(tried)
    first_weights = {options["weights"], *grid.get("weights", ())}
    sized = is_given("image_size") or "image_size" in grid
    if len(first_weights) > 1 and "bundled" in first_weights and not sized:
        raise ConfigError(
            "To try bundled weights beside others, name --image-size: the usual one is not that "
            "model's."
        )
    plan = plan_experiment(config_from(data, options), folds=parse_folds(folds), grid=grid)
    try:
        experiment = _run(name, plan, runs, scheduler, accept_changes=accept_changes, detach=detach)
    except KeyboardInterrupt:
        click.echo(
            f"\nThe runs go on: `jobs list {runs}` shows them, the same command waits again.",
            err=True,
        )
        return 130
    return _report(experiment, runs, as_json=as_json)


def _run(
    name: str,
    plan: Plan,
    runs: Path,
    scheduler: str | None,
    *,
    accept_changes: bool,
    detach: bool,
) -> Experiment:
    from bc_model.experiments import start_experiment, wait_for_experiment

    if scheduler is None:
        experiment = start_experiment(name, plan, runs, accept_changes=accept_changes)
        if not detach:
            wait_for_experiment(experiment, runs, on_update=state_progress())
        return experiment
    from bc_model.experiments import (
        check_workers,
        collect_finished,
        connect_cluster,
        submit_experiment,
    )

    with connect_cluster(scheduler) as client:
        check_workers(client, runs, [config for _, config in plan])
        experiment = start_experiment(
            name, plan, runs, scheduler=scheduler, accept_changes=accept_changes
        )
        futures = submit_experiment(client, experiment, runs)
        if not detach:
            wait_for_experiment(
                experiment,
                runs,
                on_update=state_progress(),
                advance=lambda: collect_finished(client, futures, runs),
            )
    return experiment


def _report(experiment: Experiment, runs: Path, *, as_json: bool) -> int:
    from bc_model.experiments import MISSING, check_selection, run_states, summarize_experiment
    from bc_model.jobs import ENDED_STATES
    from bc_model.utils import to_json

    statuses = run_states(experiment, runs)
    metrics = summarize_experiment(experiment, runs)
    checks = check_selection(experiment)
    if as_json:
        print_json(
            {
                "experiment": experiment.name,
                "created": experiment.created,
                "runs": [
                    {
                        "run": member.name, "group": member.group, "fold": member.fold,
                        "state": statuses[member.name]["state"],
                        "message": statuses[member.name].get("message", ""),
                    }
                    for member in experiment.runs
                ],
                "groups": [to_json(one) for one in metrics],
                "checks": [check_to_json(check) for check in checks],
            }
        )  # fmt: skip
    else:
        click.echo(_table(experiment.name, metrics))
        for one in metrics:
            about = f"{one.group}: " if one.group else ""
            for check in one.checks:
                click.echo(f"  {check.severity}: {about}{check.message}")
        for check in checks:
            click.echo(f"  {check.severity}: {check.message}")
        if not {str(status["state"]) for status in statuses.values()} <= ENDED_STATES | {MISSING}:
            click.echo(f"The runs go on: `jobs list {runs}` shows them.")
    failed = [
        (run, status)
        for run, status in statuses.items()
        if status["state"] in (ENDED_STATES | {MISSING}) - {"done"}
    ]
    for run, status in failed:
        click.echo(f"{run}: {status['state']}: {status.get('message', '')}", err=True)
    return 1 if failed else 0


def _table(name: str, metrics: list[GroupMetrics]) -> str:
    """Return one line for each group of settings."""
    rows = [["config", "folds", "no result", *SHOWN.values(), "images", "cases"]]
    for one in metrics:
        cells = ["-"] * (len(SHOWN) + 2)
        if one.report:
            cells = [one.report.metrics[shown].brief() for shown in SHOWN]
            cells += [str(one.report.n), str(one.report.n_cases or "unknown")]
        rows.append(
            [one.group or name, f"{len(one.folds)} of {one.n_runs}", str(one.n_failed), *cells]
        )
    lines = aligned(rows)
    if any(one.report for one in metrics):
        lines.append("In brackets: 95 % intervals by bootstrap over cases.")
    return "\n".join(lines)


def state_progress() -> Callable[[dict[str, int]], None]:
    """Return a callback that says on stderr when the count of a state has changed."""
    last: dict[str, int] = {}

    def tell(state: dict[str, int]) -> None:
        nonlocal last
        if state != last:
            last = state
            said = ", ".join(f"{count} {name}" for name, count in sorted(state.items()))
            click.echo(said, err=True)

    return tell


def parse_folds(text: str) -> list[int] | str:
    """Read test folds: 'all', or numbers such as '0,1,2'."""
    if text == "all":
        return text
    try:
        return [int(fold) for fold in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--test-folds must be all, or numbers such as 0,1,2; asked for '{text}'."
        ) from error


def _grid(tried: tuple[str, ...]) -> dict[str, list[Any]]:
    from bc_model.experiments import parse_value

    grid: dict[str, list[Any]] = {}
    for text in tried:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name in grid:
            raise ConfigError(
                "--set must be a setting and its values such as dropout=0.1,0.5, once for each "
                f"setting; asked for '{text}'."
            )
        grid[name] = [parse_value(name, value.strip()) for value in values.split(",")]
    return grid


SHOWN_REPORT = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
}
"""Figures of the printed table; the files have all."""

_MAX_FOLDER_NAME = 33


@click.command()
@click.argument("data", type=PATH)
@click.option(
    "--protocols",
    default="image,folds,folds-clean,case",
    show_default=True,
    metavar="NAME[,NAME...]",
)
@click.option(
    "--folds", "fold_files", multiple=True, type=PATH, metavar="FILE",
    help="Official fold file, for folds and folds-clean; may come several times. Default: those "
    "on the shelf of the Data page.",
)  # fmt: skip
@click.option(
    "--test-folds", "test_folds", default="0", show_default=True, metavar="all|N[,N...]",
    help="Of the protocols that deal the data out themselves; all tests each picture once.",
)  # fmt: skip
@click.option("--study", "name", metavar="NAME", help="Begins the runs' names; default by DATA.")
@runs_option
@click.option("--out", type=PATH, help="Folder for the report; default RUNS/NAME.report.")
@training_options(without=["protocol", "official_fold_file", "test_fold"])
@click.option("--accept-changes", is_flag=True, help="Go on though data or code changed.")
@click.option("--detach", is_flag=True, help="Do not wait for the runs.")
@as_json_option
def report(
    data: Path,
    protocols: str,
    fold_files: tuple[Path, ...],
    test_folds: str,
    name: str | None,
    runs: Path,
    out: Path | None,
    accept_changes: bool,
    detach: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Train the same recipe on DATA under several split protocols: one table, one picture.

    It shows what a leak is worth. A protocol that cannot be made on DATA is told in a sentence, and
    the others go on. Ctrl-C leaves the runs going on; the same command again goes on with what is
    not done. The files are written anew whenever a run ends.
    """
    from bc_model.experiments import plan_comparison, planned_configs, start_comparison

    name = name or _name_of(data)
    out = out or runs / f"{name}.report"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out must be a folder, and {out} is a file; name another one.")
    require_place(out)
    target = [one.strip() for one in protocols.split(",") if one.strip()]
    if FOLDS_PROTOCOLS & set(target) and not fold_files:
        fold_files = tuple(list_fold_files())
        if fold_files:
            shown = ", ".join(file.name for file in fold_files)
            click.echo(f"fold files of the shelf: {shown}", err=True)
    plan = plan_comparison(
        config_from(data, options),
        dataset=lambda: _read(data),
        protocols=target,
        fold_files=fold_files,
        test_folds=parse_folds(test_folds),
        known=planned_configs(runs, name),
    )
    experiment, note = start_comparison(name, plan, runs, accept_changes=accept_changes)
    for protocol, checks in note.skipped.items():
        for check in checks:
            click.echo(f"{protocol}: {check.message}", err=True)
    code = 0
    if not detach:
        code = _wait(experiment, runs, out)
    return _tell(experiment, runs, out, as_json=as_json) or code


def _wait(experiment: Experiment, runs: Path, out: Path) -> int:
    """Wait for the runs, and write and tell what there is whenever one of them ends."""
    from bc_model.experiments import wait_for_experiment

    try:
        wait_for_experiment(experiment, runs, on_update=_watch(experiment, runs, out))
    except KeyboardInterrupt:
        click.echo(
            f"\nThe runs go on: `jobs list {runs}` shows them, the same command waits again.",
            err=True,
        )
        return 130
    return 0


def _watch(experiment: Experiment, runs: Path, out: Path) -> Callable[[dict[str, int]], None]:
    from bc_model.experiments import compare_protocols
    from bc_model.reporting import metric_cell, write_protocols

    count = state_progress()
    told: dict[str, int] = {}

    def watch(state: dict[str, int]) -> None:
        count(state)
        # The last one is told and written when the waiting is over.
        if state.get("done", 0) in (sum(told.values()), len(experiment.runs)):
            return
        found = compare_protocols(experiment, runs)
        write_protocols(found, out)
        for row in found.rows:
            if row.n_done and row.n_done != told.get(row.protocol):
                told[row.protocol] = row.n_done
                metrics = ", ".join(f"{SHOWN[key]} {metric_cell(row, key)}" for key in SHOWN_REPORT)
                click.echo(f"{row.label}: {metrics}; {row.test_data}", err=True)

    return watch


def _tell(experiment: Experiment, runs: Path, out: Path, *, as_json: bool) -> int:
    from bc_model.experiments import MISSING, compare_protocols, run_states
    from bc_model.reporting import write_protocols
    from bc_model.utils import to_json

    found = compare_protocols(experiment, runs)
    write_protocols(found, out)
    if as_json:
        print_json(to_json(found))
    else:
        _print(found)
        if not found.is_finished:
            click.echo(f"The runs go on: `jobs list {runs}` shows them.")
        click.echo(f"written to {out}")
    failed = {
        run: status
        for run, status in run_states(experiment, runs).items()
        if status["state"] in ("failed", "canceled", "interrupted", MISSING)
    }
    for run, status in failed.items():
        click.echo(f"{run}: {status['state']}: {status.get('message', '')}", err=True)
    return 1 if failed else 0


def _print(found: ProtocolComparison) -> None:
    from bc_model.reporting import metric_cell, shared_cell

    heads = [
        "protocol",
        "runs",
        *SHOWN_REPORT.values(),
        "always malignant",
        "images",
        "cases",
        "leak",
    ]
    rows = [heads]
    for row in found.rows:
        support = [str(row.n_images), str(row.n_cases or "unknown")] if row.metrics else ["-", "-"]
        base = "-" if row.malignant_proportion is None else f"{row.malignant_proportion:.3f}"
        rows.append(
            [
                row.label, f"{row.n_done} of {len(row.runs)}",
                *(metric_cell(row, key) for key in SHOWN_REPORT), base, *support, shared_cell(row),
            ]
        )  # fmt: skip
    for line in aligned(rows):
        click.echo(line)
    if any(row.metrics for row in found.rows):
        click.echo(
            "In brackets: 95 % intervals over cases. Leak: test pictures whose case is in training."
        )
    for check in found.checks:
        click.echo(f"  {check.severity}: {check.message}")
    for row in found.rows:
        for check in row.checks:
            click.echo(f"  {check.severity}: {row.label}: {check.message}")
    for gap in found.leakage_effects:
        click.echo(f"  leakage effect: {gap.check.message}")
    for published_range in found.published_ranges:
        click.echo(
            f"  {published_range.words}: {SHOWN[published_range.metric]} {published_range.low:g} to {published_range.high:g}"
        )


def _read(data: Path) -> Dataset:
    from bc_model.data import read_dataset

    return read_dataset(data, progress=progress("reading"))


def _name_of(data: Path) -> str:
    """Name a report by its data, so that the same command finds it again."""
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", data.resolve().name).strip("-.")
    return f"report-{slug[:_MAX_FOLDER_NAME] or 'data'}"
