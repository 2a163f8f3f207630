"""Robustness of predictions to changes of the images."""

import numpy as np
import pytest

from bc_model.data.dataset import load_dataset
from bc_model.errors import DataError
from bc_model.evaluation.perturbations import PERTURBATIONS
from bc_model.evaluation.robustness import (
    evaluate_robustness,
    predict_perturbed,
    robustness_table,
)
from bc_model.inference.bundle import open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.model_card import RobustnessTable
from bc_model.utils.serialization import dumps, loads

BY_NAME = {change.name: change for change in PERTURBATIONS}


def test_table_counts_flips_by_direction_and_gives_the_auc_of_changed_images() -> None:
    changes = PERTURBATIONS[:2]
    prob = np.array(
        [[0.9, 0.4, 0.9], [0.8, 0.7, 0.8], [0.7, 0.3, 0.7], [0.2, 0.1, 0.2], [0.4, 0.5, 0.4]]
    )
    table = robustness_table(
        prob, [1, 1, 1, 0, 0], list("abcde"), threshold=0.5, images="x", perturbations=changes
    )
    first, second = table.rows
    assert (first.flips.value, first.n_to_malignant, first.n_to_benign) == (0.6, 1, 2)
    # Of six pairs, 0.4 and 0.3 lose to 0.5: four are in the right order.
    assert first.roc_auc.value == pytest.approx(4 / 6)
    assert (second.flips.value, second.n_to_malignant, second.n_to_benign) == (0.0, 0, 0)
    assert table.unchanged_roc_auc.value == 1.0
    assert (first.flips.n_images, first.flips.n_cases) == (5, 5)
    assert loads(RobustnessTable, dumps(table)) == table


def test_interval_of_flips_is_over_cases() -> None:
    """Ten copies of every image add no information about new cases."""
    rng = np.random.default_rng(0)
    prob = rng.uniform(size=(24, 2))
    malignant, case = np.arange(24) % 2, [f"c{i}" for i in range(24)]
    tables = [
        robustness_table(
            np.tile(prob, (copies, 1)), np.tile(malignant, copies), case * copies,
            threshold=0.5, images="x", perturbations=PERTURBATIONS[:1],
        )
        for copies in (1, 10)
    ]  # fmt: skip
    one, ten = (table.rows[0].flips for table in tables)
    assert (one.ci_low, one.ci_high) == pytest.approx((ten.ci_low, ten.ci_high))
    assert (ten.n_images, ten.n_cases) == (240, 24)


def test_table_refuses_probabilities_of_other_images() -> None:
    with pytest.raises(DataError, match="Predict every image"):
        robustness_table([[0.1, 0.2]], [1, 0], ["a", "b"], threshold=0.5, images="x")


def test_changes_apply_to_the_image_before_it_is_resized() -> None:
    """A predictor of the mean brightness sees the center that the crop selects."""
    image = np.zeros((80, 120, 3), np.uint8)
    image[20:60, 30:90] = 200

    def mean_brightness(pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape[1:] == (16, 24, 3)
        mean = pixels.mean(axis=(1, 2, 3))
        return np.stack([-mean, mean], axis=1)

    logits = predict_perturbed(
        mean_brightness, [image, image], (16, 24), perturbations=[BY_NAME["crop_50"]]
    )
    assert logits.shape == (2, 2, 2)
    assert logits[0, 0, 1] == pytest.approx(50)
    assert logits[0, 1, 1] == pytest.approx(200)


def test_a_model_is_evaluated_on_a_dataset(tiny_run, synthetic_dataset) -> None:
    engine = Engine(open_bundle(tiny_run.path))
    dataset = load_dataset(synthetic_dataset)
    done = []
    table = evaluate_robustness(engine, dataset, progress=lambda n, total: done.append((n, total)))
    assert table.n_images == len(dataset.images) == len(done) == done[-1][1]
    assert [row.name for row in table.rows] == [change.name for change in PERTURBATIONS]
    assert table.threshold == engine.bundle.threshold
    assert all(row.flips.n_images == table.n_images for row in table.rows)
