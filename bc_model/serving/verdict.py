"""Classify one image: probability, class, heatmaps and checks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bc_model.checks import Check, by_severity, is_blocked, make_check
from bc_model.data.names import CLASSES, PictureName, is_drawn, parse_name
from bc_model.data.pictures import model_input
from bc_model.gradcam import Heatmap
from bc_model.serving.batching import BatchingEngine
from bc_model.serving.bundle import Bundle, open_bundle
from bc_model.serving.engine import Engine
from bc_model.serving.input_gate import check_staining
from bc_model.serving.known_pictures import check_seen
from bc_model.serving.shipped import shipped_folder
from bc_model.serving.sizes import check_size


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image, without the image itself.

    Attributes
    ----------
    name : str
        File name of the image.
    width_px, height_px : int
        Size of the image.
    logits : tuple of float
        Raw outputs of the network in the order of `CLASSES`, also for an unclassified image.
    prob_malignant : float or None
        Estimated probability of malignancy in [0, 1], after temperature scaling. None if a
        blocking check failed.
    predicted_class : {'benign', 'malignant'} or None
        Class at the decision threshold of the model. None if a blocking check failed.
    heatmaps : dict of str to Heatmap
        One heatmap per class. Empty if a blocking check failed.
    checks : tuple of Check
        Failed checks, the most serious first.
    """

    name: str
    width_px: int
    height_px: int
    logits: tuple[float, ...]
    prob_malignant: float | None
    predicted_class: str | None
    heatmaps: dict[str, Heatmap]
    checks: tuple[Check, ...]

    @property
    def is_classified(self) -> bool:
        """Whether no blocking check failed."""
        return self.predicted_class is not None


class Classifier:
    """Classify images with one model and explain each prediction with Grad-CAM.

    Parameters
    ----------
    engine : BatchingEngine
        Inference engine, which several threads can share.

    Attributes
    ----------
    engine : BatchingEngine
    bundle : Bundle
        The model on disk, with its decision threshold and temperature.

    See Also
    --------
    load_classifier : Return a classifier for a model on disk.
    """

    def __init__(self, engine: BatchingEngine) -> None:
        self.engine = engine
        self.bundle: Bundle = engine.bundle

    def predict(
        self, rgb: np.ndarray, *, name: str = "", magnification: int | None = None
    ) -> Prediction:
        """Return the prediction for one decoded image.

        Parameters
        ----------
        rgb : ndarray of shape (height, width, 3), uint8
            Image as `bc_model.data.pictures.decode_picture` returns it.
        name : str, default=''
            File name. An official BreakHis name states the case and the magnification.
        magnification : int, optional
            Magnification such as 200 for 200X. Default is the one in the file name.

        Raises
        ------
        EngineBusy
            Too many images are waiting.
        ModelError
            The output of the network is not finite.
        """
        pixels = model_input(rgb, self.bundle.image_size)
        logits, heatmaps = self.engine.explain_one(pixels)
        checks = [
            check
            for group in by_severity(
                _input_checks(rgb, pixels, name, magnification, self.bundle)
            ).values()
            for check in group
        ]
        is_classified = not is_blocked(checks)
        probability = float(prob_malignant(logits[None], self.bundle.temperature)[0])
        predicted_class = CLASSES[int(probability >= self.bundle.threshold)]
        return Prediction(
            name=name,
            width_px=rgb.shape[1],
            height_px=rgb.shape[0],
            logits=tuple(float(logit) for logit in logits),
            prob_malignant=probability if is_classified else None,
            predicted_class=predicted_class if is_classified else None,
            heatmaps=heatmaps if is_classified else {},
            checks=tuple(checks),
        )


def load_classifier(source: str | Path) -> Classifier:
    """Return a classifier for a model on disk.

    Parameters
    ----------
    source : str or Path
        'bundled' for the bundled model, a run directory, or a model directory.

    Raises
    ------
    ModelError
        The path does not exist or is not a model.
    """
    path = shipped_folder("bundled") if source == "bundled" else Path(source)
    return Classifier(BatchingEngine(Engine(open_bundle(path))))


def prob_malignant(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Turn logits, shape (n, 2), into the estimated probability of malignancy, shape (n,)."""
    benign, malignant = (np.asarray(logits, np.float64) / temperature).T
    # The softmax of two logits is the logistic of their difference; logaddexp never overflows.
    return np.exp(-np.logaddexp(0.0, benign - malignant))


def _input_checks(
    rgb: np.ndarray, pixels: np.ndarray, name: str, magnification: int | None, bundle: Bundle
) -> Iterator[Check]:
    """Yield the failed checks of an image, of its file name and of the model."""
    parsed = parse_name(name)
    found = (
        _check_magnification(parsed, magnification, bundle),
        _check_synthetic(parsed, bundle),
        check_staining(pixels, bundle.card),
        check_size(rgb.shape[1], rgb.shape[0], parsed is not None, bundle),
        _check_case(parsed, bundle) or check_seen(rgb, bundle),
        make_check("BC401") if bundle.temperature == 1.0 else None,
    )
    return (check for check in found if check is not None)


def _check_magnification(
    parsed: PictureName | None, magnification: int | None, bundle: Bundle
) -> Check | None:
    supported = bundle.card.scale.magnifications
    if not supported:
        return None
    names = [f"{m}X" for m in supported]
    if magnification is None and parsed is not None:
        magnification = parsed.magnification
    if magnification is None:
        objectives = [f"{m // 10}x" for m in supported]
        return make_check("BC140", supported_names=names, objectives=objectives)
    if magnification not in supported:
        return make_check("BC101", magnification=magnification, supported_names=names)
    return None


def _check_synthetic(parsed: PictureName | None, bundle: Bundle) -> Check | None:
    if parsed is None or not is_drawn(parsed.case) or bundle.card.data.is_synthetic:
        return None
    return make_check("BC102")


def _check_case(parsed: PictureName | None, bundle: Bundle) -> Check | None:
    if parsed is None or parsed.case not in bundle.known_cases:
        return None
    return make_check("BC110", case=parsed.case)
