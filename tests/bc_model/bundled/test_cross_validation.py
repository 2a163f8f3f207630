import numpy as np
import pandas as pd
import pytest

from bc_model.bundled import cross_validation
from bc_model.bundled.cross_validation import (
    LEARNED,
    LEFT_OUT,
    Folds,
    case_folds,
    crossed_predictions,
    fitted_temperature,
    fold_logits,
    image_folds,
    official_folds,
)
from bc_model.bundled.learner import build_network
from bc_model.bundled.source import Source
from tests.bc_model.bundled.conftest import QUICK


def test_no_case_is_in_two_folds_unless_pictures_are_dealt(source):
    table = source.table
    cases = table["case"].groupby(case_folds(table, QUICK).of).agg(set)
    assert len(cases) == 3
    assert len(set.union(*cases)) == sum(map(len, cases))

    pictures = table["case"].groupby(image_folds(table, QUICK).of).agg(set)
    assert len(set.union(*pictures)) < sum(map(len, pictures))


def test_the_clean_official_fold_keeps_the_cases_of_the_test_part_out_of_training(source, tmp_path):
    table = source.table
    names = table["path"].str.rpartition("/")[2]
    tested = ~table.duplicated(["class", "magnification"])  # one picture of each
    rows = zip(names, table["magnification"], tested, strict=True)
    file = tmp_path / "dsfold1.txt"
    file.write_text("\n".join(f"{n}|{m}|1|{'test' if t else 'train'}" for n, m, t in rows))

    leaky, clean = (official_folds(table, file, clean=c).of for c in (False, True))

    assert set(leaky) == {0, LEARNED}
    assert ((leaky == 0) == tested).all()
    of_tested_cases = table["case"].isin(table.loc[tested, "case"])
    assert (clean[of_tested_cases & ~tested] == LEFT_OUT).all()
    assert (clean[~of_tested_cases] == LEARNED).all()


def test_what_a_clean_official_fold_leaves_out_is_not_learned_from(source, tmp_path, monkeypatch):
    of = np.full(len(source.table), LEARNED)
    case = source.table["case"]
    of[case == case[0]] = LEFT_OUT
    of[0] = 0
    seen: list[Source] = []

    def spy(part: Source, *args, **kwargs):
        seen.append(part)
        return build_network(QUICK, QUICK.image_size)

    monkeypatch.setattr("bc_model.bundled.learner.learn", spy)
    fold_logits(source, Folds("folds-clean", of), 0, QUICK, tmp_path)

    assert set(seen[0].table["case"]) == set(case) - {case[0]}


def test_a_fold_is_judged_by_a_model_that_has_not_seen_it_and_kept(source, tmp_path, monkeypatch):
    folds = case_folds(source.table, QUICK)
    seen: list[Source] = []
    from bc_model.bundled import learner

    learn = learner.learn

    def spy(part: Source, *args, **kwargs):
        seen.append(part)
        return learn(part, *args, **kwargs)

    monkeypatch.setattr(learner, "learn", spy)
    logits = fold_logits(source, folds, 1, QUICK, tmp_path)
    again = fold_logits(source, folds, 1, QUICK, tmp_path)

    (part,) = seen
    assert not set(part.table["case"]) & set(source.table.loc[folds.of == 1, "case"])
    assert len(part.table) == (folds.of != 1).sum()
    assert logits.shape == ((folds.of == 1).sum(), 2)
    np.testing.assert_array_equal(logits, again)


@pytest.fixture
def three_folds(monkeypatch: pytest.MonkeyPatch) -> tuple[pd.DataFrame, Folds]:
    """Nine cases of one picture, three a fold; a fit that tells how many cases it was given."""

    class Told:
        def __init__(self, value: float) -> None:
            self.value = value

    monkeypatch.setattr(
        cross_validation, "fit_temperature", lambda margin, malignant, case: Told(len(case) / 3)
    )
    table = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(9)],
            "sha256": "",
            "case": [str(i) for i in range(9)],
            "class": ["benign", "malignant", "malignant"] * 3,
            "magnification": 200,
            "subtype": "",
        }
    )
    return table, Folds("case", np.repeat([0, 1, 2], 3))


MARGINS = [-1.0, 2.0, 2.0]


def test_the_temperature_of_a_fold_is_that_of_the_others(three_folds):
    table, folds = three_folds
    logits = {k: np.stack([np.zeros(3), np.array(MARGINS) + k], axis=1) for k in range(3)}

    found = crossed_predictions(table, folds, logits)

    first = found[found["fold"] == 0]
    assert first["logit"].tolist() == MARGINS
    # Two other folds of three pictures: a temperature of 2 in the fake above.
    expected = 1 / (1 + np.exp(-np.array(MARGINS) / 2.0))
    np.testing.assert_allclose(first["prob_malignant"], expected)
    assert fitted_temperature(table, folds, logits).value == 3.0
