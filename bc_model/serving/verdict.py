"""From a picture's bytes to a verdict: probability, class, heatmaps, and what to be careful of."""

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from bc_model.data.names import CLASSES, parse_name
from bc_model.data.pictures import FIELD_PX, FRAME_PX, decode_picture, field_box, model_input
from bc_model.gradcam import Heatmap
from bc_model.serving.bundle import Bundle
from bc_model.serving.engine import Engine


@dataclass(frozen=True)
class Verdict:
    """What the model says of one picture.

    Attributes
    ----------
    name : str
        As the file was called; only to be shown.
    sha256 : str
        Of the file's bytes.
    rgb : ndarray of shape (height, width, 3), uint8
    logits : tuple of float
        In the order of `CLASSES`.
    prob_malignant : float
        Estimated probability of malignancy, after temperature.
    class_name : {'benign', 'malignant'}
        By the model's threshold.
    heatmaps : dict from class name to Heatmap
    warnings : tuple of str
        Reasons not to rely on this estimate at all.
    cautions : tuple of str
        What to keep in mind when reading it.
    """

    name: str
    sha256: str
    rgb: np.ndarray
    logits: tuple[float, ...]
    prob_malignant: float
    class_name: str
    heatmaps: dict[str, Heatmap]
    warnings: tuple[str, ...]
    cautions: tuple[str, ...]


def diagnose(engine: Engine, data: bytes, name: str) -> Verdict:
    """Decode, predict and explain one picture.

    Parameters
    ----------
    engine : Engine
    data : bytes
        The whole file.
    name : str
        What to call it.

    Raises
    ------
    PictureError
        The picture cannot be read; see `decode_picture`.
    """
    rgb = decode_picture(data, name)
    bundle = engine.bundle
    logits, heatmaps = engine.explain(model_input(rgb, bundle.image_size)[None])
    probability = float(prob_malignant(logits, bundle.temperature)[0])
    return Verdict(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        rgb=rgb,
        logits=tuple(float(logit) for logit in logits[0]),
        prob_malignant=probability,
        class_name=CLASSES[int(probability >= bundle.threshold)],
        heatmaps=heatmaps[0],
        warnings=_warnings(name, bundle),
        cautions=_cautions(rgb, bundle),
    )


def prob_malignant(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Turn logits, shape (n, 2), into the estimated probability of malignancy, shape (n,)."""
    scaled = np.asarray(logits, np.float64) / temperature
    return softmax(scaled, axis=1)[:, CLASSES.index("malignant")]


def _warnings(name: str, bundle: Bundle) -> tuple[str, ...]:
    """Hold what an official file name says against what the model learned from."""
    said = parse_name(name)
    if said is None:
        return ()
    warnings = []
    known = bundle.passport["scale"]["magnifications"]
    if known and said.magnification not in known:
        warnings.append(
            f"By its name this picture was taken at {said.magnification}X; the model knows only "
            f"{_listed(known)}. The estimate means nothing."
        )
    if said.case in bundle.passport["data"]["training_cases"]:
        warnings.append(
            f"By its name this picture is of case {said.case}, which the model was trained on. "
            "The estimate says nothing about how well it does on new cases."
        )
    return tuple(warnings)


def _listed(magnifications: list[int]) -> str:
    return " and ".join(f"{m}X" for m in magnifications)


def _cautions(rgb: np.ndarray, bundle: Bundle) -> tuple[str, ...]:
    height, width = rgb.shape[:2]
    known = bundle.passport["scale"]["magnifications"]
    cautions = []
    known_sizes = bundle.passport["input"].get("training_sizes", [])
    is_frame = field_box(height, width)[2:] != (height, width) or (width, height) in (
        FRAME_PX,
        FIELD_PX,
    )
    if not is_frame and f"{width}x{height}" not in known_sizes:
        cautions.append(
            f"This picture has {width} x {height} pixels; the model learned from frames of "
            f"{FRAME_PX[0]} x {FRAME_PX[1]}. It was read whole, so its scale and shape may not be "
            "what the model knows."
        )
    if known:
        objectives = " and ".join(f"{m // 10}x" for m in known)
        cautions.append(
            f"A picture does not say its scale. The model knows BreakHis's {_listed(known)}, which "
            f"is a {objectives} objective; at another one the estimate means nothing."
        )
    if bundle.temperature == 1.0:
        cautions.append("This model's probabilities have not been calibrated.")
    return tuple(cautions)
