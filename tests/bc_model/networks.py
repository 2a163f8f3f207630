"""Networks of tests."""

import keras
import numpy as np


def randomize_batch_norm(model: keras.Model) -> None:
    """Give each batch normalization random weights, so that none of them is the identity."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
