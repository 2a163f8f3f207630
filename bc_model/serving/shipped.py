"""The model that comes with the program."""

from functools import lru_cache
from pathlib import Path

import bc_model
from bc_model.errors import BundleError, WeightsError
from bc_model.serving.bundle import Bundle
from bc_model.serving.passport import MODEL_CARD_FILE, read_model_card

BUNDLED_NAME = "breakhis-scratch"
SHIPPED_MODELS = Path(bc_model.__file__).resolve().parents[1] / "assets" / "models"


def shipped_folder(name: str) -> Path:
    """Return where a model of this name, or 'bundled', lies if it came with the program."""
    return SHIPPED_MODELS / (BUNDLED_NAME if name == "bundled" else name)


def has_bundled_model() -> bool:
    """Tell whether a model came with this copy of the program."""
    return (shipped_folder("bundled") / MODEL_CARD_FILE).is_file()


def bundled_model() -> Bundle:
    """Return the model that comes with the program, to go on learning from.

    Raises
    ------
    WeightsError
        None came with this copy of the program, or it is damaged.
    """
    folder = shipped_folder("bundled")
    if not has_bundled_model():
        raise WeightsError(
            "No model came with this copy of the program; choose 'imagenet', 'none' or a file of "
            "weights."
        )
    stats = ((file.name, file.stat()) for file in sorted(folder.iterdir()))
    stamp = tuple((name, found.st_size, found.st_mtime_ns) for name, found in stats)
    try:
        return _verified(folder, stamp)
    except BundleError as error:
        raise WeightsError(
            f"The model that came with the program is damaged: {error} Get the program again, or "
            "choose other weights."
        ) from error


@lru_cache(maxsize=1)
def _verified(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> Bundle:
    """Hash 50 MB once, and not for every click on a page; a file that changes has another stamp."""
    bundle = Bundle(folder, read_model_card(folder))
    bundle.verify()
    return bundle
