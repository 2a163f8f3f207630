import numpy as np
import pandas as pd
import pytest

from bc_model.distillation import cross_validation, student
from bc_model.distillation.cross_validation import (
    fit_pooled_temperature,
    fold_logits,
    out_of_fold_predictions,
)
from bc_model.distillation.folds import (
    ALWAYS_TRAINED,
    EXCLUDED,
    Folds,
    case_folds,
    image_folds,
    is_test_image,
    official_folds,
)
from bc_model.distillation.last_layer import PooledActivations
from bc_model.distillation.student import build_network
from bc_model.evaluation.calibration import fit_temperature
from bc_model.inference.model_card import Temperature
from tests.bc_model.distillation.conftest import QUICK


def test_case_folds_keep_cases_together_and_image_folds_do_not(source):
    table = source.table
    cases = table["case"].groupby(case_folds(table, QUICK).assignment).agg(set)
    assert len(cases) == 3
    assert len(set.union(*cases)) == sum(map(len, cases))

    images = table["case"].groupby(image_folds(table, QUICK).assignment).agg(set)
    assert len(set.union(*images)) < sum(map(len, images))


def test_official_folds_clean_excludes_test_cases_from_training(source, tmp_path):
    table = source.table
    names = table["path"].str.rpartition("/")[2]
    is_test = ~table.duplicated(["class", "magnification"])  # one image of each
    rows = zip(names, table["magnification"], is_test, strict=True)
    file = tmp_path / "dsfold1.txt"
    file.write_text("\n".join(f"{n}|{m}|1|{'test' if t else 'train'}" for n, m, t in rows))

    original, clean = (official_folds(table, file, clean=c).assignment for c in (False, True))

    assert set(original) == {0, ALWAYS_TRAINED}
    assert ((original == 0) == is_test).all()
    of_test_cases = table["case"].isin(table.loc[is_test, "case"])
    assert (clean[of_test_cases & ~is_test] == EXCLUDED).all()
    assert (clean[~of_test_cases] == ALWAYS_TRAINED).all()


def test_case_folds_keep_extra_images_with_their_case():
    cases = [str(i) for i in range(6)] * 2 + ["3", "99"]
    table = pd.DataFrame(
        {"class": ["benign", "malignant"] * 7, "case": cases, "group": cases,
         "is_extra": [False] * 12 + [True] * 2}
    )  # fmt: skip

    assignment = case_folds(table, QUICK).assignment

    assert assignment[12] == assignment[3]
    assert assignment[13] == ALWAYS_TRAINED
    test = [is_test_image(table, Folds("case", assignment), fold) for fold in range(3)]
    assert sum(mask.sum() for mask in test) == 12


def test_activations_without_a_fold_train_without_it_and_excluded_images(networks, monkeypatch):
    table = networks.source.table
    assignment = np.full(len(table), ALWAYS_TRAINED)
    assignment[table["case"] == table["case"][0]] = EXCLUDED
    assignment[0] = 0
    seen: list[np.ndarray] = []

    def spy(source, pool, is_train, config, **kwargs):
        seen.append(is_train)
        return build_network(QUICK, QUICK.image_size), np.zeros(33)

    monkeypatch.setattr("bc_model.distillation.student.train_student", spy)
    networks.activations_without(Folds("folds-clean", assignment), 0)

    assert set(table.loc[seen[0], "case"]) == set(table["case"]) - {table["case"][0]}


@pytest.mark.usefixtures("eagerly")
def test_fold_logits_trains_without_the_fold_and_saves_the_activations(networks, monkeypatch):
    table = networks.source.table
    folds = case_folds(table, QUICK)
    seen: list[np.ndarray] = []
    train_student = student.train_student

    def spy(source, pool, is_train, config, **kwargs):
        seen.append(is_train)
        trained = train_student(source, pool, is_train, config, **kwargs)
        kwargs["checkpoint_file"].parent.mkdir(exist_ok=True)
        kwargs["checkpoint_file"].touch()
        return trained

    monkeypatch.setattr(student, "train_student", spy)
    logits, teacher = fold_logits(networks, folds, 1)
    again, _ = fold_logits(networks, folds, 1)

    (is_train,) = seen
    assert not list(networks._work_dir.glob("*.checkpoint.npz"))
    np.testing.assert_array_equal(is_train, folds.assignment != 1)
    assert logits.shape == ((folds.assignment == 1).sum(), 2)
    assert teacher.shape == (len(logits),)
    np.testing.assert_array_equal(logits, again)
    np.testing.assert_allclose(logits.sum(axis=1), 0.0, atol=1e-6)


