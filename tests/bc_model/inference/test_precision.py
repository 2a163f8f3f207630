"""The parity check of a precision: two differences and their limits."""

import numpy as np
import pytest

from bc_model.inference import precision as precision_module
from bc_model.inference.precision import (
    GRAPH_FILES,
    LIMITS,
    PRECISIONS,
    Parity,
    compare_precision,
    fastest_precision,
    supported_precisions,
)

BOTH = np.array([False, True])
PASSED = Parity(0.001, 0.0, 9, passes_parity=True)
FAILED = Parity(0.001, 0.0, 9, passes_parity=False)


def test_compare_precision_returns_the_99th_percentile_of_the_probability() -> None:
    reference = np.array([0.5, 0.5, 0.5, 0.5, 0.5])
    served = reference + np.array([0.0, -0.001, 0.002, -0.003, 0.01])
    # Five values have four intervals; 99 % is 0.96 of the last one: 0.003 + 0.96 * 0.007.
    parity = compare_precision(
        "f32", reference, served, np.array([False, True, False, True, False])
    )
    assert parity.prob_difference_p99 == pytest.approx(0.00972, abs=1e-12)
    assert parity.prob_difference_p99 == np.percentile(np.abs(served - reference), 99)
    assert parity.n_images == 5


def test_compare_precision_returns_the_difference_of_the_auc() -> None:
    malignant = np.array([False, True, False, True])
    reference = np.array([0.1, 0.2, 0.3, 0.6])  # 3 of 4 pairs in the right order
    served = np.array([0.1, 0.35, 0.3, 0.6])  # 4 of 4
    for first, second in ((reference, served), (served, reference)):
        assert compare_precision("int8", first, second, malignant).auc_difference == pytest.approx(
            0.25
        )


def test_compare_precision_with_equal_probabilities_passes() -> None:
    same = np.array([0.2, 0.8])
    parity = compare_precision("f32", same, same, BOTH)
    assert parity == Parity(
        prob_difference_p99=0.0, auc_difference=0.0, n_images=2, passes_parity=True
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_compare_precision_with_a_probability_at_the_limit_passes(precision: str) -> None:
    limit, _ = LIMITS[precision]
    zero = np.zeros(2)
    assert compare_precision(precision, zero, np.full(2, limit), BOTH).passes_parity
    assert not compare_precision(
        precision, zero, np.full(2, np.nextafter(limit, 1)), BOTH
    ).passes_parity


def rankings(n_benign: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two rankings of 1,000 benign images and a malignant one, and the classes.

    The malignant image is first in the reference and below `n_benign` images in the other ranking,
    so this number of 1,000 pairs differs. The probabilities hardly differ.
    """
    benign = np.linspace(0, 1e-4, 1000)
    reference = np.append(benign, 2e-4)
    served = np.append(benign, benign[1000 - n_benign] - 1e-9)
    return reference, served, np.arange(1001) == 1000


@pytest.mark.parametrize("precision", PRECISIONS)
def test_compare_precision_with_an_auc_at_the_limit_passes(precision: str) -> None:
    n_pairs = round(1000 * LIMITS[precision][1])
    parity = compare_precision(precision, *rankings(n_pairs))
    assert parity.auc_difference == pytest.approx(n_pairs / 1000)
    assert parity.passes_parity


@pytest.mark.parametrize("precision", PRECISIONS)
def test_compare_precision_with_an_auc_one_pair_above_the_limit_fails(precision: str) -> None:
    n_pairs = round(1000 * LIMITS[precision][1]) + 1
    parity = compare_precision(precision, *rankings(n_pairs))
    assert parity.prob_difference_p99 <= LIMITS[precision][0]
    assert not parity.passes_parity


def test_limits_have_the_specified_values() -> None:
    assert LIMITS == {"f32": (0.001, 0.001), "bf16": (0.01, 0.002), "int8": (0.02, 0.005)}


@pytest.mark.parametrize("malignant", [[True, True], [False, False]], ids=["malignant", "benign"])
def test_compare_precision_with_one_class_fails(malignant: list[bool]) -> None:
    same = np.array([0.2, 0.8])
    parity = compare_precision("f32", same, same, np.array(malignant))
    assert (parity.prob_difference_p99, parity.auc_difference) == (0.0, None)
    assert not parity.passes_parity


def test_supported_precisions_contain_float32() -> None:
    assert "f32" in supported_precisions() <= set(PRECISIONS)


@pytest.mark.parametrize(
    ("flags", "has_int8"),
    [
        ("flags : fpu avx2 avx512f", False),
        ("flags : fpu avx2 avx512_vnni", True),
        ("Features : fp asimd asimddp", True),
        ("an unknown format", True),
    ],
)
def test_supported_precisions_contain_int8_only_with_its_instructions(
    flags: str, has_int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenVINO lists INT8 for every processor; this counts only if the flags are unknown.
    monkeypatch.setattr("pathlib.Path.read_text", lambda self, **_: flags)
    assert ("int8" in supported_precisions()) == has_int8


@pytest.mark.parametrize(
    ("parities", "supported", "expected"),
    [
        ({}, {"f32", "bf16", "int8"}, "f32"),
        ({"bf16": PASSED}, {"f32", "bf16"}, "bf16"),
        ({"bf16": PASSED, "int8": PASSED}, {"f32", "bf16", "int8"}, "int8"),
        ({"bf16": PASSED, "int8": FAILED}, {"f32", "bf16", "int8"}, "bf16"),
        ({"bf16": PASSED}, {"f32"}, "f32"),
        # The card says that it passed, but its difference is above the limit.
        ({"bf16": Parity(0.02, 0.0, 9, passes_parity=True)}, {"f32", "bf16"}, "f32"),
    ],
)
def test_fastest_precision_passed_and_is_supported(
    parities: dict[str, Parity],
    supported: set[str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision_module, "supported_precisions", lambda: supported)

    files = {name for names in GRAPH_FILES.values() for name in names}
    assert fastest_precision(parities, files) == expected
    assert fastest_precision(parities, files - {"served-int8.bin"}) != "int8"
