"""Commands that write for people: reports."""

from pathlib import Path

import click

from bc_model.cli.options import MODEL, PATH


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
    from bc_model.evaluation.crossed import crossed_report, is_crossed
    from bc_model.evaluation.lock import require_evaluation
    from bc_model.evaluation.report import read_report
    from bc_model.reporting.evaluation_report import save_report
    from bc_model.serving.bundle import open_bundle

    bundle = open_bundle(run)
    crossed = is_crossed(bundle)
    found = crossed_report(bundle) if crossed else read_report(require_evaluation(bundle))
    save_report(found, bundle.card, out)
    click.echo(f"written to {out}")
