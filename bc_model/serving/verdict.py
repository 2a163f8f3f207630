"""From a picture's bytes to a verdict: probability, class, heatmaps, and what to be careful of."""

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from bc_model.data.names import CLASSES
from bc_model.data.pictures import FIELD_PX, FRAME_PX, decode_picture, field_box, model_input
from bc_model.gradcam import Heatmap
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
    cautions : tuple of str
        Sentences for the reader, most important first.
    """

    name: str
    sha256: str
    rgb: np.ndarray
    logits: tuple[float, ...]
    prob_malignant: float
    class_name: str
    heatmaps: dict[str, Heatmap]
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
        cautions=_cautions(rgb, engine),
    )


def prob_malignant(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Turn logits, shape (n, 2), into the estimated probability of malignancy, shape (n,)."""
    scaled = np.asarray(logits, np.float64) / temperature
    return softmax(scaled, axis=1)[:, CLASSES.index("malignant")]


def _cautions(rgb: np.ndarray, engine: Engine) -> tuple[str, ...]:
    height, width = rgb.shape[:2]
    scale = engine.bundle.passport["scale"]
    cautions = []
    known_sizes = engine.bundle.passport["input"].get("training_sizes", [])
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
    if scale["magnifications"]:
        named = " and ".join(f"{m}X" for m in scale["magnifications"])
        cautions.append(
            f"The file does not say its scale. The model knows {named} (in BreakHis, "
            f"{' and '.join(f'{m // 10}x' for m in scale['magnifications'])} objective); at any "
            "other magnification the estimate means nothing."
        )
    return tuple(cautions)
