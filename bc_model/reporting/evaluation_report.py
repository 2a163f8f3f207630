"""An evaluation report as a document, and as an HTML or PDF file."""

from collections.abc import Iterator
from pathlib import Path

import bc_model
from bc_model.errors import ConfigError, RunError
from bc_model.evaluation.checks import FEW_CASES
from bc_model.evaluation.error_analysis import build_error_gallery
from bc_model.evaluation.report import EvaluationReport
from bc_model.evaluation.subgroups import Confusion, Subgroup, case_table
from bc_model.inference.model_card import ModelCard
from bc_model.reporting import plots
from bc_model.reporting.document import (
    Block,
    Chart,
    Charts,
    Document,
    Facts,
    Heading,
    KeyMetric,
    KeyMetrics,
    Notice,
    Table,
    Text,
    check_notices,
    metric_table,
)
from bc_model.reporting.labels import (
    CASE_WORDS,
    GROUP_WORDS,
    METRIC_LABELS,
    RESEARCH_USE,
    cases_words,
    interval_words,
    notes_of,
    subgroup_metrics,
    support_words,
    value_words,
)
from bc_model.reporting.model_card import model_facts
from bc_model.utils.io import write_bytes_atomic
from bc_model.utils.metric import Metric

HTML_FILE, PDF_FILE = "report.html", "report.pdf"

_KEY = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc")
_MOST_CASES = 20


def report_document(report: EvaluationReport, card: ModelCard) -> Document:
    """Return a report as a document.

    Parameters
    ----------
    report : Report
        A report with its predictions, as `read_report` returns it.
    card : ModelCard
        Model card of the evaluated model.
    """
    name = card.name
    return Document(
        title=f"Evaluation of {name}",
        subtitle=(
            f"{support_words(report.n_images, report.n_cases)}; protocol '{report.protocol}'"
            f"{', with leakage' if report.has_leakage else ''}; threshold {report.threshold:.3f}"
        ),
        created=card.created,
        footer=f"{RESEARCH_USE}. {name}, bc_model {bc_model.__version__}",
        blocks=tuple(_blocks(report, card)),
    )


def report_html(report: EvaluationReport, card: ModelCard) -> bytes:
    """Return a report as one HTML file in UTF-8.

    Parameters
    ----------
    report : Report
        A report with its predictions, as `read_report` returns it.
    card : ModelCard
        Model card of the evaluated model.
    """
    from bc_model.reporting.html import to_html

    return to_html(report_document(report, card)).encode("utf-8")


def report_pdf(report: EvaluationReport, card: ModelCard) -> bytes:
    """Return a report as a PDF file; see `report_html` for the parameters."""
    from bc_model.reporting.pdf import to_pdf  # its font tools take a moment to load

    return to_pdf(report_document(report, card))


def save_report(report: EvaluationReport, card: ModelCard, path: Path) -> None:
    """Write a report to a file in the format of its suffix.

    Raises
    ------
    ConfigError
        The suffix is neither ``.html`` nor ``.pdf``.
    RunError
        The file cannot be written.
    """
    writers = {".html": report_html, ".pdf": report_pdf}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise ConfigError(
            f"Invalid report file name. Expected the suffix .html or .pdf, got '{path.name}'. "
            "Rename the file."
        )
    data = writer(report, card)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, data)
    except OSError as error:
        raise RunError(
            f"The report cannot be written. Expected a writable place, got '{path}' "
            f"({error.strerror or error}). Choose another place."
        ) from error


def _blocks(report: EvaluationReport, card: ModelCard) -> Iterator[Block]:
    yield Notice(
        f"{RESEARCH_USE}.",
        (
            "The model estimates the probability of malignancy of single images. It also returns a "
            "probability for images unlike its training data.",
        ),
    )
    yield from check_notices(report.checks)
    yield KeyMetrics(tuple(_key(METRIC_LABELS[k][0], report.metrics[k]) for k in _KEY))
    yield Heading("Metrics by image")
    yield metric_table(report.metrics, METRIC_LABELS, report.malignant_proportion)
    yield from _metric_notes(report)
    yield from _curves(report)
    yield from _cases_blocks(report)
    yield from _groups_blocks(report)
    yield from _calibration_blocks(report)
    yield from _mistakes_blocks(report)
    yield from _shift_blocks(report)
    yield Heading("The model")
    yield Facts(tuple(model_facts(card)))
    yield Heading("Intended use and limits")
    yield Text(card.intended_use)
    yield Text(card.limits)
    yield from _method(report)


def _key(title: str, metric: Metric) -> KeyMetric:
    interval = "no interval" if metric.ci_low is None else f"95 % CI {interval_words(metric, 2)}"
    value = value_words(metric, 2)
    return KeyMetric(title, value, interval, support_words(metric.n_images, metric.n_cases))


