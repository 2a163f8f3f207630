import numpy as np
import pytest

from bc_model.distillation.augmentation import ViewSampler, prefetch_batches
from tests.bc_model.distillation.conftest import QUICK


@pytest.mark.parametrize("n_processes", [0, 2])
def test_prefetch_batches_order_and_content_do_not_depend_on_processes(source, n_processes):
    sampler = ViewSampler(source, QUICK, 0)

    with prefetch_batches(sampler, range(2, 13), n_processes) as batches:
        found = list(batches)

    assert len(found) == 11
    for step, batch in enumerate(found, start=2):
        for one, expected in zip(batch, sampler.sample_batch(step), strict=True):
            np.testing.assert_array_equal(one, expected)


def test_prefetch_batches_error_is_raised_with_its_batch(source):
    class Broken(ViewSampler):
        def sample_batch(self, step: int):
            raise RuntimeError(f"step {step}")

    with (
        prefetch_batches(Broken(source, QUICK, 0), range(3), 0) as batches,
        pytest.raises(RuntimeError, match="step 0"),
    ):
        next(batches)
