import numpy as np
import pandas as pd
import pytest

from bc_model.distillation import cross_validation
from bc_model.distillation.cross_validation import (
    LEARNED,
    LEFT_OUT,
    Folds,
    case_folds,
    cross_validated_predictions,
    fold_logits,
    image_folds,
    official_folds,
    temperature_of,
)
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.student import build_network
from bc_model.evaluation.calibration import fit_temperature
from bc_model.inference.model_card import Temperature
from tests.bc_model.distillation.conftest import QUICK


def test_no_case_is_in_two_folds_unless_images_are_dealt(source):
    table = source.table
    cases = table["case"].groupby(case_folds(table, QUICK).of).agg(set)
    assert len(cases) == 3
    assert len(set.union(*cases)) == sum(map(len, cases))

    images = table["case"].groupby(image_folds(table, QUICK).of).agg(set)
    assert len(set.union(*images)) < sum(map(len, images))


def test_the_clean_official_fold_keeps_the_cases_of_the_test_part_out_of_training(source, tmp_path):
    table = source.table
    names = table["path"].str.rpartition("/")[2]
    tested = ~table.duplicated(["class", "magnification"])  # one picture of each
    rows = zip(names, table["magnification"], tested, strict=True)
    file = tmp_path / "dsfold1.txt"
    file.write_text("\n".join(f"{n}|{m}|1|{'test' if t else 'train'}" for n, m, t in rows))

    has_leakage, clean = (official_folds(table, file, clean=c).of for c in (False, True))

    assert set(has_leakage) == {0, LEARNED}
    assert ((has_leakage == 0) == tested).all()
    of_tested_cases = table["case"].isin(table.loc[tested, "case"])
    assert (clean[of_tested_cases & ~tested] == LEFT_OUT).all()
    assert (clean[~of_tested_cases] == LEARNED).all()


def test_what_a_clean_official_fold_leaves_out_is_not_learned_from(source, tmp_path, monkeypatch):
    of = np.full(len(source.table), LEARNED)
    case = source.table["case"]
    of[case == case[0]] = LEFT_OUT
    of[0] = 0
    seen: list[TrainingImages] = []

    def spy(subset: TrainingImages, *args, **kwargs):
        seen.append(subset)
        return build_network(QUICK, QUICK.image_size)

    monkeypatch.setattr("bc_model.distillation.student.learn", spy)
    fold_logits(source, Folds("folds-clean", of), 0, QUICK, tmp_path)

    assert set(seen[0].table["case"]) == set(case) - {case[0]}


@pytest.mark.usefixtures("eagerly")
def test_a_fold_is_judged_by_a_model_that_has_not_seen_it_and_kept(source, tmp_path, monkeypatch):
    folds = case_folds(source.table, QUICK)
    seen: list[TrainingImages] = []
    from bc_model.distillation import student as learner

    learn = learner.learn

    def spy(subset: TrainingImages, *args, **kwargs):
        seen.append(subset)
        return learn(subset, *args, **kwargs)

    monkeypatch.setattr(learner, "learn", spy)
    logits = fold_logits(source, folds, 1, QUICK, tmp_path)
    again = fold_logits(source, folds, 1, QUICK, tmp_path)

    (subset,) = seen
    assert not set(subset.table["case"]) & set(source.table.loc[folds.of == 1, "case"])
    assert len(subset.table) == (folds.of != 1).sum()
    assert logits.shape == ((folds.of == 1).sum(), 2)
    np.testing.assert_array_equal(logits, again)


def table_of(folds: int) -> tuple[pd.DataFrame, Folds]:
    """Folds of a benign and two malignant cases of one picture each."""
    n = 3 * folds
    table = pd.DataFrame(
        {"path": [f"{i}.png" for i in range(n)], "sha256": "", "case": [str(i) for i in range(n)],
         "class": ["benign", "malignant", "malignant"] * folds, "magnification": 200, "subtype": ""}
    )  # fmt: skip
    return table, Folds("case", np.repeat(np.arange(folds), 3))


def logits_of(margins: list[float]) -> np.ndarray:
    return np.stack([np.zeros(len(margins)), margins], axis=1)


def test_the_temperature_of_a_fold_is_fitted_on_the_others(monkeypatch):
    table, folds = table_of(3)
    asked: list[list[int]] = []

    def fake(table, folds, logits):
        asked.append(sorted(logits))
        return Temperature(2.0, "a test")

    monkeypatch.setattr(cross_validation, "temperature_of", fake)
    found = cross_validated_predictions(
        table, folds, {k: logits_of([-1.0, 2.0, k]) for k in range(3)}
    )

    assert asked == [[1, 2], [0, 2], [0, 1]]
    assert found["logit"].tolist() == [-1.0, 2.0, 0.0, -1.0, 2.0, 1.0, -1.0, 2.0, 2.0]
    np.testing.assert_allclose(
        found["prob_malignant"], 1 / (1 + np.exp(-found["logit"].to_numpy() / 2.0))
    )


def test_a_temperature_takes_the_images_of_its_folds_and_no_others():
    table, folds = table_of(3)
    told = {k: logits_of([-4.0, 3.0, 5.0]) for k in range(3)}

    found = temperature_of(table, folds, {k: told[k] for k in (0, 2)})

    margin = np.tile([-4.0, 3.0, 5.0], 2)
    malignant = np.tile([False, True, True], 2)
    case = np.array(["0", "1", "2", "6", "7", "8"])
    assert found == fit_temperature(margin, malignant, case)
