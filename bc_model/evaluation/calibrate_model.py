"""What a run keeps of its validation part: predictions, features, and the temperature from them.

The cut-off bench chooses on these predictions and never on those of the test part; other sets of
pictures are held against these features.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.errors import RunError
from bc_model.evaluation.calibration import fit_temperature, rescale_threshold
from bc_model.evaluation.evaluate import join_predictions
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.predictions import check_predictions, predictions_to_csv, read_predictions
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine
from bc_model.inference.model_card import write_model_card
from bc_model.inference.predict import Predicted, predict_pixels
from bc_model.utils.io import write_together

PREDICTIONS_FILE = "validation_predictions.csv"
FEATURES_FILE = "validation_features.npz"


def calibrate_bundle(
    bundle: Bundle, rows: pd.DataFrame, pixels: np.ndarray, folder: Path
) -> Bundle:
    """Predict the validation part, fit the temperature on it, and keep both.

    Parameters
    ----------
    bundle : Bundle
    rows : DataFrame
        The validation rows of the split that the model was trained with.
    pixels : ndarray of shape (n, height, width, 3), uint8
        Their pictures at the bundle's input size, in the same order.
    folder : Path
        Of the run's evaluation; made when missing.

    Returns
    -------
    Bundle
        With the new model card, which is written last.
    """
    predicted = predict_pixels(Engine(bundle), pixels)
    calibrated, files = fit_bundle_temperature(bundle, rows, predicted, folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_together(files)
    write_model_card(bundle.folder, calibrated.card)
    return calibrated


def fit_bundle_temperature(
    bundle: Bundle, rows: pd.DataFrame, predicted: Predicted, folder: Path
) -> tuple[Bundle, dict[Path, bytes]]:
    """Fit the temperature on validation predictions, and write nothing yet.

    Parameters
    ----------
    bundle, rows, folder
        See `calibrate_bundle`.
    predicted : Predicted
        For those rows.

    Returns
    -------
    bundle : Bundle
        With the new temperature, and its cut-off carried over.
    files : dict of Path to bytes
        What the run keeps of its validation part.
    """
    malignant = (rows["class"] == "malignant").to_numpy(dtype=bool)
    fitted = fit_temperature(predicted.margin, malignant, rows["case"].to_numpy(dtype=str))
    table = check_predictions(join_predictions(rows, predicted, fitted.value))
    files = {
        folder / FEATURES_FILE: FeatureTable.of(rows, predicted).as_bytes(bundle.network),
        folder / PREDICTIONS_FILE: predictions_to_csv(table).encode(),
    }
    threshold = rescale_threshold(bundle.card.threshold, bundle.temperature, fitted.value)
    card = replace(bundle.card, temperature=fitted, threshold=threshold)
    return Bundle(bundle.folder, card), files


def read_validation_predictions(folder: Path) -> pd.DataFrame:
    """Read the validation predictions beside a run's report.

    Parameters
    ----------
    folder : Path
        Of the run's evaluation.

    Returns
    -------
    DataFrame
        As `check_predictions` returns it.

    Raises
    ------
    RunError
        There are none, as in runs of earlier versions, or they are damaged.
    """
    path = Path(folder) / PREDICTIONS_FILE
    try:
        return read_predictions(path)
    except FileNotFoundError as error:
        raise RunError(
            f"A cut-off is chosen on validation predictions, but {path} is missing: make them with "
            "`models calibrate RUN DATA`, or train the model again."
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} should hold validation predictions, but it cannot be read ({error}): make "
            "them again with `models calibrate RUN DATA`."
        ) from error
