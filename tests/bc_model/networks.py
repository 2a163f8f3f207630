"""Networks of tests."""

import keras
import numpy as np

from bc_model.inference.head import Head


def randomize_batch_norm(model: keras.Model) -> None:
    """Give each batch normalization random weights, so that none of them is the identity."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])


def random_head(units: tuple[int, ...], seed: int, slope: float = 0.0) -> tuple[keras.Model, Head]:
    """Return a head of Keras for 12 features with random weights, and the same head in NumPy."""
    rng = np.random.default_rng(seed)
    pooled = keras.Input((12,))
    x = pooled
    for width in units:
        x = keras.layers.LeakyReLU(slope)(keras.layers.Dense(width)(x))
    model = keras.Model(pooled, keras.layers.Dense(2)(x))
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.weights])
    weights = model.get_weights()
    return model, Head(tuple(weights[::2]), tuple(weights[1::2]), slope)
