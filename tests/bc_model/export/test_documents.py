"""Reports and cards as documents: what must be in them, whatever the report is like."""

from dataclasses import replace

import numpy as np
import pytest

from bc_model.evaluation.report import Report
from bc_model.evaluation.shift import Shift, StainShift
from bc_model.export.card_document import card_document
from bc_model.export.document import (
    Charts,
    Document,
    Facts,
    Heading,
    KeyFigures,
    Notice,
    Table,
    Text,
)
from bc_model.export.report_document import report_document
from bc_model.serving.passport import (
    CardMetrics,
    DecisionThreshold,
    FoldChoice,
    NestedResult,
    Scale,
    SearchSpace,
    SubsetCounts,
    Temperature,
)
from bc_model.serving.precision import Parity
from bc_model.serving.verdict import prob_malignant
from bc_model.utils.metric import Figure
from tests.bc_model.export.examples import MARKUP, model_card, predictions, report


def words_of(document: Document) -> str:
    """Return every text of a document."""
    found = [document.title, document.subtitle, document.footer]
    for block in document.blocks:
        match block:
            case Heading() | Text():
                found.append(block.text)
            case Notice():
                found += [block.title, *block.sentences]
            case KeyFigures():
                found += [f"{f.name} {f.value} {f.interval} {f.support}" for f in block.figures]
            case Facts():
                found += [" ".join(pair) for pair in block.pairs]
            case Table():
                found += [" ".join(row) for row in (block.columns, *block.rows)]
            case Charts():
                found += [f"{chart.title} {chart.drawing.alt}" for chart in block.charts]
    return "\n".join(found)


def test_a_report_says_what_it_must() -> None:
    found = report()
    told = words_of(report_document(found, model_card()))
    assert "Research use only, not a diagnosis" in told
    assert "estimated probability of malignancy" in told
    assert "confidence" not in told
    assert "no cancer" not in told
    area = found.figures["roc_auc"]
    assert f"{area.value:.3f} {area.low:.3f} to {area.high:.3f} 120 24" in told
    assert f"calling all malignant: {found.base_rate:.3f}" in told
    # By case the base rate is that of cases: 16 of 24.
    assert "calling all malignant: 0.667" in told
    for heading in (
        "By case", "By magnification", "By subtype", "Do the probabilities", "Surest mistakes",
        "The model", "What it is for", "How the intervals were made",
    ):  # fmt: skip
        assert heading in told
    assert "bootstrap-t over cases" in told


def test_every_table_is_as_wide_as_its_columns() -> None:
    shift = Shift(
        n=120, known_n=40, known_cases=5, far_share=0.2, apart=0.6, sizes={"50x50": 120},
        stain=(StainShift("eosin_mean", 0.1, 0.01, 0.2, 0.02),), sentences=("a",),
    )  # fmt: skip
    found = replace(report(), shift=shift)
    for document in (
        report_document(found, model_card()),
        card_document(model_card(metrics=CardMetrics(test=found.summary()))),
    ):
        tables = [block for block in document.blocks if isinstance(block, Table)]
        assert len(tables) >= 4
        for table in tables:
            assert {len(row) for row in table.rows} <= {len(table.columns)}
            assert not table.widths or len(table.widths) == len(table.columns)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (report(leaky=True), "Leaky protocol"),
        (report(predictions(cases=False)), "Nothing can be said by case: no case is known."),
        (report(predictions(cases=False)), "the intervals are too narrow"),
        (report(predictions(one_class=True)), "only one class is present"),
        (report(predictions(one_class=True)), "not defined: only one class present"),
        (report(notes=["The labels were mapped."]), "The labels were mapped."),
        (report(predictions(8)), "8 pictures"),
    ],
)
def test_odd_reports(found: Report, words: str) -> None:
    assert words in words_of(report_document(found, model_card()))


def test_a_report_without_cases_speaks_of_none() -> None:
    told = words_of(report_document(report(predictions(cases=False)), model_card()))
    mistakes = told.partition("Surest mistakes")[2].partition("The model")[0]
    assert "Truth Probability Picture" in mistakes
    assert "case" not in mistakes
    method = told.partition("How the intervals were made")[2]
    assert "single pictures are drawn" in method


@pytest.mark.parametrize(
    ("n_cases", "cases", "told", "not_told"),
    [
        # Every third case is benign.
        (30, True, "In simulations with 40 cases", "fewer than 10"),
        (27, True, "With fewer than 10 known cases of a class", "In simulations"),
        (30, False, "With fewer than 10 known cases of a class", "In simulations"),
    ],
)
def test_intervals_are_trusted_no_further_than_they_were_tried(
    n_cases: int, cases: bool, told: str, not_told: str
) -> None:
    found = words_of(
        report_document(report(predictions(n_cases=n_cases, cases=cases)), model_card())
    )
    assert told in found
    assert not_told not in found.partition("How the intervals were made")[2]


