"""The configuration of the bundled model. This module loads no large library."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from bc_model.utils.serialization import to_json

MAGNIFICATIONS = (100, 200)
"""Magnifications for which the bundled model is trained and evaluated."""

_LAST_LAYER_OPTIONS = ("teacher_weights", "last_penalty", "target_risk")


@dataclass(frozen=True)
class DistillationConfig:
    """The training configuration of the bundled model.

    Attributes
    ----------
    image_size, view_size : (int, int)
        Height and width of the network input and of the training views, px.
    n_views : int
        Number of training views, which all networks share.
    steps, batch_size : int
    learning_rate, warmup_steps, weight_decay
        Options of AdamW [1]_ with cosine decay.
    mpp_range : (float, float)
        Range of the scale of the views, µm per pixel.
    serving_scale_share : float
        Proportion of the views at the scale of complete images, within 20 %.
    stain_jitter : float
        Range of the stain and color changes, relative [2]_.
    channel_mixing : float
        Proportion of views with randomly mixed channels.
    image_mixing : float
        Proportion of views that are mixed with a view of another image.
    degradation : float
        Probability of each degradation of a view: brightness, blur, resampling and JPEG
        compression.
    brightness : float
        Range of the brightness as part of the degradation, relative.
    blur_px : float
        Largest standard deviation of the blur in an image of 700 px width, px.
    jpeg_quality : (int, int)
        Range of the quality of JPEG compression.
    n_variants : int
        Augmented variants of each complete image, for the teacher and the last layer.
    n_components : int
        Number of whitened principal components of the ImageNet activations.
    teacher_weights : tuple of float
        Weights of the teachers in the order of `bc_model.distillation.teacher.FAMILIES`.
    penalties : tuple of float
        Inverse ridge strength of each teacher, ``C`` in scikit-learn.
    last_penalty : float
        Ridge strength of the last layer; see `bc_model.distillation.last_layer`.
    feature_weight, component_weight, logit_weight, scale_weight, background_weight : float
        Loss weights of the hand-crafted features, of the components of the ImageNet activations, of
        the teachers' logits, of the scale, and of the evidence on background.
    label_weight, subtype_weight : float
        Loss weights of the classes and of the subtypes.
    label_smoothing : float
    dropout : float
        Dropout before the label outputs.
    ema_decay : float
        Decay per step of the exponential moving average of the weights [3]_.
    n_folds : int
        Number of case-level folds.
    seed : int
    target_risk : float
        Largest error rate outside of the uncertain range, see
        `bc_model.evaluation.selective.TARGET_RISK`.
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
    .. [3] Polyak and Juditsky, SIAM Journal on Control and Optimization 30(4), 1992.
    """

    image_size: tuple[int, int] = (224, 336)
    view_size: tuple[int, int] = (96, 128)
    n_views: int = 48_000
    steps: int = 1200
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.02
    mpp_range: tuple[float, float] = (0.25, 3.2)
    serving_scale_share: float = 0.5
    stain_jitter: float = 0.6
    channel_mixing: float = 0.2
    image_mixing: float = 0.3
    degradation: float = 0.35
    brightness: float = 0.2
    blur_px: float = 4.0
    jpeg_quality: tuple[int, int] = (40, 95)
    n_variants: int = 6
    n_components: int = 64
    teacher_weights: tuple[float, ...] = (0.5, 2.0, 1.0, 1.0)
    penalties: tuple[float, ...] = (0.1, 0.01, 0.01, 0.01)
    last_penalty: float = 30.0
    feature_weight: float = 1.0
    component_weight: float = 1.0
    logit_weight: float = 3.0
    scale_weight: float = 0.3
    background_weight: float = 0.3
    label_weight: float = 0.1
    subtype_weight: float = 0.03
    label_smoothing: float = 0.1
    dropout: float = 0.3
    ema_decay: float = 0.98
    n_folds: int = 5
    seed: int = 0
    target_risk: float = 0.05
    version: int = 4
    backbone: str = "resnet50"
    compute_dtype: str = "bfloat16"

    @property
    def key(self) -> str:
        """The SHA-256 of the options of the networks, without those of the last layer."""
        options = {k: v for k, v in to_json(self).items() if k not in _LAST_LAYER_OPTIONS}
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
