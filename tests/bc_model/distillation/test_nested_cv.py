"""Nested cross-validation: the evaluated fold does not influence its model selection."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bc_model.distillation.config import NESTED_NETWORKS, DistillationConfig
from bc_model.distillation.cross_validation import case_folds
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.nested_cv import (
    SEARCH_SPACE,
    NestedCrossValidation,
    nested_configs,
    proxy_config,
    select_penalty,
)
from bc_model.distillation.student import build_network
from bc_model.distillation.teacher import Teacher
from bc_model.evaluation.calibration import fit_temperature
from bc_model.inference.model_card import SearchSpace
from bc_model.utils.serialization import to_json
from tests.bc_model.distillation.conftest import QUICK

FOUR = dataclasses.replace(QUICK, n_folds=4)
SHORT = SearchSpace({"strong": {}, "weak": {"image_mixing": 0.0}}, (0.01, 1.0), (1.0, 100.0))


@pytest.fixture
def trained(
    monkeypatch: pytest.MonkeyPatch,
) -> list[tuple[TrainingImages, DistillationConfig, int]]:
    """Replace training, and return its arguments; only the last layer is fitted."""
    found: list[tuple[TrainingImages, DistillationConfig, int]] = []
    network = build_network(FOUR, FOUR.image_size)

    def train_student(
        subset: TrainingImages,
        config: DistillationConfig,
        *,
        seed: int,
        n_processes: int,
        checkpoint_file: Path,
    ):
        found.append((subset, config, seed))
        return network

    monkeypatch.setattr("bc_model.distillation.student.train_student", train_student)
    return found


def nested(
    source: TrainingImages, work_dir: Path, search_space: SearchSpace = SHORT
) -> NestedCrossValidation:
    folds = case_folds(source.table, FOUR)
    return NestedCrossValidation(source, folds, FOUR, search_space, work_dir, selector=FOUR)


def test_run_trains_no_network_on_the_fold_of_its_evaluation_or_selection(
    source, tmp_path, trained
):
    of = case_folds(source.table, FOUR).assignment
    predictions, choices = nested(source, tmp_path).run()

    cases = [set(source.table.loc[of == fold, "case"]) for fold in range(4)]
    held_out = [
        tuple(fold for fold in range(4) if not cases[fold] & set(subset.table["case"]))
        for subset, _, _ in trained
    ]
    pairs = [one for one in held_out if len(one) == 2]
    assert sorted(pairs) == sorted([*itertools.combinations(range(4), 2)] * 2)  # two kinds of views
    assert [one for one in held_out if len(one) == 1] == [(0,), (1,), (2,), (3,)]
    assert [choice.fold for choice in choices] == [0, 1, 2, 3]
    assert sorted(predictions["path"]) == sorted(source.table["path"])


def test_run_with_selector_uses_its_config_for_selection_only(source, tmp_path, trained):
    small = dataclasses.replace(FOUR, steps=2)
    folds = case_folds(source.table, FOUR)
    _, choices = NestedCrossValidation(source, folds, FOUR, SHORT, tmp_path, selector=small).run()

    trainings = [(len(set(source.table["case"]) - set(subset.table["case"])), config.steps)
          for subset, config, _ in trained]  # fmt: skip
    assert sorted(trainings) == [(2, 3)] * 4 + [(4, 2)] * 12
    evaluated = [config for _, config, _ in trained if config.steps == 3]
    assert [
        {**to_json(FOUR), **SHORT.views[one.views], "penalty": one.penalty} for one in choices
    ] == [to_json(config) for config in evaluated]


def test_run_labels_of_a_fold_do_not_change_its_choice_and_predictions(source, tmp_path, trained):
    is_evaluated = case_folds(source.table, FOUR).assignment == 0
    other = np.where(source.table["class"] == "benign", "malignant", "benign")
    swapped = source.table.assign(**{"class": np.where(is_evaluated, other, source.table["class"])})
    with_swapped_labels = dataclasses.replace(source, table=swapped)
    folds = case_folds(source.table, FOUR)

    search_space = SearchSpace({"strong": {}}, SHORT.penalties, SHORT.last_penalties)

    (truth, choices), (swapped, choices_swapped) = (
        NestedCrossValidation(
            images, folds, FOUR, search_space, tmp_path / str(number), selector=FOUR
        ).run()
        for number, images in enumerate((source, with_swapped_labels))
    )

    assert choices[0] == choices_swapped[0]
    assert choices[1:] != choices_swapped[1:]
    truth, swapped = (one[one["fold"] == 0] for one in (truth, swapped))
    np.testing.assert_array_equal(truth["logit"], swapped["logit"])
    np.testing.assert_array_equal(truth["prob_malignant"], swapped["prob_malignant"])


def test_run_selects_the_highest_roc_auc_on_the_other_folds(source, tmp_path, monkeypatch):
    of = case_folds(source.table, FOUR).assignment
    right = np.where(source.malignant, 1.0, -1.0)
    noise = np.random.default_rng(0).normal(0.0, 3.0, len(of))

    def predict_held_out(self, without: tuple[int, ...], views: str) -> tuple[np.ndarray, float]:
        """Make strong views with the second penalty best without fold 0, else weak views."""
        out = np.isin(of, without)
        good, poor = (right + 0.3 * noise)[out], (right + noise)[out]
        best = "strong" if 0 in without and len(without) == 2 else "weak"
        return np.stack([poor, good if views == best else poor]), 0.1 * len(without)

    monkeypatch.setattr(NestedCrossValidation, "predict_held_out", predict_held_out)
    predictions, choices = nested(source, tmp_path).run()

    known = of != 0
    inner = (right + 0.3 * noise)[known]
    first = choices[0]
    assert (first.views, first.last_penalty, first.penalty) == ("strong", 100.0, 0.1)
    assert first.roc_auc_of_others == pytest.approx(roc_auc_score(source.malignant[known], inner))
    case = source.table["case"].to_numpy(str)[known]
    assert first.temperature == fit_temperature(inner, source.malignant[known], case).value
    # Its predictions are from the network without this fold only.
    outer = predictions[predictions["fold"] == 0]["logit"]
    np.testing.assert_allclose(outer, (right + noise)[of == 0])


def test_predict_held_out_does_not_depend_on_the_scale_of_the_teacher(
    source, tmp_path, trained, monkeypatch
):
    original, penalty = nested(source, tmp_path / "original").predict_held_out((0,), "strong")
    fit = Teacher.fit

    def fit_scaled(*args, **kwargs) -> Teacher:
        teacher = fit(*args, **kwargs)
        return dataclasses.replace(teacher, kernel=3 * teacher.kernel, bias=3 * teacher.bias)

    monkeypatch.setattr(Teacher, "fit", fit_scaled)
    scaled, scaled_penalty = nested(source, tmp_path / "scaled").predict_held_out((0,), "strong")

    assert scaled_penalty == penalty
    assert np.abs(original).max() > 0.1
    np.testing.assert_allclose(scaled, original, rtol=1e-3, atol=1e-4)


def test_predict_held_out_last_penalty_keeps_mean_and_spread(source, tmp_path, monkeypatch):
    of = case_folds(source.table, FOUR).assignment
    known, unit = of != 0, np.random.default_rng(0).uniform(1.0, 3.0, len(of))
    penalty = SHORT.penalties[0]
    monkeypatch.setattr(
        NestedCrossValidation, "_load_or_train", lambda *_: (unit[:, None], penalty)
    )

    logits, _ = nested(source, tmp_path).predict_held_out((0,), "strong")

    # With one hidden unit, each penalty scales the unit. The expected values weight cases equally.
    case = source.table.loc[known, "case"]
    weight = 1 / case.map(case.value_counts()).to_numpy()
    subset = source.select(known)
    teacher = Teacher.fit(subset.features, subset.malignant, case.to_numpy(str), penalty)
    teacher_logit = teacher.predict_logit(teacher.normalize(subset.features))
    means = np.average([teacher_logit, unit[known]], axis=1, weights=weight)
    covariances = np.cov(teacher_logit, unit[known], aweights=weight, ddof=0)
    of_teacher, of_unit = np.sqrt(np.diag(covariances))
    sign = np.sign(covariances[0, 1])
    expected = means[0] / of_teacher + sign * (unit[~known] - means[1]) / of_unit
    np.testing.assert_allclose(logits, [expected] * len(SHORT.last_penalties), rtol=1e-5)


def test_predict_held_out_saves_networks_by_teacher_penalties(source, tmp_path, trained):
    first = nested(source, tmp_path).predict_held_out((1, 0), "weak")
    again = nested(source, tmp_path).predict_held_out((0, 1), "weak")
    assert len(trained) == 1
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]

    longer = dataclasses.replace(SHORT, last_penalties=(1.0, 2.0, 100.0))
    more = nested(source, tmp_path, longer).predict_held_out((0, 1), "weak")[0]
    np.testing.assert_array_equal(more[[0, 2]], first[0])
    assert len(trained) == 1

    nested(source, tmp_path, dataclasses.replace(SHORT, penalties=(0.1,))).predict_held_out(
        (0, 1), "weak"
    )
    assert len(trained) == 2
    _, config, seed = trained[0]
    assert (config.image_mixing, seed) == (0.0, FOUR.seed + 1)


def test_select_penalty_has_the_highest_cross_validated_roc_auc(source):
    of = case_folds(source.table, FOUR).assignment
    features, malignant = source.features, source.malignant
    case = source.table["case"].to_numpy(str)
    penalties = (10.0, 1e-6, 0.1)

    roc_aucs = {}
    for penalty in penalties:
        logits = np.zeros(len(of))
        for fold in range(4):
            at, out = np.flatnonzero(of != fold), np.flatnonzero(of == fold)
            teacher = Teacher.fit(features[at], malignant[at], case[at], penalty)
            logits[out] = teacher.predict_logit(teacher.normalize(features[out]))
        roc_aucs[penalty] = roc_auc_score(malignant, logits)
    best = max(roc_aucs.values())

    assert select_penalty(source, of, penalties) == min(p for p, a in roc_aucs.items() if a == best)


@pytest.mark.parametrize("networks", NESTED_NETWORKS)
def test_nested_configs_networks_are_the_own_or_the_proxy(networks):
    evaluated, selector = nested_configs(networks, FOUR)

    assert (evaluated == FOUR) == (networks != "proxy")
    assert (selector == FOUR) == (networks == "full")
    assert {evaluated, selector} <= {FOUR, proxy_config(FOUR)}


def test_search_space_contains_the_default_config():
    config, proxy = DistillationConfig(), proxy_config(DistillationConfig())

    assert {} in SEARCH_SPACE.views.values()
    assert config.penalty in SEARCH_SPACE.penalties
    assert config.last_penalty in SEARCH_SPACE.last_penalties
    expected = {"backbone", "steps", "batch_size", "compute_dtype"}
    changed = {k for k, v in to_json(config).items() if to_json(proxy)[k] != v}
    assert changed == expected
