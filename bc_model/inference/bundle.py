"""The model bundle: a directory with weights, inference graph, classification head and model card.

Every file is compared with its SHA-256 in the model card before use. A bundle cannot contain code:
there is no pickle and no Lambda layer.
"""

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import bc_model
from bc_model.errors import BundleError, ModelError, WeightsError
from bc_model.inference.model_card import MODEL_CARD_FILE, ModelCard, read_model_card
from bc_model.utils.io import FileStamp, file_stamp, open_regular
from bc_model.utils.serialization import dumps

MODEL_FOLDER = "model"
"""Name of the model directory in a run directory."""
KERAS_FILE = "model.keras"
SERVED_FILES = ("served.xml", "served.bin", "head.npz")

_MAX_BYTES = {".keras": 2**31, ".bin": 2**31, ".npz": 2**28}
MAX_TABLE_BYTES = 2**26
"""Largest ``.xml`` or ``.csv`` file of a bundle."""


def find_bundled_models(package: Path) -> Path:
    """Return the directory of the bundled models for the directory of the package.

    An installed package contains ``assets/models``. A source checkout has it beside the package.
    """
    installed = package / "assets" / "models"
    return installed if installed.is_dir() else package.parent / "assets" / "models"


BUNDLED_MODELS_DIR = find_bundled_models(Path(bc_model.__file__).resolve().parent)
BUNDLED_MODEL_NAME = "breakhis-scratch"


