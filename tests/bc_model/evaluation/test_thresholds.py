"""The cut-off bench: choices by hand, what they do elsewhere, and locking one in."""

import re
import shutil
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest

from bc_model.errors import ConfigError, DataError, RunError
from bc_model.evaluation import thresholds as lock
from bc_model.evaluation.calibrate_model import read_validation_predictions
from bc_model.evaluation.estimates import estimate_metrics
from bc_model.evaluation.intervals import predictive_values
from bc_model.evaluation.predictions import check_predictions
from bc_model.evaluation.report import read_report
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
from bc_model.training.run import Run
from bc_model.utils import io as files
from bc_model.utils.io import write_text_atomic
from bc_model.utils.serialization import to_json

# Benign at 0.1 0.2 0.4 0.6, malignant at 0.3 0.5 0.7 0.8 0.9. Cases: two pictures each, about.
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
        # 0.8 + 3/4 at 0.45 is the largest sum; at 0.65 it is 0.6 + 1, larger still.
        ("youden", 1.0, 0.65),
        # 0.8 against 0.75 at 0.45; 0.6 against 0.75 at 0.55.
        ("balanced", 1.0, 0.45),
    ],
)
def test_choices_by_hand(criterion: str, target: float, value: float) -> None:
    found = choose_threshold(table(), criterion=criterion, target=target)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert (found.n_images, found.n_cases, found.unit) == (9, 5, "image")
    assert "on 9 validation pictures of 5 cases" in found.method
    assert re.search(r"\(there sensitivity \d\.\d\d, specificity \d\.\d\d\)$", found.method)


def test_the_wish_is_kept_on_any_data() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        data = table(list(rng.random(30).round(2)), list((0.3 + 0.7 * rng.random(40)).round(2)))
        value = choose_threshold(data, target=0.9).value
        trial = evaluate_threshold(data, value, n_resamples=100)
        assert trial.metrics["sensitivity"].value >= 0.9  # type: ignore[operator]
        # The next higher cut-off breaks it.
        higher = data.loc[data["prob_malignant"] > value, "prob_malignant"].min() + 1e-9
        worse = evaluate_threshold(data, higher, n_resamples=100).metrics["sensitivity"].value
        assert worse < 0.9  # type: ignore[operator]


def test_a_wish_that_is_met_exactly_is_met() -> None:
    # 93 of 100 benign pictures lie below 0.5, and 1 - 7/100 is a little less than 0.93.
    data = table([0.1] * 93 + [0.6, 0.7] * 3 + [0.65], [0.9] * 5)
    assert choose_threshold(data, criterion="specificity", target=0.93).value == pytest.approx(0.35)


def test_by_case() -> None:
    # Means: benign cases 0.15, 0.5; malignant ones 0.4, 0.75, 0.9.
    found = choose_threshold(table(), target=1.0, unit="case")
    assert found.value == pytest.approx((0.15 + 0.4) / 2)
    trial = evaluate_threshold(table(), found.value, unit="case", n_resamples=100)
    assert trial.confusion == ((1, 1), (0, 3))
    assert trial.metrics["sensitivity"].method == "95 % Wilson over cases"
    assert trial.metrics["sensitivity"].n_cases == 3


