"""A model card as a document: data, performance and limits of a model."""

from collections.abc import Iterator

import bc_model
from bc_model.experiments.protocols import PROTOCOL_LABELS
from bc_model.inference.model_card import (
    EvaluationSummary,
    ExplanationChecks,
    ModelCard,
    NestedResult,
    ProtocolResult,
    RobustnessTable,
    SelectiveSummary,
    describe_synthetic_training,
)
from bc_model.inference.precision import Parity
from bc_model.reporting import document as doc
from bc_model.reporting.html import to_markdown
from bc_model.reporting.labels import (
    CASE_METRIC_LABELS,
    METRIC_LABELS,
    RESEARCH_USE,
    format_case_count,
    metric_notes,
)
from bc_model.utils.formatting import format_count
from bc_model.utils.measurement import Metric

_MAX_CURVE_ROWS = 10


def card_to_markdown(card: ModelCard) -> str:
    """Return a model card as Markdown."""
    return to_markdown(card_document(card))


def card_document(card: ModelCard) -> doc.Document:
    """Return a model card as a document."""
    return doc.Document(
        title=f"Model card: {card.name}",
        subtitle=f"{card.architecture.backbone}, created {card.created}",
        created=card.created,
        footer=f"{RESEARCH_USE}. {card.name}, bc_model {bc_model.__version__}",
        blocks=tuple(_blocks(card)),
    )


def model_facts(card: ModelCard) -> Iterator[tuple[str, str]]:
    """Yield the properties of a model as pairs of a name and a text."""
    architecture, data, scale = card.architecture, card.data, card.scale
    weights = "random" if architecture.initial_weights == "none" else architecture.initial_weights
    yield "Name", f"{card.name}, version {card.version}, created {card.created}"
    size = f"{architecture.n_parameters:,} parameters"
    yield "Network", f"{architecture.backbone}, {size}, initial weights: {weights}"
    sizes = " and ".join(card.input.training_sizes[:3])
    resized = f"{card.input.channels} {card.input.width_px}x{card.input.height_px} px"
    yield "Images", f"H&E, breast, surgical biopsy; {resized} after resizing, from {sizes}"
    magnifications = " and ".join(f"{m}X" for m in scale.magnifications) or "not stated"
    ranges = "; ".join(
        f"{m}X about {low:g}-{high:g} um per pixel" for m, (low, high) in scale.mpp_range.items()
    )
    yield "Scale", magnifications + (f" ({ranges}; {scale.source})" if ranges else "")
    subsets = ", ".join(
        f"{n:,} {name} of {format_case_count(getattr(data.n_cases, name))} cases"
        for name, n in vars(data.n_images).items()
        if n
    )
    leakage = ", with leakage" if data.has_leakage else ""
    yield "Data", f"{subsets}; split by '{data.protocol}'{leakage}"
    if data.is_synthetic:
        yield "Synthetic data", describe_synthetic_training(data)
    if n := len(data.initial_cases):
        yield "Initialization leakage", f"{format_count(n, 'case')} of the initial model's data"
    yield "License of the data", data.license
    threshold, temperature = card.threshold, card.temperature
    date = f" on {threshold.date}" if threshold.date else ""
    reason = f"; reason: {threshold.reason}" if threshold.reason else ""
    yield "Decision threshold", f"{threshold.value:.3f}, {threshold.method}{date}{reason}"
    yield "Calibration", f"temperature {temperature.value:.3f}, {temperature.method}"
    hashes = f"images {data.dataset_sha256[:12]}, split {data.split_sha256[:12]}"
    yield "Checksums", f"{hashes}, inference graph {card.files.get('served.bin', '')[:12]}"


