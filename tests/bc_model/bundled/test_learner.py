import dataclasses

import keras
import numpy as np

from bc_model.bundled import learner
from bc_model.bundled.learner import build_network, learn, settle_batch_norm
from bc_model.bundled.teacher import Teacher
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


def test_the_same_seed_learns_the_same_and_another_one_does_not(source):
    one, two, other = (
        reference_logits(learn(source, QUICK, seed=seed), source.pixels) for seed in (5, 5, 6)
    )

    np.testing.assert_allclose(one, two, atol=0.05)
    assert np.abs(one - other).max() > 0.1


def test_views_teach_their_descriptors(source):
    teacher = Teacher.fit(
        source.descriptors, source.malignant, source.table["case"].to_numpy(str), QUICK.penalty
    )
    sampler = ViewSampler(source, QUICK, 0)
    lessons = learner._lessons(build_network(QUICK, None), QUICK, sampler)
    step = learner._step(lessons, dataclasses.replace(QUICK, steps=60, learning_rate=3e-3))
    pixels, descriptors, taught, *rest = learner._lesson(sampler.batch(0), teacher, spread=1.0)

    def errors() -> list[float]:
        told = lessons(pixels, training=True)
        pairs = ((told[0], descriptors), (told[1], taught))
        return [float(np.mean(np.square(a - b))) for a, b in pairs]

    before = errors()
    for _ in range(60):
        step(pixels, descriptors, taught, *rest)
    after = errors()
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.7 * before[1]


def test_averaged_weights_are_the_mean_that_the_formula_says():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    average = learner._Average(network, decay=0.5)
    for step, value in ((0, 1.0), (2, 2.0), (40, 4.0)):
        network.set_weights([np.array([[value]])])
        average.update(step)
    average.put()

    # Two steps lie between updates: the decay is 0.25, or (1 + step) / (10 + step) where less.
    expected = 0.25 * (0.25 * 1.0 + 0.75 * 2.0) + 0.75 * 4.0
    np.testing.assert_allclose(network.get_weights()[0], [[expected]], rtol=1e-6)
