"""The head in NumPy: worked examples and invalid files; `test_gradcam` compares TensorFlow."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bc_model.errors import BundleError
from bc_model.inference.head import Head


def small_head() -> Head:
    return Head(
        (
            np.array([[1.0, -1.0], [2.0, 1.0]], np.float32),
            np.array([[1.0, 2.0], [3.0, -1.0]], np.float32),
        ),
        (np.array([0.5, 0.0], np.float32), np.array([0.0, 1.0], np.float32)),
    )


def test_logits_of_a_worked_example() -> None:
    # Hidden: (1 + 2 * 1 + 0.5, -1 + 1) = (3.5, 0); with (2, 0): (2.5, -2 -> 0).
    pooled = np.array([[1.0, 1.0], [2.0, 0.0]], np.float32)
    np.testing.assert_allclose(small_head().logits(pooled), [[3.5, 8.0], [2.5, 6.0]])


def test_gradient_of_a_worked_example() -> None:
    # With (1, 2) both units are active: the product of both kernels, one row per class.
    # With (2, 0) only the first unit is active: its column (1, 2) times 1 and times 2.
    pooled = np.array([[1.0, 2.0], [2.0, 0.0]], np.float32)
    expected = [[[1 - 3, 2 + 3], [2 + 1, 4 - 1]], [[1, 2], [2, 4]]]
    np.testing.assert_allclose(small_head().gradient(pooled), expected)


def test_gradient_without_hidden_layers_is_the_kernel() -> None:
    kernel = np.arange(6, dtype=np.float32).reshape(3, 2)
    head = Head((kernel,), (np.zeros(2, np.float32),))
    gradient = head.gradient(np.ones((4, 3), np.float32))
    np.testing.assert_array_equal(gradient, np.stack([kernel.T] * 4))


def test_gradient_of_a_unit_at_zero_is_zero() -> None:
    # With (1, 1) the second hidden unit is exactly 0, so only the first one contributes.
    gradient = small_head().gradient(np.array([[1.0, 1.0]], np.float32))
    np.testing.assert_array_equal(gradient, [[[1, 2], [2, 4]]])


def leaky_head() -> Head:
    return replace(small_head(), negative_slope=0.5)


def test_leaky_logits_and_gradient_of_a_worked_example() -> None:
    # With (2, 0) the hidden units are (2.5, -2), so the second one has the value -1 and the slope
    # 0.5: its column (-1, 1) times 0.5 times (3, -1) is added to that of the first unit.
    pooled = np.array([[2.0, 0.0]], np.float32)
    np.testing.assert_allclose(leaky_head().logits(pooled), [[2.5 - 3, 5 + 1 + 1]])
    expected = [[[1 - 1.5, 2 + 1.5], [2 + 0.5, 4 - 0.5]]]
    np.testing.assert_allclose(leaky_head().gradient(pooled), expected)


def test_leaky_gradient_of_a_unit_at_zero_has_the_negative_slope() -> None:
    # With (1, 1) the second hidden unit is exactly 0.
    gradient = leaky_head().gradient(np.array([[1.0, 1.0]], np.float32))
    np.testing.assert_allclose(gradient, [[[1 - 1.5, 2 + 1.5], [2 + 0.5, 4 - 0.5]]])


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_baseline_and_effective_weights_of_a_worked_example(slope: float) -> None:
    # The margin is the second logit minus the first: the kernel (1, -4) and the bias 1.
    # With (2, 0) the hidden units are 2.5 and -2; with (1, 2) both are active.
    head = replace(
        small_head(),
        biases=(np.array([0.5, -0.5], np.float32), np.array([0.0, 1.0], np.float32)),
        negative_slope=slope,
    )
    pooled = np.array([[2.0, 0.0], [1.0, 2.0]], np.float32)
    # Of the first unit 0.5 * 1, of the second one -0.5 * -4 times its slope, and the bias 1.
    expected = [0.5 + 2.0 * slope + 1.0, 0.5 + 2.0 + 1.0]
    np.testing.assert_allclose(head.baseline(pooled), expected)
    weights = [[1 + 4 * slope, 2 - 4 * slope], [1 + 4, 2 - 4]]
    np.testing.assert_allclose(head.effective_weights(pooled), weights)
    logits = head.logits(pooled)
    margin = (head.effective_weights(pooled) * pooled).sum(axis=1) + head.baseline(pooled)
    np.testing.assert_allclose(margin, logits[:, 1] - logits[:, 0])


def test_baseline_of_a_linear_head_is_the_difference_of_its_biases() -> None:
    head = Head((np.ones((3, 2), np.float32),), (np.array([0.25, -1.0], np.float32),))
    assert head.baseline(np.ones((2, 3), np.float32)).tolist() == [-1.25, -1.25]
    assert head.baseline(np.ones((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("slope", "expected"), [(0.0, [True, False, True]), (0.5, [True, *[False] * 2])]
)
def test_is_constant_of_a_worked_example(slope: float, expected: list[bool]) -> None:
    # Hidden units of (0, 0): (0.5, 0), and the features are empty. Of (1, 0): (1.5, -1). Of
    # (-2, -1): (-3.5, 1), and then with the last kernel as a second layer (-3.5 and 1 -> 0 and 1,
    # times 3 and -1, minus 4) both units of the second layer are off.
    first, last = small_head().kernels
    head = Head(
        (first, last, np.eye(2, dtype=np.float32)),
        (small_head().biases[0], np.full(2, -4, np.float32), np.array([1.0, 2.0], np.float32)),
        slope,
    )
    pooled = np.array([[0.0, 0.0], [4.0, 0.0], [-2.0, -1.0]], np.float32)
    assert head.is_constant(pooled).tolist() == expected
    is_last_bias = (head.logits(pooled) == head.biases[-1]).all(axis=1)
    assert is_last_bias[2] == (slope == 0.0)


def test_is_constant_with_a_linear_head_is_only_true_without_features() -> None:
    head = Head((np.ones((3, 2), np.float32),), (np.zeros(2, np.float32),))
    pooled = np.array([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0]], np.float32)
    assert head.is_constant(pooled).tolist() == [True, False]


def test_load_without_a_slope_is_relu(tmp_path: Path) -> None:
    head = small_head()
    arrays = {f"kernel_{i}": kernel for i, kernel in enumerate(head.kernels)}
    arrays |= {f"bias_{i}": bias for i, bias in enumerate(head.biases)}
    np.savez(tmp_path / "head.npz", **arrays)
    loaded = Head.load(tmp_path / "head.npz")
    assert loaded.negative_slope == 0.0
    assert len(loaded.kernels) == 2


@pytest.mark.parametrize("slope", [1.0, -0.1, np.zeros(1)])
def test_load_with_an_invalid_slope_raises_bundle_error(slope: object, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "head.npz", kernel_0=np.zeros((3, 2), np.float32),
        bias_0=np.zeros(2, np.float32), negative_slope=np.asarray(slope, np.float32),
    )  # fmt: skip
    with pytest.raises(BundleError, match="0 <= slope < 1"):
        Head.load(tmp_path / "head.npz")


def test_load_returns_the_saved_head_bit_for_bit(tmp_path: Path) -> None:
    head = leaky_head()
    head.save(tmp_path / "head.npz")
    loaded = Head.load(tmp_path / "head.npz")
    assert loaded.negative_slope == 0.5
    pairs = zip(head.kernels + head.biases, loaded.kernels + loaded.biases, strict=True)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def test_load_with_more_than_ten_layers_keeps_the_order(tmp_path: Path) -> None:
    kernels = tuple(np.full((1, 1), i, np.float32) for i in range(12))
    Head(kernels, (np.zeros(1, np.float32),) * 12).save(tmp_path / "head.npz")
    loaded = Head.load(tmp_path / "head.npz")
    assert [kernel.item() for kernel in loaded.kernels] == list(range(12))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut short"])
def test_load_with_another_file_raises_bundle_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "head.npz").write_bytes(content)
    with pytest.raises(BundleError, match="head"):
        Head.load(tmp_path / "head.npz")


def test_load_with_a_truncated_file_raises_bundle_error(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    small_head().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError, match="head"):
        Head.load(path)


def test_load_with_a_changed_byte_raises_bundle_error(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    small_head().save(path)
    data = bytearray(path.read_bytes())
    data[data.index(np.float32(3.0).tobytes())] ^= (
        1  # inside a matrix, so the checksum of the zip file fails
    )
    path.write_bytes(data)
    with pytest.raises(BundleError, match="head"):
        Head.load(path)


def test_load_with_a_missing_file_raises_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="head"):
        Head.load(tmp_path / "head.npz")


def test_load_with_a_pickle_raises_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "head.npz").write_bytes(pickle.dumps({"kernel_0": 1}))
    with pytest.raises(BundleError, match="head"):
        Head.load(tmp_path / "head.npz")


def test_load_with_pickled_objects_raises_bundle_error(tmp_path: Path) -> None:
    objects = np.array([[object]], dtype=object)
    np.savez(tmp_path / "head.npz", kernel_0=objects, bias_0=np.zeros(1))
    with pytest.raises(BundleError, match="head"):
        Head.load(tmp_path / "head.npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"kernel_0": np.zeros((3, 2))},
        {"kernel_0": np.zeros((3, 2)), "bias_1": np.zeros(2)},
        {"kernel_0": np.zeros((3, 2)), "bias_0": np.zeros(3)},
        {"kernel_0": np.zeros(3), "bias_0": np.zeros(3)},
        {"kernel_0": np.zeros(()), "bias_0": np.zeros(())},
        {
            "kernel_0": np.zeros((3, 4)), "bias_0": np.zeros(4),
            "kernel_1": np.zeros((5, 2)), "bias_1": np.zeros(2),
        },
    ],
    ids=["nothing", "no bias", "other names", "long bias", "flat kernel", "numbers", "chain"],
)  # fmt: skip
def test_load_with_matrices_that_do_not_fit_raises_bundle_error(
    arrays: dict, tmp_path: Path
) -> None:
    single = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(tmp_path / "head.npz", **single)
    with pytest.raises(BundleError, match=r"do not|does not contain"):
        Head.load(tmp_path / "head.npz")


@pytest.mark.parametrize("kernel", [np.zeros((3, 2)), np.full((3, 2), np.nan, np.float32)])
def test_load_with_other_numbers_than_finite_float32_raises_bundle_error(
    kernel: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "head.npz", kernel_0=kernel, bias_0=np.zeros(2, np.float32))
    with pytest.raises(BundleError, match="not finite numbers in float32"):
        Head.load(tmp_path / "head.npz")


def test_load_with_a_compressed_file_raises_bundle_error(tmp_path: Path) -> None:
    """4 MB of zeros could inflate to 4 GB."""
    kernel, bias = np.zeros((3, 2), np.float32), np.zeros(2, np.float32)
    np.savez_compressed(tmp_path / "head.npz", kernel_0=kernel, bias_0=bias)
    with pytest.raises(BundleError, match="compressed array"):
        Head.load(tmp_path / "head.npz")
