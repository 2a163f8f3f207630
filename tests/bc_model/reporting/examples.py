"""Example reports and model cards for the tests of the writers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.report import EvaluationReport
from bc_model.inference.model_card import ModelCard
from bc_model.reporting.document import (
    Chart,
    Charts,
    Document,
    Facts,
    Heading,
    KeyMetrics,
    Notice,
    Table,
    Text,
)
from benchmarks.model_card import dummy_model_card

MARKUP = '<b onclick="x()">&amp; *a* | `b` [c](d) é ≥ 病'


def predictions(
    n: int = 120, *, n_cases: int = 24, cases: bool = True, one_class: bool = False
) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    case = np.arange(n) % n_cases
    malignant = np.ones(n, bool) if one_class else case % 3 != 0
    prob = np.clip(0.3 + 0.4 * malignant + 0.5 * (rng.random(n) - 0.5), 0, 1)
    letters = np.where(malignant, "M_DC", "B_TA")
    return pd.DataFrame(
        {
            "path": [
                f"{letter}/SOB_{letter}-14-{k + 100}-40-{i:03d}.png"
                for i, (letter, k) in enumerate(zip(letters, case, strict=True))
            ],
            "sha256": "",
            "case": [f"{k + 100}" if cases else "" for k in case],
            "class": np.where(malignant, "malignant", "benign"),
            "magnification": np.where(np.arange(n) % 2 == 0, 40, 200),
            "prob_malignant": prob,
        }
    )


def report(frame: pd.DataFrame | None = None, **changes: Any) -> EvaluationReport:
    config = {"protocol": "case", "has_leakage": False, "n_resamples": 200, **changes}
    return evaluate_predictions(predictions() if frame is None else frame, **config)


def model_card(**changes: Any) -> ModelCard:
    return replace(dummy_model_card((224, 224)), files={"served.bin": "a" * 64}, **changes)


def texts_of(document: Document) -> str:
    """Return all texts of a document, one per line."""
    texts = [document.title, document.subtitle, document.footer]
    for block in document.blocks:
        match block:
            case Heading() | Text():
                texts.append(block.text)
            case Notice():
                texts += [block.title, *block.sentences]
            case KeyMetrics():
                texts += [f"{m.name} {m.value} {m.interval} {m.support}" for m in block.metrics]
            case Facts():
                texts += [" ".join(pair) for pair in block.pairs]
            case Table():
                texts += [" ".join(row) for row in (block.columns, *block.rows)]
            case Charts():
                texts += [f"{chart.title} {chart.alt_text}" for chart in block.charts]
    return "\n".join(texts)


def hostile_document() -> Document:
    """Return a document with markup in every text."""
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, MARKUP[:-1], parse_math=False)  # The font has no Chinese characters.
    return Document(
        title=MARKUP,
        subtitle=MARKUP,
        created="2026-01-01T00:00:00+00:00",
        footer=MARKUP,
        blocks=(
            Heading(MARKUP),
            Text(MARKUP),
            Notice(MARKUP, (MARKUP, MARKUP)),
            Facts(((MARKUP, MARKUP),)),
            Table(("a", "b"), ((MARKUP, "x/" * 60), ("1", "2")), numeric=(1,)),
            Charts((Chart(MARKUP, figure, MARKUP),)),
        ),
    )
