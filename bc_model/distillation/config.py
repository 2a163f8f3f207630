"""The configuration of the bundled model. This module loads no large library."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from bc_model.utils.serialization import to_json

MAGNIFICATIONS = (100, 200)
PROXY = "proxy"
"""Backbone name of the proxy network, which replaces ResNet50 where many networks are trained."""
PROXY_DESCRIPTION = "residual networks with a quarter of the width of ResNet50"
NESTED_NETWORKS = ("proxy-selects", "proxy", "full")
"""Networks of nested cross-validation; see `bc_model.distillation.nested_configs`."""


@dataclass(frozen=True)
class DistillationConfig:
    """The training configuration of the bundled model.

    Attributes
    ----------
    image_size, view_size : (int, int)
        Height and width of the network input and of the training crops, px.
    steps, batch_size : int
    learning_rate, warmup_steps, weight_decay
        Options of AdamW [1]_ with cosine decay.
    hidden_units : int
        Units between pooling and the logits.
    dropout : float
        Dropout before the label outputs.
    crop_scale : (float, float)
        Range of the side of a random resized crop, relative to the view.
    stain_jitter : float
        Range of the stain and color changes, relative [2]_.
    channel_mixing : float
        Proportion of views with randomly mixed channels.
    image_mixing : float
        Proportion of views that are mixed with a second view, by mixup [3]_ or CutMix [4]_.
    penalty : float
        Inverse ridge strength of the teacher, ``C`` in scikit-learn.
    last_penalty : float
        Ridge strength of the last layer, ``alpha`` in scikit-learn.
    label_weight : float
        Loss weight of the classes; those of the features and of the teacher's logit are 1.
    subtype_weight : float
        Loss weight of the subtypes, relative to the classes.
    label_smoothing : float
    ema_decay : float
        Decay per step of the exponential moving average of the weights [5]_.
    n_folds : int
        Number of case-level folds.
    seed : int
    version : int
        Version of the training code, to be increased if equal options give another network. Faster
        kernels and other backends do not count.
    backbone : str
    compute_dtype : {'bfloat16', 'float32'}
        Compute dtype of the convolutions during training.

    References
    ----------
    .. [1] Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    .. [2] Tellez et al., IEEE Transactions on Medical Imaging 37(9), 2018.
    .. [3] Zhang et al., "mixup", ICLR 2018.
    .. [4] Yun et al., "CutMix", ICCV 2019.
    .. [5] Polyak and Juditsky, SIAM Journal on Control and Optimization 30(4), 1992.
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
    crop_scale: tuple[float, float] = (0.6, 1.6)
    stain_jitter: float = 0.5
    channel_mixing: float = 0.2
    image_mixing: float = 0.4
    penalty: float = 0.1
    last_penalty: float = 30.0
    label_weight: float = 0.2
    subtype_weight: float = 0.3
    label_smoothing: float = 0.1
    ema_decay: float = 0.98
    n_folds: int = 5
    seed: int = 0
    version: int = 3
    backbone: str = "resnet50"
    compute_dtype: str = "bfloat16"

    @property
    def key(self) -> str:
        """The SHA-256 of all options."""
        return hashlib.sha256(json.dumps(to_json(self), sort_keys=True).encode()).hexdigest()
