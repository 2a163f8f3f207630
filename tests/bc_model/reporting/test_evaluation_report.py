"""Evaluation reports as documents and files."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bc_model.checks import make_check
from bc_model.errors import ConfigError, RunError
from bc_model.evaluation.domain_shift import DomainShift, StainShift
from bc_model.evaluation.report import EvaluationReport
from bc_model.inference.model_card import CardMetrics
from bc_model.reporting.document import Table, metric_table
from bc_model.reporting.evaluation_report import report_document, save_report
from bc_model.reporting.html import to_html
from bc_model.reporting.labels import METRIC_LABELS
from bc_model.reporting.model_card import card_document
from bc_model.reporting.pdf import to_pdf
from bc_model.utils.serialization import from_json
from tests.bc_model.reporting.examples import model_card, predictions, report, texts_of

LABEL_MAPPING = make_check("BC334", labels=["0 as benign", "1 as malignant"])


@pytest.mark.parametrize(("proportion", "accuracy"), [(0.3, "0.700"), (0.8, "0.800")])
def test_metric_table_baseline_is_the_accuracy_of_the_larger_class(
    proportion: float, accuracy: str
) -> None:
    table = metric_table(report().metrics, METRIC_LABELS, proportion)
    assert f"majority baseline: {accuracy}" in " ".join(map(" ".join, table.rows))


def test_report_document_contains_metrics_baselines_and_sections() -> None:
    example = report()
    text = texts_of(report_document(example, model_card()))
    assert "Research use only, not a diagnosis" in text
    assert "estimated probability of malignancy" in text
    assert "no cancer" not in text
    area = example.metrics["roc_auc"]
    assert f"{area.value:.3f} {area.ci_low:.3f} to {area.ci_high:.3f} 120 24" in text
    assert f"majority baseline: {example.malignant_proportion:.3f}" in text
    # By case, the base rate is the proportion of malignant cases: 16 of 24.
    assert "majority baseline: 0.667" in text
    for heading in (
        "By case", "By magnification", "By subtype", "Calibration", "Most confident errors",
        "The model", "Intended use", "Methods",
    ):  # fmt: skip
        assert heading in text
    assert "bootstrap-t over cases" in text


def test_documents_tables_match_their_columns() -> None:
    shift = DomainShift(
        n_images=120, n_reference_images=40, n_reference_cases=5, ood_proportion=0.2,
        separability=0.6, sizes={"50x50": 120},
        stain=(StainShift("eosin_mean", 0.1, 0.01, 0.2, 0.02),), checks=(make_check("BC304"),),
    )  # fmt: skip
    example = replace(report(), domain_shift=shift)
    for document in (
        report_document(example, model_card()),
        card_document(model_card(metrics=CardMetrics(test=example.summary()))),
    ):
        tables = [block for block in document.blocks if isinstance(block, Table)]
        assert len(tables) >= 4
        for table in tables:
            assert {len(row) for row in table.rows} <= {len(table.columns)}
            assert not table.widths or len(table.widths) == len(table.columns)


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (report(has_leakage=True), make_check("BC202").message),
        (report(predictions(cases=False)), "There are no metrics by case: no case is known."),
        (report(predictions(cases=False)), "the confidence intervals are too narrow"),
        (report(predictions(one_class=True)), "the images have one class only"),
        (report(predictions(one_class=True)), "not defined: only one class present"),
        (report(checks=[LABEL_MAPPING]), LABEL_MAPPING.message),
        (report(predictions(8)), "8 images"),
    ],
)
def test_report_document_states_the_limits_of_a_report(
    example: EvaluationReport, expected: str
) -> None:
    assert expected in texts_of(report_document(example, model_card()))


def test_report_document_without_cases_has_no_case_columns() -> None:
    text = texts_of(report_document(report(predictions(cases=False)), model_card()))
    errors = text.partition("Most confident errors")[2].partition("The model")[0]
    assert "True class Probability Image" in errors
    assert "case" not in errors
    methods = text.partition("Methods")[2]
    assert "single images are resampled" in methods


@pytest.mark.parametrize(
    ("n_cases", "cases", "expected", "unexpected"),
    [
        # Every third case is benign.
        (30, True, "In simulations with 40 cases", "fewer than 10"),
        (27, True, "With fewer than 10 known cases of a class", "In simulations"),
        (30, False, "With fewer than 10 known cases of a class", "In simulations"),
    ],
)
def test_report_document_states_the_coverage_of_the_intervals(
    n_cases: int, cases: bool, expected: str, unexpected: str
) -> None:
    text = texts_of(
        report_document(report(predictions(n_cases=n_cases, cases=cases)), model_card())
    )
    assert expected in text
    assert unexpected not in text.partition("Methods")[2]


def test_report_document_without_errors_states_it() -> None:
    frame = predictions()
    frame["prob_malignant"] = (frame["class"] == "malignant") * 0.8 + 0.1
    text = texts_of(report_document(report(frame), model_card()))
    assert "All predictions are correct." in text
    assert "Leakage-free results on such images are lower" in text


def test_save_report_writes_the_format_of_the_suffix(tmp_path: Path) -> None:
    example = report()
    for name, start in (("a/r.html", b"<!DOCTYPE html>"), ("r.PDF", b"%PDF"), ("r.json", b"{")):
        save_report(example, tmp_path / name, model_card())
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ConfigError, match=r"got 'r\.docx'"):
        save_report(example, tmp_path / "r.docx", model_card())
    with pytest.raises(RunError, match="cannot be written"):
        save_report(example, tmp_path / "r.PDF" / "r.html", model_card())
    assert not (tmp_path / "r.docx").exists()
    assert from_json(EvaluationReport, json.loads((tmp_path / "r.json").read_text())) == example


@pytest.mark.parametrize("suffix", ["html", "pdf"])
def test_save_report_without_card_writes_equal_bytes(suffix: str, tmp_path: Path) -> None:
    for name in ("first", "second"):
        save_report(report(), tmp_path / f"{name}.{suffix}")
    first, second = (tmp_path / f"{name}.{suffix}" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    text = texts_of(report_document(report()))
    assert "Evaluation report" in text
    assert "Intended use" not in text


def test_report_of_8000_predictions_takes_less_than_ten_seconds() -> None:
    frame = predictions(8000)
    start = time.perf_counter()
    document = report_document(report(frame, n_resamples=2000), model_card())
    to_html(document)
    to_pdf(document)
    assert time.perf_counter() - start < 10
