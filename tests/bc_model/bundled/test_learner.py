import dataclasses

import numpy as np

from bc_model.bundled import learner
from bc_model.bundled.learner import build_network, learn
from bc_model.bundled.teacher import Teacher
from bc_model.bundled.views import ViewSampler
from bc_model.model import reference_logits
from tests.bc_model.bundled.conftest import QUICK


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
    learner._compile(
        lessons, dataclasses.replace(QUICK, steps=60, learning_rate=3e-3, averaging=0.5)
    )
    pixels, answers = learner._lesson(sampler.batch(0), teacher, spread=1.0)

    def errors() -> list[float]:
        told = [np.asarray(one) for one in lessons(pixels, training=True)]
        return [float(np.mean(np.square(told[i] - answers[i]))) for i in (0, 1)]

    before = errors()
    lessons.fit(pixels, answers, batch_size=len(pixels), epochs=60, verbose=0)
    after = errors()
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.7 * before[1]
