import dataclasses

import keras
import numpy as np

from bc_model.bundled.learner import build_network, learn, settle_batch_norm
from bc_model.bundled.views import ViewSampler
from bc_model.model import reference_logits
from tests.bc_model.bundled.conftest import QUICK


def test_settled_statistics_are_those_of_whole_pictures(source):
    sampler = ViewSampler(source, QUICK, 0)
    model = build_network(QUICK, None)
    first = model.get_layer("block1_bn")
    before = first.momentum

    settle_batch_norm(model, source.pixels, sampler)

    # The mean over eight batches of what the first convolution makes of them, by hand.
    through = keras.Model(model.inputs[0], model.get_layer("block1_conv").output)
    batches = [
        through.predict_on_batch(source.pixels[sampler.draw(k)].astype("f4")) for k in range(8)
    ]
    expected = np.mean([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0)
    np.testing.assert_allclose(first.moving_mean, expected, rtol=1e-3, atol=1e-5)
    assert first.momentum == before


def test_it_learns_to_tell_the_classes_of_drawn_tissue_apart(source):
    from sklearn.metrics import roc_auc_score

    longer = dataclasses.replace(QUICK, steps=60, learning_rate=3e-3, averaging=0.9)

    model = learn(source, longer, seed=0)

    logits = reference_logits(model, source.pixels)
    assert roc_auc_score(source.malignant, logits[:, 1] - logits[:, 0]) > 0.9
    assert model.input_shape == (None, *QUICK.image_size, 3)


def test_the_same_seed_learns_the_same(source):
    one, two = (reference_logits(learn(source, QUICK, seed=5), source.pixels) for _ in range(2))

    np.testing.assert_allclose(one, two, atol=0.05)