def _blocks(card: ModelCard) -> Iterator[doc.Block]:
    yield doc.Notice("Intended use", (card.intended_use,))
    yield doc.Heading("The model")
    yield doc.Facts(tuple(model_facts(card)))
    yield doc.Heading("Performance")
    if card.metrics.test:
        subset = "test" if card.data.n_images.test else "left-out"
        yield from _performance_blocks(card.metrics.test, subset)
    else:
        yield doc.Text("The model is not evaluated.")
    if card.metrics.protocols:
        yield from _protocol_blocks(card.metrics.protocols)
    if card.metrics.nested:
        yield from _nested_blocks(card.metrics.nested)
    if card.metrics.teacher_correlation is not None:
        yield doc.Text(
            "Correlation of the logits with those of the teacher, on images of left-out cases: "
            f"{card.metrics.teacher_correlation:.3f}."
        )
    if card.metrics.selective:
        yield from _selective_blocks(card.metrics.selective)
    if card.metrics.robustness:
        yield from _robustness_blocks(card.metrics.robustness)
    if card.metrics.explanations:
        yield from _explanation_blocks(card.metrics.explanations)
    yield doc.Heading("Limits")
    yield doc.Text(card.limits)
    yield doc.Text(
        "Grad-CAM shows regions that increased the score. It does not locate lesions. The metrics "
        "above apply to similar images only. Predictive values depend on the prevalence of "
        "malignant tissue where the model is used."
    )
    yield doc.Heading("Use in another program")
    yield doc.Text(_describe_file_format(card))
    if card.precisions:
        subset = "validation" if card.data.n_images.validation else "training"
        yield from _precision_blocks(card.precisions, subset)


def _describe_file_format(card: ModelCard) -> str:
    """Return the input and output format of an exported model file."""
    size, temperature = card.input, card.temperature.value
    field = f" ({size.field_of_view})" if size.field_of_view else ""
    benign, malignant = card.classes
    text = (
        f"An exported file takes float32 of the shape (n, {size.height_px}, "
        f"{size.width_px}, 3): {size.channels}, values {size.value_range[0]} to "
        f"{size.value_range[1]}. The file contains further preprocessing. Crop an image around "
        f"its center{field}. Then resize it with OpenCV: with INTER_AREA if neither side grows, "
        "else with INTER_LINEAR. Other filters can change a prediction. For TFLite, first resize "
        f"the input tensor to n images. The file returns the probabilities of {benign} (p1) and "
        f"{malignant} (p2), in this order, before temperature scaling. "
    )
    if temperature == 1.0:
        return text + "The temperature is 1, so p2 is the estimated probability of malignancy."
    formula = f"1 / (1 + exp(-log(p2 / p1) / {temperature:.4g}))"
    return text + f"The estimated probability of malignancy is {formula}."


def _performance_blocks(test: EvaluationSummary, subset: str) -> Iterator[doc.Block]:
    yield from doc.check_notices(test.checks)
    leakage = " (with leakage)" if test.has_leakage else ""
    yield doc.Text(
        f"On {subset} images, protocol '{test.protocol}'{leakage}: {test.n_images:,} images of "
        f"{format_case_count(test.n_cases)} cases, "
        f"{100 * test.malignant_proportion:.1f} % malignant, threshold {test.threshold:.3f}."
    )
    yield from _metric_blocks(test.metrics, METRIC_LABELS, "By image")
    if test.case_metrics:
        yield from _metric_blocks(test.case_metrics, CASE_METRIC_LABELS, "By case")
    for kind in ("magnification", "subtype"):
        metrics = {g.name: g.metrics["accuracy"] for g in test.subgroups if g.kind == kind}
        if metrics:
            yield _metric_table(f"By {kind}: accuracy", metrics)


def _metric_blocks(
    metrics: dict[str, Metric], labels: dict[str, tuple[str, str]], title: str
) -> Iterator[doc.Block]:
    present = {label: metrics[name] for name, (label, _) in labels.items() if name in metrics}
    yield _metric_table(title, present)
    for note in metric_notes(metrics, labels):
        yield doc.Text(note, is_caption=True)


def _metric_table(title: str, metrics: dict[str, Metric]) -> doc.Table:
    rows = tuple((label, *doc.metric_cells(metric)) for label, metric in metrics.items())
    columns = (title, "Value", "95 % CI", "Images", "Cases")
    return doc.Table(columns, rows, numeric=(1, 2, 3, 4), widths=(2.4, 1.2, 1.8, 1, 1))


