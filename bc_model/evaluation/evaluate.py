"""Run a model over one part of a split and report on it."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from bc_model.checks import make_check
from bc_model.data.splits import LEAKY_PROTOCOLS
from bc_model.errors import SplitError
from bc_model.evaluation.known import UNKNOWN_INITIALIZATION, known_to
from bc_model.evaluation.predict import Predicted, predict_files
from bc_model.evaluation.report import Report, evaluate_predictions
from bc_model.serving.engine import Engine
from bc_model.serving.verdict import prob_malignant

_KEPT = ("path", "sha256", "case", "class", "magnification", "subtype")


def evaluate_split(
    engine: Engine,
    root: Path,
    split: pd.DataFrame,
    *,
    part: str = "test",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Predict every picture of a part and compute the figures.

    Parameters
    ----------
    engine : Engine
    root : Path
        Folder that the split's paths are relative to.
    split : DataFrame
        As `bc_model.data.splits.make_split` returns it.
    part : {'test', 'validation', 'train'}
        Any but 'test' is reported as leaky: the model was made from it.
    progress : callable, optional
        Called with (pictures done, pictures in all).

    Returns
    -------
    Report
        Marked as leaky when the protocol is, or when the model learned from, or was chosen by,
        a picture or case of this part.

    Raises
    ------
    SplitError
        The part is empty.
    """
    rows = split[split["part"] == part].reset_index(drop=True)
    if rows.empty:
        raise SplitError(f"The split has no {part} part; there is nothing to evaluate.")
    known = known_to(engine.bundle, rows)
    predicted = predict_files(engine, root, list(rows["path"]), progress=progress)
    predictions = predictions_of(rows, predicted, engine.bundle.temperature)
    protocol = str(rows["protocol"].iloc[0])
    data, checks = engine.bundle.card.data, known.checks
    if not known.number:
        checks = [check for check in checks if check == UNKNOWN_INITIALIZATION]
    if data.has_initialization_leakage:
        checks = [make_check("BC211"), *checks]
    return evaluate_predictions(
        predictions,
        threshold=engine.bundle.threshold,
        protocol=protocol if part == "test" else f"{protocol}, {part} part",
        leaky=protocol in LEAKY_PROTOCOLS or data.has_leakage or known.number > 0 or part != "test",
        is_known=known.is_certain,
        checks=checks,
    )


def predictions_of(rows: pd.DataFrame, predicted: Predicted, temperature: float) -> pd.DataFrame:
    """Return the table of predictions for rows of a split or manifest.

    Returns
    -------
    pandas.DataFrame
        As `check_predictions` describes it, with the subtype where `rows` has one, and ``logit``:
        malignant minus benign, before temperature.
    """
    table = rows[[name for name in _KEPT if name in rows]].reset_index(drop=True)
    return table.assign(
        prob_malignant=prob_malignant(predicted.logits, temperature), logit=predicted.margin
    )
