"""From a picture to a verdict: probability, class, heatmaps, and what to be careful of."""

from dataclasses import dataclass

import numpy as np

from bc_model.data.names import CLASSES, is_drawn, parse_name
from bc_model.data.pictures import model_input
from bc_model.gradcam import Heatmap
from bc_model.serving.batching import BatchingEngine
from bc_model.serving.bundle import Bundle
from bc_model.serving.input_gate import stain_warning
from bc_model.serving.known_pictures import known_warning
from bc_model.serving.sizes import about_enlarging, about_size


@dataclass(frozen=True)
class Verdict:
    """What the model says of one picture. The picture itself is not kept.

    Attributes
    ----------
    name : str
        As the file was called; only to be shown.
    width_px, height_px : int
        Of the picture.
    logits : tuple of float
        In the order of `CLASSES`.
    prob_malignant : float
        Estimated probability of malignancy, after temperature.
    class_name : {'benign', 'malignant'}
        By the model's threshold.
    is_called : bool
        False where a warning says that the estimate means nothing: then nobody is told the class.
    heatmaps : dict from class name to Heatmap
    warnings : tuple of str
        Reasons not to rely on this estimate at all.
    cautions : tuple of str
        What to keep in mind when reading it.
    """

    name: str
    width_px: int
    height_px: int
    logits: tuple[float, ...]
    prob_malignant: float
    class_name: str
    is_called: bool
    heatmaps: dict[str, Heatmap]
    warnings: tuple[str, ...]
    cautions: tuple[str, ...]


def diagnose(engine: BatchingEngine, rgb: np.ndarray, name: str) -> Verdict:
    """Predict and explain one decoded picture.

    Parameters
    ----------
    engine : BatchingEngine
    rgb : ndarray of shape (height, width, 3), uint8
        As `bc_model.data.pictures.decode_picture` returns it.
    name : str
        What to call it. An official name is held against what the model knows.

    Raises
    ------
    EngineBusy
        Too many pictures are waiting already.
    ModelError
        The model's answer is not finite.
    """
    bundle = engine.bundle
    pixels = model_input(rgb, bundle.image_size)
    logits, heatmaps = engine.explain_one(pixels)
    probability = float(prob_malignant(logits[None], bundle.temperature)[0])
    sentence, is_blank = stain_warning(pixels, bundle.card)
    of_stain = [sentence] if sentence else []
    void = [
        *about_enlarging(rgb.shape[1], rgb.shape[0], bundle),
        *(of_stain if is_blank else []),
        *_about_name(name, bundle),
    ]
    others = [*([] if is_blank else of_stain), *_about_knowing(rgb, name, bundle)]
    return Verdict(
        name=name,
        width_px=rgb.shape[1],
        height_px=rgb.shape[0],
        logits=tuple(float(logit) for logit in logits),
        prob_malignant=probability,
        class_name=CLASSES[int(probability >= bundle.threshold)],
        is_called=not void,
        heatmaps=heatmaps,
        warnings=(*void, *others),
        cautions=_cautions(name, rgb.shape[1], rgb.shape[0], bundle),
    )


def prob_malignant(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Turn logits, shape (n, 2), into the estimated probability of malignancy, shape (n,)."""
    benign, malignant = (np.asarray(logits, np.float64) / temperature).T
    # The softmax of two logits is the logistic of their difference; logaddexp never overflows.
    return np.exp(-np.logaddexp(0.0, benign - malignant))


def _about_name(name: str, bundle: Bundle) -> tuple[str, ...]:
    """Say why an estimate means nothing, by what an official file name says."""
    said = parse_name(name)
    if said is None:
        return ()
    warnings = []
    known = bundle.card.scale.magnifications
    if known and said.magnification not in known:
        warnings.append(
            f"By its name this picture was taken at {said.magnification}X; the model knows only "
            f"{_listed(known)}. The estimate means nothing."
        )
    if is_drawn(said.case) and not bundle.card.data.is_synthetic:
        warnings.append(
            "By its name this picture is drawn, not tissue. The estimate means nothing."
        )
    return tuple(warnings)


def _about_knowing(rgb: np.ndarray, name: str, bundle: Bundle) -> tuple[str, ...]:
    """Warn of what the model was made from, by its name or else by its pixels."""
    said = parse_name(name)
    if said is None or said.case not in bundle.known_cases:
        return known_warning(rgb, bundle)
    return (
        f"By its name this picture is of case {said.case}, which the model was trained on. "
        "The estimate says nothing about how well it does on new cases.",
    )


def _listed(magnifications: tuple[int, ...]) -> str:
    return " and ".join(f"{m}X" for m in magnifications)


def _cautions(name: str, width_px: int, height_px: int, bundle: Bundle) -> tuple[str, ...]:
    official = parse_name(name) is not None
    cautions = [*about_size(width_px, height_px, official, bundle)]
    known = bundle.card.scale.magnifications
    if known and not official:  # an official name says the magnification
        objectives = " and ".join(f"{m // 10}x" for m in known)
        cautions.append(
            f"A picture does not say its scale. The model knows BreakHis's {_listed(known)}, which "
            f"is a {objectives} objective; at another one the estimate means nothing."
        )
    if bundle.temperature == 1.0:
        cautions.append("This model's probabilities have not been calibrated.")
    return tuple(cautions)
