"""How long a run will take, said before it starts: work counted, this machine's rate measured.

Rough, a factor of two either way: early stopping may end it sooner, and other programs want the
processor too. Once the run goes on, its own epochs tell better.
"""

import time

import numpy as np

from bc_model.model import backbone
from bc_model.training.settings import TrainingConfig

SIDE = 1536
TRIES = 3
START_S = 20.0
"""Starting TensorFlow, building the network, and writing the model at the end."""

BACKWARD_SHARE = {"all": 2.0, "default": 0.5}
"""A backward pass in forward passes: through everything, or through the last blocks."""
TAIL_SHARE = 0.25
"""Forward pass of the last blocks alone, as a share of the whole."""
BFLOAT16_GAIN = 2.2
"""How much faster the passes through a pretrained network are in bfloat16, measured with ResNet50
on a processor that has it; training from scratch waits for memory and gains little."""


def measure_gflops() -> float:
    """Return this machine's rate of float32 matrix products, GFLOP/s: a tenth of a second's work.

    Rates of convolutions lie close to it on processors; a GPU is not counted on.
    """
    matrix = np.ones((SIDE, SIDE), np.float32)
    best = np.inf
    for _ in range(TRIES):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9


def forecast_seconds(
    config: TrainingConfig,
    n_training: int,
    n_validation: int,
    gflops: float,
    *,
    has_bfloat16: bool = False,
) -> float:
    """Estimate the duration of a run with all its epochs.

    Parameters
    ----------
    config : TrainingConfig
    n_training, n_validation : int
        Pictures.
    gflops : float
        From `measure_gflops`.
    has_bfloat16 : bool
        Of this processor, as `bc_model.serving.precision.supported_precisions` tells.

    Returns
    -------
    float
        Seconds.
    """
    height, width = config.image_size
    forward_s = backbone(config.backbone).gflop * height * width / 224**2 / gflops
    if has_bfloat16 and config.compute_dtype != "float32" and not config.from_scratch:
        forward_s /= BFLOAT16_GAIN
    epoch = n_training + n_validation
    once = n_training * config.augmented_copies + n_validation
    head = config.head_epochs * epoch
    if config.cache_features and config.head_epochs:
        head = once
    if config.resolved_unfreeze_from == "all":
        tuned = config.finetune_epochs * (epoch + BACKWARD_SHARE["all"] * n_training)
    elif config.cache_features:
        tuned = config.finetune_epochs * TAIL_SHARE * (epoch + 2.0 * n_training)
        tuned += 0.0 if config.head_epochs else once  # one pass serves both phases
    else:
        tuned = config.finetune_epochs * (epoch + BACKWARD_SHARE["default"] * n_training)
    if not config.finetune_epochs:
        tuned = 0.0
    return START_S + (head + tuned) * forward_s
