"""Processors and GPUs of a run: compute dtype, multi-GPU training and estimated duration.

Mixed precision computes products in bfloat16 and keeps weights and sums in float32. Its range is
that of float32, so the loss is not scaled [1]_.

References
----------
.. [1] Kalamkar, D. et al. "A study of bfloat16 for deep learning training." arXiv:1905.12322.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from bc_model.errors import ConfigError
from bc_model.model import get_backbone
from bc_model.training.config import TrainingConfig
from bc_model.utils.processor import require_tensorflow

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_BFLOAT16_CAPABILITY = (8, 0)
"""Compute capability of the first NVIDIA GPUs with bfloat16 (Ampere)."""

_MATRIX_SIDE = 1536
_N_MEASUREMENTS = 3
_STARTUP_S = 20.0
"""Time to start TensorFlow, build the model and export it."""
_BACKWARD_COST = {"all": 2.0, "last": 0.5}
"""Backward pass in units of a forward pass: through all blocks, or through the last blocks."""
_LAST_BLOCKS_COST = 0.25
"""Forward pass of the last blocks in units of an entire forward pass."""
_BFLOAT16_SPEEDUP = 2.2
"""Measured with a pretrained ResNet50. Training from scratch gains little."""


def resolve_compute_dtype(config: TrainingConfig) -> str:
    """Return 'float32' or 'bfloat16'; 'auto' selects the faster one on this machine."""
    if config.compute_dtype != "auto":
        return config.compute_dtype
    require_tensorflow()
    import tensorflow as tf

    from bc_model.inference.precision import supported_precisions

    if gpus := tf.config.list_physical_devices("GPU"):
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        has_bfloat16 = all(
            gpu.get("compute_capability", (0, 0)) >= _BFLOAT16_CAPABILITY for gpu in details
        )
    else:
        has_bfloat16 = "bf16" in supported_precisions()
    return "bfloat16" if has_bfloat16 else "float32"


@contextmanager
def use_compute_dtype(model: keras.Model, compute_dtype: str) -> Iterator[None]:
    """Let the layers before global average pooling compute in a dtype within a block.

    Parameters
    ----------
    model : keras.Model
        The model, or its tail after a frozen base.
    compute_dtype : {'float32', 'bfloat16'}

    Notes
    -----
    The layers after the pooling stay in float32, so that the loss is exact. A function traced
    inside the block keeps its dtype.
    """
    import keras

    names = [layer.name for layer in model.layers]
    n_layers = names.index("pool") if "pool" in names else 0
    layers = [
        layer for layer in model.layers[:n_layers] if not isinstance(layer, keras.layers.InputLayer)
    ]
    policies = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = _POLICIES[compute_dtype]
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy


def make_strategy(config: TrainingConfig) -> tf.distribute.Strategy:
    """Return the strategy to train with; raises `ConfigError` for multi-GPU without two GPUs."""
    require_tensorflow()
    import tensorflow as tf

    if not config.multi_gpu:
        return tf.distribute.get_strategy()
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if len(gpus) < 2:
        raise ConfigError(
            f"Invalid multi_gpu True. Expected two or more GPUs, got {len(gpus)}. Turn it off, or "
            "install the drivers and 'tensorflow[and-cuda]'."
        )
    return tf.distribute.MirroredStrategy(gpus)


def resolve_batch_size(config: TrainingConfig, n_training: int) -> tuple[int, int]:
    """Return the batch size, a multiple of the number of devices, and that number.

    Raises
    ------
    ConfigError
        A batch, or the training subset, contains fewer images than there are devices.
    """
    require_tensorflow()
    import tensorflow as tf

    # A device without images would compute NaN in batch normalization.
    n_devices = tf.distribute.get_strategy().num_replicas_in_sync
    batch_size = config.batch_size - config.batch_size % n_devices
    if batch_size == 0 or (n_devices > 1 and n_training < batch_size):
        raise ConfigError(
            f"Invalid batch_size {config.batch_size} for {n_devices} GPUs. Expected {n_devices} <= "
            f"batch_size <= {n_training} (training images). Change it, or turn off multi_gpu."
        )
    return batch_size, n_devices


def measure_gflops() -> float:
    """Return the speed of float32 matrix products on this processor, GFLOP/s.

    The measurement takes about 0.1 s. Convolutions have a similar speed on processors. GPUs are
    ignored.
    """
    matrix = np.ones((_MATRIX_SIDE, _MATRIX_SIDE), np.float32)
    shortest_s = np.inf
    for _ in range(_N_MEASUREMENTS):
        start = time.perf_counter()
        matrix @ matrix
        shortest_s = min(shortest_s, time.perf_counter() - start)
    return 2 * _MATRIX_SIDE**3 / shortest_s / 1e9


def estimate_duration_s(
    config: TrainingConfig, n_training: int, n_validation: int, gflops: float, *,
    has_bfloat16: bool = False,
) -> float:  # fmt: skip
    """Estimate the duration of a run that trains all its epochs.

    Parameters
    ----------
    config : TrainingConfig
    n_training, n_validation : int
        The numbers of training and validation images.
    gflops : float
        The speed of the processor from `measure_gflops`.
    has_bfloat16 : bool
        Whether `bc_model.inference.supported_precisions` contains 'bf16'.

    Returns
    -------
    float
        The duration in seconds.

    Examples
    --------
    >>> config = TrainingConfig("BreaKHis_v1", weights="none", head_epochs=0, finetune_epochs=10)
    >>> round(estimate_duration_s(config, 1000, 200, gflops=100) / 60)
    41
    """
    height, width = config.image_size
    forward_s = get_backbone(config.backbone).gflop * height * width / 224**2 / gflops
    if has_bfloat16 and config.compute_dtype != "float32" and not config.from_scratch:
        forward_s /= _BFLOAT16_SPEEDUP
    n_epoch = n_training + n_validation
    n_cached = n_training * config.augmented_copies + n_validation
    # Numbers of images, in units of one forward pass through the entire network.
    head = config.head_epochs * n_epoch
    if config.cache_features and config.head_epochs:
        head = n_cached
    if config.resolved_unfreeze_from == "all":
        finetune = config.finetune_epochs * (n_epoch + _BACKWARD_COST["all"] * n_training)
    elif not config.cache_features:
        finetune = config.finetune_epochs * (n_epoch + _BACKWARD_COST["last"] * n_training)
    else:
        finetune = config.finetune_epochs * _LAST_BLOCKS_COST * (n_epoch + 2.0 * n_training)
        if config.finetune_epochs and not config.head_epochs:  # Else both phases share one pass.
            finetune += n_cached
    return _STARTUP_S + (head + finetune) * forward_s
