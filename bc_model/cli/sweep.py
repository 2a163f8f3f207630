"""The command that runs a study: folds and settings as jobs, here or on a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bc_model.checks import check_to_json
from bc_model.cli.options import PATH, aligned, as_json_option, print_json, runs_option
from bc_model.cli.train_options import config_from, is_given, training_options
from bc_model.errors import SettingsError

if TYPE_CHECKING:
    from bc_model.evaluation.study_figures import GroupFigures
    from bc_model.training.study_file import Study
    from bc_model.training.study_plan import Plan

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
    from bc_model.training.study_plan import plan_study

    grid = _grid(tried)
    first_weights = {options["weights"], *grid.get("weights", ())}
    sized = is_given("image_size") or "image_size" in grid
    if len(first_weights) > 1 and "bundled" in first_weights and not sized:
        raise SettingsError(
            "To try bundled weights beside others, name --image-size: the usual one is not that "
            "model's."
        )
    plan = plan_study(config_from(data, options), folds=parse_folds(folds), grid=grid)
    try:
        study = _run(name, plan, runs, scheduler, accept_changes=accept_changes, detach=detach)
    except KeyboardInterrupt:
        click.echo(
            f"\nThe runs go on: `jobs list {runs}` shows them, the same command waits again.",
            err=True,
        )
        return 130
    return _report(study, runs, as_json=as_json)


def _run(
    name: str,
    plan: "Plan",
    runs: Path,
    scheduler: str | None,
    *,
    accept_changes: bool,
    detach: bool,
) -> "Study":
    from bc_model.training.study import start_study, wait_for_study

    if scheduler is None:
        study = start_study(name, plan, runs, accept_changes=accept_changes)
        if not detach:
            wait_for_study(study, runs, tell=state_progress())
        return study
    from bc_model.training.cluster import connect, settle, submit_study
    from bc_model.training.cluster_check import check_workers

    with connect(scheduler) as client:
        check_workers(client, runs, [settings for _, settings in plan])
        study = start_study(name, plan, runs, scheduler=scheduler, accept_changes=accept_changes)
        futures = submit_study(client, study, runs)
        if not detach:
            wait_for_study(
                study, runs, tell=state_progress(), look=lambda: settle(client, futures, runs)
            )
    return study


def _report(study: "Study", runs: Path, *, as_json: bool) -> int:
    from bc_model.evaluation.study_figures import check_selection, summarise_study
    from bc_model.training.run_folder import ENDED_STATES
    from bc_model.training.study import MISSING, member_states
    from bc_model.utils.serialization import to_json

    statuses = member_states(study, runs)
    figures = summarise_study(study, runs)
    checks = check_selection(study)
    if as_json:
        print_json(
            {
                "study": study.name,
                "created": study.created,
                "runs": [
                    {
                        "run": member.run, "group": member.group, "fold": member.fold,
                        "state": statuses[member.run]["state"],
                        "message": statuses[member.run].get("message", ""),
                    }
                    for member in study.members
                ],
                "groups": [to_json(one) for one in figures],
                "checks": [check_to_json(check) for check in checks],
            }
        )  # fmt: skip
    else:
        click.echo(_table(study.name, figures))
        for one in figures:
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


def _table(name: str, figures: "list[GroupFigures]") -> str:
    """Return one line for each group of settings."""
    rows = [["settings", "folds", "no result", *SHOWN.values(), "pictures", "cases"]]
    for one in figures:
        cells = ["-"] * (len(SHOWN) + 2)
        if one.report:
            cells = [one.report.figures[shown].brief() for shown in SHOWN]
            cells += [str(one.report.n), str(one.report.n_cases or "unknown")]
        rows.append(
            [one.group or name, f"{len(one.folds)} of {one.n_runs}", str(one.n_failed), *cells]
        )
    lines = aligned(rows)
    if any(one.report for one in figures):
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
        raise SettingsError(
            f"--test-folds must be all, or numbers such as 0,1,2; asked for '{text}'."
        ) from error


def _grid(tried: tuple[str, ...]) -> dict[str, list[Any]]:
    from bc_model.training.study_plan import parse_value

    grid: dict[str, list[Any]] = {}
    for text in tried:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name in grid:
            raise SettingsError(
                "--set must be a setting and its values such as dropout=0.1,0.5, once for each "
                f"setting; asked for '{text}'."
            )
        grid[name] = [parse_value(name, value.strip()) for value in values.split(",")]
    return grid
