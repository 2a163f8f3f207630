"""The samples of the demonstration, their outcomes with the demo model, and the pointing score."""

from pathlib import Path

import numpy as np
import pytest

from bc_model.contribution_map import ContributionMap
from bc_model.evaluation.demo import (
    DEMO_MODEL_NAME,
    DemoResult,
    draw_demo_sample,
    evaluate_demo_sample,
    keep_malignant,
    make_demo_samples,
    score_pointing,
)
from bc_model.gradcam import Heatmap
from bc_model.inference import bundled_model_dir, list_bundles, load_classifier
from bc_model.inference.classifier import Prediction

MAX_BYTES = 2e6
MIN_POINTING_IMAGES = 100


@pytest.fixture(scope="module")
def samples():
    return make_demo_samples()


@pytest.fixture(scope="module")
def results(samples):
    classifier = load_classifier(DEMO_MODEL_NAME)
    return [evaluate_demo_sample(classifier, sample) for sample in samples]


def test_demo_samples_are_the_same_each_time(samples):
    for first, second in zip(samples, make_demo_samples(), strict=True):
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.mask, second.mask)


def test_demo_model_gives_each_sample_its_role(samples, results):
    assert [result.outcome for result in results] == [sample.role for sample in samples]
    for sample, result in zip(samples, results, strict=True):
        if sample.role in ("benign", "malignant"):
            assert result.prediction.predicted_class == sample.label


def test_uncertain_sample_is_inside_the_band(samples, results):
    (prob,) = (
        result.prediction.prob_malignant
        for sample, result in zip(samples, results, strict=True)
        if sample.role == "uncertain"
    )
    # Not at an end, so that another processor does not change the outcome.
    low, high = results[0].prediction.uncertain_band
    assert low + 0.05 < prob < high - 0.05


def test_blocked_sample_is_grayscale_and_has_no_result(samples, results):
    sample, result = samples[-1], results[-1]
    assert result.prediction.checks[0].code == "BC104"
    assert (result.pointing_hit, result.mass_in_lesion) == (None, None)
    assert list(draw_demo_sample(sample, result)) == ["Image", "True lesion"]


def test_maps_of_the_lesions_point_to_them(samples, results):
    for sample, result in zip(samples, results, strict=True):
        if result.mass_in_lesion is not None:
            assert result.pointing_hit
            assert result.mass_in_lesion > 2 * sample.mask.mean()
        elif sample.role == "benign":
            assert result.pointing_hit is None


class FixedClassifier:
    """A classifier whose map supports malignant in the upper left, and benign elsewhere."""

    def __init__(self, bundle) -> None:
        self.bundle = bundle

    def predict(self, image: np.ndarray, **_: object) -> Prediction:
        cells = np.full((4, 6), -2.0, np.float32)
        cells[0, 0] = 1.0
        contribution = ContributionMap(cells, 0.0, 0.0, float(cells.sum()))
        heatmaps = {
            name: Heatmap(name, np.ones((4, 6), np.float32)) for name in ("benign", "malignant")
        }
        return Prediction(
            "", 700, 460, (0.0, 2.0), 0.9, "malignant", heatmaps, contribution, None, ()
        )


@pytest.mark.parametrize(("rows", "hit"), [(slice(0, 230), True), (slice(230, None), False)])
def test_pointing_hit_follows_the_place_of_the_maximum(samples, rows, hit):
    mask = np.zeros((460, 700), bool)
    mask[rows, :350] = True
    sample = type(samples[0])("", samples[0].image, mask, "malignant", "malignant")
    classifier = FixedClassifier(load_classifier(DEMO_MODEL_NAME).bundle)
    result = evaluate_demo_sample(classifier, sample)
    assert result.pointing_hit is hit
    assert (result.mass_in_lesion > 0.9) is hit


def test_keep_malignant_drops_cells_that_support_benign():
    signed = ContributionMap(np.array([[1.5, -3.0], [0.0, 0.25]], np.float32), 0.0, 0.0, -1.25)
    assert keep_malignant(signed).raw.tolist() == [[1.5, 0.0], [0.0, 0.25]]


def test_score_pointing_counts_only_samples_with_a_region(results):
    prediction = results[0].prediction
    hits = [DemoResult(prediction, hit, None) for hit in (True, False, None, True, True)]
    score = score_pointing(hits)
    assert (score.value, score.n_images) == (0.75, 4)


def test_demo_model_is_listed_small_and_honest():
    bundles, problems = list_bundles(None)
    assert problems == []
    (bundle,) = (b for b in bundles if b.label == DEMO_MODEL_NAME)
    bundle.verify()
    files = bundled_model_dir(DEMO_MODEL_NAME).iterdir()
    assert sum(Path(file).stat().st_size for file in files) <= MAX_BYTES
    assert bundle.card.data.is_synthetic
    assert "synthetic" in bundle.card.limits
    assert "Do not use it for tissue" in bundle.card.intended_use


def test_demo_model_card_has_the_checks_of_its_heatmaps():
    checks = load_classifier(DEMO_MODEL_NAME).bundle.card.metrics.explanations
    pointing, grad_cam = checks.pointing
    assert pointing.images.endswith("contribution map")
    assert grad_cam.images.endswith("Grad-CAM")
    assert pointing.hit_rate.n_images >= MIN_POINTING_IMAGES
    assert pointing.hit_rate.ci_low > 3 * pointing.area
    assert checks.agreement_by_sum.value > 0.9
    # The heatmaps depend on the weights: of an independent map, the correlation is 0.
    assert checks.randomization[-1].rank_correlation < 0.5


def test_load_classifier_prefers_a_path_to_the_name_of_a_bundled_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEMO_MODEL_NAME).mkdir()
    with pytest.raises(Exception, match="is not a model"):
        load_classifier(DEMO_MODEL_NAME)
