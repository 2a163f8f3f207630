"""Several graphics cards on one machine: batches are shared, weights mirrored.

Keras's own synchronous data parallelism. One card or none needs nothing of this. Several machines
do not share a batch: they take whole runs each (`study.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bc_model.errors import SettingsError

if TYPE_CHECKING:
    import tensorflow as tf

    from bc_model.training.settings import TrainingConfig


def strategy_for(settings: TrainingConfig) -> tf.distribute.Strategy:
    """Return the strategy in whose scope the network is to be built and trained.

    Raises
    ------
    SettingsError
        A shared batch is asked for with fewer than two cards.
    """
    import tensorflow as tf

    if not settings.multi_gpu:
        return tf.distribute.get_strategy()
    cards = [device.name for device in tf.config.list_logical_devices("GPU")]
    if len(cards) < 2:
        raise SettingsError(
            f"Invalid multi_gpu True. Expected two or more GPUs, got {len(cards)}. Turn it off, or "
            "install the drivers and 'tensorflow[and-cuda]'."
        )
    return tf.distribute.MirroredStrategy(cards)


def batch_of(settings: TrainingConfig, n_training: int) -> tuple[int, int]:
    """Return the size of a batch and among how many devices it is shared, here and now.

    Every device gets the same share of every batch: one that got nothing would normalise over
    nothing, and the weights of all would be NaN.

    Raises
    ------
    SettingsError
        There are fewer pictures in a batch, or in training, than devices to share them.
    """
    import tensorflow as tf

    shares = tf.distribute.get_strategy().num_replicas_in_sync
    size = settings.batch_size - settings.batch_size % shares
    if size == 0 or (shares > 1 and n_training < size):
        raise SettingsError(
            f"Batches of {settings.batch_size} from {n_training} training pictures cannot be "
            f"shared among {shares} graphics cards; choose a batch size from {shares} to "
            f"{n_training}, or turn off multi_gpu."
        )
    return size, shares
