"""Temperature scaling: compared with scikit-learn, known values, and data without a fit."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from bc_model.data.breakhis import CLASSES
from bc_model.evaluation.calibration import (
    MIN_TEMPERATURE,
    VALIDATION_FEATURES_FILE,
    fit_bundle_temperature,
    fit_temperature,
    read_validation_predictions,
    rescale_threshold,
)
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.predictions import case_weights
from bc_model.inference.batching import BatchingEngine, ModelOutputs
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.classifier import Classifier
from bc_model.inference.engine import Engine
from bc_model.inference.model_card import DecisionThreshold, Temperature
from bc_model.training.run import Run


class Margin(ClassifierMixin, BaseEstimator):
    """A classifier with its only feature as decision function."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Margin":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0] > 0


def overconfident(n: int = 3000, temperature: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logit = rng.normal(0.5, 2.0, n)
    malignant = rng.random(n) < 1 / (1 + np.exp(-logit))
    return logit * temperature, malignant


def by_sklearn(margin: np.ndarray, malignant: np.ndarray, weights: np.ndarray | None) -> float:
    x = margin[:, None]
    model = FrozenEstimator(Margin().fit(x, malignant))
    fitted = CalibratedClassifierCV(model, method="temperature").fit(x, malignant, weights)
    # scikit-learn uses the logits (-x, x), whose difference is 2 x.
    return 1.0 / (2.0 * fitted.calibrated_classifiers_[0].calibrators[0].beta_)


# The warning concerns the training of the classifier, which is frozen.
@pytest.mark.filterwarnings("ignore:Since FrozenEstimator does not appear:UserWarning")
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_temperature_equals_sklearn(weighted: bool) -> None:
    margin, malignant = overconfident()
    case = np.full(margin.size, "")
    weights = None
    if weighted:
        case = np.random.default_rng(1).integers(0, 30, margin.size).astype(str)
        weights = case_weights(case) * margin.size
    found = fit_temperature(margin, malignant, case)
    assert found.value == pytest.approx(by_sklearn(margin, malignant, weights), rel=1e-4)


def test_fit_temperature_recovers_known_value() -> None:
    found = fit_temperature(*overconfident(30_000), np.full(30_000, ""))
    assert found.value == pytest.approx(2.5, rel=0.05)
    assert found.log_loss_after < found.log_loss_before  # type: ignore[operator]
    assert found.method.endswith("30000 validation images of unknown cases")


def test_fit_temperature_weights_every_case_equally() -> None:
    # One case has many overconfident errors; ten cases have one image each.
    margin = np.array([8.0] * 50 + [2.0, -2.0] * 5)
    malignant = np.array([False] * 50 + [True, False] * 5)
    case = np.array(["big"] * 50 + [f"c{k}" for k in range(10)])
    by_case = fit_temperature(margin, malignant, case)
    by_image = fit_temperature(margin, malignant, np.full(60, ""))
    assert (by_case.n_images, by_case.n_cases) == (60, 11)
    assert by_case.value < 5
    assert "logits are not informative" in by_image.method
    weights = case_weights(case)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[:50].sum() == pytest.approx(1 / 11)


@pytest.mark.parametrize(
    ("margin", "malignant", "reason"),
    [
        ([1.0, 2.0], [True, True], "only one class"),
        (
            [1.0, -2.0, 3.0, -1.0, 2.0],
            [True, False, True, False, True],
            "contains 2 cases of a class",
        ),
        ([1.0, -2.0] * 3, [True, False] * 3, "on the correct side of 0.5"),
        # Logits close to 0 have a lower loss with a lower temperature, in spite of errors.
        (
            [0.05, -0.05, 1e-4, -1e-4] * 3,
            [True, False, False, True] * 3,
            f"fit ended at its lower bound of {MIN_TEMPERATURE}",
        ),
        ([1.0, -2.0] * 3, [False, True] * 3, "logits are not informative"),
    ],
)
def test_fit_temperature_unsuitable_data_returns_one_with_reason(
    margin: list[float], malignant: list[bool], reason: str
) -> None:
    case = np.array(list("abcdefghijkl")[: len(margin)])
    found = fit_temperature(np.array(margin), np.array(malignant), case)
    assert found.value == 1.0
    assert reason in found.method
    assert found.method.endswith("the probabilities are not scaled")
    assert found.log_loss_after is None


def test_rescale_threshold_predicts_the_same_images() -> None:
    margin = np.random.default_rng(0).normal(0, 5, 500)
    for value in (0.0, 0.02, 0.5, 0.7, 1.0):
        entry = DecisionThreshold(value, "x", unit="image")
        rescaled = rescale_threshold(entry, 0.8, 7.18)
        predicted = [
            1 / (1 + np.exp(-margin / temperature)) >= one.value
            for one, temperature in ((entry, 0.8), (rescaled, 7.18))
        ]
        assert (predicted[0] == predicted[1]).all()
        assert (rescaled == entry) == (value in (0.0, 0.5, 1.0))


def test_rescale_threshold_by_case_is_reset() -> None:
    entry = DecisionThreshold(0.3, "x", "y", unit="case", n_images=9, n_cases=3)
    assert rescale_threshold(entry, 2.0, 2.0) == entry
    assert rescale_threshold(entry, 2.0, 1.0) == DecisionThreshold(
        0.5,
        "default: 0.300 was selected by case before the temperature changed from 2.000 to 1.000; "
        "select it again",
    )


def test_calibrate_bundle_uses_only_validation_cases(tiny_run: Run) -> None:
    bundle = open_bundle(tiny_run.path)
    stored = read_validation_predictions(tiny_run.evaluation_dir)
    entry = bundle.card.temperature
    assert (entry.n_images, entry.n_cases) == (len(stored), stored["case"].nunique())
    assert not set(stored["case"]) & set(bundle.card.data.training_cases)
    fitted = fit_temperature(
        stored["logit"].to_numpy(),
        (stored["class"] == "malignant").to_numpy(),
        stored["case"].to_numpy(dtype=str),
    )
    assert fitted == entry


def test_temperature_changes_probabilities_only(
    tiny_run: Run,
) -> None:
    bundle = open_bundle(tiny_run.path)
    other = Bundle(bundle.folder, replace(bundle.card, temperature=Temperature(3.0, "x")))
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    one, three = (Classifier(BatchingEngine(Engine(b))).predict(rgb) for b in (bundle, other))
    assert one.logits == three.logits
    for name in CLASSES:
        assert (one.heatmaps[name].raw == three.heatmaps[name].raw).all()
    margin = three.logits[1] - three.logits[0]
    assert three.prob_malignant == pytest.approx(1 / (1 + np.exp(-margin / 3.0)), abs=1e-9)
    assert (one.prob_malignant >= 0.5) == (three.prob_malignant >= 0.5)


def test_feature_table_of_another_network_is_not_loaded(tiny_run: Run, tmp_path: Path) -> None:
    network = open_bundle(tiny_run.path).graph_sha256
    stored = FeatureTable.load(tiny_run.evaluation_dir / VALIDATION_FEATURES_FILE, network)
    assert stored is not None
    assert stored.features.shape[0] == stored.stain.shape[0] == len(stored.path)
    assert FeatureTable.load(tiny_run.evaluation_dir / VALIDATION_FEATURES_FILE, "another") is None
    assert FeatureTable.load(tmp_path / "none.npz", network) is None
    (tmp_path / "bad.npz").write_bytes(b"PK")
    assert FeatureTable.load(tmp_path / "bad.npz", network) is None


def test_fit_bundle_temperature_fits_the_uncertain_range_on_calibrated_probabilities(
    tiny_run: Run, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    n = 80
    case = np.array([f"{k % 16}" for k in range(n)])
    malignant = np.arange(n) % 2 == 0
    margin = np.where(malignant, 2.0, -2.0) + rng.normal(0, 2.0, n)
    outputs = ModelOutputs(
        np.stack([-margin, margin], axis=1) / 2, np.zeros((n, 4), np.float32), np.zeros((n, 6)),
        np.zeros(n, bool), np.zeros(n, bool),
    )  # fmt: skip
    rows = pd.DataFrame(
        {
            "path": [f"{k:03d}.png" for k in range(n)], "sha256": "", "case": case,
            "class": np.where(malignant, "malignant", "benign"), "magnification": 200,
        }
    )  # fmt: skip
    bundle, files = fit_bundle_temperature(open_bundle(tiny_run.path), rows, outputs, tmp_path)
    selective = bundle.card.metrics.selective
    assert selective is not None
    assert (selective.n_images, selective.n_cases) == (n, 16)
    assert selective.band is not None
    assert bundle.uncertain_band == (selective.band.low, selective.band.high)
    text = files[tmp_path / "validation_predictions.csv"].decode()
    prob = pd.read_csv(io.StringIO(text))["prob_malignant"].to_numpy()
    answered = (prob <= selective.band.low) | (prob >= selective.band.high)
    # Every case has five images, so the coverage is that of the images.
    assert selective.band.coverage.value == pytest.approx(answered.mean())


def test_card_of_a_run_with_few_validation_cases_has_no_uncertain_range(tiny_run: Run) -> None:
    bundle = open_bundle(tiny_run.path)
    assert bundle.card.temperature.n_cases < 10
    assert bundle.card.metrics.selective is None
    assert bundle.card.metrics.test is not None
    assert bundle.uncertain_band is None
