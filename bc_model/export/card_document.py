"""A model card, made from the card alone: what the model is, learned, can do, and cannot."""

from collections.abc import Iterator

import bc_model
from bc_model.export.card_recipe import chosen_inside, other_splits
from bc_model.export.document import Block, Document, Facts, Heading, Notice, Table, Text
from bc_model.export.markdown import to_markdown
from bc_model.export.words import (
    CASE_WORDS,
    FIGURE_WORDS,
    RESEARCH_USE,
    cases_words,
    interval_words,
    notes_of,
    value_words,
)
from bc_model.serving.passport import EvaluationSummary, ModelCard, SubgroupResult, drawn_in_words
from bc_model.serving.precision import Parity
from bc_model.utils.metric import Figure
from bc_model.words import many


def card_document(card: ModelCard) -> Document:
    """Return a model card.

    Parameters
    ----------
    card : ModelCard
        As `read_model_card` returns it.
    """
    name = card.name
    return Document(
        title=f"Model card: {name}",
        subtitle=f"{card.architecture.backbone}, made {card.created}",
        created=card.created,
        footer=f"{RESEARCH_USE}. {name}, bc_model {bc_model.__version__}",
        blocks=tuple(_blocks(card)),
    )


def card_markdown(card: ModelCard) -> str:
    """Return the model card as Markdown."""
    return to_markdown(card_document(card))


def model_facts(card: ModelCard) -> Iterator[tuple[str, str]]:
    """Yield what a passport says of a model, in words."""
    architecture, data, scale = card.architecture, card.data, card.scale
    given = card.input
    yield "Name", f"{card.name}, version {card.version}, made {card.created}"
    weights = architecture.initial_weights
    yield (
        "Network",
        f"{architecture.backbone}, {architecture.n_parameters:,} parameters, weights at the "
        f"start: {'random' if weights == 'none' else weights}",
    )
    yield (
        "Pictures",
        f"H&E, breast, surgical biopsy; {given.channels} {given.width_px}x"
        f"{given.height_px} px to the network, from {' and '.join(given.training_sizes[:3])}",
    )
    magnifications = " and ".join(f"{m}X" for m in scale.magnifications) or "not stated"
    ranges = "; ".join(
        f"{m}X about {low:g}-{high:g} um a pixel" for m, (low, high) in scale.mpp_range.items()
    )
    yield "Scale", magnifications + (f" ({ranges}; {scale.source})" if ranges else "")
    parts = ", ".join(
        f"{number:,} {part} of {cases_words(getattr(data.n_cases, part))} cases"
        for part, number in vars(data.n_images).items()
        if number
    )
    yield "Data", f"{parts}; split by '{data.protocol}'{', LEAKY' if data.has_leakage else ''}"
    if data.is_synthetic:
        yield "Drawn", drawn_in_words(data)
    if known := len(data.initial_cases):
        yield "Known before", f"{many(known, 'case')} of the model it began from; on them it leaks"
    yield "Licence of the data", data.license
    cut_off, temperature = card.threshold, card.temperature
    reason = f"; reason: {cut_off.reason}" if cut_off.reason else ""
    date = f" on {cut_off.date}" if cut_off.date else ""
    yield "Cut-off", f"{cut_off.value:.3f}, {cut_off.method}{date}{reason}"
    yield "Probabilities", f"temperature {temperature.value:.3f}, {temperature.method}"
    hashes = f"pictures {data.dataset_sha256[:12]}, split {data.split_sha256[:12]}"
    yield "Hashes", f"{hashes}, served graph {card.files.get('served.bin', '')[:12]}"


def _blocks(card: ModelCard) -> Iterator[Block]:
    yield Notice("What it is for", (card.intended_use,))
    yield Heading("The model")
    yield Facts(tuple(model_facts(card)))
    tested = card.data.n_images.test
    yield from _metrics(card.metrics.test, "test" if tested else "held-out")
    yield from other_splits(card.metrics.protocols)
    yield from chosen_inside(card.metrics.nested)
    yield Heading("Limits")
    yield Text(card.limits)
    yield Text(
        "Grad-CAM shows what moved the score, not where a lesion is. A probability is about "
        "pictures like those that the figures above are of, and predictive values depend on how "
        "common malignant tissue is where the model is used."
    )
    yield Heading("In another program")
    yield Text(_feeding(card))
    compared_on = "validation" if card.data.n_images.validation else "training"
    yield from _precisions(card.precisions, compared_on)