def _metric_notes(report: EvaluationReport) -> Iterator[Block]:
    yield Text(
        f"Base rate: {100 * report.malignant_proportion:.1f} % of these {report.n_images:,} images are malignant. "
        f"The majority baseline has an accuracy of {report.malignant_proportion:.3f} and a "
        "balanced accuracy of 0.5. Predictive values do not apply to another base rate.",
        quiet=True,
    )
    for sentence in notes_of(report.metrics, METRIC_LABELS):
        yield Text(sentence, quiet=True)


def _curves(report: EvaluationReport) -> Iterator[Block]:
    charts = [_confusion_chart("Confusion by image", report.confusion, "images")]
    if report.case_metrics is not None:
        charts.append(_confusion_chart("Confusion by case", report.case_metrics.confusion, "cases"))
    yield Charts(tuple(charts))
    if report.roc is None or report.pr is None:
        yield Text("There are no curves because the images have one class only.")
        return
    roc = plots.describe_curve("ROC curve with AUC", report.metrics["roc_auc"])
    precision = plots.describe_curve(
        "Precision-recall curve with average precision", report.metrics["average_precision"]
    )
    yield Charts(
        (
            Chart("ROC curve", plots.plot_roc_curve(report), roc),
            Chart("Precision and recall", plots.plot_precision_recall_curve(report), precision),
        )
    )


def _confusion_chart(title: str, confusion: Confusion, unit: str) -> Chart:
    metric = plots.plot_confusion_matrix(confusion, unit)
    return Chart(title, metric, plots.describe_confusion_matrix(confusion, unit))


def _cases_blocks(report: EvaluationReport) -> Iterator[Block]:
    """Yield the metrics by case, and all cases."""
    yield Heading("By case")
    if report.case_metrics is None or report.predictions is None:
        reason = "no case is known" if report.n_cases == 0 else "every case has both classes"
        yield Text(f"There are no metrics by case: {reason}.")
        return
    (tn, fp), (fn, tp) = report.case_metrics.confusion
    malignant_proportion = (fn + tp) / (tn + fp + fn + tp)
    yield metric_table(report.case_metrics.metrics, CASE_WORDS, malignant_proportion)
    for sentence in notes_of(report.case_metrics.metrics, CASE_WORDS):
        yield Text(sentence, quiet=True)
    cases = case_table(report.predictions, report.threshold)
    metric = plots.plot_cases(cases, report.threshold)
    alt_text = plots.describe_cases(cases, report.threshold)
    yield Charts((Chart("All cases", metric, alt_text),), wide=True)
    rows = tuple(
        (
            str(row["case"]), str(row["class"]), str(row["predicted_class"]), f"{row['mean_prob']:.3f}",
            f"{row['n_correct']} of {row['n_images']}", f"{row['patient_score']:.2f}",
        )
        for _, row in cases.head(_MOST_CASES).iterrows()
    )  # fmt: skip
    columns = (
        "Case",
        "True class",
        "Predicted",
        "Mean probability",
        "Images correct",
        "Patient score",
    )
    yield Table(columns, rows, numeric=(3, 4, 5))
    if len(cases) > _MOST_CASES:
        yield Text(
            f"The {_MOST_CASES} cases with the lowest patient score, of {len(cases)} cases. "
            "predictions.csv contains all images.",
            quiet=True,
        )


def _groups_blocks(report: EvaluationReport) -> Iterator[Block]:
    """Yield the metrics of each kind of `GROUP_WORDS`."""
    for kind, (title, head) in GROUP_WORDS.items():
        groups = [group for group in report.subgroups if group.kind == kind]
        if not groups:
            continue
        main = subgroup_metrics(kind)[:2][-1]  # the balanced accuracy where there is one
        yield Heading(title)
        counts = [(group.name, group.confusion) for group in groups]
        metric, alt_text = (
            plots.plot_group_confusion(counts),
            plots.describe_group_confusion(counts),
        )
        yield Charts((Chart("Images and % of each true class", metric, alt_text),), wide=True)
        metrics = [(group.name, group.metrics[main]) for group in groups]
        metric, alt_text = plots.plot_group_metric(metrics), plots.describe_group_metric(metrics)
        yield Charts((Chart(f"{METRIC_LABELS[main][0]}, 95 % CI", metric, alt_text),), wide=True)
        yield _group_table(groups, kind, head)


def _group_table(groups: list[Subgroup], kind: str, head: str) -> Table:
    names = subgroup_metrics(kind)
    rows = tuple(
        (
            group.name, f"{group.n_images:,}", cases_words(group.n_cases),
            f"{100 * group.malignant_proportion:.0f} %", *(_short(group.metrics[name]) for name in names),
        )
        for group in groups
    )  # fmt: skip
    columns = (
        head, "Images", "Cases", "Malignant",
        *(METRIC_LABELS[name][0] for name in names),
    )  # fmt: skip
    widths = (1.4, 0.9, 1.0, 1.0, *(1.7 for _ in names))
    return Table(columns, rows, tuple(range(1, len(columns))), widths)


