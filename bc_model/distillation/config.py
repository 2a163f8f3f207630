"""How the model in the box is made, in numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from bc_model.utils.serialization import to_json

MAGNIFICATIONS = (100, 200)
PROXY = "probe"
"""Instead of a backbone's name: the small network that stands for it where many are learned."""
PROXY_IN_WORDS = "residual networks of a quarter of ResNet50's width"
NESTED_NETWORKS = ("small-chooses", "small", "full")
"""Which networks learn inside the folds, see `model_selection.recipes_inside`. They stand here because the
command line names them before anything large is loaded."""


@dataclass(frozen=True)
class DistillationConfig:
    """What the learning depends on, beside the pictures.

    Attributes
    ----------
    image_size : (int, int)
        Height and width of the served network's input, px: a whole frame in its own proportions.
    view_size : (int, int)
        Height and width of the crops that it learns from, px.
    steps : int
    batch_size : int
    learning_rate, warmup_steps, weight_decay
        Of AdamW (Loshchilov and Hutter, ICLR 2019), falling as a cosine.
    hidden_units : int
        Between pooling and the logits.
    dropout : float
        Before the layers that labels teach.
    zoom : (float, float)
        Range of the side of a crop, as a factor of the view's.
    recolouring : float
        How far the stains and colours of a view are changed, as a share (Tellez et al., IEEE
        Transactions on Medical Imaging 37(9), 2018).
    strange : float
        Share of the views whose channels are mixed at random.
    mixed : float
        Share of the views that have a part of a second picture, blended in or beside it (Zhang et
        al., "mixup", ICLR 2018; Yun et al., "CutMix", ICCV 2019).
    penalty : float
        Inverse strength of the teacher's ridge, scikit-learn's C.
    last_penalty : float
        Strength of the ridge of the last layer, scikit-learn's alpha.
    label_weight : float
        Of the labels' loss; those of the descriptors and of the teacher's logit weigh 1.
    subtype_weight : float
        Of the subtypes' loss among it.
    label_smoothing : float
    averaging : float
        Decay, a step, of the weights' running mean, which is what is kept (Polyak and Juditsky,
        SIAM Journal on Control and Optimization 30(4), 1992).
    n_folds : int
        Of the cross-validation by case.
    seed : int
    version : int
        Of what the code does beside these numbers; raised with every change of it. Other kernels
        or backends of the same mathematics are none.
    backbone : str
    arithmetic : {'bfloat16', 'float32'}
        Of the convolutions while they learn.
    """

    image_size: tuple[int, int] = (160, 240)
    view_size: tuple[int, int] = (64, 96)
    steps: int = 3500
    batch_size: int = 64
    learning_rate: float = 4e-3
    warmup_steps: int = 40
    weight_decay: float = 0.02
    hidden_units: int = 512
    dropout: float = 0.3
    zoom: tuple[float, float] = (0.6, 1.6)
    recolouring: float = 0.5
    unusual: float = 0.2
    mixed: float = 0.4
    penalty: float = 0.1
    last_penalty: float = 30.0
    label_weight: float = 0.2
    subtype_weight: float = 0.3
    label_smoothing: float = 0.1
    averaging: float = 0.98
    n_folds: int = 5
    seed: int = 0
    version: int = 3
    backbone: str = "resnet50"
    compute_dtype: str = "bfloat16"

    @property
    def key(self) -> str:
        """Identify the recipe."""
        return hashlib.sha256(json.dumps(to_json(self), sort_keys=True).encode()).hexdigest()
