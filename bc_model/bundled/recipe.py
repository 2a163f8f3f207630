"""How the model in the box is made: every number of it, fixed before the folds are looked at."""

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
    stages : tuple of (int, int)
        Side of the square crops, px, and steps: small ones first, which are quick and leave less
        to learn by heart.
    batch_size : int
    learning_rate, warmup_steps, weight_decay
        Of AdamW (Loshchilov and Hutter, ICLR 2019); after the warm-up the rate falls by a cosine.
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
        Decay, a step, of the weights' running mean, which is what is kept (Polyak averaging).
    n_folds : int
        Of the cross-validation by case.
    seed : int
    """

    image_size: tuple[int, int] = (160, 240)
    stages: tuple[tuple[int, int], ...] = ((80, 600), (128, 300))
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    mixup: float = 0.3
    stain_jitter: float = 0.3
    dropout: float = 0.3
    subtype_weight: float = 0.3
    averaging: float = 0.99
    n_folds: int = 5
    seed: int = 0
    backbone: str = "resnet50"

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(steps for _, steps in self.stages)

    def side_px(self, step: int) -> int:
        """Return the side of the crops at a step, px."""
        for side, steps in self.stages:
            if step < steps:
                return side
            step -= steps
        raise IndexError("there are no more steps")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @property
    def key(self) -> str:
        """Identify the recipe: what one made must not be taken for what another made."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()
