"""Mixed precision for the layers that learn: products in bfloat16, weights and sums in float32.

bfloat16 has float32's range, so no loss needs scaling. ResNet50's last block learns half as fast
again in it on a processor with avx512_bf16; EfficientNetB0's gained nothing and lost nothing.
Method: Kalamkar et al., "A study of bfloat16 for deep learning training", arXiv:1905.12322.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bc_model.errors import ConfigError
from bc_model.training.config import TrainingConfig

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from bc_model.training.config import TrainingConfig


_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_GPU_WITH_BFLOAT16 = (8, 0)
"""Compute capability of the first NVIDIA cards that multiply in bfloat16 (Ampere)."""


def resolve_compute_dtype(config: TrainingConfig) -> str:
    """Return 'float32' or 'bfloat16': as the settings say, or what this machine is fastest in."""
    if config.compute_dtype != "auto":
        return config.compute_dtype
    import tensorflow as tf

    from bc_model.inference.precision import supported_precisions

    if gpus := tf.config.list_physical_devices("GPU"):
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        able = all(one.get("compute_capability", (0, 0)) >= _GPU_WITH_BFLOAT16 for one in details)
    else:
        able = "bf16" in supported_precisions()
    return "bfloat16" if able else "float32"


@contextmanager
def use_compute_dtype(model: keras.Model, compute_dtype: str) -> Iterator[None]:
    """Let the convolutional layers of a model compute in another precision for a while.

    What follows the pooling stays in float32: it costs nothing, and the softmax of a rounded logit
    would be a rounded loss. The layers are as before when the block ends, so that what is saved
    computes in float32. A function traced inside the block keeps the block's precision.

    Parameters
    ----------
    model : keras.Model
        The classifier or its tail.
    arithmetic : {'float32', 'bfloat16'}
    """
    import keras

    names = [layer.name for layer in model.layers]
    until = names.index("pool") if "pool" in names else 0
    layers = [
        layer for layer in model.layers[:until] if not isinstance(layer, keras.layers.InputLayer)
    ]
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = _POLICIES[compute_dtype]
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def make_strategy(config: TrainingConfig) -> tf.distribute.Strategy:
    """Return the strategy in whose scope the network is to be built and trained.

    Raises
    ------
    ConfigError
        A shared batch is asked for with fewer than two cards.
    """
    import tensorflow as tf

    if not config.multi_gpu:
        return tf.distribute.get_strategy()
    cards = [device.name for device in tf.config.list_logical_devices("GPU")]
    if len(cards) < 2:
        raise ConfigError(
            f"Invalid multi_gpu True. Expected two or more GPUs, got {len(cards)}. Turn it off, or "
            "install the drivers and 'tensorflow[and-cuda]'."
        )
    return tf.distribute.MirroredStrategy(cards)


def resolve_batch_size(config: TrainingConfig, n_training: int) -> tuple[int, int]:
    """Return the size of a batch and among how many devices it is shared, here and now.

    Every device gets the same share of every batch: one that got nothing would normalise over
    nothing, and the weights of all would be NaN.

    Raises
    ------
    ConfigError
        There are fewer pictures in a batch, or in training, than devices to share them.
    """
    import tensorflow as tf

    proportions = tf.distribute.get_strategy().num_replicas_in_sync
    size = config.batch_size - config.batch_size % proportions
    if size == 0 or (proportions > 1 and n_training < size):
        raise ConfigError(
            f"Batches of {config.batch_size} from {n_training} training pictures cannot be "
            f"shared among {proportions} graphics cards; choose a batch size from {proportions} to "
            f"{n_training}, or turn off multi_gpu."
        )
    return size, proportions
