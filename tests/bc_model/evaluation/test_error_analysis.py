"""Error gallery: selection and order of the images, and their nearest training images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bc_model.data.splits import read_split
from bc_model.errors import SplitError
from bc_model.evaluation.error_analysis import (
    build_error_gallery,
    compute_training_features,
    find_nearest,
    find_neighbors,
    read_training_features,
)
from bc_model.evaluation.features import FeatureTable, cosine_distances
from bc_model.evaluation.predictions import check_predictions
from bc_model.evaluation.report import read_report
from bc_model.inference.bundle import open_bundle
from bc_model.inference.engine import Engine
from bc_model.training.run import Run

# Incorrect at 0.5: both images of b, one of m, and one without a case.
ROWS = [
    ("b1", "b", "benign", 0.95), ("b2", "b", "benign", 0.6),
    ("c1", "c", "benign", 0.01), ("c2", "c", "benign", 0.02),
    ("m1", "m", "malignant", 0.03), ("m2", "m", "malignant", 0.51),
    ("o1", "o", "malignant", 0.9),
    ("x1", "", "malignant", 0.4), ("x2", "", "malignant", 0.97),
]  # fmt: skip


@pytest.fixture
def predictions() -> pd.DataFrame:
    path, case, name, prob = zip(*ROWS, strict=True)
    frame = {"path": path, "sha256": "", "case": case, "class": name, "prob_malignant": prob}
    return check_predictions(pd.DataFrame({**frame, "magnification": 40}))


def test_build_error_gallery_groups_errors_by_case(predictions: pd.DataFrame) -> None:
    errors = build_error_gallery(predictions, threshold=0.5).errors
    # Losses: m1 -log 0.03, b1 -log 0.05, x1 -log 0.4.
    assert [(one.case, one.n_incorrect, one.n_images) for one in errors] == [
        ("m", 1, 2), ("b", 2, 2), ("", 1, 1),
    ]  # fmt: skip
    assert [entry.path for entry in errors[1].images] == ["b1", "b2"]
    first = errors[0].images[0]
    assert (first.class_name, first.predicted_class, first.is_correct) == (
        "malignant",
        "benign",
        False,
    )
    assert (first.magnification, first.subtype, first.prob_malignant) == (40, "unknown", 0.03)
    short = build_error_gallery(predictions, threshold=0.5, n_cases=2, per_case=1).errors
    assert [[entry.path for entry in one.images] for one in short] == [["m1"], ["b1"]]


def test_build_error_gallery_spreads_over_cases(predictions: pd.DataFrame) -> None:
    found = build_error_gallery(predictions, threshold=0.5, n_certain=7)
    confident = [entry.path for entry in found.most_confident]
    # Sorted by distance from 0.5: c1 c2 m1 x2 b1 o1 x1 b2 m2. The second image of c is last.
    assert confident == ["c1", "m1", "x2", "b1", "o1", "x1", "c2"]
    uncertain = [entry.path for entry in found.least_confident]
    assert uncertain == ["m2", "b2", "x1", "o1", "x2", "c2", "b1"]
    assert build_error_gallery(predictions, threshold=0.9).least_confident[0].path == "o1"


def test_build_error_gallery_perfect_model_has_no_errors(predictions: pd.DataFrame) -> None:
    right = predictions.assign(prob_malignant=(predictions["class"] == "malignant") * 0.8 + 0.1)
    found = build_error_gallery(right, threshold=0.5)
    assert found.errors == ()
    assert len(found.images) == 9


def test_cosine_distances_equal_manual_values() -> None:
    found = cosine_distances(
        np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[2.0, 0.0], [1.0, 1.0], [-3.0, 0.0]])
    )
    assert found == pytest.approx(np.array([[0.0, 1 - 0.5**0.5, 2.0], [1.0, 1.0, 1.0]]), abs=1e-12)


def test_find_nearest_returns_one_image_per_other_case() -> None:
    angles = np.radians([0, 1, 2, 3, 10, 90])
    table = FeatureTable(
        path=np.array(["p0", "p1", "p2", "p3", "p4", "p5"]),
        case=np.array(["own", "a", "a", "", "b", "c"]),
        class_name=np.array(["benign"] * 6),
        features=np.stack([np.cos(angles), np.sin(angles)], axis=1),
        stain=np.zeros((6, 6)),
    )
    query = np.array([[1.0, 0.0]])
    (found,) = find_nearest(query, np.array(["own"]), np.array(["elsewhere"]), table, count=3)
    assert [(one.path, one.case) for one in found] == [("p1", "a"), ("p3", ""), ("p4", "b")]
    assert found[0].distance == pytest.approx(1 - np.cos(np.radians(1)))
    # Without a known case, only the image itself is excluded.
    (found,) = find_nearest(query, np.array([""]), np.array(["p3"]), table, count=9)
    assert [one.path for one in found] == ["p0", "p1", "p4", "p5"]


@pytest.fixture(scope="module")
def engine(tiny_run: Run) -> Engine:
    return Engine(open_bundle(tiny_run.path))


def test_compute_training_features_reuses_file(
    engine: Engine, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    split = read_split(tiny_run.split_file)
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))

    first = compute_training_features(
        engine, synthetic_dataset, split, tmp_path / "f", progress=progress
    )
    n = int((split["subset"] == "train").sum())
    assert calls[-1] == (n, n)
    calls.clear()
    again = compute_training_features(
        engine, synthetic_dataset, split, tmp_path / "f", progress=progress
    )
    assert calls == []
    assert (again.features == first.features).all()
    assert again.path.tolist() == split.loc[split["subset"] == "train", "path"].tolist()
    # Another training subset has another table.
    other = split.copy()
    other.loc[other.index[other["subset"] == "train"][0], "subset"] = "validation"
    assert (
        len(compute_training_features(engine, synthetic_dataset, other, tmp_path / "f").path)
        == n - 1
    )
    with pytest.raises(SplitError, match="Empty training subset"):
        compute_training_features(
            engine, synthetic_dataset, split[split["subset"] == "test"], tmp_path / "f"
        )


def test_find_neighbors_returns_training_images(
    engine: Engine, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    report = read_report(tiny_run.evaluation_dir)
    assert report.predictions is not None
    split = read_split(tiny_run.split_file)
    table = compute_training_features(engine, synthetic_dataset, split, tmp_path)
    entries = build_error_gallery(report.predictions, threshold=report.threshold).images
    found = find_neighbors(entries, engine, synthetic_dataset, table, count=2)
    assert list(found) == [entry.path for entry in entries]
    training = set(split.loc[split["subset"] == "train", "path"])
    for entry in entries:
        near, far = found[entry.path]
        assert {near.path, far.path} <= training
        assert entry.case not in {near.case, far.case}
        assert near.distance <= far.distance
    assert find_neighbors([], engine, synthetic_dataset, table) == {}


def test_read_training_features_finished_run_has_file(tiny_run: Run) -> None:
    split, bundle = read_split(tiny_run.split_file), open_bundle(tiny_run.path)
    stored = read_training_features(bundle, split, tiny_run.evaluation_dir)
    assert stored is not None
    assert stored.path.tolist() == split.loc[split["subset"] == "train", "path"].tolist()
    assert read_training_features(bundle, split, tiny_run.path) is None
