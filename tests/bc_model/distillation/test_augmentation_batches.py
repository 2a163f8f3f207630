import numpy as np
import pytest

from bc_model.distillation.augmentation import ViewSampler, batches_ahead
from tests.bc_model.distillation.conftest import QUICK


@pytest.mark.parametrize("processes", [0, 2])
def test_batches_come_in_order_and_are_the_same_however_they_are_made(source, processes):
    sampler = ViewSampler(source, QUICK, 0)

    with batches_ahead(sampler, range(2, 13), processes) as batches:
        made = list(batches)

    assert len(made) == 11
    for step, batch in enumerate(made, start=2):
        for one, expected in zip(batch, sampler.batch(step), strict=True):
            np.testing.assert_array_equal(one, expected)


def test_what_goes_wrong_in_a_thread_is_raised_where_its_batch_is_asked_for(source):
    class Broken(ViewSampler):
        def batch(self, step: int):
            raise RuntimeError(f"step {step}")

    with (
        batches_ahead(Broken(source, QUICK, 0), range(3), 0) as batches,
        pytest.raises(RuntimeError, match="step 0"),
    ):
        next(batches)
