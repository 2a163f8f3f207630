"""The model bundle: a folder with the weights, the served graph, the head and the model card.

Every file is checked against the SHA-256 in the model card before it is used. Nothing in a bundle
can hold code: no pickle, no Lambda.
"""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import bc_model
from bc_model.errors import BundleError, ModelError, WeightsError
from bc_model.inference.model_card import MODEL_CARD_FILE, ModelCard, read_model_card

MODEL_FOLDER = "model"
KERAS_FILE = "model.keras"
SERVED_FILES = ("served.xml", "served.bin", "head.npz")


@dataclass(frozen=True)
class Bundle:
    """One model on disk.

    Attributes
    ----------
    folder : Path
    card : ModelCard
    """

    folder: Path
    card: ModelCard
    _checked: dict[str, Path] = field(default_factory=dict, compare=False, repr=False)

    @property
    def label(self) -> str:
        """What people call the model: the folder of its run, or its own."""
        is_in_run = self.folder.name == MODEL_FOLDER
        return self.folder.resolve().parent.name if is_in_run else self.folder.name

    @property
    def seen_cases(self) -> set[str]:
        """Cases that the model was trained on, or chosen by, or that its first weights knew."""
        data = self.card.data
        return {*data.training_cases, *data.validation_cases, *data.initial_cases}

    @property
    def learned_from_all(self) -> bool:
        """Whether no picture was kept back while it learned, to choose or to test it by."""
        images = self.card.data.n_images
        return not images.validation and not images.test

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network's input, px."""
        return self.card.input.height_px, self.card.input.width_px

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax."""
        return self.card.temperature.value

    @property
    def threshold(self) -> float:
        """Estimated probability of malignancy from which a picture is called malignant."""
        return self.card.threshold.value

    @property
    def key(self) -> str:
        """Identify the model: a hash of all its files' hashes, fit for a cache key."""
        listed = "".join(f"{n}{h}" for n, h in sorted(self.card.files.items()))
        return hashlib.sha256(f"{listed}{self.temperature}{self.threshold}".encode()).hexdigest()

    @property
    def network(self) -> str:
        """Identify what turns pictures into features: a hash of the served graph's hashes."""
        listed = "".join(self.card.files.get(name, "") for name in SERVED_FILES[:2])
        return hashlib.sha256(listed.encode()).hexdigest()

    def file(self, name: str) -> Path:
        """Return the path of one file, after checking its bytes once.

        Raises
        ------
        BundleError
            The model card does not list it, it is missing, or its bytes have changed.
        """
        if name not in self._checked:
            self._checked[name] = self._check(name)
        return self._checked[name]

    def verify(self) -> None:
        """Check every file that the model card lists; raises `BundleError` at the first misfit."""
        for name in self.card.files:
            self._check(name)

    def _check(self, name: str) -> Path:
        expected = self.card.files.get(name)
        path = self.folder / name
        if expected is None:
            raise BundleError(f"The model card in {self.folder} does not list {name}.")
        if not path.is_file():
            raise BundleError(f"The model in {self.folder} lacks its file {name}.")
        found = file_sha256(path)
        if found != expected:
            raise BundleError(
                f"{name} in {self.folder} is not the file its model card describes (SHA-256 "
                f"{found[:12]}..., expected {expected[:12]}...); copy or train the model again."
            )
        return path


def open_bundle(path: Path) -> Bundle:
    """Open a model by the path of its run, its bundle folder or its ``.keras`` file.

    Raises
    ------
    ModelError
        Nothing there, or not a model.
    BundleError
        A bundle whose model card is not valid.
    """
    path = Path(path)
    if not path.exists():
        raise ModelError(
            f"There is no model {path}; give the folder of a finished run, or 'bundled'."
        )
    if path.is_file():
        if (
            path.name not in (KERAS_FILE, MODEL_CARD_FILE)
            or not (path.parent / MODEL_CARD_FILE).exists()
        ):
            raise ModelError(
                f"{path} is not a model: a model is the folder that `train` wrote, with its "
                f"{MODEL_CARD_FILE}."
            )
        path = path.parent
    elif not (path / MODEL_CARD_FILE).exists() and (path / MODEL_FOLDER / MODEL_CARD_FILE).exists():
        path = path / MODEL_FOLDER
    return Bundle(path, read_model_card(path))


def file_sha256(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
