"""A model card, made from the passport alone: what the model is, learned, can do, and cannot."""

from collections.abc import Iterator
from typing import Any

import bc_model
from bc_model.checks import Check, Severity, by_severity
from bc_model.evaluation.intervals import Figure
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
from bc_model.serving.passport import drawn_in_words
from bc_model.words import many


def card_document(passport: dict[str, Any]) -> Document:
    """Return a model card.

    Parameters
    ----------
    passport : dict
        As `read_passport` returns it.
    """
    name = passport["name"]
    return Document(
        title=f"Model card: {name}",
        subtitle=f"{passport['architecture']['backbone']}, made {passport['created']}",
        created=passport["created"],
        footer=f"{RESEARCH_USE}. {name}, bc_model {bc_model.__version__}",
        blocks=tuple(_blocks(passport)),
    )


def card_markdown(passport: dict[str, Any]) -> str:
    """Return the model card as Markdown."""
    return to_markdown(card_document(passport))


def model_facts(passport: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a passport says of a model, in words."""
    architecture, data, scale = passport["architecture"], passport["data"], passport["scale"]
    given = passport["input"]
    yield "Name", f"{passport['name']}, version {passport['version']}, made {passport['created']}"
    weights = architecture["initial_weights"]
    yield (
        "Network",
        f"{architecture['backbone']}, {architecture['parameters']:,} parameters, weights at the "
        f"start: {'random' if weights == 'none' else weights}",
    )
    yield (
        "Pictures",
        f"H&E, breast, surgical biopsy; {given['channels']} {given['width_px']}x"
        f"{given['height_px']} px to the network, from {' and '.join(given['training_sizes'][:3])}",
    )
    magnifications = " and ".join(f"{m}X" for m in scale["magnifications"]) or "not stated"
    ranges = "; ".join(
        f"{m}X about {low:g}-{high:g} um a pixel" for m, (low, high) in scale["mpp_range"].items()
    )
    yield "Scale", magnifications + (f" ({ranges}; {scale['source']})" if ranges else "")
    parts = ", ".join(
        f"{data['pictures'][part]:,} {part} of {cases_words(data['cases'].get(part, 0))} cases"
        for part in ("train", "validation", "test")
        if data["pictures"][part]
    )
    yield "Data", f"{parts}; split by '{data['protocol']}'{', LEAKY' if data['leaky'] else ''}"
    if data["drawn"]:
        yield "Drawn", drawn_in_words(data)
    if known := len(data.get("initial_cases", ())):
        yield "Known before", f"{many(known, 'case')} of the model it began from; on them it leaks"
    yield "Licence of the data", data["licence"]
    cut_off, temperature = passport["threshold"], passport["temperature"]
    reason = f"; reason: {cut_off['reason']}" if cut_off.get("reason") else ""
    date = f" on {cut_off['date']}" if cut_off.get("date") else ""
    yield "Cut-off", f"{cut_off['value']:.3f}, {cut_off['chosen']}{date}{reason}"
    yield "Probabilities", f"temperature {temperature['value']:.3f}, {temperature['chosen']}"
    hashes = f"pictures {data['manifest_sha256'][:12]}, split {data['split_sha256'][:12]}"
    yield "Hashes", f"{hashes}, served graph {passport['files'].get('served.bin', '')[:12]}"


def _blocks(passport: dict[str, Any]) -> Iterator[Block]:
    yield Notice("What it is for", (passport["intended_use"],))
    yield Heading("The model")
    yield Facts(tuple(model_facts(passport)))
    tested = passport["data"]["pictures"]["test"]
    yield from _metrics(passport["metrics"].get("test"), "test" if tested else "held-out")
    yield from other_splits(passport["metrics"].get("protocols", []))
    yield from chosen_inside(passport["metrics"].get("chosen_inside"))
    yield Heading("Limits")
    yield Text(passport["limits"])
    yield Text(
        "Grad-CAM shows what moved the score, not where a lesion is. A probability is about "
        "pictures like those that the figures above are of, and predictive values depend on how "
        "common malignant tissue is where the model is used."
    )
    yield Heading("In another program")
    yield Text(_feeding(passport))
    compared_on = "validation" if passport["data"]["pictures"]["validation"] else "training"
    yield from _precisions(passport["precisions"], compared_on)


def _feeding(passport: dict[str, Any]) -> str:
    """Say what an exported file takes, and what its answers are."""
    given, temperature = passport["input"], passport["temperature"]["value"]
    field = f" ({given['field']})" if given.get("field") else ""
    benign, malignant = passport["classes"]
    words = (
        f"An exported file takes float32 of the shape (n, {given['height_px']}, "
        f"{given['width_px']}, 3): {given['channels']}, values {given['range'][0]} to "
        f"{given['range'][1]} as they come, for its own preprocessing is inside. A picture is cut "
        f"about its centre{field} and brought to that size as OpenCV's resize does it: with "
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


def _metrics(test: dict[str, Any] | None, judged_on: str) -> Iterator[Block]:
    yield Heading("How well it does")
    if not test:
        yield Text("It has not been evaluated.")
        return
    for severity, checks in by_severity(map(Check.from_dict, test["checks"])).items():
        sentences = tuple(check.message for check in checks)
        yield Notice(severity.capitalize(), sentences, grave=severity != Severity.INFO)
    yield Text(
        f"On {judged_on} pictures, protocol '{test['protocol']}'"
        f"{' (LEAKY)' if test['leaky'] else ''}: {test['n']:,} pictures of "
        f"{cases_words(test['n_cases'])} cases, "
        f"{100 * test['base_rate']:.1f} % malignant; at the cut-off {test['threshold']:.3f}."
    )
    yield from _table(test["figures"], FIGURE_WORDS, "By picture")
    if test.get("by_case"):
        yield from _table(test["by_case"]["figures"], CASE_WORDS, "By case")
    for kind in ("magnification", "subtype"):
        groups = [group for group in test.get("groups", ()) if group["kind"] == kind]
        if groups:
            yield _group_table(groups, kind)


def _table(
    figures: dict[str, Any], words: dict[str, tuple[str, str]], title: str
) -> Iterator[Block]:
    rows = []
    for name, (words_of_it, _) in words.items():
        if name in figures:
            figure = Figure(**figures[name])
            interval = interval_words(figure)
            support = (f"{figure.n:,}", cases_words(figure.n_cases))
            rows.append((words_of_it, value_words(figure), interval, *support))
    columns = (title, "Value", "95 % interval", "Pictures", "Cases")
    yield Table(columns, tuple(rows), numeric=(1, 2, 3, 4), widths=(2.4, 1.2, 1.8, 1, 1))
    for sentence in notes_of({name: Figure(**one) for name, one in figures.items()}, words):
        yield Text(sentence, quiet=True)


def _group_table(groups: list[dict[str, Any]], kind: str) -> Table:
    rows = []
    for group in groups:
        figure = Figure(**group["figures"]["accuracy"])
        support = (f"{figure.n:,}", cases_words(figure.n_cases))
        rows.append((group["name"], value_words(figure), interval_words(figure), *support))
    columns = (f"By {kind}: accuracy", "Value", "95 % interval", "Pictures", "Cases")
    return Table(columns, tuple(rows), numeric=(1, 2, 3, 4), widths=(2.4, 1.2, 1.8, 1, 1))


def _precisions(precisions: dict[str, Any], compared_on: str) -> Iterator[Block]:
    if not precisions:
        return
    yield Heading("Precisions")
    rows = tuple(
        (
            name,
            "allowed" if one["allowed"] else "not allowed",
            f"{one['prob_difference_p99']:.5f}",
            "not defined" if one["auc_difference"] is None else f"{one['auc_difference']:.5f}",
            f"{one['n']:,}",
        )
        for name, one in precisions.items()
    )
    columns = ("Precision", "Verdict", "Probability, 99th percentile", "AUC", "Pictures")
    yield Table(columns, rows, numeric=(2, 3, 4))
    yield Text(f"Difference from the reference on {compared_on} pictures.", quiet=True)
