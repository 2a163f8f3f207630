"""The command that trains one recipe under several split protocols and sets them side by side."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bc_model.cli.options import (
    PATH,
    aligned,
    as_json_option,
    print_json,
    progress,
    runs_option,
)
from bc_model.cli.sweep import parse_folds, state_progress
from bc_model.cli.train_options import config_from, training_options
from bc_model.data.fold_shelf import list_fold_files
from bc_model.data.protocols import FOLDS_PROTOCOLS
from bc_model.errors import SettingsError
from bc_model.files import require_place

if TYPE_CHECKING:
    from bc_model.data.manifest import Manifest
    from bc_model.evaluation.protocol_report import ProtocolReport
    from bc_model.training.study_file import Study

SHOWN = {"balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "roc_auc": "ROC AUC"}
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
    from bc_model.training.report_study import known_settings, plan_report, start_report

    name = name or _name_of(data)
    out = out or runs / f"{name}.report"
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out must be a folder, and {out} is a file; name another one.")
    require_place(out)
    wanted = [one.strip() for one in protocols.split(",") if one.strip()]
    if FOLDS_PROTOCOLS & set(wanted) and not fold_files:
        fold_files = tuple(list_fold_files())
        if fold_files:
            shown = ", ".join(file.name for file in fold_files)
            click.echo(f"fold files of the shelf: {shown}", err=True)
    plan = plan_report(
        config_from(data, options),
        manifest=lambda: _read(data),
        protocols=wanted,
        fold_files=fold_files,
        test_folds=parse_folds(test_folds),
        known=known_settings(runs, name),
    )
    study, note = start_report(name, plan, runs, accept_changes=accept_changes)
    for protocol, checks in note.skipped.items():
        for check in checks:
            click.echo(f"{protocol}: {check.message}", err=True)
    code = 0
    if not detach:
        code = _wait(study, runs, out)
    return _tell(study, runs, out, as_json=as_json) or code


def _wait(study: "Study", runs: Path, out: Path) -> int:
    """Wait for the runs, and write and tell what there is whenever one of them ends."""
    from bc_model.training.study import wait_for_study

    try:
        wait_for_study(study, runs, tell=_watch(study, runs, out))
    except KeyboardInterrupt:
        click.echo(
            f"\nThe runs go on: `jobs list {runs}` shows them, the same command waits again.",
            err=True,
        )
        return 130
    return 0


def _watch(study: "Study", runs: Path, out: Path) -> Callable[[dict[str, int]], None]:
    from bc_model.evaluation.protocol_report import summarise_protocols
    from bc_model.reporting.protocol_report import figure_cell, write_protocols

    count = state_progress()
    told: dict[str, int] = {}

    def watch(state: dict[str, int]) -> None:
        count(state)
        # The last one is told and written when the waiting is over.
        if state.get("done", 0) in (sum(told.values()), len(study.members)):
            return
        found = summarise_protocols(study, runs)
        write_protocols(found, out)
        for row in found.rows:
            if row.n_done and row.n_done != told.get(row.protocol):
                told[row.protocol] = row.n_done
                figures = ", ".join(f"{SHOWN[key]} {figure_cell(row, key)}" for key in SHOWN)
                click.echo(f"{row.words}: {figures}; {row.rests_on}", err=True)

    return watch


def _tell(study: "Study", runs: Path, out: Path, *, as_json: bool) -> int:
    from bc_model.evaluation.protocol_report import summarise_protocols
    from bc_model.reporting.protocol_report import write_protocols
    from bc_model.training.study import MISSING, member_states
    from bc_model.utils.serialization import to_json

    found = summarise_protocols(study, runs)
    write_protocols(found, out)
    if as_json:
        print_json(to_json(found))
    else:
        _print(found)
        if not found.is_over:
            click.echo(f"The runs go on: `jobs list {runs}` shows them.")
        click.echo(f"written to {out}")
    failed = {
        run: status
        for run, status in member_states(study, runs).items()
        if status["state"] in ("failed", "canceled", "interrupted", MISSING)
    }
    for run, status in failed.items():
        click.echo(f"{run}: {status['state']}: {status.get('message', '')}", err=True)
    return 1 if failed else 0


def _print(found: "ProtocolReport") -> None:
    from bc_model.reporting.protocol_report import figure_cell, shared_cell

    heads = ["protocol", "runs", *SHOWN.values(), "always malignant", "pictures", "cases", "leak"]
    rows = [heads]
    for row in found.rows:
        support = [str(row.n), str(row.n_cases or "unknown")] if row.figures else ["-", "-"]
        base = "-" if row.base_rate is None else f"{row.base_rate:.3f}"
        rows.append(
            [
                row.words, f"{row.n_done} of {len(row.runs)}",
                *(figure_cell(row, key) for key in SHOWN), base, *support, shared_cell(row),
            ]
        )  # fmt: skip
    for line in aligned(rows):
        click.echo(line)
    if any(row.figures for row in found.rows):
        click.echo(
            "In brackets: 95 % intervals over cases. Leak: test pictures whose case is in training."
        )
    for check in found.checks:
        click.echo(f"  {check.severity}: {check.message}")
    for row in found.rows:
        for check in row.checks:
            click.echo(f"  {check.severity}: {row.words}: {check.message}")
    for gap in found.gaps:
        click.echo(f"  leakage effect: {gap.check.message}")
    for band in found.bands:
        click.echo(f"  {band.words}: {SHOWN[band.figure]} {band.low:g} to {band.high:g}")


def _read(data: Path) -> "Manifest":
    from bc_model.data.manifest import read_manifest

    return read_manifest(data, progress=progress("reading"))


def _name_of(data: Path) -> str:
    """Name a report by its data, so that the same command finds it again."""
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", data.resolve().name).strip("-.")
    return f"report-{slug[:_MAX_FOLDER_NAME] or 'data'}"