@pytest.mark.usefixtures("eagerly")
def test_activations_are_measured_again_without_training(networks, monkeypatch):
    folds = case_folds(networks.source.table, QUICK)
    before = networks.activations_without(folds, 0)
    (file,) = networks._work_dir.glob("case-0-*.npz")
    file.unlink()

    def fail(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(student, "train_student", fail)
    again = networks.activations_without(folds, 0)

    for one, two in zip(vars(before).values(), vars(again).values(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_fold_logits_do_not_depend_on_the_labels_of_the_fold(networks, monkeypatch):
    table = networks.source.table
    folds = case_folds(table, QUICK)
    rng = np.random.default_rng(0)
    n = len(table)
    fixed = PooledActivations(
        rng.normal(size=(n, 4, 6)),
        np.ones((n, 4)),
        np.zeros((n, 1, 6)),
        np.full((n, 1), np.nan),
        np.zeros(7),
    )
    monkeypatch.setattr(networks, "activations_without", lambda *args: fixed)
    logits, _ = fold_logits(networks, folds, 0)

    flip = {"benign": "malignant", "malignant": "benign"}
    left_out = folds.assignment == 0
    table.loc[left_out, "class"] = table.loc[left_out, "class"].map(flip)
    try:
        again, _ = fold_logits(networks, folds, 0)
    finally:
        table.loc[left_out, "class"] = table.loc[left_out, "class"].map(flip)

    np.testing.assert_array_equal(logits, again)


def table_of(folds: int) -> tuple[pd.DataFrame, Folds]:
    """Return folds of one benign and two malignant cases with one image each."""
    n = 3 * folds
    table = pd.DataFrame(
        {"path": [f"{i}.png" for i in range(n)], "sha256": "", "case": [str(i) for i in range(n)],
         "class": ["benign", "malignant", "malignant"] * folds, "magnification": 200,
         "subtype": "", "is_extra": False}
    )  # fmt: skip
    return table, Folds("case", np.repeat(np.arange(folds), 3))


def logits_of(margins: list[float]) -> np.ndarray:
    return np.stack([np.zeros(len(margins)), margins], axis=1)


def test_the_fit_pooled_temperature_a_fold_is_fitted_on_the_others(monkeypatch):
    table, folds = table_of(3)
    fitted_on: list[list[int]] = []

    def fake(table, folds, logits):
        fitted_on.append(sorted(logits))
        return Temperature(2.0, "a test")

    monkeypatch.setattr(cross_validation, "fit_pooled_temperature", fake)
    found = out_of_fold_predictions(table, folds, {k: logits_of([-1.0, 2.0, k]) for k in range(3)})

    assert fitted_on == [[1, 2], [0, 2], [0, 1]]
    assert found["logit"].tolist() == [-1.0, 2.0, 0.0, -1.0, 2.0, 1.0, -1.0, 2.0, 2.0]
    np.testing.assert_allclose(
        found["prob_malignant"], 1 / (1 + np.exp(-found["logit"].to_numpy() / 2.0))
    )


def test_fit_pooled_temperature_uses_only_the_images_of_its_folds():
    table, folds = table_of(3)
    logits = {k: logits_of([-4.0, 3.0, 5.0]) for k in range(3)}

    found = fit_pooled_temperature(table, folds, {k: logits[k] for k in (0, 2)})

    margin = np.tile([-4.0, 3.0, 5.0], 2)
    malignant = np.tile([False, True, True], 2)
    case = np.array(["0", "1", "2", "6", "7", "8"])
    assert found == fit_temperature(margin, malignant, case)
