"""Choosing inside the folds: what is judged has no say in what is chosen for it."""

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
    Learned,
    Nested,
    SearchGrid,
    Told,
    choose_penalty,
    nested_configs,
    proxy_config,
)
from bc_model.distillation.student import build_network
from bc_model.distillation.teacher import Teacher
from bc_model.evaluation.calibration import fit_temperature
from bc_model.utils.serialization import to_json
from tests.bc_model.distillation.conftest import QUICK

FOUR = dataclasses.replace(QUICK, n_folds=4)
SHORT = SearchGrid({"strange": {}, "plain": {"mixed": 0.0}}, (0.01, 1.0), (1.0, 100.0))


@pytest.fixture
def learned(
    monkeypatch: pytest.MonkeyPatch,
) -> list[tuple[TrainingImages, DistillationConfig, int]]:
    """A network that stays as it began: the last layer alone is fitted."""
    found: list[tuple[TrainingImages, DistillationConfig, int]] = []
    network = build_network(FOUR, FOUR.image_size)

    def learn(
        subset: TrainingImages,
        config: DistillationConfig,
        *,
        seed: int,
        processes: int,
        draft: Path,
    ):
        found.append((subset, config, seed))
        return network

    monkeypatch.setattr("bc_model.distillation.student.learn", learn)
    return found


def nested(source: TrainingImages, work: Path, search_space: SearchGrid = SHORT) -> Nested:
    return Nested(source, case_folds(source.table, FOUR), FOUR, search_space, work, chooser=FOUR)


def test_no_network_of_a_choice_or_a_prediction_knows_the_fold_in_question(
    source, tmp_path, learned
):
    of = case_folds(source.table, FOUR).of
    predictions, choices = nested(source, tmp_path).predictions()

    cases = [set(source.table.loc[of == fold, "case"]) for fold in range(4)]
    left_out = [
        tuple(fold for fold in range(4) if not cases[fold] & set(subset.table["case"]))
        for subset, _, _ in learned
    ]
    pairs = [one for one in left_out if len(one) == 2]
    assert sorted(pairs) == sorted([*itertools.combinations(range(4), 2)] * 2)  # two kinds of views
    assert [one for one in left_out if len(one) == 1] == [(0,), (1,), (2,), (3,)]
    assert [choice.fold for choice in choices] == [0, 1, 2, 3]
    assert sorted(predictions["path"]) == sorted(source.table["path"])


def test_other_networks_may_choose_than_are_judged(source, tmp_path, learned):
    small = dataclasses.replace(FOUR, steps=2)
    folds = case_folds(source.table, FOUR)
    _, choices = Nested(source, folds, FOUR, SHORT, tmp_path, chooser=small).predictions()

    of = [(len(set(source.table["case"]) - set(subset.table["case"])), config.steps)
          for subset, config, _ in learned]  # fmt: skip
    assert sorted(of) == [(2, 3)] * 4 + [(4, 2)] * 12
    judged = [config for _, config, _ in learned if config.steps == 3]
    assert [
        {**to_json(FOUR), **SHORT.views[one.views], "penalty": one.penalty} for one in choices
    ] == [to_json(config) for config in judged]


def test_what_a_fold_is_has_no_say_in_what_is_chosen_and_told_for_it(source, tmp_path, learned):
    judged = case_folds(source.table, FOUR).of == 0
    other = np.where(source.table["class"] == "benign", "malignant", "benign")
    swapped = source.table.assign(**{"class": np.where(judged, other, source.table["class"])})
    liar = dataclasses.replace(source, table=swapped)
    folds = case_folds(source.table, FOUR)

    search_space = SearchGrid({"strange": {}}, SHORT.penalties, SHORT.last_penalties)

    (truth, chosen), (lie, chosen_too) = (
        Nested(one, folds, FOUR, search_space, tmp_path / str(number), chooser=FOUR).predictions()
        for number, one in enumerate((source, liar))
    )

    assert chosen[0] == chosen_too[0]
    assert chosen[1:] != chosen_too[1:]
    truth, lie = (one[one["fold"] == 0] for one in (truth, lie))
    np.testing.assert_array_equal(truth["logit"], lie["logit"])
    np.testing.assert_array_equal(truth["prob_malignant"], lie["prob_malignant"])


def test_the_pair_of_largest_area_on_the_other_folds_is_chosen(source, tmp_path, monkeypatch):
    of = case_folds(source.table, FOUR).of
    right = np.where(source.malignant, 1.0, -1.0)
    noise = np.random.default_rng(0).normal(0.0, 3.0, len(of))

    def told(self, without: tuple[int, ...], views: str) -> Told:
        """Strange views with the second penalty are best without fold 0, plain ones with it."""
        out = np.isin(of, without)
        good, poor = (right + 0.3 * noise)[out], (right + noise)[out]
        best = "strange" if 0 in without and len(without) == 2 else "plain"
        return Told(np.stack([poor, good if views == best else poor]), 0.1 * len(without))

    monkeypatch.setattr(Nested, "told", told)
    predictions, choices = nested(source, tmp_path).predictions()

    known = of != 0
    inner = (right + 0.3 * noise)[known]
    first = choices[0]
    assert (first.views, first.last_penalty, first.penalty) == ("strange", 100.0, 0.1)
    assert first.roc_auc_of_others == pytest.approx(roc_auc_score(source.malignant[known], inner))
    case = source.table["case"].to_numpy(str)[known]
    assert first.temperature == fit_temperature(inner, source.malignant[known], case).value
    # For its verdicts: the same kind of views and penalty, of the network without this fold alone.
    outer = predictions[predictions["fold"] == 0]["logit"]
    np.testing.assert_allclose(outer, (right + noise)[of == 0])


