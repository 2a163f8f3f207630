"""Evaluation of predictions, and the report: metrics, checks, errors and files."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bc_model
from bc_model.checks import make_check
from bc_model.errors import ConfigError, DataError, RunError
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.metrics import METRICS
from bc_model.evaluation.report import EvaluationReport, read_report
from bc_model.inference.model_card import EvaluationSummary
from bc_model.utils import io as files
from bc_model.utils.serialization import dumps, from_json, loads, to_json


def table(
    n: int = 200, *, n_benign_cases: int = 12, n_malignant_cases: int = 15, noise: float = 0.8
) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    malignant = np.arange(n) % 3 != 0
    number = rng.integers(0, np.where(malignant, n_malignant_cases, n_benign_cases))
    prob = np.where(malignant, 0.7, 0.3) + noise * (rng.random(n) - 0.5)
    return pd.DataFrame(
        {
            "path": [f"p/{i:03d}.png" for i in range(n)],
            "sha256": [f"{i:064x}" for i in range(n)],
            "case": [f"{'M' if m else 'B'}{k}" for m, k in zip(malignant, number, strict=True)],
            "class": np.where(malignant, "malignant", "benign"),
            "magnification": pd.array([40, 100, 200, None] * (n // 4), dtype="Int64"),
            "prob_malignant": np.clip(prob, 0, 1),
        }
    )


def evaluate(frame: pd.DataFrame, **changes: Any) -> EvaluationReport:
    config = {"protocol": "case", "has_leakage": False, "n_resamples": 200, **changes}
    return evaluate_predictions(frame, **config)


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    return evaluate(table())


def test_evaluate_predictions_five_images_equals_manual_values() -> None:
    # Benign case b: 0.1 and 0.6; benign case c: 0.2. Malignant case m: 0.9; case o: 0.4.
    frame = pd.DataFrame(
        {
            "path": list("12345"),
            "sha256": "",
            "case": ["b", "b", "c", "m", "o"],
            "class": ["benign"] * 3 + ["malignant"] * 2,
            "magnification": None,
            "prob_malignant": [0.1, 0.6, 0.2, 0.9, 0.4],
        }
    )
    found = evaluate(frame)
    assert found.confusion == ((2, 1), (1, 1))
    assert found.malignant_proportion == 0.4
    assert (found.n_images, found.n_cases, found.n_benign_cases, found.n_malignant_cases) == (
        5,
        4,
        2,
        2,
    )
    metrics = found.metrics
    assert metrics["accuracy"].value == 0.6
    assert metrics["sensitivity"].value == 0.5
    assert (metrics["sensitivity"].n_images, metrics["sensitivity"].n_cases) == (2, 2)
    assert metrics["specificity"].value == pytest.approx(2 / 3)
    assert (metrics["specificity"].n_images, metrics["specificity"].n_cases) == (3, 2)
    assert metrics["roc_auc"].value == pytest.approx(5 / 6)
    # One of two malignant cases is correct, so the interval would be too wide.
    assert metrics["sensitivity"].ci_low is None
    assert metrics["sensitivity"].note == "too few cases differ for an interval"


def test_evaluate_predictions_metrics_have_interval_and_method(report: EvaluationReport) -> None:
    assert tuple(report.metrics) == METRICS
    for metric in report.metrics.values():
        assert metric.ci_low < metric.value < metric.ci_high  # type: ignore[operator]
        assert "bootstrap-t over cases, 200 resamples within each class, seed 0" in metric.method


def test_evaluate_predictions_ignores_row_order(report: EvaluationReport) -> None:
    assert evaluate(table().sample(frac=1, random_state=1)) == report


def test_evaluate_predictions_depends_on_seed_and_threshold(report: EvaluationReport) -> None:
    other = evaluate(table(), seed=1)
    assert other.confusion == report.confusion
    assert other.metrics["accuracy"].ci_low != report.metrics["accuracy"].ci_low
    assert evaluate(table(), threshold=0.9).confusion != report.confusion


def test_evaluate_predictions_does_not_change_the_table() -> None:
    frame = table()
    frame.loc[0, "case"] = None
    before = frame.copy(deep=True)
    evaluate(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_evaluate_predictions_interval_over_cases_is_wider() -> None:
    # Every image of a case has one prediction: five times fewer independent observations.
    frame = table(n_benign_cases=10, n_malignant_cases=20)
    incorrect_cases = frame["case"].isin(["B1", "B4", "B7", "M3", "M8", "M11", "M15"])
    right = np.where(frame["class"] == "malignant", 0.9, 0.1)
    frame["prob_malignant"] = np.where(incorrect_cases, 1 - right, right)
    by_case = evaluate(frame).metrics["accuracy"]
    by_image = evaluate(frame.assign(case="")).metrics["accuracy"]
    assert by_case.value == by_image.value
    width = by_case.ci_high - by_case.ci_low  # type: ignore[operator]
    assert width > 1.5 * (by_image.ci_high - by_image.ci_low)  # type: ignore[operator]


def test_evaluate_predictions_unknown_cases_returns_note_and_check() -> None:
    found = evaluate(table().assign(case=None))
    metric = found.metrics["accuracy"]
    assert (found.n_cases, metric.n_cases) == (0, 0)
    assert "interval is too narrow" in metric.note
    assert "over images" in metric.method
    assert "unknown cases" in str(metric)
    assert make_check("BC208", n_unknown=200, n_images=200) in found.checks


def test_evaluate_predictions_some_unknown_cases_returns_note() -> None:
    frame = table()
    frame.loc[:9, "case"] = pd.NA
    found = evaluate(frame)
    assert "case of 10 of 200 images is unknown" in found.metrics["accuracy"].note
    assert "over cases and single images" in found.metrics["accuracy"].method
    assert found.n_cases == frame["case"].nunique()


def test_evaluate_predictions_one_class_is_undefined() -> None:
    frame = table()
    found = evaluate(frame[frame["class"] == "malignant"])
    assert str(found.metrics["roc_auc"]) == "not defined: only one class present"
    assert str(found.metrics["balanced_accuracy"]) == "not defined: only one class present"
    assert str(found.metrics["specificity"]) == "not defined: no benign images"
    assert found.metrics["specificity"].n_images == 0
    assert found.metrics["accuracy"].value == found.metrics["sensitivity"].value
    assert found.metrics["log_loss"].ci_low is not None
    assert found.roc is None
    assert make_check("BC206", missing_class="benign") in found.checks
    assert loads(EvaluationReport, dumps(found)) == found


def test_evaluate_predictions_one_benign_case_has_no_interval() -> None:
    found = evaluate(table(n_benign_cases=1))
    for name in ("accuracy", "specificity", "roc_auc", "log_loss"):
        metric = found.metrics[name]
        assert metric.value is not None
        assert (metric.ci_low, metric.ci_high, metric.note) == (None, None, "only one benign case")
    assert found.metrics["sensitivity"].ci_low is not None


def test_evaluate_predictions_no_error_has_exact_interval() -> None:
    # 12 benign and 15 malignant cases have no error: the lower end is 0.025^(1/27).
    metrics = evaluate(table(noise=0.0)).metrics
    assert metrics["accuracy"].value == 1.0
    assert metrics["accuracy"].ci_low == pytest.approx(0.025 ** (1 / 27), abs=1e-12)
    assert metrics["sensitivity"].ci_low == pytest.approx(0.025 ** (1 / 15), abs=1e-12)
    assert "exact binomial" in metrics["accuracy"].note
    low = 1 - math.hypot(1 - 0.025 ** (1 / 15), 1 - 0.025 ** (1 / 12)) / 2
    assert metrics["balanced_accuracy"].ci_low == pytest.approx(low, abs=1e-12)
    # The exact interval does not apply to a ranking.
    assert (metrics["roc_auc"].value, metrics["roc_auc"].ci_low) == (1.0, None)
    assert metrics["roc_auc"].note == "all cases have the same value, so their spread is unknown"


def test_evaluate_predictions_all_malignant_combines_rates() -> None:
    # In the bootstrap, only the proportion of malignant images varies slightly.
    metrics = evaluate(table(), threshold=0.0).metrics
    rates = metrics["sensitivity"], metrics["specificity"]
    assert [rate.value for rate in rates] == [1.0, 0.0]
    proportion = rates[0].n_images / 200
    low = proportion - proportion * (1.0 - rates[0].ci_low)  # type: ignore[operator]
    assert metrics["accuracy"].ci_low == pytest.approx(low, abs=1e-12)
    high = proportion + (1 - proportion) * rates[1].ci_high  # type: ignore[operator]
    assert metrics["accuracy"].ci_high == pytest.approx(high, abs=1e-12)
    assert metrics["accuracy"].note == "from the intervals of sensitivity and specificity"


def test_evaluate_predictions_ordinary_data_has_no_checks(report: EvaluationReport) -> None:
    assert report.checks == ()


@pytest.mark.parametrize(
    ("frame", "config", "code", "params"),
    [
        (table(), {"has_leakage": True}, "BC202", {}),
        (table(), {"has_leakage": True, "is_leakage_certain": True}, "BC201", {}),
        (
            table(noise=0.0),
            {},
            "BC203",
            {
                "metrics": [
                    "balanced accuracy 1.000", "accuracy 1.000", "ROC AUC 1.000",
                    "recognition rate 1.000",
                ],
                "limit": 0.97,
            },
        ),
        (
            table(noise=0.0),
            {"threshold": 0.1},
            "BC203",
            {"metrics": ["ROC AUC 1.000"], "limit": 0.97},
        ),
        (table(), {"threshold": 0.0}, "BC204", {"majority_class": "malignant"}),
        (table().assign(prob_malignant=1 - table()["prob_malignant"]), {}, "BC205", {}),
        (table(n_benign_cases=4), {}, "BC207", {"class_name": "benign", "n_cases": 4}),
        (table(n_malignant_cases=1), {}, "BC207", {"class_name": "malignant", "n_cases": 1}),
        (table().assign(case="x"), {}, "BC209", {"case": "x", "n_cases": 1}),
        (table().assign(sha256="0"), {}, "BC210", {"n_duplicates": 199}),
    ],
)  # fmt: skip
def test_evaluate_predictions_doubtful_data_returns_check(
    frame: pd.DataFrame, config: dict[str, Any], code: str, params: dict[str, Any]
) -> None:
    (check,) = (check for check in evaluate(frame, **config).checks if check.code == code)
    assert params.items() <= check.params.items()


def test_evaluate_predictions_high_balanced_accuracy_returns_check() -> None:
    # 20 malignant images at 0.8; 5 of 100 benign images, each of a case of 10, are higher.
    prob = np.concatenate([np.full(20, 0.8), np.where(np.arange(100) % 20 == 0, 0.9, 0.1)])
    frame = pd.DataFrame(
        {
            "path": [f"{i:03d}.png" for i in range(120)],
            "sha256": "",
            "case": [f"M{i}" for i in range(20)] + [f"B{i // 10}" for i in range(100)],
            "class": ["malignant"] * 20 + ["benign"] * 100,
            "magnification": None,
            "prob_malignant": prob,
        }
    )
    (check,) = evaluate(frame).checks
    metrics = ["balanced accuracy 0.975", "recognition rate 0.983"]
    assert check == make_check("BC203", metrics=metrics, limit=0.97)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.drop(columns=["case", "sha256"]), "Missing column sha256, case"),
        (lambda f: f.iloc[:0], "No predictions"),
        (lambda f: f.assign(path="same.png"), "Duplicate path 'same.png'"),
        (lambda f: f.assign(path=""), "Missing path in row 1"),
        (lambda f: f.assign(**{"class": "Malignant"}), "Invalid class of 'p/000.png'"),
        (lambda f: f.assign(**{"class": None}), "got ''"),
        (lambda f: f.assign(prob_malignant=1.5), "Invalid prob_malignant of 'p/000.png'"),
        (lambda f: f.assign(prob_malignant=-1e-9), "got '-1e-09'"),
        (lambda f: f.assign(prob_malignant=np.nan), "got 'nan'"),
        (lambda f: f.assign(prob_malignant=np.inf), "got 'inf'"),
        (lambda f: f.assign(prob_malignant="high"), "got 'high'"),
        (lambda f: f.assign(magnification="40X"), "got '40X'"),
        (lambda f: f.assign(magnification=2.5), "got '2.5'"),
    ],
)
def test_evaluate_predictions_invalid_table_raises(change: Any, text: str) -> None:
    with pytest.raises(DataError) as caught:
        evaluate(change(table()))
    message = str(caught.value)
    assert text in message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize(
    "config",
    [{"threshold": 1.1}, {"threshold": math.nan}, {"n_resamples": 99}, {"seed": -1}],
)
def test_evaluate_predictions_invalid_config_raises(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        evaluate(table(), **config)


def test_report_round_trips_json(report: EvaluationReport) -> None:
    text = dumps(report)
    back = loads(EvaluationReport, text)
    assert back == report
    assert back.roc is not None
    assert back.roc.threshold[0] == math.inf
    assert json.loads(text)["roc"]["threshold"][0] is None
    assert json.loads(text)["schema_version"] == 3


def test_report_contains_all_parts(report: EvaluationReport) -> None:
    assert report.case_metrics is not None
    assert report.case_metrics.metrics["accuracy"].n_cases == report.n_cases
    assert [group.name for group in report.subgroups] == ["40X", "100X", "200X", "not stated"]
    assert sum(group.n_images for group in report.subgroups) == report.n_images
    assert sum(one.observed.n_images for one in report.calibration.bins) == report.n_images
    assert report.pr is not None
    assert report.pr.recall[-1] == 1.0
    checks = (make_check("BC211"), make_check("BC326"))
    assert evaluate(table(), checks=checks).checks == checks


def test_summary_contains_metrics_by_image_case_and_subgroup(report: EvaluationReport) -> None:
    summary = report.summary()
    assert (summary.n_images, summary.n_cases) == (report.n_images, report.n_cases)
    assert summary.malignant_proportion == report.malignant_proportion
    assert summary.metrics == report.metrics
    assert summary.case_metrics == report.case_metrics.metrics  # type: ignore[union-attr]
    assert [one.metrics for one in summary.subgroups] == [one.metrics for one in report.subgroups]
    assert loads(EvaluationSummary, dumps(summary)) == summary


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"checks": {}},
        {"pr": {"recall": [1.0], "precision": [], "threshold": [0.5]}},
        {"subgroups": [{"kind": "subtype"}]},
        {"calibration": {"bins": []}},
        {"by_case": 3},
        {"metrics": {}},
        {"confusion": [[1, 2], [3, 4]]},
        {"confusion": 3},
        {"has_leakage": "no"},
        {"roc": {"fpr": [0, 1], "tpr": [0], "threshold": [None, 0.5]}},
        {"n_images": None},
    ],
)
def test_report_from_invalid_json_raises(report: EvaluationReport, change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(change))):
        from_json(EvaluationReport, to_json(report) | change)


def test_save_and_read_report_are_inverse(report: EvaluationReport, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "evaluation"
    report.save(folder)
    names = ["predictions.csv", "report.json"]
    assert sorted(p.name for p in folder.iterdir()) == names
    back = read_report(folder)
    assert back == report
    assert back.predictions is not None
    assert report.predictions is not None
    pd.testing.assert_frame_equal(back.predictions, report.predictions)
    back.save(folder)
    assert read_report(str(folder)) == report


def test_read_report_keeps_case_names_as_text(tmp_path: Path) -> None:
    frame = table(8)
    frame["case"] = ["007", "NA", "1e5", "nan", "", 'µ, "x"', "None", "12"]
    frame["note"] = "kept"
    found = evaluate(frame)
    found.save(tmp_path)
    back = read_report(tmp_path)
    assert back.predictions is not None
    assert back.predictions["case"].tolist() == frame["case"].tolist()
    assert set(back.predictions["note"]) == {"kept"}
    assert back.n_cases == 7


def test_save_without_predictions_raises(report: EvaluationReport, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no predictions"):
        from_json(EvaluationReport, to_json(report)).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_save_to_a_file_raises(report: EvaluationReport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Choose another directory"):
        report.save(tmp_path / "file")


def test_save_full_disk_keeps_old_report(
    report: EvaluationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.save(tmp_path)
    written: list[int] = []

    def full(_: int) -> None:
        written.append(1)
        if len(written) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        evaluate(table(noise=0.5)).save(tmp_path)
    assert read_report(tmp_path) == report
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["report.json", "predictions.csv"])
def test_read_report_missing_file_raises(
    report: EvaluationReport, tmp_path: Path, name: str
) -> None:
    report.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RunError, match=f"Missing file '.*{name}'.*Evaluate the model again"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.json", b""),
        ("report.json", b"{"),
        ("report.json", b"[]"),
        ("report.json", b"{}"),
        ("report.json", b"\xff\xfe"),
        ("report.json", b'{"n": NaN}'),
        ("predictions.csv", b""),
        ("predictions.csv", b"a,b\n1,2\n"),
        ("predictions.csv", b"\xff\xfe"),
        ("predictions.csv", b'path,"\n1,2,3,4'),
    ],
)
def test_read_report_damaged_file_raises(
    report: EvaluationReport, tmp_path: Path, name: str, content: bytes
) -> None:
    report.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match="Cannot read the evaluation report"):
        read_report(tmp_path)


def test_read_report_with_a_negative_count_raises(report: EvaluationReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    path = tmp_path / "report.json"
    path.write_text(path.read_text().replace(f'"n_cases": {report.n_cases}', '"n_cases": -1', 1))
    with pytest.raises(RunError, match="n_cases: expected at least 0, got -1"):
        read_report(tmp_path)


def test_read_report_files_of_two_evaluations_raises(
    report: EvaluationReport, tmp_path: Path
) -> None:
    report.save(tmp_path)
    table_file = tmp_path / "predictions.csv"
    other = evaluate(table(noise=0.5))
    other.save(tmp_path / "other")
    table_file.write_bytes((tmp_path / "other" / "predictions.csv").read_bytes())
    with pytest.raises(RunError, match="got different counts"):
        read_report(tmp_path)


@pytest.mark.parametrize(("method", "name"), [("to_pdf", "a.pdf"), ("to_html", "a.HTML")])
def test_report_to_file_uses_the_facade(
    report: EvaluationReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    name: str,
) -> None:
    calls: list[tuple[EvaluationReport, Path]] = []
    monkeypatch.setattr(
        bc_model, "save_report", lambda *arguments: calls.append(arguments), raising=False
    )
    getattr(report, method)(str(tmp_path / name))
    assert calls == [(report, tmp_path / name)]
    with pytest.raises(ConfigError, match="Expected the suffix"):
        getattr(report, method)(tmp_path / "a.txt")
    assert len(calls) == 1


def test_import_evaluation_loads_no_plotting_library() -> None:
    code = (
        "import sys, bc_model.evaluation; "
        "heavy = {'matplotlib', 'sklearn', 'tensorflow', 'streamlit'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
