"""The temperature: against scikit-learn, known truths, and where there is none to be had."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from bc_model.data.breakhis import CLASSES
from bc_model.evaluation.calibrate_model import FEATURES_FILE, read_validation_predictions
from bc_model.evaluation.calibration import LOWEST, case_weights, fit_temperature, rescale_threshold
from bc_model.evaluation.features import FeatureTable
from bc_model.inference.batching import BatchingEngine
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.classifier import Classifier
from bc_model.inference.engine import Engine
from bc_model.inference.model_card import DecisionThreshold, Temperature
from bc_model.training.run import Run


class Margin(ClassifierMixin, BaseEstimator):
    """A classifier whose decision is its only feature."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Margin":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0] > 0


def overbold(n: int = 3000, temperature: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    leakage_free = rng.normal(0.5, 2.0, n)
    malignant = rng.random(n) < 1 / (1 + np.exp(-leakage_free))
    return leakage_free * temperature, malignant


def by_sklearn(margin: np.ndarray, malignant: np.ndarray, weights: np.ndarray | None) -> float:
    x = margin[:, None]
    model = FrozenEstimator(Margin().fit(x, malignant))
    fitted = CalibratedClassifierCV(model, method="temperature").fit(x, malignant, weights)
    # It takes the logits of the two classes for (-x, x), so 2 x lies between them.
    return 1.0 / (2.0 * fitted.calibrated_classifiers_[0].calibrators[0].beta_)


# It means the training of the classifier, which is frozen.
@pytest.mark.filterwarnings("ignore:Since FrozenEstimator does not appear:UserWarning")
@pytest.mark.parametrize("weighted", [False, True])
def test_equal_to_sklearn(weighted: bool) -> None:
    margin, malignant = overbold()
    case = np.full(margin.size, "")
    weights = None
    if weighted:
        case = np.random.default_rng(1).integers(0, 30, margin.size).astype(str)
        weights = case_weights(case) * margin.size
    found = fit_temperature(margin, malignant, case)
    assert found.value == pytest.approx(by_sklearn(margin, malignant, weights), rel=1e-4)


def test_a_known_temperature_is_found() -> None:
    found = fit_temperature(*overbold(30_000), np.full(30_000, ""))
    assert found.value == pytest.approx(2.5, rel=0.05)
    assert found.log_loss_after < found.log_loss_before  # type: ignore[operator]
    assert found.method.endswith("30000 validation pictures of unknown cases")


def test_a_case_counts_once() -> None:
    # One case of many over-bold mistakes against ten cases of one picture each.
    margin = np.array([8.0] * 50 + [2.0, -2.0] * 5)
    malignant = np.array([False] * 50 + [True, False] * 5)
    case = np.array(["big"] * 50 + [f"c{k}" for k in range(10)])
    by_case = fit_temperature(margin, malignant, case)
    by_image = fit_temperature(margin, malignant, np.full(60, ""))
    assert (by_case.n_images, by_case.n_cases) == (60, 11)
    assert by_case.value < 5
    assert "logits tell nothing" in by_image.method
    weights = case_weights(case)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[:50].sum() == pytest.approx(1 / 11)


@pytest.mark.parametrize(
    ("margin", "malignant", "why"),
    [
        ([1.0, 2.0], [True, True], "one class only"),
        ([1.0, -2.0, 3.0, -1.0, 2.0], [True, False, True, False, True], "has 2 cases of a class"),
        ([1.0, -2.0] * 3, [True, False] * 3, "on its right side of 0.5"),
        # Logits so near to 0 that bolder is better in spite of mistakes.
        (
            [0.05, -0.05, 1e-4, -1e-4] * 3,
            [True, False, False, True] * 3,
            f"fit ran into its lower end of {LOWEST}",
        ),
        ([1.0, -2.0] * 3, [False, True] * 3, "logits tell nothing"),
    ],
)
def test_where_there_is_none(margin: list[float], malignant: list[bool], why: str) -> None:
    case = np.array(list("abcdefghijkl")[: len(margin)])
    found = fit_temperature(np.array(margin), np.array(malignant), case)
    assert found.value == 1.0
    assert why in found.method
    assert found.method.endswith("probabilities are raw")
    assert found.log_loss_after is None


def test_a_carried_cut_off_calls_the_same_images() -> None:
    margin = np.random.default_rng(0).normal(0, 5, 500)
    for value in (0.0, 0.02, 0.5, 0.7, 1.0):
        entry = DecisionThreshold(value, "x", unit="image")
        carried = rescale_threshold(entry, 0.8, 7.18)
        called = [
            1 / (1 + np.exp(-margin / temperature)) >= one.value
            for one, temperature in ((entry, 0.8), (carried, 7.18))
        ]
        assert (called[0] == called[1]).all()
        assert (carried == entry) == (value in (0.0, 0.5, 1.0))


def test_a_cut_off_by_case_is_not_carried_over() -> None:
    entry = DecisionThreshold(0.3, "x", "y", unit="case", n_images=9, n_cases=3)
    assert rescale_threshold(entry, 2.0, 2.0) == entry
    assert rescale_threshold(entry, 2.0, 1.0) == DecisionThreshold(
        0.5,
        "default: 0.300 was chosen by case before temperature 2.000 became 1.000; choose it again",
    )


def test_a_run_is_calibrated_on_its_validation_cases_alone(tiny_run: Run) -> None:
    bundle = open_bundle(tiny_run.path)
    kept = read_validation_predictions(tiny_run.evaluation_dir)
    entry = bundle.card.temperature
    assert (entry.n_images, entry.n_cases) == (len(kept), kept["case"].nunique())
    assert not set(kept["case"]) & set(bundle.card.data.training_cases)
    fitted = fit_temperature(
        kept["logit"].to_numpy(),
        (kept["class"] == "malignant").to_numpy(),
        kept["case"].to_numpy(dtype=str),
    )
    assert fitted == entry


def test_a_temperature_moves_probabilities_and_neither_logits_nor_heatmaps(
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


def test_a_new_network_is_not_taken_for_the_old(tiny_run: Run, tmp_path: Path) -> None:
    network = open_bundle(tiny_run.path).network
    kept = FeatureTable.load(tiny_run.evaluation_dir / FEATURES_FILE, network)
    assert kept is not None
    assert kept.features.shape[0] == kept.stain.shape[0] == len(kept.path)
    assert FeatureTable.load(tiny_run.evaluation_dir / FEATURES_FILE, "another") is None
    assert FeatureTable.load(tmp_path / "none.npz", network) is None
    (tmp_path / "bad.npz").write_bytes(b"PK")
    assert FeatureTable.load(tmp_path / "bad.npz", network) is None
