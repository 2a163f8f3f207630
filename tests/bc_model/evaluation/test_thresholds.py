"""Threshold selection: manual examples, evaluation on other data, and storage."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest

from bc_model.errors import ConfigError, DataError, RunError
from bc_model.evaluation import thresholds as thresholds
from bc_model.evaluation.calibration import (
    VALIDATION_PREDICTIONS_FILE,
    read_validation_predictions,
)
from bc_model.evaluation.estimates import estimate_metrics
from bc_model.evaluation.intervals import predictive_values
from bc_model.evaluation.predictions import check_predictions, predictions_to_csv
from bc_model.evaluation.report import read_report
from bc_model.evaluation.selective import summarize_selective
from bc_model.evaluation.thresholds import (
    THRESHOLD_METRICS,
    choose_threshold,
    evaluate_threshold,
    find_evaluation_dir,
    require_evaluation,
    set_threshold,
)
from bc_model.inference.bundle import open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.model_card import write_model_card
from bc_model.training.run import Run
from bc_model.utils import io as files
from bc_model.utils.io import write_text_atomic
from bc_model.utils.serialization import to_json
from tests.bc_model.inference.model_cards import selective_summary

# Most cases have two images.
BENIGN = [0.1, 0.2, 0.4, 0.6]
MALIGNANT = [0.3, 0.5, 0.7, 0.8, 0.9]


def table(benign: list[float] = BENIGN, malignant: list[float] = MALIGNANT) -> pd.DataFrame:
    prob = [*benign, *malignant]
    return check_predictions(
        pd.DataFrame(
            {
                "path": [f"{i:03d}.png" for i in range(len(prob))],
                "sha256": "",
                "case": [f"b{i // 2}" for i in range(len(benign))]
                + [f"m{i // 2}" for i in range(len(malignant))],
                "class": ["benign"] * len(benign) + ["malignant"] * len(malignant),
                "magnification": 40,
                "prob_malignant": prob,
            }
        )
    )


@pytest.mark.parametrize(
    ("criterion", "target", "value"),
    [
        ("sensitivity", 1.0, 0.25),
        ("sensitivity", 0.81, 0.25),
        ("sensitivity", 0.8, 0.45),
        ("sensitivity", 0.2, 0.85),
        ("specificity", 0.75, 0.45),
        ("specificity", 1.0, 0.65),
        # The sum is 0.8 + 3/4 at 0.45 and 0.6 + 1 at 0.65.
        ("youden", 1.0, 0.65),
        # The rates are 0.8 and 0.75 at 0.45, and 0.6 and 0.75 at 0.55.
        ("balanced", 1.0, 0.45),
    ],
)
def test_choose_threshold_equals_manual_value(criterion: str, target: float, value: float) -> None:
    found = choose_threshold(table(), criterion=criterion, target=target)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert (found.n_images, found.n_cases, found.unit) == (9, 5, "image")
    assert "on 9 validation images of 5 cases" in found.method
    assert re.search(r"\(sensitivity \d\.\d\d, specificity \d\.\d\d\)$", found.method)


def test_choose_threshold_reaches_target_on_random_data() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        data = table(list(rng.random(30).round(2)), list((0.3 + 0.7 * rng.random(40)).round(2)))
        value = choose_threshold(data, target=0.9).value
        result = evaluate_threshold(data, value, n_resamples=100)
        assert result.metrics["sensitivity"].value >= 0.9  # type: ignore[operator]
        # The next higher threshold does not reach the target.
        higher = data.loc[data["prob_malignant"] > value, "prob_malignant"].min() + 1e-9
        worse = evaluate_threshold(data, higher, n_resamples=100).metrics["sensitivity"].value
        assert worse < 0.9  # type: ignore[operator]


def test_choose_threshold_exact_target_is_reached() -> None:
    # 93 of 100 benign images are below 0.5, and 1 - 7/100 is slightly less than 0.93.
    data = table([0.1] * 93 + [0.6, 0.7] * 3 + [0.65], [0.9] * 5)
    assert choose_threshold(data, criterion="specificity", target=0.93).value == pytest.approx(0.35)


def test_choose_threshold_by_case_uses_mean_probabilities() -> None:
    # Means of the benign cases: 0.15, 0.5; of the malignant cases: 0.4, 0.75, 0.9.
    found = choose_threshold(table(), target=1.0, unit="case")
    assert found.value == pytest.approx((0.15 + 0.4) / 2)
    result = evaluate_threshold(table(), found.value, unit="case", n_resamples=100)
    assert result.confusion == ((1, 1), (0, 3))
    assert result.metrics["sensitivity"].method == "95 % Wilson over cases"
    assert result.metrics["sensitivity"].n_cases == 3


def test_evaluate_threshold_equals_metrics_at_threshold() -> None:
    result = evaluate_threshold(table(), 0.45, n_resamples=200, seed=3)
    assert result.confusion == ((3, 1), (1, 4))
    assert tuple(result.metrics) == THRESHOLD_METRICS
    assert result.metrics == estimate_metrics(
        table(), threshold=0.45, n_resamples=200, seed=3, names=THRESHOLD_METRICS
    )
    found = predictive_values(result.metrics["sensitivity"], result.metrics["specificity"], 0.2)
    assert found["positive"].value == pytest.approx(0.2 * 0.8 / (0.2 * 0.8 + 0.8 * 0.25))
    assert to_json(result)["confusion"] == [[3, 1], [1, 4]]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"criterion": "best"}, "Invalid criterion 'best'"),
        ({"unit": "slide"}, "Invalid unit 'slide'"),
        ({"target": 0.0}, "got 0.0"),
        ({"criterion": "specificity", "target": float("nan")}, "got nan"),
    ],
)
def test_choose_threshold_invalid_config_raises(config: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        choose_threshold(table(), **config)


def test_choose_threshold_unsuitable_data_raises() -> None:
    with pytest.raises(DataError, match="only malignant ones"):
        choose_threshold(table(benign=[]))
    with pytest.raises(DataError, match="Select the threshold by image"):
        choose_threshold(table().assign(case=""), unit="case")
    with pytest.raises(ConfigError, match="Expected 0 <= threshold <= 1"):
        evaluate_threshold(table(), 1.5)


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Run:
    """Return a copy of the finished run."""
    return Run(Path(shutil.copytree(tiny_run.path, tmp_path / "tiny")))


def test_read_validation_predictions_contains_validation_cases(tiny_run: Run) -> None:
    bundle = open_bundle(tiny_run.path)
    stored = read_validation_predictions(tiny_run.evaluation_dir)
    assert len(stored) == bundle.card.data.n_images.validation
    assert set(stored["case"]) == set(bundle.card.data.validation_cases)
    assert stored["prob_malignant"].to_numpy() == pytest.approx(
        1 / (1 + np.exp(-stored["logit"] / bundle.temperature)), abs=1e-12
    )


def test_set_threshold_updates_card_and_report(run: Run) -> None:
    bundle = open_bundle(run.path)
    chosen = choose_threshold(read_validation_predictions(run.evaluation_dir), criterion="youden")
    changed = set_threshold(bundle, chosen.value, " misses weigh more ", threshold_choice=chosen)

    again = open_bundle(run.path)
    again.verify()
    assert again.card == changed.card
    assert again.threshold == chosen.value
    entry = again.card.threshold
    assert (entry.reason, entry.unit) == ("misses weigh more", "image")
    assert entry.method == chosen.method
    assert entry.date.endswith("+00:00")
    assert again.key != bundle.key
    assert again.graph_sha256 == bundle.graph_sha256
    # The report and the model card contain the metrics at the new threshold.
    report = read_report(run.evaluation_dir)
    assert report.threshold == again.card.metrics.test.threshold == chosen.value
    Engine(again).predict(np.zeros((1, *again.image_size, 3), np.uint8))


def test_set_threshold_without_choice_has_manual_method(run: Run) -> None:
    changed = set_threshold(open_bundle(run.path), 0.3, "asked for by the ward")
    assert changed.card.threshold.method == "set manually"


@pytest.mark.parametrize(
    ("value", "reason", "text"),
    [
        (1.2, "x", "got 1.2"),
        (float("nan"), "x", "got nan"),
        (0.4, "  ", "Missing reason"),
        (0.4, "a\x1bb", "remove control characters"),
        (0.4, "a" * 2001, "at most 2,000 printable characters, got 2,001"),
    ],
)
def test_set_threshold_invalid_value_raises(run: Run, value: float, reason: str, text: str) -> None:
    before = open_bundle(run.path).card
    with pytest.raises(ConfigError, match=text):
        set_threshold(open_bundle(run.path), value, reason)
    chosen = choose_threshold(table())
    with pytest.raises(ConfigError, match="Set the selected threshold"):
        set_threshold(open_bundle(run.path), chosen.value + 0.1, "x", threshold_choice=chosen)
    assert open_bundle(run.path).card == before


def test_set_threshold_damaged_report_changes_nothing(run: Run) -> None:
    write_text_atomic(run.evaluation_dir / "report.json", "{}")
    before = open_bundle(run.path).card
    with pytest.raises(RunError, match="Evaluate the model again"):
        set_threshold(open_bundle(run.path), 0.3, "x")
    assert open_bundle(run.path).card == before


def contents(run: Run) -> dict[str, bytes]:
    """Return the content of the model card and of the evaluation files."""
    files = [run.model_dir / "model_card.json", *run.evaluation_dir.iterdir()]
    return {path.name: path.read_bytes() for path in files}


def test_set_threshold_full_disk_changes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(run)
    write, calls = files.os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:  # The model card, after two files of the report.
            raise OSError(28, "No space left on device")
        write(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RunError, match=r"No space left on device.*Nothing was changed"):
        set_threshold(open_bundle(run.path), 0.3, "x")
    assert contents(run) == before


def test_set_threshold_changed_model_raises(run: Run) -> None:
    first_read = open_bundle(run.path)
    set_threshold(first_read, 0.3, "first")
    before = contents(run)
    with pytest.raises(RunError, match="has changed"):
        set_threshold(first_read, 0.6, "second")
    assert contents(run) == before


def test_set_threshold_locked_model_raises(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "LOCK_TIMEOUT_S", 0.1)
    with (
        filelock.FileLock(run.model_dir / thresholds.LOCK_NAME),
        pytest.raises(RunError, match="could not be acquired"),
    ):
        set_threshold(open_bundle(run.path), 0.3, "x")


def test_set_threshold_outside_run_keeps_metrics(run: Run, tmp_path: Path) -> None:
    alone = open_bundle(Path(shutil.copytree(run.model_dir, tmp_path / "alone")))
    assert find_evaluation_dir(alone) is None
    changed = set_threshold(alone, 0.3, "x")
    assert changed.card.metrics == alone.card.metrics
    with pytest.raises(RunError, match="Choose the run"):
        require_evaluation(alone)


def test_read_validation_predictions_damaged_or_missing_raises(run: Run) -> None:
    file = run.evaluation_dir / "validation_predictions.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="Cannot read"):
        read_validation_predictions(run.evaluation_dir)
    file.unlink()
    with pytest.raises(RunError, match="Calibrate the model again"):
        read_validation_predictions(run.evaluation_dir)


def test_set_threshold_fits_the_uncertain_range_again_or_removes_it(
    tiny_run: Run, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    bundle = open_bundle(tmp_path / "run")
    metrics = replace(bundle.card.metrics, selective=selective_summary(0.3, 0.7))
    write_model_card(bundle.folder, replace(bundle.card, metrics=metrics))
    bundle = open_bundle(tmp_path / "run")
    assert bundle.uncertain_band == (0.3, 0.7)
    rng = np.random.default_rng(0)
    malignant = np.arange(60) % 2 == 0
    predictions = check_predictions(
        pd.DataFrame(
            {
                "path": [f"{k}.png" for k in range(60)], "sha256": "",
                "case": [f"{k % 20}" for k in range(60)],
                "class": np.where(malignant, "malignant", "benign"), "magnification": 40,
                "prob_malignant": np.where(malignant, 0.7, 0.3) + rng.uniform(-0.29, 0.29, 60),
            }
        )
    )  # fmt: skip
    stored = tmp_path / "run/evaluation" / VALIDATION_PREDICTIONS_FILE
    write_text_atomic(stored, predictions_to_csv(predictions))
    bundle = set_threshold(bundle, 0.4, "A test.")
    expected = summarize_selective(predictions, images="validation images", threshold=0.4)
    assert bundle.card.metrics.selective == expected
    assert expected is not None
    assert expected.band is not None
    assert bundle.uncertain_band == (expected.band.low, expected.band.high)
    stored.unlink()
    assert set_threshold(bundle, 0.6, "A test.").card.metrics.selective is None
