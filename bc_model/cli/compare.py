"""The command that sets two runs side by side."""

from pathlib import Path

import click

from bc_model.cli.options import MODEL, as_json_option, print_json
from bc_model.errors import SettingsError


@click.command()
@click.argument("first", type=MODEL, metavar="RUN")
@click.argument("second", type=MODEL, metavar="RUN")
@as_json_option
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Compare two finished runs on the test pictures that both predicted.

    Differences are the second RUN minus the first.
    """
    from bc_model.evaluation.compare_runs import compare_runs, setting_rows
    from bc_model.evaluation.difference import check_multiplicity
    from bc_model.training.run_folder import RunFolder
    from bc_model.utils.serialization import to_json

    runs = [RunFolder.open(first), RunFolder.open(second)]
    if first.resolve() == second.resolve():
        raise SettingsError(f"{first} and {second} are one run; name two.")
    found = compare_runs(*runs)
    changed = [row for row in setting_rows(runs) if row.differs]
    if as_json:
        settings = {row.name: list(row.values) for row in changed}
        extra = {"settings_that_differ": settings}
        print_json(to_json(found) | extra)
        return
    click.echo(
        f"{found.second} minus {found.first}, on {found.n} test pictures of "
        f"{found.n_cases or 'unknown'} cases that both predicted"
    )
    for name, difference in found.differences.items():
        click.echo(f"  {name.replace('_', ' ')}: {difference.text()}")
    for row in changed:
        click.echo(f"  setting {row.name}: {row.values[0]} and {row.values[1]}")
    for check in [*found.checks, check_multiplicity(1)]:
        click.echo(f"  {check.severity}: {check.message}")