def _precision_blocks(precisions: dict[str, Parity], subset: str) -> Iterator[doc.Block]:
    yield doc.Heading("Numerical precision")
    rows = tuple(
        (
            name, "passed" if parity.passes_parity else "failed",
            f"{parity.prob_difference_p99:.5f}",
            "not defined" if parity.auc_difference is None else f"{parity.auc_difference:.5f}",
            f"{parity.n_images:,}",
        )
        for name, parity in precisions.items()
    )  # fmt: skip
    columns = ("Precision", "Parity check", "Probability, 99th percentile", "AUC", "Images")
    yield doc.Table(columns, rows, numeric=(2, 3, 4))
    yield doc.Text(f"Difference from the reference on {subset} images.", is_caption=True)


def _protocol_blocks(results: tuple[ProtocolResult, ...]) -> Iterator[doc.Block]:
    """Yield the metrics of the same configuration under other split protocols."""
    names = tuple(name for name in results[0].metrics if name in METRIC_LABELS)
    rows = []
    for result in results:
        label = PROTOCOL_LABELS.get(result.protocol, result.protocol) + (
            " (with leakage)" if result.has_leakage else ""
        )
        cells = [result.metrics[name].brief() for name in names]
        support = (f"{result.n_images:,}", format_case_count(result.n_cases))
        rows.append((label, *cells, str(result.n_folds), *support))
    columns = ("Protocol", *(METRIC_LABELS[n][0] for n in names), "Folds", "Images", "Cases")
    yield doc.Heading("The same configuration under other splits")
    yield doc.Table(columns, tuple(rows), numeric=tuple(range(1, len(columns))))
    yield doc.Text(
        "By case: training and test share no case. By image: they share cases, as in most papers. "
        "Official folds: the folds published with BreakHis, which share cases; cleaned: without "
        "these cases. A single fold of few cases has a wide interval.",
        is_caption=True,
    )


def _nested_blocks(nested: NestedResult) -> Iterator[doc.Block]:
    """Yield the metrics of nested cross-validation and the selection in each fold."""
    metrics = "; ".join(
        f"{METRIC_LABELS[name][0]} {metric.brief()}"
        for name, metric in nested.metrics.items()
        if name in METRIC_LABELS
    )
    space = nested.search_space
    teachers = "; ".join(
        f"{name} ({', '.join(f'{weight:g}' for weight in weights)})"
        for name, weights in space.teacher_weights.items()
    )
    yield doc.Heading("Nested cross-validation")
    yield doc.Text(
        f"Evaluated with {nested.network}, each trained without one fold. For each fold, only the "
        f"other folds selected the weights of the teachers ({teachers}), one of "
        f"{len(space.penalty_factors)} factors of their penalties, one of "
        f"{len(space.last_penalties)} penalties of the last layer, and the temperature. The "
        "training of the networks (features, loss weights, sizes, steps and augmentation) was not "
        f"selected again. {metrics}. "
        f"{nested.n_images:,} images of {format_case_count(nested.n_cases)} cases."
    )
    rows = tuple(
        (
            str(choice.fold), choice.teacher_weights, f"{choice.penalty_factor:g}",
            f"{choice.last_penalty:g}", f"{choice.temperature:.2f}",
        )
        for choice in nested.choices
    )  # fmt: skip
    columns = ("Fold", "Teachers", "Factor of penalties", "Penalty, last layer", "Temperature")
    yield doc.Table(columns, rows, numeric=(0, 2, 3, 4))


