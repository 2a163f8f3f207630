"""Evaluation reports as documents and files."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bc_model.checks import make_check
from bc_model.errors import ConfigError, RunError
from bc_model.evaluation.domain_shift import DomainShift, StainShift
from bc_model.evaluation.report import EvaluationReport
from bc_model.inference.model_card import CardMetrics
from bc_model.reporting.document import Table
from bc_model.reporting.evaluation_report import report_document, save_report
from bc_model.reporting.html import to_html
from bc_model.reporting.model_card import card_document
from bc_model.reporting.pdf import to_pdf
from tests.bc_model.reporting.examples import model_card, predictions, report, words_of

MAPPED = make_check("BC334", labels=["0 as benign", "1 as malignant"])


def test_a_report_says_what_it_must() -> None:
    found = report()
    told = words_of(report_document(found, model_card()))
    assert "Research use only, not a diagnosis" in told
    assert "estimated probability of malignancy" in told
    assert "no cancer" not in told
    area = found.metrics["roc_auc"]
    assert f"{area.value:.3f} {area.ci_low:.3f} to {area.ci_high:.3f} 120 24" in told
    assert f"majority baseline: {found.malignant_proportion:.3f}" in told
    # By case the base rate is that of cases: 16 of 24.
    assert "majority baseline: 0.667" in told
    for heading in (
        "By case", "By magnification", "By subtype", "Calibration", "Most confident errors",
        "The model", "Intended use", "Methods",
    ):  # fmt: skip
        assert heading in told
    assert "bootstrap-t over cases" in told


def test_every_table_is_as_wide_as_its_columns() -> None:
    shift = DomainShift(
        n_images=120, n_reference_images=40, n_reference_cases=5, ood_proportion=0.2, separability=0.6, sizes={"50x50": 120},
        stain=(StainShift("eosin_mean", 0.1, 0.01, 0.2, 0.02),), checks=(make_check("BC304"),),
    )  # fmt: skip
    found = replace(report(), domain_shift=shift)
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
        (report(has_leakage=True), make_check("BC202").message),
        (report(predictions(cases=False)), "There are no metrics by case: no case is known."),
        (report(predictions(cases=False)), "the confidence intervals are too narrow"),
        (report(predictions(one_class=True)), "the images have one class only"),
        (report(predictions(one_class=True)), "not defined: only one class present"),
        (report(checks=[MAPPED]), MAPPED.message),
        (report(predictions(8)), "8 pictures"),
    ],
)
def test_odd_reports(found: EvaluationReport, words: str) -> None:
    assert words in words_of(report_document(found, model_card()))


def test_a_report_without_cases_speaks_of_none() -> None:
    told = words_of(report_document(report(predictions(cases=False)), model_card()))
    mistakes = told.partition("Most confident errors")[2].partition("The model")[0]
    assert "True class Probability Image" in mistakes
    assert "case" not in mistakes
    method = told.partition("Methods")[2]
    assert "single images are resampled" in method


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
    assert not_told not in found.partition("Methods")[2]


def test_a_model_without_mistakes() -> None:
    frame = predictions()
    frame["prob_malignant"] = (frame["class"] == "malignant") * 0.8 + 0.1
    told = words_of(report_document(report(frame), model_card()))
    assert "All predictions are correct." in told
    assert "Leakage-free results on such images are lower" in told


def test_files_by_suffix(tmp_path: Path) -> None:
    found = report()
    for name, start in (("a/r.html", b"<!DOCTYPE html>"), ("r.PDF", b"%PDF")):
        save_report(found, model_card(), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ConfigError, match=r"got 'r\.docx'"):
        save_report(found, model_card(), tmp_path / "r.docx")
    with pytest.raises(RunError, match="cannot be written"):
        save_report(found, model_card(), tmp_path / "r.PDF" / "r.html")
    assert not (tmp_path / "r.docx").exists()


def test_eight_thousand_predictions_have_a_report_in_seconds() -> None:
    frame = predictions(8000)
    start = time.perf_counter()
    document = report_document(report(frame, n_resamples=2000), model_card())
    to_html(document)
    to_pdf(document)
    assert time.perf_counter() - start < 10
