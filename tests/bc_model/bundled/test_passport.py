"""The reports of the protocols: whose pictures the temperature of each was fitted on."""

import numpy as np
import pandas as pd
import pytest

from bc_model.bundled import cross_validation
from bc_model.bundled.cross_validation import LEARNED, LEFT_OUT, Folds
from bc_model.bundled.make import Judged
from bc_model.bundled.passport import judged_reports


@pytest.fixture
def table() -> pd.DataFrame:
    """Twelve pictures of six cases, in three folds of two cases."""
    cases = np.repeat([f"{i}" for i in range(6)], 2)
    return pd.DataFrame(
        {"path": [f"{i}.png" for i in range(12)], "sha256": "", "case": cases, "group": cases,
         "class": np.repeat(["benign", "malignant"] * 3, 2), "magnification": 200, "subtype": ""}
    )  # fmt: skip


def logits(n: int) -> np.ndarray:
    return np.stack([np.zeros(n), np.tile([-1.0, 1.0], n)[:n]], axis=1)


@pytest.mark.parametrize(
    ("protocol", "fitted_on"),
    [("folds-clean", {"2", "3", "4", "5"}), ("folds", {"0", "1", "2", "3", "4", "5"})],
)
def test_an_honest_fold_has_a_temperature_from_other_cases_than_its_own(
    table, monkeypatch, protocol, fitted_on
):
    fits: list[set[str]] = []
    fit = cross_validation.fit_temperature

    def spy(margin, malignant, case):
        fits.append(set(case))
        return fit(margin, malignant, case)

    monkeypatch.setattr(cross_validation, "fit_temperature", spy)
    by_case = Judged(Folds("case", np.repeat([0, 1, 2], 4)), {k: logits(4) for k in range(3)})
    of = np.full(12, LEARNED)
    of[[0, 2]] = 0  # a picture of each of the first two cases is tested
    of[[1, 3]] = LEFT_OUT if protocol == "folds-clean" else LEARNED

    reports = judged_reports(table, [by_case, Judged(Folds(protocol, of), {0: logits(2)})])

    assert fits[:3] == [{"2", "3", "4", "5"}, {"0", "1", "4", "5"}, {"0", "1", "2", "3"}]
    assert fits[3:] == [fitted_on]
    assert [report.protocol for report in reports] == ["case", protocol]
    assert [report.n for report in reports] == [12, 2]