def test_a_trial_is_the_figures_at_that_cut_off() -> None:
    trial = evaluate_threshold(table(), 0.45, n_resamples=200, seed=3)
    assert trial.confusion == ((3, 1), (1, 4))
    assert tuple(trial.metrics) == THRESHOLD_METRICS
    assert trial.metrics == estimate_metrics(
        table(), threshold=0.45, n_resamples=200, seed=3, names=THRESHOLD_METRICS
    )
    found = predictive_values(trial.metrics["sensitivity"], trial.metrics["specificity"], 0.2)
    assert found["positive"].value == pytest.approx(0.2 * 0.8 / (0.2 * 0.8 + 0.8 * 0.25))
    assert to_json(trial)["confusion"] == [[3, 1], [1, 4]]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"criterion": "best"}, "no goal 'best'"),
        ({"unit": "slide"}, "no unit 'slide'"),
        ({"target": 0.0}, "asked for 0.0"),
        ({"criterion": "specificity", "target": float("nan")}, "asked for nan"),
    ],
)
def test_impossible_wishes(wish: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_threshold(table(), **wish)


def test_data_that_chooses_nothing() -> None:
    with pytest.raises(DataError, match="malignant ones only"):
        choose_threshold(table(benign=[]))
    with pytest.raises(DataError, match="choose by picture"):
        choose_threshold(table().assign(case=""), unit="case")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluate_threshold(table(), 1.5)


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Run:
    """Return a copy of the finished run that may be changed."""
    return Run(Path(shutil.copytree(tiny_run.path, tmp_path / "tiny")))


def test_a_run_keeps_its_validation_predictions(tiny_run: Run) -> None:
    bundle = open_bundle(tiny_run.path)
    kept = read_validation_predictions(tiny_run.evaluation_dir)
    assert len(kept) == bundle.card.data.n_images.validation
    assert set(kept["case"]) == set(bundle.card.data.validation_cases)
    assert kept["prob_malignant"].to_numpy() == pytest.approx(
        1 / (1 + np.exp(-kept["logit"] / bundle.temperature)), abs=1e-12
    )


def test_locking(run: Run) -> None:
    bundle = open_bundle(run.path)
    chosen = choose_threshold(read_validation_predictions(run.evaluation_dir), criterion="youden")
    locked = set_threshold(bundle, chosen.value, " misses weigh more ", threshold_choice=chosen)

    again = open_bundle(run.path)
    again.verify()
    assert again.card == locked.card
    assert again.threshold == chosen.value
    entry = again.card.threshold
    assert (entry.reason, entry.unit) == ("misses weigh more", "image")
    assert entry.method == chosen.method
    assert entry.date.endswith("+00:00")
    assert again.key != bundle.key
    assert again.network == bundle.network
    # The report and the passport are about the cut-off in force.
    report = read_report(run.evaluation_dir)
    assert report.threshold == again.card.metrics.test.threshold == chosen.value
    Engine(again).predict(np.zeros((1, *again.image_size, 3), np.uint8))


def test_by_hand_is_said(run: Run) -> None:
    locked = set_threshold(open_bundle(run.path), 0.3, "asked for by the ward")
    assert locked.card.threshold.method == "set by hand"


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [(1.2, "x", "between 0 and 1"), (float("nan"), "x", "nan"), (0.4, "  ", "none is given")],
)
def test_what_is_not_locked(run: Run, value: float, reason: str, words: str) -> None:
    before = open_bundle(run.path).card
    with pytest.raises(ConfigError, match=words):
        set_threshold(open_bundle(run.path), value, reason)
    chosen = choose_threshold(table())
    with pytest.raises(ConfigError, match="lock what was chosen"):
        set_threshold(open_bundle(run.path), chosen.value + 0.1, "x", threshold_choice=chosen)
    assert open_bundle(run.path).card == before


def test_a_report_that_cannot_be_read_locks_nothing(run: Run) -> None:
    write_text_atomic(run.evaluation_dir / "report.json", "{}")
    before = open_bundle(run.path).card
    with pytest.raises(RunError, match="make it anew"):
        set_threshold(open_bundle(run.path), 0.3, "x")
    assert open_bundle(run.path).card == before


def contents(run: Run) -> dict[str, bytes]:
    """Return what a run says of its model."""
    files = [run.model_dir / "model_card.json", *run.evaluation_dir.iterdir()]
    return {path.name: path.read_bytes() for path in files}


def test_a_disk_that_fails_last_leaves_report_and_card_as_they_were(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run)
    to_the_disk, calls = files.os.fsync, []

    def full(feature: int) -> None:
        calls.append(feature)
        if len(calls) == 3:  # the passport, after two files of the report
            raise OSError(28, "No space left on device")
        to_the_disk(feature)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RunError, match=r"No space left on device.*nothing was changed"):
        set_threshold(open_bundle(run.path), 0.3, "x")
    assert contents(run) == before


def test_of_two_people_the_second_is_told(run: Run) -> None:
    seen_by_both = open_bundle(run.path)
    set_threshold(seen_by_both, 0.3, "first")
    before = contents(run)
    with pytest.raises(RunError, match="somebody else in the meantime"):
        set_threshold(seen_by_both, 0.6, "second")
    assert contents(run) == before


def test_while_another_writes_one_waits_and_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOCK_TIMEOUT_S", 0.1)
    with (
        filelock.FileLock(run.model_dir / lock.LOCK_NAME),
        pytest.raises(RunError, match="could not be acquired"),
    ):
        set_threshold(open_bundle(run.path), 0.3, "x")


def test_a_bundle_outside_a_run_keeps_its_figures(run: Run, tmp_path: Path) -> None:
    alone = open_bundle(Path(shutil.copytree(run.model_dir, tmp_path / "alone")))
    assert find_evaluation_dir(alone) is None
    locked = set_threshold(alone, 0.3, "x")
    assert locked.card.metrics == alone.card.metrics
    with pytest.raises(RunError, match="name the run"):
        require_evaluation(alone)


def test_runs_without_validation_predictions(run: Run) -> None:
    file = run.evaluation_dir / "validation_predictions.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="cannot be read"):
        read_validation_predictions(run.evaluation_dir)
    file.unlink()
    with pytest.raises(RunError, match="models calibrate"):
        read_validation_predictions(run.evaluation_dir)
