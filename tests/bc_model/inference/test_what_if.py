"""What if: the difference between the predictions for an image and for its changed copy."""

import numpy as np
import pytest

from bc_model.data.image_changes import ImageChange, apply_change
from bc_model.data.synthetic import generate_image
from bc_model.inference.classifier import load_classifier
from bc_model.inference.what_if import predict_change


def test_a_change_is_compared_with_the_image_itself() -> None:
    classifier = load_classifier("synthetic-demo")
    image = generate_image(malignant=True, seed=1)
    before = classifier.predict(image, magnification=200, show_anyway=True)
    change = ImageChange((0.2, 0.2, 0.8, 0.8), brightness=0.9)
    result = predict_change(classifier, image, before, change)
    changed = apply_change(image, change)
    after = classifier.predict(changed, magnification=200, show_anyway=True)
    assert (result.image == changed).all()
    assert result.prediction.prob_malignant == after.prob_malignant
    assert result.prob_difference == after.prob_malignant - before.prob_malignant
    assert result.margin_difference == pytest.approx(
        (after.logits[1] - after.logits[0]) - (before.logits[1] - before.logits[0]), abs=1e-4
    )
    assert result.margin_difference != 0.0


def test_a_changed_image_keeps_the_checks_of_its_name() -> None:
    classifier = load_classifier("bundled")
    image = generate_image(malignant=True, seed=1)
    name = "SOB_M_DC-14-900001-200-001.png"
    before = classifier.predict(image, name=name, show_anyway=True)
    assert before.is_forced
    result = predict_change(classifier, image, before, ImageChange(blur_px=1.0)).prediction
    assert result.is_forced
    names = [{c.code for c in p.checks} & {"BC102", "BC110"} for p in (before, result)]
    assert names[0] == names[1]


def test_a_blocked_prediction_has_nothing_to_compare() -> None:
    classifier = load_classifier("bundled")
    blank = np.full((460, 700, 3), 250, np.uint8)
    prediction = classifier.predict(blank, magnification=200)
    with pytest.raises(ValueError, match="blocked"):
        predict_change(classifier, blank, prediction, ImageChange())
