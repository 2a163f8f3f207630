"""Reports and model cards to write, for the tests of the writers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bc_model.evaluation.report import Report, evaluate_predictions
from bc_model.serving.passport import ModelCard
from benchmarks.passport import dummy_model_card

MARKUP = '<b onclick="x()">&amp; *a* | `b` [c](d) é ≥ 病'


def predictions(
    n: int = 120, *, n_cases: int = 24, cases: bool = True, one_class: bool = False
) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    number = np.arange(n) % n_cases
    malignant = np.ones(n, bool) if one_class else number % 3 != 0
    prob = np.clip(0.3 + 0.4 * malignant + 0.5 * (rng.random(n) - 0.5), 0, 1)
    letters = np.where(malignant, "M_DC", "B_TA")
    return pd.DataFrame(
        {
            "path": [
                f"{letter}/SOB_{letter}-14-{k + 100}-40-{i:03d}.png"
                for i, (letter, k) in enumerate(zip(letters, number, strict=True))
            ],
            "sha256": "",
            "case": [f"{k + 100}" if cases else "" for k in number],
            "class": np.where(malignant, "malignant", "benign"),
            "magnification": np.where(np.arange(n) % 2 == 0, 40, 200),
            "prob_malignant": prob,
        }
    )


def report(frame: pd.DataFrame | None = None, **changes: Any) -> Report:
    settings = {"protocol": "case", "leaky": False, "n_resamples": 200, **changes}
    return evaluate_predictions(predictions() if frame is None else frame, **settings)


def model_card(**changes: Any) -> ModelCard:
    return replace(dummy_model_card((224, 224)), files={"served.bin": "a" * 64}, **changes)
