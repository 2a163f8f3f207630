"""Every model that can be served: those of finished runs, and those shipped with the program."""

from pathlib import Path

from bc_model.errors import BundleError
from bc_model.serving.bundle import MODEL_FOLDER, Bundle
from bc_model.serving.passport import MODEL_CARD_FILE, read_model_card


def list_bundles(runs: Path, shipped: Path) -> tuple[list[Bundle], list[str]]:
    """Find the bundles, newest first, and say what is wrong with those that cannot be opened.

    Only model cards are read here; files are checked when a model is loaded.

    Parameters
    ----------
    runs : Path
        Folder of run folders, each with a folder 'model'.
    shipped : Path
        Folder of bundle folders.

    Returns
    -------
    bundles : list of Bundle
    problems : list of str
        One sentence a model.
    """
    return _open(
        [
            *(path.parent for path in runs.glob(f"*/{MODEL_FOLDER}/{MODEL_CARD_FILE}")),
            *_shipped_folders(shipped),
        ]
    )


def list_shipped(shipped: Path) -> tuple[list[Bundle], list[str]]:
    """Find the bundles that came with the program, as `list_bundles` does."""
    return _open(_shipped_folders(shipped))


def _shipped_folders(shipped: Path) -> list[Path]:
    return [path.parent for path in shipped.glob(f"*/{MODEL_CARD_FILE}")]


def _open(folders: list[Path]) -> tuple[list[Bundle], list[str]]:
    bundles, problems = [], []
    for folder in folders:
        if folder.name.startswith("."):
            continue  # a draft, or what is left of one
        try:
            bundles.append(Bundle(folder, read_model_card(folder)))
        except BundleError as error:
            problems.append(str(error))
    bundles.sort(key=lambda bundle: bundle.card.created, reverse=True)
    return bundles, problems
