"""A model card as a document: data, performance and limits of a model."""

from collections.abc import Iterator

import bc_model
from bc_model.experiments.protocols import PROTOCOL_LABELS
from bc_model.inference.model_card import (
    EvaluationSummary,
    ModelCard,
    NestedResult,
    ProtocolResult,
    SubgroupResult,
    synthetic_label,
)
from bc_model.inference.precision import Parity
from bc_model.reporting.document import (
    Block,
    Document,
    Facts,
    Heading,
    Notice,
    Table,
    Text,
    check_notices,
)
from bc_model.reporting.html import to_markdown
from bc_model.reporting.labels import (
    CASE_WORDS,
    METRIC_LABELS,
    RESEARCH_USE,
    cases_words,
    interval_words,
    notes_of,
    value_words,
)
from bc_model.utils.formatting import many
from bc_model.utils.metric import Metric


def card_document(card: ModelCard) -> Document:
    """Return a model card as a document."""
    name = card.name
    return Document(
        title=f"Model card: {name}",
        subtitle=f"{card.architecture.backbone}, created {card.created}",
        created=card.created,
        footer=f"{RESEARCH_USE}. {name}, bc_model {bc_model.__version__}",
        blocks=tuple(_blocks(card)),
    )


def card_markdown(card: ModelCard) -> str:
    """Return the model card as Markdown."""
    return to_markdown(card_document(card))


def model_facts(card: ModelCard) -> Iterator[tuple[str, str]]:
    """Yield the properties of a model as pairs of a name and a text."""
    architecture, data, scale, given = card.architecture, card.data, card.scale, card.input
    yield (
        "Name",
        f"{card.name}, version {card.version}, created {card.created}",
    )
    weights = architecture.initial_weights
    yield (
        "Network",
        f"{architecture.backbone}, {architecture.n_parameters:,} parameters, initial weights: "
        f"{'random' if weights == 'none' else weights}",
    )
    yield (
        "Images",
        f"H&E, breast, surgical biopsy; {given.channels} {given.width_px}x"
        f"{given.height_px} px after resizing, from {' and '.join(given.training_sizes[:3])}",
    )
    magnifications = " and ".join(f"{m}X" for m in scale.magnifications) or "not stated"
    ranges = "; ".join(
        f"{m}X about {low:g}-{high:g} um per pixel" for m, (low, high) in scale.mpp_range.items()
    )
    yield "Scale", magnifications + (f" ({ranges}; {scale.source})" if ranges else "")
    subsets = ", ".join(
        f"{n:,} {name} of {cases_words(getattr(data.n_cases, name))} cases"
        for name, n in vars(data.n_images).items()
        if n
    )
    yield (
        "Data",
        f"{subsets}; split by '{data.protocol}'{', with leakage' if data.has_leakage else ''}",
    )
    if data.is_synthetic:
        yield "Synthetic data", synthetic_label(data)
    if known := len(data.initial_cases):
        yield (
            "Initialization leakage",
            f"{many(known, 'case')} of the initial weights' training data",
        )
    yield "License of the data", data.license
    threshold, temperature = card.threshold, card.temperature
    reason = f"; reason: {threshold.reason}" if threshold.reason else ""
    date = f" on {threshold.date}" if threshold.date else ""
    yield "Decision threshold", f"{threshold.value:.3f}, {threshold.method}{date}{reason}"
    yield "Calibration", f"temperature {temperature.value:.3f}, {temperature.method}"
    hashes = f"images {data.dataset_sha256[:12]}, split {data.split_sha256[:12]}"
    yield "Checksums", f"{hashes}, inference graph {card.files.get('served.bin', '')[:12]}"


def _blocks(card: ModelCard) -> Iterator[Block]:
    yield Notice("Intended use", (card.intended_use,))
    yield Heading("The model")
    yield Facts(tuple(model_facts(card)))
    tested = card.data.n_images.test
    yield from _metrics(card.metrics.test, "test" if tested else "held-out")
    yield from _other_splits(card.metrics.protocols)
    yield from _nested(card.metrics.nested)
    yield Heading("Limits")
    yield Text(card.limits)
    yield Text(
        "Grad-CAM shows regions that increased the score. It does not locate lesions. The metrics "
        "above apply to similar images only. Predictive values depend on the prevalence of "
        "malignant tissue where the model is used."
    )
    yield Heading("Use in another program")
    yield Text(_input_format(card))
    compared_on = "validation" if card.data.n_images.validation else "training"
    yield from _precisions(card.precisions, compared_on)


def _input_format(card: ModelCard) -> str:
    """Return the input and output format of an exported model file."""
    given, temperature = card.input, card.temperature.value
    field = f" ({given.field_of_view})" if given.field_of_view else ""
    benign, malignant = card.classes
    text = (
        f"An exported file takes float32 of the shape (n, {given.height_px}, "
        f"{given.width_px}, 3): {given.channels}, values {given.value_range[0]} to "
        f"{given.value_range[1]}. The file contains further preprocessing. Crop an image around "
        f"its center{field}. Then resize it with OpenCV: with INTER_AREA if neither side grows, "
        "else with INTER_LINEAR. Other filters can change a prediction. For TFLite, first resize "
        f"the input tensor to n images. The file returns the probabilities of {benign} (p1) and "
        f"{malignant} (p2), in this order, before temperature scaling. "
    )
    if temperature == 1.0:
        return text + "The temperature is 1, so p2 is the estimated probability of malignancy."
    return text + (
        "The estimated probability of malignancy is 1 / (1 + exp(-log(p2 / p1) / "
        f"{temperature:.4g}))."
    )


