"""What a precision is held against before it is used: two differences and their limits."""

import numpy as np
import pytest

from bc_model.inference.precision import (
    LIMITS,
    PRECISIONS,
    Parity,
    compare_precision,
    supported_precisions,
)

BOTH = np.array([False, True])


def test_the_probability_difference_is_its_99th_percentile() -> None:
    reference = np.array([0.5, 0.5, 0.5, 0.5, 0.5])
    served = reference + np.array([0.0, -0.001, 0.002, -0.003, 0.01])
    # Five values span four steps; 99 % of the way is 0.96 of the last one: 0.003 + 0.96 * 0.007.
    parity = compare_precision(
        "f32", reference, served, np.array([False, True, False, True, False])
    )
    assert parity.prob_difference_p99 == pytest.approx(0.00972, abs=1e-12)
    assert parity.prob_difference_p99 == np.percentile(np.abs(served - reference), 99)
    assert parity.n_images == 5


def test_the_auc_difference_by_hand() -> None:
    malignant = np.array([False, True, False, True])
    reference = np.array([0.1, 0.2, 0.3, 0.6])  # 3 of 4 pairs in the right order
    served = np.array([0.1, 0.35, 0.3, 0.6])  # 4 of 4
    for first, second in ((reference, served), (served, reference)):
        assert compare_precision("int8", first, second, malignant).auc_difference == pytest.approx(
            0.25
        )


def test_the_same_probabilities_are_allowed() -> None:
    same = np.array([0.2, 0.8])
    parity = compare_precision("f32", same, same, BOTH)
    assert parity == Parity(
        prob_difference_p99=0.0, auc_difference=0.0, n_images=2, passes_parity=True
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_probability_exactly_at_the_limit_is_allowed(precision: str) -> None:
    limit, _ = LIMITS[precision]
    zero = np.zeros(2)
    assert compare_precision(precision, zero, np.full(2, limit), BOTH).passes_parity
    assert not compare_precision(
        precision, zero, np.full(2, np.nextafter(limit, 1)), BOTH
    ).passes_parity


def one_below(n_benign: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two rankings of 1,000 benign pictures and a malignant one, and what they are of.

    The reference puts the malignant one on top, the other below `n_benign` pictures: of 1,000
    pairs that many change. The probabilities hardly differ.
    """
    benign = np.linspace(0, 1e-4, 1000)
    reference = np.append(benign, 2e-4)
    served = np.append(benign, benign[1000 - n_benign] - 1e-9)
    return reference, served, np.arange(1001) == 1000


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_auc_exactly_at_the_limit_is_allowed(precision: str) -> None:
    n_pairs = round(1000 * LIMITS[precision][1])
    parity = compare_precision(precision, *one_below(n_pairs))
    assert parity.auc_difference == pytest.approx(n_pairs / 1000)
    assert parity.passes_parity


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_auc_one_pair_over_the_limit_is_not(precision: str) -> None:
    n_pairs = round(1000 * LIMITS[precision][1]) + 1
    parity = compare_precision(precision, *one_below(n_pairs))
    assert parity.prob_difference_p99 <= LIMITS[precision][0]
    assert not parity.passes_parity


def test_the_limits_are_those_that_were_agreed() -> None:
    assert LIMITS == {"f32": (0.001, 0.001), "bf16": (0.01, 0.002), "int8": (0.02, 0.005)}


@pytest.mark.parametrize("malignant", [[True, True], [False, False]], ids=["malignant", "benign"])
def test_one_class_is_not_enough(malignant: list[bool]) -> None:
    same = np.array([0.2, 0.8])
    parity = compare_precision("f32", same, same, np.array(malignant))
    assert (parity.prob_difference_p99, parity.auc_difference) == (0.0, None)
    assert not parity.passes_parity


def test_every_machine_computes_in_float32() -> None:
    assert "f32" in supported_precisions() <= set(PRECISIONS)


@pytest.mark.parametrize(
    ("flags", "has_int8"),
    [
        ("flags : fpu avx2 avx512f", False),
        ("flags : fpu avx2 avx512_vnni", True),
        ("Features : fp asimd asimddp", True),
        ("nothing that is known", True),
    ],
)
def test_int8_needs_the_instructions_for_it(
    flags: str, has_int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenVINO claims INT8 everywhere; where the system does not tell the flags, it is believed.
    monkeypatch.setattr("pathlib.Path.read_text", lambda self, **_: flags)
    assert ("int8" in supported_precisions()) == has_int8