def test_a_model_without_mistakes() -> None:
    frame = predictions()
    frame["prob_malignant"] = (frame["class"] == "malignant") * 0.8 + 0.1
    told = words_of(report_document(report(frame), model_card()))
    assert "No picture was called wrong." in told
    assert "Alarm:" in told


def test_a_card_is_made_from_the_model_card() -> None:
    found = report(leaky=True)
    changed = model_card(
        name="mine",
        metrics=CardMetrics(test=found.summary()),
        threshold=DecisionThreshold(0.312, "by wish", MARKUP, "2026-01-01"),
        precisions={"bf16": Parity(0.002, None, 9, False)},
    )
    told = words_of(card_document(changed))
    assert "Model card: mine" in told
    assert "0.312, by wish on 2026-01-01; reason: " + MARKUP in told
    assert "(LEAKY)" in told
    assert "bf16 not allowed 0.00200 not defined 9" in told
    accuracy = found.figures["accuracy"]
    assert f"Accuracy {accuracy.value:.3f} {accuracy.low:.3f} to {accuracy.high:.3f} 120 24" in told
    assert "no normal tissue" in told
    assert "It has not been evaluated." in words_of(card_document(model_card()))
    assert "200X (200X about 0.5-0.6 um a pixel; x)" in words_of(
        card_document(model_card(scale=Scale((200,), {"200": (0.5, 0.6)}, "x")))
    )


def test_a_card_names_the_cases_that_the_first_weights_knew() -> None:
    fresh = model_card()
    tuned = model_card(data=replace(fresh.data, is_synthetic=True, initial_cases=("a", "b", "c")))

    assert "Known before 3 cases of the model it began from" in words_of(card_document(tuned))
    assert "of tissue it knows only what the model that it began from" in words_of(
        card_document(tuned)
    )
    assert "Known before" not in words_of(card_document(fresh))


def test_a_card_of_a_model_made_of_every_picture_speaks_of_no_validation_part() -> None:
    whole = model_card()
    data = replace(whole.data, n_images=SubsetCounts(train=9), n_cases=SubsetCounts(train=3))
    whole = replace(whole, data=data, precisions={"f32": Parity(0.0, 0.0, 9, True)})

    words = words_of(card_document(whole))

    assert "9 train of 3 cases; split by" in words
    assert "Difference from the reference on training pictures." in words


def test_a_card_says_what_comes_of_choosing_inside_the_folds() -> None:
    views = {"strange": {}, "plain": {"zoom": [0.75, 1.3], "mixed": 0.3}}
    inside = NestedResult(
        network="large networks",
        selected_by="small ones",
        search_space=SearchSpace(views, (0.1, 1.0), (1.0, 10.0, 30.0)),
        choices=(FoldChoice(3, "plain", 30.0, 0.1, 1.25, 0.97),),
        n_folds=1,
        n_images=120,
        n_cases=24,
        metrics={"roc_auc": Figure(0.9, 0.8, 0.95, 120, 24, "none")},
    )
    words = words_of(card_document(model_card(metrics=CardMetrics(nested=inside))))

    assert "With settings chosen inside the folds" in words
    assert "('strange': as in the recipe; 'plain': zoom 0.75-1.3, mixed 0.3)" in words
    assert "one of 3 penalties of the last layer, one of 2 of the teacher" in words
    assert (
        "Judged with large networks, each without a fold. The choosing was done by small" in words
    )
    assert "For each fold the other folds alone chose views ('strange'" in words
    assert "ROC AUC 0.900 (0.800 to 0.950). 120 pictures of 24 cases." in words
    assert "3 plain 30 0.1 1.25" in words
    assert "chosen inside the folds" not in words_of(card_document(model_card()))


@pytest.mark.parametrize(
    ("temperature", "said"),
    [(1.0, "which is 1 and changes nothing."), (0.894481, "exp(-log(p2 / p1) / 0.8945))")],
)
def test_a_card_says_how_an_exported_file_is_fed(temperature: float, said: str) -> None:
    card = model_card()
    words = words_of(card_document(replace(card, temperature=Temperature(temperature, "a test"))))

    given = card.input
    assert f"the shape (n, {given.height_px}, {given.width_px}, 3): RGB, values 0" in words
    assert "probabilities of benign and malignant, in this order, before the temperature" in words
    assert said in words


def test_the_formula_of_the_card_gives_the_program_s_probabilities() -> None:
    logits, temperature = np.random.default_rng(0).normal(0.0, 4.0, (50, 2)), 0.8945
    p1, p2 = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).T

    by_card = 1 / (1 + np.exp(-np.log(p2 / p1) / temperature))

    np.testing.assert_allclose(by_card, prob_malignant(logits, temperature), atol=1e-7)
