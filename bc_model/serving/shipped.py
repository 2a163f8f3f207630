"""The model that comes with the program."""

from pathlib import Path

import bc_model
from bc_model.errors import BundleError, WeightsError
from bc_model.serving.bundle import Bundle
from bc_model.serving.passport import PASSPORT_FILE, read_passport

SHIPPED_MODELS = Path(bc_model.__file__).resolve().parents[1] / "assets" / "models"


def bundled_model() -> Bundle:
    """Return the model that comes with the program, to go on learning from.

    Raises
    ------
    WeightsError
        None came with this copy of the program, or its passport is damaged.
    """
    found = sorted(SHIPPED_MODELS.glob(f"*/{PASSPORT_FILE}"))
    if not found:
        raise WeightsError(
            "No model came with this copy of the program; choose 'imagenet', 'none' or a file of "
            "weights."
        )
    try:
        return Bundle(found[0].parent, read_passport(found[0].parent))
    except BundleError as error:
        raise WeightsError(f"The model that came with the program is damaged: {error}") from error