@dataclass(frozen=True)
class Bundle:
    """One model on disk: a directory and its model card."""

    folder: Path
    card: ModelCard
    _verified: dict[str, FileStamp] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def label(self) -> str:
        """Display name: the name of the run directory or, outside of a run, of the bundle."""
        is_in_run = self.folder.name == MODEL_FOLDER
        return self.folder.resolve().parent.name if is_in_run else self.folder.name

    @property
    def seen_cases(self) -> set[str]:
        """Cases in the training and validation data of the model and of its initial weights."""
        data = self.card.data
        return {*data.training_cases, *data.validation_cases, *data.initial_cases}

    @property
    def trained_on_all_images(self) -> bool:
        """True if the split had no validation and no test images."""
        images = self.card.data.n_images
        return not images.validation and not images.test

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the network input, px."""
        return self.card.input.height_px, self.card.input.width_px

    @property
    def temperature(self) -> float:
        """Divisor of the logits before the softmax."""
        return self.card.temperature.value

    @property
    def threshold(self) -> float:
        """Probability from which an image is predicted malignant, in [0, 1]."""
        return self.card.threshold.value

    @property
    def uncertain_band(self) -> tuple[float, float] | None:
        """Ends of the probabilities that are uncertain; None if the model has no such range.

        A range that was fitted at another decision threshold is not used.
        """
        selective = self.card.metrics.selective
        if selective is None or selective.band is None or selective.threshold != self.threshold:
            return None
        return selective.band.low, selective.band.high

    @cached_property
    def key(self) -> str:
        """SHA-256 over everything that a prediction and its texts depend on, as a cache key.

        It depends on the directory, on the model card, and on the files as they are on the disk: a
        damaged copy never shares the results of an intact model.
        """
        stamps = {name: file_stamp(self.folder / name) for name in sorted(self.card.files)}
        content = f"{self.folder.resolve()}\n{stamps}\n{dumps(self.card)}"
        return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def graph_sha256(self) -> str:
        """SHA-256 over the inference graph, which computes the features of an image."""
        listed = "".join(self.card.files.get(name, "") for name in SERVED_FILES[:2])
        return hashlib.sha256(listed.encode()).hexdigest()

    def file(self, name: str) -> Path:
        """Return the path of one file, whose bytes are verified once and after each change.

        A `BundleError` is raised if the file is not listed, missing, too large or changed.
        """
        stamp = file_stamp(self.folder / name)
        if stamp is None or self._verified.get(name) != stamp:
            self._verify_file(name)
            if stamp is not None:
                self._verified[name] = stamp
        return self.folder / name

    def verify(self) -> None:
        """Verify every file that the model card lists, see `file`."""
        for name in self.card.files:
            self._verify_file(name)

    def _verify_file(self, name: str) -> None:
        expected = self.card.files.get(name)
        path = self.folder / name
        if expected is None:
            raise BundleError(f"The model card in {self.folder} does not list the file {name}.")
        if not path.is_file():
            raise BundleError(
                f"The model in {self.folder} has no file {name}. Copy or train the model again."
            )
        max_bytes = _MAX_BYTES.get(path.suffix, MAX_TABLE_BYTES)
        try:
            if (n_bytes := path.stat().st_size) > max_bytes:
                raise BundleError(
                    f"The file {name} in {self.folder} has {n_bytes / 2**20:,.0f} MB. Expected at "
                    f"most {max_bytes / 2**20:,.0f} MB. Copy or train the model again."
                )
            found = file_sha256(path)
        except OSError as error:
            raise BundleError(
                f"The file {name} in {self.folder} cannot be read ({error.strerror or error}). "
                "Copy or train the model again."
            ) from error
        if found != expected:
            raise BundleError(
                f"The file {name} in {self.folder} does not match its model card. Expected SHA-256 "
                f"{expected[:12]}..., got {found[:12]}.... Copy or train the model again."
            )


def open_bundle(path: Path) -> Bundle:
    """Open a model by its run directory, its model directory or its ``.keras`` file.

    Raises
    ------
    ModelError
        The path does not exist or is not a model.
    BundleError
        The model card is missing or not valid.
    """
    path = Path(path)
    expected = "Expected the directory of a finished run, or 'bundled'."
    if not path.exists():
        raise ModelError(f"There is no model {path}. {expected}")
    if path.is_file():
        has_card = (path.parent / MODEL_CARD_FILE).exists()
        if path.name not in (KERAS_FILE, MODEL_CARD_FILE) or not has_card:
            raise ModelError(f"{path} is not a model. {expected}")
        path = path.parent
    elif not (path / MODEL_CARD_FILE).exists() and (path / MODEL_FOLDER / MODEL_CARD_FILE).exists():
        path = path / MODEL_FOLDER
    return Bundle(path, read_model_card(path))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of the bytes of a regular file."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_bundles(runs: Path | None, bundled: Path | None = None) -> tuple[list[Bundle], list[str]]:
    """List the models of all runs and the bundled models, the newest first.

    Only the model cards are read. Other files are verified when a model is loaded.

    Parameters
    ----------
    runs : Path or None
        Directory of the run directories. None lists only the bundled models.
    bundled : Path, optional
        Directory of the bundled models. The default is `BUNDLED_MODELS_DIR`.

    Returns
    -------
    list of Bundle
    list of str
        One sentence for each model that cannot be opened.
    """
    folders = [path for path in _visible(bundled or BUNDLED_MODELS_DIR) if _has_card(path)]
    if runs is not None:
        folders += [
            path / MODEL_FOLDER for path in _visible(runs) if _has_card(path / MODEL_FOLDER)
        ]
    bundles, problems = [], []
    for folder in folders:
        try:
            bundles.append(Bundle(folder, read_model_card(folder)))
        except BundleError as error:
            problems.append(str(error))
    bundles.sort(key=lambda bundle: bundle.card.created, reverse=True)
    return bundles, problems


def _visible(directory: Path) -> list[Path]:
    """Return what a directory contains, except for unfinished exports and deleted runs."""
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _has_card(folder: Path) -> bool:
    """Return whether a directory has a model card of any kind, even one that cannot be read."""
    try:
        os.lstat(folder / MODEL_CARD_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # `read_model_card` reports the error.
    return True


def bundled_model_dir(name: str) -> Path:
    """Return the directory of the bundled model with this name; 'bundled' is the default model."""
    return BUNDLED_MODELS_DIR / (BUNDLED_MODEL_NAME if name == "bundled" else name)


def has_bundled_model() -> bool:
    """Return whether the bundled model is installed."""
    return (bundled_model_dir("bundled") / MODEL_CARD_FILE).is_file()


def open_bundled_model() -> Bundle:
    """Open and verify the bundled model, as initial weights for training.

    A `WeightsError` is raised if the bundled model is not installed or is damaged.
    """
    folder = bundled_model_dir("bundled")
    if not has_bundled_model():
        raise WeightsError(
            "The bundled model is not installed. Use 'imagenet', 'none' or a weights file."
        )
    stamps = tuple((file.name, file_stamp(file)) for file in sorted(folder.iterdir()))
    try:
        return _open_verified(folder, stamps)
    except BundleError as error:
        raise WeightsError(
            f"The bundled model is damaged. {error} Install the program again or use other weights."
        ) from error


@lru_cache(maxsize=1)
def _open_verified(folder: Path, stamps: tuple[tuple[str, FileStamp | None], ...]) -> Bundle:
    """Hash 50 MB once and not at every click; a changed file has another stamp."""
    bundle = Bundle(folder, read_model_card(folder))
    bundle.verify()
    return bundle