def test_a_teacher_that_says_the_same_louder_is_pooled_as_the_same(
    source, tmp_path, learned, monkeypatch
):
    soft = nested(source, tmp_path / "soft").told((0,), "strange")
    fit = Teacher.fit

    def louder(*args, **kwargs) -> Teacher:
        teacher = fit(*args, **kwargs)
        return dataclasses.replace(teacher, kernel=3 * teacher.kernel, bias=3 * teacher.bias)

    monkeypatch.setattr(Teacher, "fit", louder)
    loud = nested(source, tmp_path / "loud").told((0,), "strange")

    assert loud.penalty == soft.penalty
    assert np.abs(soft.logits).max() > 0.1
    np.testing.assert_allclose(loud.logits, soft.logits, rtol=1e-3, atol=1e-4)


def test_no_penalty_of_the_last_layer_moves_or_shrinks_what_is_pooled(
    source, tmp_path, monkeypatch
):
    of = case_folds(source.table, FOUR).of
    known, unit = of != 0, np.random.default_rng(0).uniform(1.0, 3.0, len(of))
    penalty = SHORT.penalties[0]
    monkeypatch.setattr(Nested, "_learned", lambda *_: Learned(unit[:, None], penalty))

    told = nested(source, tmp_path).told((0,), "strange")

    # One hidden unit: whatever the penalty, its line is the unit itself, in other units. By hand,
    # with every case weighing the same:
    case = source.table.loc[known, "case"]
    weight = 1 / case.map(case.value_counts()).to_numpy()
    subset = source.select(known)
    teacher = Teacher.fit(subset.features, subset.malignant, case.to_numpy(str), penalty)
    taught = teacher.logit(teacher.normalized(subset.features))
    means = np.average([taught, unit[known]], axis=1, weights=weight)
    covariances = np.cov(taught, unit[known], aweights=weight, ddof=0)
    of_teacher, of_unit = np.sqrt(np.diag(covariances))
    sign = np.sign(covariances[0, 1])
    expected = means[0] / of_teacher + sign * (unit[~known] - means[1]) / of_unit
    np.testing.assert_allclose(told.logits, [expected] * len(SHORT.last_penalties), rtol=1e-5)


def test_what_was_learned_is_kept_for_the_teachers_it_may_have(source, tmp_path, learned):
    first = nested(source, tmp_path).told((1, 0), "plain")
    again = nested(source, tmp_path).told((0, 1), "plain")
    assert len(learned) == 1
    np.testing.assert_array_equal(first.logits, again.logits)
    assert first.penalty == again.penalty

    longer = dataclasses.replace(SHORT, last_penalties=(1.0, 2.0, 100.0))
    more = nested(source, tmp_path, longer).told((0, 1), "plain").logits
    np.testing.assert_array_equal(more[[0, 2]], first.logits)
    assert len(learned) == 1

    nested(source, tmp_path, dataclasses.replace(SHORT, penalties=(0.1,))).told((0, 1), "plain")
    assert len(learned) == 2
    _, config, seed = learned[0]
    assert (config.mixed, seed) == (0.0, FOUR.seed + 1)


def test_the_teacher_s_penalty_is_the_best_over_the_folds_it_may_know(source):
    of = case_folds(source.table, FOUR).of
    features, malignant = source.features, source.malignant
    case = source.table["case"].to_numpy(str)
    penalties = (10.0, 1e-6, 0.1)

    areas = {}
    for penalty in penalties:
        logits = np.zeros(len(of))
        for fold in range(4):
            at, out = np.flatnonzero(of != fold), np.flatnonzero(of == fold)
            teacher = Teacher.fit(features[at], malignant[at], case[at], penalty)
            logits[out] = teacher.logit(teacher.normalized(features[out]))
        areas[penalty] = roc_auc_score(malignant, logits)
    best = max(areas.values())

    assert choose_penalty(source, of, penalties) == min(p for p, a in areas.items() if a == best)


@pytest.mark.parametrize("networks", NESTED_NETWORKS)
def test_who_is_judged_and_who_chooses(networks):
    judged, chooser = nested_configs(networks, FOUR)

    assert (judged == FOUR) == (networks != "small")
    assert (chooser == FOUR) == (networks == "full")
    assert {judged, chooser} <= {FOUR, proxy_config(FOUR)}


def test_the_shipped_recipe_is_on_the_menu():
    config, proxy = DistillationConfig(), proxy_config(DistillationConfig())

    assert {} in SEARCH_SPACE.views.values()
    assert config.penalty in SEARCH_SPACE.penalties
    assert config.last_penalty in SEARCH_SPACE.last_penalties
    kept = {"backbone", "steps", "batch_size", "compute_dtype"}
    changed = {k for k, v in to_json(config).items() if to_json(proxy)[k] != v}
    assert changed == kept
