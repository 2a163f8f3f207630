"""Run a model over one part of a split and report on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.data.pipeline import load_pixels
from bc_model.data.splits import LEAKY_PROTOCOLS
from bc_model.errors import SplitError
from bc_model.evaluation.report import Report, evaluate_predictions
from bc_model.serving.engine import Engine
from bc_model.serving.verdict import prob_malignant

BATCH = 32


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
        a case of this part.

    Raises
    ------
    SplitError
        The part is empty.
    """
    rows = split[split["part"] == part].reset_index(drop=True)
    if rows.empty:
        raise SplitError(f"The split has no {part} part; there is nothing to evaluate.")
    predictions = rows[["path", "sha256", "case", "class", "magnification"]].assign(
        prob_malignant=predict_pictures(engine, root, list(rows["path"]), progress=progress)
    )
    protocol = str(rows["protocol"].iloc[0])
    shared = sorted(set(rows["case"]) & engine.bundle.known_cases)
    leaky = protocol in LEAKY_PROTOCOLS or engine.bundle.passport["data"]["leaky"] or bool(shared)
    return evaluate_predictions(
        predictions,
        threshold=engine.bundle.threshold,
        protocol=protocol if part == "test" else f"{protocol}, {part} part",
        leaky=leaky or part != "test",
    )


def predict_pictures(
    engine: Engine,
    root: Path,
    paths: list[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Return the estimated probability of malignancy of each picture, shape (n,), float64."""
    bundle = engine.bundle
    logits = []
    for start in range(0, len(paths), BATCH):
        pixels = load_pixels(root, paths[start : start + BATCH], bundle.image_size)
        logits.append(engine.predict(pixels))
        if progress:
            progress(min(start + BATCH, len(paths)), len(paths))
    return prob_malignant(np.concatenate(logits), bundle.temperature)
