"""The choice of samples: unseen cases first, both classes, and different cases."""

from pathlib import Path
from types import SimpleNamespace

from bc_model.inference.seen_images import choose_samples


def image(label: str, case: int, sequence: int = 1, magnification: int = 200) -> Path:
    code = "A" if label == "B" else "DC"
    return Path(f"SOB_{label}_{code}-14-{case}-{magnification}-{sequence:03d}.png")


BUNDLE = SimpleNamespace(
    seen_cases={"1", "2"}, card=SimpleNamespace(scale=SimpleNamespace(magnifications=(200,)))
)


def test_choose_samples_alternates_classes_and_prefers_unseen_cases():
    seen = [image("B", 1), image("M", 2)]
    unseen = [image("B", 3), image("B", 3, 2), image("M", 4), image("M", 5)]
    # The third image is of another case rather than of the class whose turn it is.
    assert choose_samples([*seen, *unseen], BUNDLE, 3) == [unseen[0], unseen[2], unseen[3]]
    assert set(choose_samples([*seen, *unseen], BUNDLE, 4)) == set(unseen)


def test_choose_samples_of_seen_cases_only_returns_them():
    seen = [image("B", 1), image("M", 2)]
    assert set(choose_samples(seen, BUNDLE)) == set(seen)


def test_choose_samples_avoids_unsupported_magnifications():
    other, seen = image("M", 9, magnification=40), image("B", 1)
    assert choose_samples([other, seen], BUNDLE, 1) == [seen]
    assert choose_samples([other], BUNDLE) == [other]
