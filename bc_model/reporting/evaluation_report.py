"""An evaluation report as a document, and as an HTML, PDF or JSON file."""

from collections.abc import Iterator
from pathlib import Path

import bc_model
from bc_model.errors import ConfigError, RunError
from bc_model.evaluation.checks import FEW_CASES
from bc_model.evaluation.error_analysis import build_error_gallery
from bc_model.evaluation.metrics import majority_baseline
from bc_model.evaluation.report import EvaluationReport
from bc_model.evaluation.subgroups import Confusion, Subgroup, case_table
from bc_model.inference.model_card import ModelCard
from bc_model.reporting import document as doc
from bc_model.reporting import plots
from bc_model.reporting.labels import (
    CASE_METRIC_LABELS,
    METRIC_LABELS,
    RESEARCH_USE,
    SUBGROUP_LABELS,
    format_case_count,
    format_interval,
    format_support,
    format_value,
    metric_notes,
    subgroup_metrics,
)
from bc_model.reporting.model_card import model_facts
from bc_model.utils.io import write_bytes_atomic
from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import dumps

HTML_FILE, PDF_FILE = "report.html", "report.pdf"

_KEY_METRICS = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc")
_MAX_CASES = 20


def save_report(report: EvaluationReport, path: str | Path, card: ModelCard | None = None) -> None:
    """Write a report to a file in the format of its suffix.

    Parameters
    ----------
    report : EvaluationReport
        A report with its predictions, as `read_report` returns it.
    path : str or Path
        File with the suffix ``.html``, ``.pdf`` or ``.json``. Its folder is created if missing.
    card : ModelCard, optional
        Model card of the evaluated model, for the HTML and PDF formats.

    Raises
    ------
    ConfigError
        The suffix is not supported.
    RunError
        The file cannot be written.

    Examples
    --------
    >>> save_report(report, "report.pdf")  # doctest: +SKIP
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix == ".html":
        data = report_to_html(report, card)
    elif suffix == ".pdf":
        data = report_to_pdf(report, card)
    elif suffix == ".json":
        data = dumps(report).encode("utf-8")
    else:
        raise ConfigError(
            "Invalid report file name. Expected the suffix .html, .pdf or .json, got "
            f"'{target.name}'. Rename the file."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(target, data)
    except OSError as error:
        raise RunError(
            f"The report cannot be written. Expected a writable path, got '{target}' "
            f"({error.strerror or error}). Choose another path."
        ) from error


def report_to_html(report: EvaluationReport, card: ModelCard | None = None) -> bytes:
    """Return a report as one HTML file in UTF-8; see `save_report` for the parameters."""
    from bc_model.reporting.html import to_html

    return to_html(report_document(report, card)).encode("utf-8")


def report_to_pdf(report: EvaluationReport, card: ModelCard | None = None) -> bytes:
    """Return a report as a PDF file; see `save_report` for the parameters."""
    from bc_model.reporting.pdf import to_pdf  # Its font tools take a moment to load.

    return to_pdf(report_document(report, card))


def report_document(report: EvaluationReport, card: ModelCard | None = None) -> doc.Document:
    """Return a report as a document; see `save_report` for the parameters."""
    name = f"{card.name}, " if card else ""
    leakage = ", with leakage" if report.has_leakage else ""
    return doc.Document(
        title=f"Evaluation of {card.name}" if card else "Evaluation report",
        subtitle=(
            f"{format_support(report.n_images, report.n_cases)}; protocol '{report.protocol}'"
            f"{leakage}; threshold {report.threshold:.3f}"
        ),
        created=card.created if card else "",
        footer=f"{RESEARCH_USE}. {name}bc_model {bc_model.__version__}",
        blocks=tuple(_blocks(report, card)),
    )


def _blocks(report: EvaluationReport, card: ModelCard | None) -> Iterator[doc.Block]:
    yield doc.Notice(
        f"{RESEARCH_USE}.",
        (
            "The model estimates the probability of malignancy of single images. It also returns a "
            "probability for images unlike its training data.",
        ),
    )
    yield from doc.check_notices(report.checks)
    yield doc.KeyMetrics(
        tuple(_key_metric(METRIC_LABELS[name][0], report.metrics[name]) for name in _KEY_METRICS)
    )
    yield from _image_blocks(report)
    yield from _case_blocks(report)
    yield from _subgroup_blocks(report)
    yield from _calibration_blocks(report)
    yield from _error_blocks(report)
    yield from _domain_shift_blocks(report)
    if card:
        yield doc.Heading("The model")
        yield doc.Facts(tuple(model_facts(card)))
        yield doc.Heading("Intended use and limits")
        yield doc.Text(card.intended_use)
        yield doc.Text(card.limits)
    yield doc.Heading("Methods")
    yield doc.Text(_describe_methods(report))


def _key_metric(title: str, metric: Metric) -> doc.KeyMetric:
    interval = "no interval" if metric.ci_low is None else f"95 % CI {format_interval(metric, 2)}"
    support = format_support(metric.n_images, metric.n_cases)
    return doc.KeyMetric(title, format_value(metric, 2), interval, support)


def _image_blocks(report: EvaluationReport) -> Iterator[doc.Block]:
    """Yield the metrics by image, confusion matrices and curves."""
    proportion = report.malignant_proportion
    majority, accuracy = majority_baseline(proportion)
    yield doc.Heading("Metrics by image")
    yield doc.metric_table(report.metrics, METRIC_LABELS, proportion)
    yield doc.Text(
        f"{100 * proportion:.1f} % of these {report.n_images:,} images are malignant. Always "
        f"predicting {majority} has an accuracy of {accuracy:.3f} and a balanced accuracy of 0.5. "
        "Predictive values do not apply to another proportion of malignant images.",
        is_caption=True,
    )
    for note in metric_notes(report.metrics, METRIC_LABELS):
        yield doc.Text(note, is_caption=True)
    charts = [_confusion_chart("Confusion by image", report.confusion, "images")]
    if report.case_metrics is not None:
        confusion = report.case_metrics.confusion
        charts.append(_confusion_chart("Confusion by case", confusion, "cases"))
    yield doc.Charts(tuple(charts))
    if report.roc is None or report.pr is None:
        yield doc.Text("There are no curves because the images have one class only.")
        return
    roc = plots.describe_curve("ROC curve with AUC", report.metrics["roc_auc"])
    precision = plots.describe_curve(
        "Precision-recall curve with average precision", report.metrics["average_precision"]
    )
    yield doc.Charts(
        (
            doc.Chart("ROC curve", plots.plot_roc_curve(report), roc),
            doc.Chart("Precision and recall", plots.plot_precision_recall_curve(report), precision),
        )
    )


def _confusion_chart(title: str, confusion: Confusion, unit: str) -> doc.Chart:
    figure = plots.plot_confusion_matrix(confusion, unit)
    return doc.Chart(title, figure, plots.describe_confusion_matrix(confusion, unit))


def _case_blocks(report: EvaluationReport) -> Iterator[doc.Block]:
    """Yield the metrics by case, and a chart and a table of the cases."""
    yield doc.Heading("By case")
    if report.case_metrics is None or report.predictions is None:
        reason = "no case is known" if report.n_cases == 0 else "every case has both classes"
        yield doc.Text(f"There are no metrics by case: {reason}.")
        return
    (tn, fp), (fn, tp) = report.case_metrics.confusion
    metrics = report.case_metrics.metrics
    yield doc.metric_table(metrics, CASE_METRIC_LABELS, (fn + tp) / (tn + fp + fn + tp))
    for note in metric_notes(metrics, CASE_METRIC_LABELS):
        yield doc.Text(note, is_caption=True)
    cases = case_table(report.predictions, report.threshold)
    figure = plots.plot_cases(cases, report.threshold)
    alt_text = plots.describe_cases(cases, report.threshold)
    yield doc.Charts((doc.Chart("All cases", figure, alt_text),), is_wide=True)
    rows = tuple(
        (
            str(row["case"]), str(row["class"]), str(row["predicted_class"]),
            f"{row['mean_prob']:.3f}", f"{row['n_correct']} of {row['n_images']}",
            f"{row['patient_score']:.2f}",
        )
        for _, row in cases.head(_MAX_CASES).iterrows()
    )  # fmt: skip
    columns = (
        "Case", "True class", "Predicted", "Mean probability", "Images correct", "Patient score",
    )  # fmt: skip
    yield doc.Table(columns, rows, numeric=(3, 4, 5))
    if len(cases) > _MAX_CASES:
        yield doc.Text(
            f"The {_MAX_CASES} cases with the lowest patient score, of {len(cases)} cases. "
            "predictions.csv contains all images.",
            is_caption=True,
        )


def _subgroup_blocks(report: EvaluationReport) -> Iterator[doc.Block]:
    """Yield charts and a table of each kind of subgroup."""
    for kind, (title, header) in SUBGROUP_LABELS.items():
        groups = [group for group in report.subgroups if group.kind == kind]
        if not groups:
            continue
        yield doc.Heading(title)
        counts = [(group.name, group.confusion) for group in groups]
        alt_text = plots.describe_group_confusion(counts)
        chart = doc.Chart("Images and % by class", plots.plot_group_confusion(counts), alt_text)
        yield doc.Charts((chart,), is_wide=True)
        name = subgroup_metrics(kind)[:2][-1]  # The balanced accuracy, if it is defined.
        metrics = [(group.name, group.metrics[name]) for group in groups]
        alt_text = plots.describe_group_metric(metrics)
        label = f"{METRIC_LABELS[name][0]}, 95 % CI"
        chart = doc.Chart(label, plots.plot_group_metric(metrics), alt_text)
        yield doc.Charts((chart,), is_wide=True)
        yield _subgroup_table(groups, kind, header)


def _subgroup_table(groups: list[Subgroup], kind: str, header: str) -> doc.Table:
    names = subgroup_metrics(kind)
    rows = tuple(
        (
            group.name, f"{group.n_images:,}", format_case_count(group.n_cases),
            f"{100 * group.malignant_proportion:.0f} %",
            *(group.metrics[name].brief() for name in names),
        )
        for group in groups
    )  # fmt: skip
    labels = [METRIC_LABELS[name][0] for name in names]
    columns = (header, "Images", "Cases", "Malignant", *labels)
    widths = (1.4, 0.9, 1.0, 1.0, *(1.7 for _ in names))
    return doc.Table(columns, rows, tuple(range(1, len(columns))), widths)


def _calibration_blocks(report: EvaluationReport) -> Iterator[doc.Block]:
    result = report.calibration
    yield doc.Heading("Calibration")
    alt_text = plots.describe_calibration(result)
    yield doc.Charts((doc.Chart("Reliability diagram", plots.plot_calibration(result), alt_text),))
    yield doc.Text(
        "Points on the dashed line are perfectly calibrated. The bars show how many images have "
        "such a probability. The intervals are Wilson intervals at the effective number of cases, "
        "because all images of a case have the same class.",
        is_caption=True,
    )
    yield doc.Text(
        f"The expected calibration error is {result.ece:.3f} with ten bins of equal width and "
        f"{result.ece_equal_count:.3f} with ten bins of equal count, over "
        f"{format_support(result.n_images, result.n_cases)}. The error of a perfectly calibrated "
        f"model would be {result.ece_if_calibrated:.3f} and "
        f"{result.ece_equal_count_if_calibrated:.3f} on as many independent images. It is higher "
        "on images that come in cases, and it is never 0."
    )


def _error_blocks(report: EvaluationReport) -> Iterator[doc.Block]:
    """Yield the most confident errors, by case if cases are known."""
    if report.predictions is None:
        return
    groups = build_error_gallery(report.predictions, threshold=report.threshold, per_case=2).errors
    yield doc.Heading("Most confident errors")
    if not groups:
        yield doc.Text("All predictions are correct.")
        return
    rows = []
    for group in groups:
        errors = f"{group.n_incorrect} of {group.n_images}" if group.case else "unknown"
        for image in group.images:
            case_cells = (group.case or "unknown", errors) if report.n_cases else ()
            rows.append((*case_cells, group.class_name, f"{image.prob_malignant:.3f}", image.path))
    columns, widths = ["True class", "Probability", "Image"], [1.0, 1.1, 4.7]
    if report.n_cases:
        columns, widths = ["Case", "Errors in case", *columns], [1.0, 1.25, *widths]
    yield doc.Table(tuple(columns), tuple(rows), (len(columns) - 2,), tuple(widths))
    limit = "Up to two images of a case, most" if report.n_cases else "Most"
    caption = f"{limit} confident error first. Probability: estimated probability of malignancy."
    yield doc.Text(caption, is_caption=True)


def _domain_shift_blocks(report: EvaluationReport) -> Iterator[doc.Block]:
    """Yield the domain shift of the staining, which the checks of the report interpret."""
    shift = report.domain_shift
    if shift is None or not shift.stain:
        return
    yield doc.Heading("Staining, compared with the model's own data")
    rows = tuple(
        (
            stain.label, f"{stain.reference_mean:.3f}", f"{stain.reference_sd:.3f}",
            f"{stain.mean:.3f}", f"{stain.sd:.3f}", f"{stain.distance:+.1f}",
        )
        for stain in shift.stain
    )  # fmt: skip
    columns = (
        "Optical density", "Model's data", "SD", "This dataset", "SD", "Difference in SD",
    )  # fmt: skip
    yield doc.Table(columns, rows, numeric=(1, 2, 3, 4, 5), widths=(1.9, 1, 1, 1, 1, 1.5))
    support = format_support(shift.n_reference_images, shift.n_reference_cases)
    yield doc.Text(f"The model's data are {support} of its validation subset.", is_caption=True)


def _describe_methods(report: EvaluationReport) -> str:
    """Return how intervals are computed, and their coverage by decision record 10."""
    resampling, of_cases = "No case is known, so single images are resampled", ""
    if report.n_cases:
        resampling = "Complete cases are resampled, because images of a case resemble each other"
        of_cases = " Proportions of cases have Wilson intervals."
    if min(report.n_benign_cases, report.n_malignant_cases) < FEW_CASES:
        few = f"fewer than {FEW_CASES} known cases of a class"
        coverage = f"With {few}, intervals are mostly too narrow."
    else:
        coverage = (
            "In simulations with 40 cases, 93 to 97 of 100 intervals contained the true value. "
            "For a model with very few errors in 20 cases of a class, about 91 did."
        )
    return (
        f"Metrics by image: {report.metrics['roc_auc'].method}. {resampling}. A limit outside the "
        "range, or a proportion that never varies, is replaced by the exact binomial interval of "
        f"Korn and Graubard.{of_cases} {coverage}"
    )