def _selective_blocks(summary: SelectiveSummary) -> Iterator[doc.Block]:
    """Yield the uncertain range, its errors and the curve of risk against coverage."""
    support = f"{summary.n_images:,} images of {format_case_count(summary.n_cases)} cases"
    yield doc.Heading("Uncertain predictions")
    yield from doc.check_notices(summary.checks)
    if band := summary.band:
        yield doc.Text(
            f"The outcome is uncertain if the probability is between {band.low:.3f} and "
            f"{band.high:.3f}. This is the smallest range, symmetric in logits around the "
            f"threshold {summary.threshold:.3f}, with an error rate of at most "
            f"{summary.target_risk:g} outside of it. Fitted on {summary.images}: {support}."
        )
        yield _metric_table(
            "With equal weight per case",
            {
                "Proportion of images with a class": band.coverage,
                "Error rate of these images": band.risk,
                "Proportion, range fitted without the case": band.cross_fitted_coverage,
                "Error rate, range fitted without the case": band.cross_fitted_risk,
            },
        )
        yield doc.Text(
            "The first two rows are measured on the images that fitted the range and are "
            "optimistic. New cases correspond to the last two rows.",
            is_caption=True,
        )
    if conformal := summary.conformal:
        yield doc.Text(
            f"Conformal limits for an error rate of at most {conformal.alpha:g} in each class: "
            f"benign up to {conformal.max_prob_benign:.3f}, malignant from "
            f"{conformal.min_prob_malignant:.3f} ({conformal.n_benign_cases} benign and "
            f"{conformal.n_malignant_cases} malignant cases)."
        )
    rows = tuple(
        (
            f"{point.coverage:.3f}", f"{point.risk:.3f}",
            "none" if point.ci_low is None else f"{point.ci_low:.3f} to {point.ci_high:.3f}",
            f"{point.n_images:,}", format_case_count(point.n_cases),
        )
        for point in summary.curve[:: -(-len(summary.curve) // _MAX_CURVE_ROWS)][::-1]
    )  # fmt: skip
    columns = ("Proportion with a class", "Error rate", "95 % CI", "Images", "Cases")
    yield doc.Table(columns, rows, numeric=tuple(range(5)))
    yield doc.Text(f"Selective prediction for other ranges, on {support}.", is_caption=True)


def _robustness_blocks(table: RobustnessTable) -> Iterator[doc.Block]:
    """Yield the effect of changes of the images on the predictions."""
    support = f"{table.n_images:,} images of {format_case_count(table.n_cases)} cases"
    yield doc.Heading("Robustness")
    yield doc.Text(
        f"Predictions after each image was changed; {table.images}: {support}, threshold "
        f"{table.threshold:.3f}. ROC AUC of the unchanged images: "
        f"{table.unchanged_roc_auc.brief()}."
    )
    rows = tuple(
        (
            row.label, row.flips.brief(), str(row.n_to_malignant), str(row.n_to_benign),
            row.roc_auc.brief(),
        )
        for row in table.rows
    )  # fmt: skip
    columns = ("Change", "Other class (95 % CI)", "To malignant", "To benign", "ROC AUC (95 % CI)")
    yield doc.Table(columns, rows, numeric=(1, 2, 3, 4), widths=(2.2, 2, 1, 1, 2))
    yield doc.Text(
        "Other class: proportion of images whose predicted class changes. To malignant, to benign: "
        "their numbers by new class. Blur: standard deviation at a width of 700 px.",
        is_caption=True,
    )


def _explanation_blocks(checks: ExplanationChecks) -> Iterator[doc.Block]:
    """Yield the measurements of the heatmaps."""
    yield doc.Heading("Heatmaps")
    yield _metric_table(
        f"Heatmaps of {checks.images}",
        {
            "Proportion of the heatmap on background": checks.background_mass,
            "Proportion of the area that is background": checks.background_area,
            "Largest value on background": checks.background_peak,
            "Larger sum for the predicted class": checks.agreement_by_sum,
            "Larger maximum for the predicted class": checks.agreement_by_maximum,
        },
    )
    if checks.n_empty:
        yield doc.Text(
            f"The heatmap of the predicted class is empty for "
            f"{format_count(checks.n_empty, 'image')}.",
            is_caption=True,
        )
    for result in checks.pointing:
        yield _metric_table(
            f"{result.images}, {result.class_name}",
            {
                "Largest value in the region of the class": result.hit_rate,
                "Proportion of the heatmap in the region": result.mass,
            },
        )
        empty = f" {result.n_empty:,} empty heatmaps count as misses." if result.n_empty else ""
        yield doc.Text(
            f"By chance: {result.area:.3f}, the proportion of the area.{empty}", is_caption=True
        )
    if checks.randomization:
        rows = tuple(
            (
                result.layers,
                "not defined" if result.rank_correlation is None
                else f"{result.rank_correlation:.3f}",
                f"{result.n_images:,}",
            )
            for result in checks.randomization
        )  # fmt: skip
        columns = ("Layers with random weights", "Rank correlation", "Images")
        yield doc.Table(columns, rows, numeric=(1, 2))
        yield doc.Text(
            "Mean rank correlation with the heatmaps of the model. Heatmaps that depend on the "
            "weights have a low correlation.",
            is_caption=True,
        )
