import keras
import numpy as np

from bc_model.bundled.fields import FieldSampler
from bc_model.bundled.learner import learn, settle_batch_norm
from bc_model.data.pipeline import load_pixels
from bc_model.model import build_model
from tests.bc_model.bundled.conftest import QUICK


def test_settled_statistics_are_those_of_whole_pictures(fields, root):
    table, frames = fields
    pixels = load_pixels(root, list(table["path"]), QUICK.image_size)
    sampler = FieldSampler(table, frames, sorted(set(table["subtype"])), QUICK, 0)
    model = build_model("tiny", image_size=None, weights="none", dense_units=())
    first = model.get_layer("block1_bn")
    before = first.momentum

    settle_batch_norm(model, pixels, sampler)

    # The mean over eight batches of what the first convolution makes of them, by hand.
    through = keras.Model(model.inputs[0], model.get_layer("block1_conv").output)
    batches = [through.predict_on_batch(pixels[sampler.draw(k)].astype("f4")) for k in range(8)]
    expected = np.mean([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0)
    np.testing.assert_allclose(first.moving_mean, expected, rtol=1e-3, atol=1e-5)
    assert first.momentum == before


def test_checkpoints_come_in_turn_and_do_not_disturb_the_learning(fields, root):
    table, frames = fields
    pixels = load_pixels(root, list(table["path"]), QUICK.image_size)
    seen = {}
    for steps, model in learn(table, frames, pixels, QUICK, seed=5):
        seen[steps] = model.get_layer("logits").get_weights()[0].copy()
    import dataclasses

    alone = dataclasses.replace(QUICK, checkpoints=QUICK.checkpoints[-1:])
    ((steps, model),) = [
        (s, m.get_layer("logits").get_weights()[0].copy())
        for s, m in learn(table, frames, pixels, alone, seed=5)
    ]

    assert list(seen) == list(QUICK.checkpoints)
    np.testing.assert_allclose(seen[steps], model, atol=2e-3)
    assert (seen[2] != seen[3]).any()