def _metrics(test: EvaluationSummary | None, judged_on: str) -> Iterator[Block]:
    yield Heading("Performance")
    if not test:
        yield Text("The model is not evaluated.")
        return
    yield from check_notices(test.checks)
    yield Text(
        f"On {judged_on} images, protocol '{test.protocol}'"
        f"{' (with leakage)' if test.has_leakage else ''}: {test.n_images:,} images of "
        f"{cases_words(test.n_cases)} cases, "
        f"{100 * test.malignant_proportion:.1f} % malignant, threshold {test.threshold:.3f}."
    )
    yield from _table(test.metrics, METRIC_LABELS, "By image")
    if test.case_metrics:
        yield from _table(test.case_metrics, CASE_WORDS, "By case")
    for kind in ("magnification", "subtype"):
        groups = [group for group in test.subgroups if group.kind == kind]
        if groups:
            yield _group_table(groups, kind)


def _table(
    metrics: dict[str, Metric], words: dict[str, tuple[str, str]], title: str
) -> Iterator[Block]:
    rows = []
    for name, (label, _) in words.items():
        if name in metrics:
            metric = metrics[name]
            interval = interval_words(metric)
            support = (f"{metric.n:,}", cases_words(metric.n_cases))
            rows.append((label, value_words(metric), interval, *support))
    columns = (title, "Value", "95 % CI", "Images", "Cases")
    yield Table(columns, tuple(rows), numeric=(1, 2, 3, 4), widths=(2.4, 1.2, 1.8, 1, 1))
    for sentence in notes_of(metrics, words):
        yield Text(sentence, quiet=True)


def _group_table(groups: list[SubgroupResult], kind: str) -> Table:
    rows = []
    for group in groups:
        metric = group.metrics["accuracy"]
        support = (f"{metric.n:,}", cases_words(metric.n_cases))
        rows.append((group.name, value_words(metric), interval_words(metric), *support))
    columns = (f"By {kind}: accuracy", "Value", "95 % CI", "Images", "Cases")
    return Table(columns, tuple(rows), numeric=(1, 2, 3, 4), widths=(2.4, 1.2, 1.8, 1, 1))


def _precisions(precisions: dict[str, Parity], compared_on: str) -> Iterator[Block]:
    if not precisions:
        return
    yield Heading("Numerical precision")
    rows = tuple(
        (
            name,
            "passed" if one.passes_parity else "failed",
            f"{one.prob_difference_p99:.5f}",
            "not defined" if one.auc_difference is None else f"{one.auc_difference:.5f}",
            f"{one.n:,}",
        )
        for name, one in precisions.items()
    )
    columns = ("Precision", "Parity check", "Probability, 99th percentile", "AUC", "Images")
    yield Table(columns, rows, numeric=(2, 3, 4))
    yield Text(f"Difference from the reference on {compared_on} images.", quiet=True)


def _other_splits(rows: tuple[ProtocolResult, ...]) -> Iterator[Block]:
    """Yield the metrics of the same configuration under other split protocols."""
    if not rows:
        return
    names = tuple(rows[0].metrics)
    table = []
    for row in rows:
        metrics = [row.metrics[name] for name in names]
        cells = [f"{value_words(one)} ({interval_words(one)})" for one in metrics]
        support = (str(row.n_folds), f"{row.n_images:,}", cases_words(row.n_cases))
        words = PROTOCOL_LABELS[row.protocol] + (" (with leakage)" if row.has_leakage else "")
        table.append((words, *cells, *support))
    columns = ("Protocol", *(METRIC_LABELS[n][0] for n in names), "Folds", "Images", "Cases")
    yield Heading("The same configuration under other splits")
    yield Table(columns, tuple(table), numeric=tuple(range(1, len(columns))))
    yield Text(
        "By case: training and test share no case. By image: they share cases, as in most papers. "
        "Official folds: the folds published with BreakHis, which share cases; cleaned: without "
        "these cases. A single fold of few cases has a wide interval.",
        quiet=True,
    )


def _nested(inside: NestedResult | None) -> Iterator[Block]:
    """Yield the metrics of nested cross-validation, with its choice in each fold."""
    if not inside:
        return
    yield Heading("Nested cross-validation")
    metrics = "; ".join(
        f"{METRIC_LABELS[name][0]} {value_words(metric)} ({interval_words(metric)})"
        for name, metric in inside.metrics.items()
    )
    offered = inside.search_space
    views = "; ".join(f"'{name}': {_views_words(one)}" for name, one in offered.views.items())
    by = f" Model selection used {inside.selected_by}." if inside.selected_by else ""
    yield Text(
        f"Evaluated with {inside.network}, each trained without one fold.{by} For each fold, "
        f"only the other folds selected the augmentation ({views}), one of "
        f"{len(offered.last_penalties)} penalties of the last layer, one of "
        f"{len(offered.penalties)} of the teacher, and the temperature. Features, sizes, steps "
        f"and training targets were not selected again. {metrics}. "
        f"{inside.n_images:,} images of {cases_words(inside.n_cases)} cases."
    )
    rows = tuple(
        (
            str(one.fold),
            one.views,
            f"{one.last_penalty:g}",
            f"{one.penalty:g}",
            f"{one.temperature:.2f}",
        )
        for one in inside.choices
    )
    columns = ("Fold", "Augmentation", "Penalty, last layer", "Penalty, teacher", "Temperature")
    yield Table(columns, rows, numeric=(0, 2, 3, 4))
    yield Text(
        "The unit of these temperatures is the standard deviation of the teacher's logits.",
        quiet=True,
    )


def _views_words(config: dict[str, object]) -> str:
    """Return the settings of an augmentation that differ from the configuration."""
    if not config:
        return "as configured"
    values = {
        name: "-".join(
            f"{one:g}" for one in (value if isinstance(value, list | tuple) else [value])
        )
        for name, value in config.items()
    }
    return ", ".join(f"{name} {value}" for name, value in values.items())
