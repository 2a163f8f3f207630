"""Several graphics cards on one machine: batches are shared, weights mirrored.

Keras's own synchronous data parallelism. One card or none needs nothing of this. Several machines
do not share a batch: they take whole runs each (`study.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bc_model.errors import SettingsError

if TYPE_CHECKING:
    import tensorflow as tf

    from bc_model.training.settings import TrainSettings


def strategy_for(settings: TrainSettings) -> tf.distribute.Strategy:
    """Return the strategy in whose scope the network is to be built and trained.

    Raises
    ------
    SettingsError
        A shared batch is asked for with fewer than two cards, or smaller than their number.
    """
    import tensorflow as tf

    if not settings.mirrored:
        return tf.distribute.get_strategy()
    cards = [device.name for device in tf.config.list_logical_devices("GPU")]
    if len(cards) < 2:
        raise SettingsError(
            "--mirrored shares each batch among two or more graphics cards; TensorFlow finds "
            f"{len(cards) or 'none'} here. Leave it out, or see that the drivers and "
            "'tensorflow[and-cuda]' are installed."
        )
    if settings.batch_size < len(cards):
        raise SettingsError(
            f"batch_size must be at least the number of graphics cards, {len(cards)}; asked for "
            f"{settings.batch_size}."
        )
    return tf.distribute.MirroredStrategy(cards)
