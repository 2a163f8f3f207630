import numpy as np
import pandas as pd
import pytest

from bc_model.bundled import cross_validation
from bc_model.bundled.cross_validation import (
    LEARNED,
    LEFT_OUT,
    Folds,
    best_checkpoint,
    case_folds,
    crossed_predictions,
    fitted_temperature,
    fold_logits,
    image_folds,
    official_folds,
)
from bc_model.data.pipeline import load_pixels
from tests.bc_model.bundled.conftest import QUICK


def test_no_case_is_in_two_folds_unless_pictures_are_dealt(fields):
    table, _ = fields
    cases = table["case"].groupby(case_folds(table, QUICK).of).agg(set)
    assert len(cases) == 3
    assert len(set.union(*cases)) == sum(map(len, cases))

    pictures = table["case"].groupby(image_folds(table, QUICK).of).agg(set)
    assert len(set.union(*pictures)) < sum(map(len, pictures))


def test_the_clean_official_fold_keeps_the_cases_of_the_test_part_out_of_training(fields, tmp_path):
    table, _ = fields
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


def test_a_fold_is_judged_by_a_model_that_has_not_seen_it_and_kept(fields, root, tmp_path,
                                                                   monkeypatch):  # fmt: skip
    table, frames = fields
    folds = case_folds(table, QUICK)
    pixels = load_pixels(root, list(table["path"]), QUICK.image_size)
    seen: list[pd.DataFrame] = []
    from bc_model.bundled import learner

    learn = learner.learn

    def spy(part: pd.DataFrame, *args, **kwargs):
        seen.append(part)
        yield from learn(part, *args, **kwargs)

    monkeypatch.setattr(learner, "learn", spy)
    logits = fold_logits(table, frames, pixels, folds, 1, QUICK, tmp_path)
    again = fold_logits(table, frames, pixels, folds, 1, QUICK, tmp_path)

    (part,) = seen
    assert not set(part["case"]) & set(table.loc[folds.of == 1, "case"])
    assert len(part) == (folds.of != 1).sum()
    assert logits.shape == (2, (folds.of == 1).sum(), 2)
    assert (logits[0] != logits[1]).any()
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


def margins(*checkpoints: list[float]) -> np.ndarray:
    """Logits of one fold: the malignant one as given, the benign one 0."""
    return np.stack([np.stack([np.zeros(3), one], axis=1) for one in checkpoints])


RIGHT, WRONG = [-1.0, 2.0, 2.0], [2.0, -1.0, -1.0]


def test_a_checkpoint_is_chosen_by_how_it_ranks_all_the_folds(three_folds):
    table, folds = three_folds

    assert best_checkpoint(table, folds, {k: margins(WRONG, RIGHT) for k in range(3)}) == 1
    assert best_checkpoint(table, folds, {k: margins(RIGHT, RIGHT) for k in range(3)}) == 0


def test_what_is_chosen_for_a_fold_is_chosen_by_the_others(three_folds):
    table, folds = three_folds
    # The first checkpoint is the best of folds 1 and 2, though not of fold 0.
    logits = {0: margins(WRONG, RIGHT), 1: margins(RIGHT, WRONG), 2: margins(RIGHT, WRONG)}

    found = crossed_predictions(table, folds, logits)

    first = found[found["fold"] == 0]
    assert first["checkpoint"].tolist() == [0, 0, 0]
    assert first["logit"].tolist() == WRONG
    # Two other folds of three pictures: a temperature of 2 in the fake above.
    expected = 1 / (1 + np.exp(-np.array(WRONG) / 2.0))
    np.testing.assert_allclose(first["prob_malignant"], expected)
    assert fitted_temperature(table, folds, logits, 0).value == 3.0