def _feeding(card: ModelCard) -> str:
    """Say what an exported file takes, and what its answers are."""
    given, temperature = card.input, card.temperature.value
    field = f" ({given.field_of_view})" if given.field_of_view else ""
    benign, malignant = card.classes
    words = (
        f"An exported file takes float32 of the shape (n, {given.height_px}, "
        f"{given.width_px}, 3): {given.channels}, values {given.value_range[0]} to "
        f"{given.value_range[1]} as they come, for its own preprocessing is inside. A picture is "
        f"cut about its centre{field} and brought to that size as OpenCV's resize does it: with "
        "INTER_AREA if neither side grows, else with INTER_LINEAR, for both sides. Other filters "
        "can change a verdict. TFLite wants its input resized to n first. It answers with the "
        f"probabilities of {benign} and {malignant}, in this order, before the temperature"
    )
    if temperature == 1.0:
        return words + ", which is 1 and changes nothing."
    return words + (
        ": the estimated probability of malignancy is 1 / (1 + exp(-log(p2 / p1) / "
        f"{temperature:.4g})) of these two, p1 and p2."
    )


def _metrics(test: EvaluationSummary | None, judged_on: str) -> Iterator[Block]:
    yield Heading("How well it does")
    if not test:
        yield Text("It has not been evaluated.")
        return
    if test.warnings:
        yield Notice("Before you read the figures", tuple(test.warnings), grave=True)
    if test.notes:
        yield Notice("Whose figures these are", tuple(test.notes))
    yield Text(
        f"On {judged_on} pictures, protocol '{test.protocol}'"
        f"{' (LEAKY)' if test.has_leakage else ''}: {test.n_images:,} pictures of "
        f"{cases_words(test.n_cases)} cases, "
        f"{100 * test.malignant_proportion:.1f} % malignant; at the cut-off {test.threshold:.3f}."
    )
    yield from _table(test.metrics, FIGURE_WORDS, "By picture")
    if test.case_metrics:
        yield from _table(test.case_metrics, CASE_WORDS, "By case")
    for kind in ("magnification", "subtype"):
        groups = [group for group in test.subgroups if group.kind == kind]
        if groups:
            yield _group_table(groups, kind)


def _table(
    figures: dict[str, Figure], words: dict[str, tuple[str, str]], title: str
) -> Iterator[Block]:
    rows = []
    for name, (words_of_it, _) in words.items():
        if name in figures:
            figure = figures[name]
            interval = interval_words(figure)
            support = (f"{figure.n:,}", cases_words(figure.n_cases))
            rows.append((words_of_it, value_words(figure), interval, *support))
    columns = (title, "Value", "95 % interval", "Pictures", "Cases")
    yield Table(columns, tuple(rows), numeric=(1, 2, 3, 4), widths=(2.4, 1.2, 1.8, 1, 1))
    for sentence in notes_of(figures, words):
        yield Text(sentence, quiet=True)


def _group_table(groups: list[SubgroupResult], kind: str) -> Table:
    rows = []
    for group in groups:
        figure = group.metrics["accuracy"]
        support = (f"{figure.n:,}", cases_words(figure.n_cases))
        rows.append((group.name, value_words(figure), interval_words(figure), *support))
    columns = (f"By {kind}: accuracy", "Value", "95 % interval", "Pictures", "Cases")
    return Table(columns, tuple(rows), numeric=(1, 2, 3, 4), widths=(2.4, 1.2, 1.8, 1, 1))


def _precisions(precisions: dict[str, Parity], compared_on: str) -> Iterator[Block]:
    if not precisions:
        return
    yield Heading("Precisions")
    rows = tuple(
        (
            name,
            "allowed" if one.allowed else "not allowed",
            f"{one.prob_difference_p99:.5f}",
            "not defined" if one.auc_difference is None else f"{one.auc_difference:.5f}",
            f"{one.n:,}",
        )
        for name, one in precisions.items()
    )
    columns = ("Precision", "Verdict", "Probability, 99th percentile", "AUC", "Pictures")
    yield Table(columns, rows, numeric=(2, 3, 4))
    yield Text(f"Difference from the reference on {compared_on} pictures.", quiet=True)
