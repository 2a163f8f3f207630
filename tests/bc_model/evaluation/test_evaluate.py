"""A figure is marked as leaky when the model has seen the cases it is computed from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.splits import make_split, read_split
from bc_model.errors import SplitError
from bc_model.evaluation.evaluate import evaluate_split
from bc_model.evaluation.report import read_report
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.engine import Engine
from bc_model.training.run import Run


@pytest.fixture(scope="module")
def engine(tiny_run: Run) -> Engine:
    return Engine(open_bundle(tiny_run.path))


def test_the_test_part_of_the_models_own_split_is_honest(
    engine: Engine, tiny_run: Run, drawn_set: Path
) -> None:
    report = evaluate_split(engine, drawn_set, read_split(tiny_run.split_file))
    assert not report.has_leakage
    assert report.protocol == "case"


@pytest.mark.parametrize("subset", ["train", "validation"])
def test_a_part_that_made_or_chose_the_model_is_leakage_and_named(
    engine: Engine, tiny_run: Run, drawn_set: Path, subset: str
) -> None:
    report = evaluate_split(engine, drawn_set, read_split(tiny_run.split_file), subset=subset)
    assert report.has_leakage
    assert report.protocol == f"case, {subset} part"


def test_a_split_of_another_seed_proportions_cases_and_is_leakage(
    engine: Engine, drawn_set: Path
) -> None:
    dataset = load_dataset(drawn_set)
    known = engine.bundle.seen_cases
    foreign = next(
        split
        for split in (make_split(dataset, "case", seed=seed) for seed in range(1, 20))
        if set(split.loc[split["subset"] == "test", "case"]) & known
    )
    assert evaluate_split(engine, drawn_set, foreign).has_leakage


def test_cases_that_the_initial_weights_knew_are_leaks(
    engine: Engine, tiny_run: Run, drawn_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = read_split(tiny_run.split_file)
    tested = set(split.loc[split["subset"] == "test", "case"])
    data = replace(engine.bundle.card.data, initial_cases=tuple(sorted(tested)))
    card = replace(engine.bundle.card, data=data)
    monkeypatch.setattr(engine, "bundle", Bundle(engine.bundle.folder, card))

    report = evaluate_split(engine, drawn_set, split)

    assert report.has_leakage
    assert "BC321" in [check.code for check in report.checks]


def test_a_model_whose_first_weights_knew_its_test_part_says_so(
    engine: Engine, tiny_run: Run, drawn_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(engine.bundle.card.data, has_leakage=True, has_initialization_leakage=True)
    card = replace(engine.bundle.card, data=data)
    monkeypatch.setattr(engine, "bundle", Bundle(engine.bundle.folder, card))

    report = evaluate_split(engine, drawn_set, read_split(tiny_run.split_file))

    assert report.has_leakage
    assert "BC211" in [check.code for check in report.checks]


def test_an_empty_part_is_refused(engine: Engine, tiny_run: Run, drawn_set: Path) -> None:
    split = read_split(tiny_run.split_file)
    with pytest.raises(SplitError, match="no test part"):
        evaluate_split(engine, drawn_set, split[split["subset"] != "test"])


def test_predictions_keep_what_a_temperature_needs(tiny_run: Run) -> None:
    predictions = read_report(tiny_run.evaluation_dir).predictions
    assert predictions is not None
    temperature = open_bundle(tiny_run.path).temperature
    expected = 1 / (1 + np.exp(-predictions["logit"] / temperature))
    assert predictions["prob_malignant"].to_numpy() == pytest.approx(expected, abs=1e-12)
