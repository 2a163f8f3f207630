"""Evaluation of a model on a subset: leakage is reported if training data contain its cases."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.splits import make_split, read_split
from bc_model.errors import SplitError
from bc_model.evaluation.evaluate import evaluate, evaluate_split
from bc_model.evaluation.external import evaluate_external
from bc_model.evaluation.report import read_report
from bc_model.inference.batching import BatchingEngine
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.classifier import Classifier
from bc_model.inference.engine import Engine
from bc_model.inference.head import Head
from bc_model.training.run import Run


@pytest.fixture(scope="module")
def engine(tiny_run: Run) -> Engine:
    return Engine(open_bundle(tiny_run.path))


def test_evaluate_split_own_test_subset_is_leakage_free(
    engine: Engine, tiny_run: Run, synthetic_dataset: Path
) -> None:
    report = evaluate_split(engine, synthetic_dataset, read_split(tiny_run.split_file))
    assert not report.has_leakage
    assert report.protocol == "case"


def test_evaluate_classifier_equals_evaluation_of_its_engine(
    engine: Engine, tiny_run: Run, synthetic_dataset: Path
) -> None:
    split, dataset = read_split(tiny_run.split_file), load_dataset(synthetic_dataset)
    classifier = Classifier(BatchingEngine(engine))
    report = evaluate(classifier, dataset, split, subset="test")
    assert report == evaluate(engine, dataset, split)
    assert report == evaluate_split(engine, synthetic_dataset, split)
    assert evaluate_external(classifier, dataset) == evaluate_external(engine, dataset)


def test_evaluate_counts_constant_answers(
    engine: Engine, tiny_run: Run, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = read_split(tiny_run.split_file)
    n_test = int((split["subset"] == "test").sum())
    assert "BC153" not in [
        check.code for check in evaluate_split(engine, synthetic_dataset, split).checks
    ]
    monkeypatch.setattr(Head, "is_constant", lambda _, pooled: np.arange(len(pooled)) < 2)
    reports = (
        evaluate_split(engine, synthetic_dataset, split),
        evaluate_external(engine, load_dataset(synthetic_dataset), include_blocked=True),
    )
    found = [check for report in reports for check in report.checks if check.code == "BC153"]
    assert len(found) == 2
    assert found[0].params == {"n_found": 2, "n_images": n_test}


@pytest.mark.parametrize("subset", ["train", "validation"])
def test_evaluate_split_other_subset_has_leakage(
    engine: Engine, tiny_run: Run, synthetic_dataset: Path, subset: str
) -> None:
    report = evaluate_split(
        engine, synthetic_dataset, read_split(tiny_run.split_file), subset=subset
    )
    assert report.has_leakage
    assert report.protocol == f"case, {subset} subset"


def test_evaluate_split_foreign_split_has_leakage(engine: Engine, synthetic_dataset: Path) -> None:
    dataset = load_dataset(synthetic_dataset)
    known = engine.bundle.seen_cases
    foreign = next(
        split
        for split in (make_split(dataset, "case", seed=seed) for seed in range(1, 20))
        if set(split.loc[split["subset"] == "test", "case"]) & known
    )
    assert evaluate_split(engine, synthetic_dataset, foreign).has_leakage


def test_evaluate_split_cases_of_initial_weights_have_leakage(
    engine: Engine, tiny_run: Run, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = read_split(tiny_run.split_file)
    tested = set(split.loc[split["subset"] == "test", "case"])
    data = replace(engine.bundle.card.data, initial_cases=tuple(sorted(tested)))
    card = replace(engine.bundle.card, data=data)
    monkeypatch.setattr(engine, "bundle", Bundle(engine.bundle.folder, card))

    report = evaluate_split(engine, synthetic_dataset, split)

    assert report.has_leakage
    assert "BC321" in [check.code for check in report.checks]


def test_evaluate_split_initialization_leakage_returns_check(
    engine: Engine, tiny_run: Run, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(engine.bundle.card.data, has_leakage=True, has_initialization_leakage=True)
    card = replace(engine.bundle.card, data=data)
    monkeypatch.setattr(engine, "bundle", Bundle(engine.bundle.folder, card))

    report = evaluate_split(engine, synthetic_dataset, read_split(tiny_run.split_file))

    assert report.has_leakage
    assert "BC211" in [check.code for check in report.checks]


def test_evaluate_split_empty_subset_raises(
    engine: Engine, tiny_run: Run, synthetic_dataset: Path
) -> None:
    split = read_split(tiny_run.split_file)
    with pytest.raises(SplitError, match="Empty test subset"):
        evaluate_split(engine, synthetic_dataset, split[split["subset"] != "test"])


def test_stored_predictions_contain_logits_before_temperature(tiny_run: Run) -> None:
    predictions = read_report(tiny_run.evaluation_dir).predictions
    assert predictions is not None
    temperature = open_bundle(tiny_run.path).temperature
    expected = 1 / (1 + np.exp(-predictions["logit"] / temperature))
    assert predictions["prob_malignant"].to_numpy() == pytest.approx(expected, abs=1e-12)
