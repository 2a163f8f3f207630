"""An evaluation report as a document: the same words and figures for HTML and PDF."""

from collections.abc import Iterator

import bc_model
from bc_model.evaluation.alarms import FEW_CASES
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.result import Report
from bc_model.export.card_document import model_facts
from bc_model.export.charts import (
    confusion_drawing,
    pr_drawing,
    roc_drawing,
)
from bc_model.export.document import (
    Block,
    Chart,
    Charts,
    Document,
    Facts,
    Heading,
    KeyFigure,
    KeyFigures,
    Notice,
    Text,
)
from bc_model.export.report_parts import (
    calibration_blocks,
    cases_blocks,
    groups_blocks,
    mistakes_blocks,
    shift_blocks,
)
from bc_model.export.tables import figure_table
from bc_model.export.words import (
    FIGURE_WORDS,
    RESEARCH_USE,
    interval_words,
    notes_of,
    support_words,
    value_words,
)
from bc_model.serving.passport import ModelCard

_KEY = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc")


def report_document(report: Report, card: ModelCard) -> Document:
    """Return a report as a document.

    Parameters
    ----------
    report : Report
        With its predictions, as `read_report` returns it.
    card : ModelCard
        Of the model that was evaluated.
    """
    name = card.name
    return Document(
        title=f"Evaluation of {name}",
        subtitle=(
            f"{support_words(report.n, report.n_cases)}; protocol '{report.protocol}'"
            f"{', LEAKY' if report.leaky else ''}; cut-off {report.threshold:.3f}"
        ),
        created=card.created,
        footer=f"{RESEARCH_USE}. {name}, bc_model {bc_model.__version__}",
        blocks=tuple(_blocks(report, card)),
    )


def _blocks(report: Report, card: ModelCard) -> Iterator[Block]:
    yield Notice(
        f"{RESEARCH_USE}.",
        (
            "The model gives an estimated probability of malignancy for single pictures. What it "
            "was not trained on it answers all the same.",
        ),
    )
    if report.warnings:
        title = "Leaky" if report.leaky else "Before you read the figures"
        yield Notice(title, tuple(report.warnings), grave=True)
    if report.notes:
        yield Notice("Whose figures these are", report.notes, grave=True)
    yield KeyFigures(tuple(_key(FIGURE_WORDS[k][0], report.figures[k]) for k in _KEY))
    yield Heading("Figures by picture")
    yield figure_table(report.figures, FIGURE_WORDS, report.always_malignant_accuracy)
    yield from _figure_notes(report)
    yield from _curves(report)
    yield from cases_blocks(report)
    yield from groups_blocks(report)
    yield from calibration_blocks(report)
    yield from mistakes_blocks(report)
    yield from shift_blocks(report)
    yield Heading("The model")
    yield Facts(tuple(model_facts(card)))
    yield Heading("What it is for, and what it cannot know")
    yield Text(card.intended_use)
    yield Text(card.limits)
    yield from _method(report)


def _key(title: str, figure: Figure) -> KeyFigure:
    interval = "no interval" if figure.low is None else f"95 % {interval_words(figure, 2)}"
    value = value_words(figure, 2)
    return KeyFigure(title, value, interval, support_words(figure.n, figure.n_cases))


def _figure_notes(report: Report) -> Iterator[Block]:
    yield Text(
        f"Base rate: {100 * report.base_rate:.1f} % of these {report.n:,} pictures are malignant, "
        f"so calling all of them malignant has an accuracy of "
        f"{report.always_malignant_accuracy:.3f} and a balanced accuracy of 0.5. Predictive values "
        "do not carry over to another base rate.",
        quiet=True,
    )
    for sentence in notes_of(report.figures, FIGURE_WORDS):
        yield Text(sentence, quiet=True)


def _curves(report: Report) -> Iterator[Block]:
    charts = [Chart("Confusion by picture", confusion_drawing(report.confusion, "pictures"))]
    if report.by_case is not None:
        found = report.by_case.confusion
        charts.append(Chart("Confusion by case", confusion_drawing(found, "cases")))
    yield Charts(tuple(charts))
    if report.roc is None or report.pr is None:
        yield Text("There are no curves: only one class is present.")
        return
    figures = report.figures
    yield Charts(
        (
            Chart("ROC curve", roc_drawing(report.roc, report.confusion, figures["roc_auc"])),
            Chart(
                "Precision and recall",
                pr_drawing(
                    report.pr, report.confusion, report.base_rate, figures["average_precision"]
                ),
            ),
        )
    )


def _method(report: Report) -> Iterator[Block]:
    yield Heading("How the intervals were made")
    area = report.figures["roc_auc"]
    drawn, of_cases = "No case is known, so that single pictures are drawn", ""
    if report.n_cases:
        drawn = "Whole cases are drawn, since pictures of one case resemble each other"
        of_cases = " Shares of cases: Wilson."
    yield Text(
        f"Figures by picture: {area.method}. {drawn}; an end outside the range, or a share that "
        f"never varies, has Korn and Graubard's exact binomial interval.{of_cases} "
        f"{_coverage(report)}"
    )


def _coverage(report: Report) -> str:
    """Say how far to trust an interval; see docs/decisions/010-intervals.md."""
    if min(report.n_benign_cases, report.n_malignant_cases) < FEW_CASES:
        return (
            f"With fewer than {FEW_CASES} known cases of a class intervals are mostly too narrow."
        )
    return (
        "In simulations with 40 cases 93 to 97 of 100 intervals held the truth, and about 91 where "
        "a model makes so few mistakes that 20 cases of a class show hardly any."
    )