def _short(metric: Metric) -> str:
    if metric.value is None:
        return "not defined"
    interval = (
        "no interval" if metric.ci_low is None else f"{metric.ci_low:.2f}-{metric.ci_high:.2f}"
    )
    return f"{metric.value:.2f} ({interval})"


def _calibration_blocks(report: EvaluationReport) -> Iterator[Block]:
    """Yield the calibration of the probabilities."""
    found = report.calibration
    yield Heading("Calibration")
    alt_text = plots.describe_calibration(found)
    yield Charts((Chart("Reliability diagram", plots.plot_calibration(found), alt_text),))
    yield Text(
        "Points on the dashed line are perfectly calibrated. The bars show how many images have "
        "such a probability. The intervals are Wilson intervals at the effective number of cases, "
        "because all images of a case have the same class.",
        quiet=True,
    )
    yield Text(
        f"The expected calibration error is {found.ece:.3f} with ten bins of equal width and "
        f"{found.ece_equal_count:.3f} with ten bins of equal count, over "
        f"{support_words(found.n_images, found.n_cases)}. The error of a perfectly calibrated model would "
        f"be {found.ece_if_calibrated:.3f} and {found.ece_equal_count_if_calibrated:.3f} on as many "
        "independent images. It is higher on images that come in cases, and it is never 0.",
    )


def _mistakes_blocks(report: EvaluationReport) -> Iterator[Block]:
    """Yield the most confident errors, by case."""
    if report.predictions is None:
        return
    mistakes = build_error_gallery(
        report.predictions, threshold=report.threshold, per_case=2
    ).errors
    yield Heading("Most confident errors")
    if not mistakes:
        yield Text("All predictions are correct.")
        return
    meaning = "Probability: estimated probability of malignancy."
    if report.n_cases == 0:
        images = tuple(
            (one.class_name, f"{entry.prob_malignant:.3f}", entry.path)
            for one in mistakes
            for entry in one.images
        )
        yield Table(("True class", "Probability", "Image"), images, (1,), (1.0, 1.1, 6.9))
        yield Text(f"Most confident error first. {meaning}", quiet=True)
        return
    rows = tuple(
        (
            one.case or "unknown", one.class_name,
            f"{one.n_incorrect} of {one.n_images}" if one.case else "unknown",
            f"{entry.prob_malignant:.3f}", entry.path,
        )
        for one in mistakes
        for entry in one.images
    )  # fmt: skip
    columns = ("Case", "True class", "Errors in case", "Probability", "Image")
    yield Table(columns, rows, numeric=(2, 3), widths=(1.0, 1.0, 1.25, 1.1, 4.7))
    yield Text(f"Up to two images of a case, most confident error first. {meaning}", quiet=True)


def _shift_blocks(report: EvaluationReport) -> Iterator[Block]:
    """Yield the domain shift of the staining. The notes of the report interpret it."""
    found = report.domain_shift
    if found is None or not found.stain:
        return
    yield Heading("Staining, compared with the model's own data")
    rows = tuple(
        (
            one.label,
            f"{one.reference_mean:.3f}", f"{one.reference_sd:.3f}", f"{one.mean:.3f}", f"{one.sd:.3f}",
            f"{one.distance:+.1f}",
        )
        for one in found.stain
    )  # fmt: skip
    columns = (
        "Optical density", "Model's data", "SD", "This dataset", "SD", "Difference in SD",
    )  # fmt: skip
    yield Table(columns, rows, numeric=(1, 2, 3, 4, 5), widths=(1.9, 1, 1, 1, 1, 1.5))
    yield Text(
        f"The model's data are {support_words(found.n_reference_images, found.n_reference_cases)} of its validation "
        "subset.",
        quiet=True,
    )


def _method(report: EvaluationReport) -> Iterator[Block]:
    yield Heading("Methods")
    area = report.metrics["roc_auc"]
    resampled, of_cases = "No case is known, so single images are resampled", ""
    if report.n_cases:
        resampled = "Complete cases are resampled, because images of a case resemble each other"
        of_cases = " Proportions of cases have Wilson intervals."
    yield Text(
        f"Metrics by image: {area.method}. {resampled}. A limit outside the range, or a proportion "
        "that never varies, is replaced by the exact binomial interval of Korn and Graubard."
        f"{of_cases} {_coverage(report)}"
    )


def _coverage(report: EvaluationReport) -> str:
    """Return the coverage of the intervals; see docs/decisions/010-intervals.md."""
    if min(report.n_benign_cases, report.n_malignant_cases) < FEW_CASES:
        return (
            f"With fewer than {FEW_CASES} known cases of a class, intervals are mostly too narrow."
        )
    return (
        "In simulations with 40 cases, 93 to 97 of 100 intervals contained the true value. About "
        "91 did so for a model with so few errors that 20 cases of a class contain hardly any."
    )
