"""What is measured on whole pictures when the learning, which saw crops, is over."""

from __future__ import annotations

import keras
import numpy as np

from bc_model.bundled.source import Source
from bc_model.bundled.teacher import Teacher
from bc_model.bundled.views import ViewSampler
from bc_model.evaluation.calibration import case_weights

_SETTLING_BATCHES = 8
_AT_ONCE = 32


def settle_batch_norm(model: keras.Model, pixels: np.ndarray, sampler: ViewSampler) -> None:
    """Measure the moving statistics anew, with the weights as they are now.

    Averaged weights never saw a batch, and crops are another view of tissue than what is served
    (Izmailov et al., "Averaging weights leads to wider optima", UAI 2018).

    Parameters
    ----------
    model : keras.Model
    pixels : ndarray of shape (n, height, width, 3), uint8
    sampler : ViewSampler
        Says which, so that classes, magnifications and cases count the same.
    """
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    body = keras.Model(model.inputs[0], model.get_layer("pool").output)
    try:
        for number in range(_SETTLING_BATCHES):
            for layer in layers:
                layer.momentum = number / (number + 1)  # the mean over all batches so far
            body(pixels[sampler.draw(number)].astype("float32"), training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def settle_logits(model: keras.Model, source: Source, teacher: Teacher, penalty: float) -> None:
    """Fit the last layer to the teacher's logits of the pictures themselves.

    What the steps made of the last layer is right on average over crops of odd colours; the verdict
    is asked of whole pictures as they are.

    Parameters
    ----------
    model : keras.Model
        With one hidden layer, 'dense_1'.
    source : Source
        The pictures it learned from.
    teacher : Teacher
    penalty : float
        See `fit_line`.
    """
    hidden = hidden_units(model, source.pixels)
    case = source.table["case"].to_numpy(str)
    logit = teacher.logit(teacher.squashed(source.descriptors))
    kernel, bias = fit_line(hidden, logit, case, penalty)
    # Benign first: half of the difference on either side.
    model.get_layer("logits").set_weights(
        [np.stack([-kernel, kernel], axis=1) / 2.0, np.array([-bias, bias]) / 2.0]
    )


def hidden_units(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Return what the hidden layer says of whole pictures, shape (n, units), float32."""
    body = keras.Model(model.inputs[0], model.get_layer("dense_1").output)
    return np.concatenate(
        [
            np.asarray(body.predict_on_batch(pixels[i : i + _AT_ONCE].astype("float32")))
            for i in range(0, len(pixels), _AT_ONCE)
        ]
    )


def fit_line(
    hidden: np.ndarray, logit: np.ndarray, case: np.ndarray, penalty: float
) -> tuple[np.ndarray, float]:
    """Fit logits by ridge regression in which every case weighs the same.

    Parameters
    ----------
    hidden : ndarray of shape (n, units), float
    logit : ndarray of shape (n,), float
    case : ndarray of shape (n,), str
    penalty : float
        Of standardised units: scikit-learn's alpha.

    Returns
    -------
    kernel : ndarray of shape (units,), float64
    bias : float
        Of the units as they come.
    """
    from sklearn.linear_model import Ridge

    hidden = hidden.astype(np.float64)
    mean, spread = hidden.mean(axis=0), hidden.std(axis=0) + 1e-3
    line = Ridge(alpha=penalty).fit(
        (hidden - mean) / spread, logit, sample_weight=case_weights(case) * len(case)
    )
    kernel = line.coef_ / spread
    return kernel, float(line.intercept_ - mean @ kernel)
