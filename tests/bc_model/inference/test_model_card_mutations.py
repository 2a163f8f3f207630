"""A model card that can be read can be used by everything that reads it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bc_model.contribution_map import ContributionMap
from bc_model.data.synthetic import generate_image
from bc_model.errors import BcModelError
from bc_model.evaluation import check_nested
from bc_model.evaluation.checks import remove_metric_checks
from bc_model.evaluation.domain_shift import check_scale
from bc_model.inference.batching import ImageExplanation
from bc_model.inference.bundle import Bundle
from bc_model.inference.classifier import Classifier
from bc_model.inference.input_checks import find_staining_differences
from bc_model.reporting import card_to_markdown
from bc_model.utils import dumps
from tests.bc_model.inference.model_cards import mutated_bundles

IMAGE = generate_image(malignant=True, seed=1, case_seed=1, size=(64, 96))
CONTRIBUTION = ContributionMap(np.ones((1, 1), np.float32), 0.0, 0.0, 1.0)
LOGITS = np.array([0.5, 1.5], np.float32)
EXPLANATION = ImageExplanation(LOGITS, {}, False, CONTRIBUTION, np.ones(2))
IMAGES = pd.DataFrame({"magnification": [40, None]})


def use(bundle: Bundle) -> None:
    """Do what the pages, the commands and the reports do with a model card."""
    for text in (bundle.label, bundle.key, card_to_markdown(bundle.card), dumps(bundle.card)):
        text.encode()
    assert bundle.seen_cases
    inner = SimpleNamespace(bundle=bundle, scale_estimator=None, input_reference=None)
    engine = SimpleNamespace(bundle=bundle, engine=inner, explain_one=lambda *_: EXPLANATION)
    prediction = Classifier(engine).predict(IMAGE, name="SOB_M_DC-14-2523-100-001.png")
    checks = [*prediction.checks, *check_nested(bundle.card), *check_scale(bundle, IMAGES)]
    if test := bundle.card.metrics.test:
        checks += remove_metric_checks(test.checks)
        assert str(test.metrics["balanced_accuracy"])
    for check in checks:
        check.message.encode()
    if stain := bundle.card.input.stain:
        find_staining_differences(np.zeros(6), True, stain)


def test_mutated_model_cards_are_refused_or_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The seen images and the pixels are the same for every card.
    monkeypatch.setattr("bc_model.inference.classifier.check_seen", lambda *_: None)
    n_usable = 0
    for bundle in mutated_bundles(500, tmp_path / "model"):
        try:
            use(bundle)
        except BcModelError as error:
            pytest.fail(f"{error}")
        n_usable += 1
    assert 20 < n_usable < 480
