import numpy as np

from bc_model.distillation.cells import mean_of_cells


def test_mean_of_cells_of_resnet50_are_centered_at_multiples_of_the_stride():
    values = np.random.default_rng(0).random((2, 96, 128)).astype(np.float32)

    found = mean_of_cells(values, (3, 4), "resnet50")

    np.testing.assert_allclose(found[:, 0, 0], values[:, :16, :16].mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found[:, 2, 1], values[:, 48:80, 16:48].mean(axis=(1, 2)), rtol=1e-5)


def test_mean_of_cells_of_coarse_maps_are_those_of_the_fine_ones():
    coarse = np.random.default_rng(0).random((2, 12, 16)).astype(np.float32)
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)

    np.testing.assert_allclose(
        mean_of_cells(coarse, (3, 4), "resnet50", 8), mean_of_cells(fine, (3, 4), "resnet50"),
        rtol=1e-5,
    )  # fmt: skip


def test_mean_of_cells_of_vgg16_divide_the_image():
    values = np.random.default_rng(0).random((1, 64, 96)).astype(np.float32)

    found = mean_of_cells(values, (2, 3), "vgg16")

    expected = values.reshape(1, 2, 32, 3, 32).mean(axis=(2, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
