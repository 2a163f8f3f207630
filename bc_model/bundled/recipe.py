"""How the model in the box is made, in numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

FRAME_PX = {100: (700, 460), 200: (350, 230)}
"""Width and height that a whole frame is brought to, by magnification: the same micrometres a
pixel, since a frame at 100X shows twice as much tissue a side."""


@dataclass(frozen=True)
class Recipe:
    """What the learning depends on, beside the pictures.

    Attributes
    ----------
    image_size : (int, int)
        Height and width of the served network's input, px: a whole frame in its own proportions.
    side_px : int
        Of the square crops: small ones are quick, and leave less to learn by heart.
    checkpoints : tuple of int
        After how many steps the learning may end, rising. It is chosen by cross-validation: too
        long, and the cases are known by heart.
    batch_size : int
    learning_rate, warmup_steps, weight_decay
        Of AdamW (Loshchilov and Hutter, ICLR 2019). After the warm-up the rate stays as it is, so
        that every checkpoint may be the last; the averaged weights come to rest all the same.
    label_smoothing : float
    mixup : float
        Both parameters of the Beta distribution (Zhang et al., "mixup", ICLR 2018); 0 is none.
    stain_jitter : float
        How far haematoxylin, eosin and the rest are each made stronger or weaker, as a share
        (Tellez et al., IEEE Transactions on Medical Imaging 37(9), 2018).
    dropout : float
    subtype_weight : float
        Of a second head that tells the subtypes apart and is left out of the served model.
    averaging : float
        Decay, a step, of the weights' running mean, which is what is kept (Polyak and Juditsky,
        SIAM Journal on Control and Optimization 30(4), 1992).
    n_folds : int
        Of the cross-validation by case.
    seed : int
    version : int
        Of what the code does beside these numbers; raised with every change of it.
    backbone : str
    """

    image_size: tuple[int, int] = (160, 240)
    side_px: int = 80
    checkpoints: tuple[int, ...] = (150, 200, 300, 400)
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    mixup: float = 0.3
    stain_jitter: float = 0.1
    dropout: float = 0.3
    subtype_weight: float = 0.3
    averaging: float = 0.98
    n_folds: int = 5
    seed: int = 0
    version: int = 1
    backbone: str = "resnet50"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @property
    def key(self) -> str:
        """Identify the recipe."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()
