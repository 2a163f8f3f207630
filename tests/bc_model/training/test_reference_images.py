"""Training images on this machine: where they are found, and the nearest ones of other cases."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_distances

from bc_model.checks import Check
from bc_model.data.images import preprocess_image, read_image
from bc_model.data.registry import link_folder
from bc_model.data.splits import read_split
from bc_model.errors import DataError
from bc_model.evaluation.error_analysis import Neighbor
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.seen_images import read_seen_images
from bc_model.training.reference_images import (
    ReferenceImages,
    TrainingReference,
    find_nearest_images,
    find_reference_images,
    find_test_images,
    load_training_reference,
)
from bc_model.training.run import Run


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Run:
    """Return a copy of a finished run."""
    shutil.copytree(tiny_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def copied(tiny_run: Run, tmp_path: Path) -> Bundle:
    """Return a model outside of its run."""
    shutil.copytree(tiny_run.model_dir, tmp_path / "copied")
    return open_bundle(tmp_path / "copied")


def found_images(bundle: Bundle, **options: Path) -> ReferenceImages:
    images = find_reference_images(bundle, **options)
    assert isinstance(images, ReferenceImages)
    return images


@pytest.fixture
def reference(run: Run) -> TrainingReference:
    bundle = open_bundle(run.path)
    return load_training_reference(found_images(bundle), Engine(bundle))


def test_images_of_a_run_are_its_training_subset(run: Run, synthetic_dataset: Path) -> None:
    images = found_images(open_bundle(run.path))
    split = read_split(run.split_file)
    assert list(images.rows["path"]) == list(split.loc[split["subset"] == "train", "path"])
    assert (images.root, images.directory) == (synthetic_dataset, run.evaluation_dir)
    assert images.source == "the run run"


def test_test_images_are_those_of_the_run_and_its_dataset(
    run: Run, copied: Bundle, synthetic_dataset: Path, tmp_path: Path
) -> None:
    split = read_split(run.split_file)
    expected = [synthetic_dataset / p for p in split.loc[split["subset"] == "test", "path"]]
    bundle = open_bundle(run.path)
    assert expected
    assert find_test_images(bundle, synthetic_dataset) == expected
    assert find_test_images(bundle, tmp_path) == []
    assert find_test_images(copied, synthetic_dataset) == []


def test_images_of_a_copied_model_are_found_in_the_registry_by_their_hashes(
    copied: Bundle, synthetic_dataset: Path, tiny_run: Run, tmp_path: Path
) -> None:
    registry = tmp_path / "registry"
    other = tmp_path / "other/benign"
    other.mkdir(parents=True)
    shutil.copy(next(synthetic_dataset.rglob("*_B_*.png")), other)
    link_folder(tmp_path / "other", "a-small", registry)
    link_folder(synthetic_dataset, "synthetic", registry)
    images = found_images(copied, registry=registry)
    split = read_split(tiny_run.split_file)
    seen = split[split["subset"].isin(["train", "validation"])]
    # Near-duplicates of synthetic images can add a few images of the test subset.
    assert set(images.rows["sha256"]) >= set(seen["sha256"])
    assert images.source == "the dataset synthetic"
    assert images.directory.is_relative_to(registry / ".cache")


def test_copies_in_another_file_format_are_found_as_near_duplicates(
    copied: Bundle, synthetic_dataset: Path, tmp_path: Path
) -> None:
    for path in synthetic_dataset.rglob("*.png"):
        folder = tmp_path / "jpeg" / path.relative_to(synthetic_dataset).parent
        folder.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("RGB").save(folder / f"{path.stem}.jpg", quality=90)
    link_folder(tmp_path / "jpeg", "jpeg", tmp_path / "registry")
    images = found_images(copied, registry=tmp_path / "registry")
    assert images.source == "the dataset jpeg"
    listed = read_seen_images(copied)
    assert listed is not None
    assert not set(images.rows["sha256"]) & set(listed.dhash)
    assert len(images.rows) > len(listed.dhash) / 2


def test_without_the_images_the_reason_is_a_check(
    copied: Bundle, run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    missing = find_reference_images(copied, registry=tmp_path / "empty")
    assert isinstance(missing, Check)
    assert missing.code == "BC196"
    # The run still exists, but not its dataset.
    config = run.read_config()
    config["config"]["data"] = str(tmp_path / "deleted")
    run.write_config(config)
    found = find_reference_images(open_bundle(run.path), registry=tmp_path / "empty")
    assert isinstance(found, Check)
    link_folder(synthetic_dataset, "synthetic", tmp_path / "registry")
    in_registry = found_images(open_bundle(run.path), registry=tmp_path / "registry")
    assert in_registry.source == "the dataset synthetic"


def test_features_are_computed_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(run.path)
    images = found_images(bundle)
    stored = run.evaluation_dir / "training_features.npz"
    stored.unlink(missing_ok=True)
    engine = Engine(bundle)
    progress: list[tuple[int, int]] = []
    first = load_training_reference(
        images, engine, progress=lambda done, total: progress.append((done, total))
    )
    n = len(images.rows)
    assert progress[-1] == (n, n)
    assert stored.is_file()
    monkeypatch.setattr(engine, "predict_with_features", lambda _: pytest.fail("computed again"))
    second = load_training_reference(images, engine)
    np.testing.assert_array_equal(first.table.features, second.table.features)


def test_nearest_images_are_those_of_scikit_learn(
    reference: TrainingReference, run: Run, synthetic_dataset: Path
) -> None:
    split = read_split(run.split_file)
    row = split[split["subset"] == "test"].iloc[0]
    image = read_image(synthetic_dataset / row["path"])
    engine = Engine(open_bundle(run.path))
    found = find_nearest_images(engine, reference, image, name="field.png", k=3)
    assert isinstance(found, tuple)
    pixels = preprocess_image(image, engine.bundle.image_size)
    _, features = engine.predict_with_features(pixels[None])
    distances = cosine_distances(features, reference.table.features)[0]
    best = {}
    for k in np.argsort(distances):
        best.setdefault(reference.table.case[k], distances[k])
    expected = list(best.items())[:3]
    assert [neighbor.case for neighbor in found] == [case for case, _ in expected]
    assert [neighbor.distance for neighbor in found] == pytest.approx(
        [distance for _, distance in expected], abs=1e-5
    )


def test_nearest_excludes_the_image_and_its_case(
    reference: TrainingReference, run: Run, synthetic_dataset: Path
) -> None:
    row = reference.images.rows.iloc[0]
    image = read_image(synthetic_dataset / row["path"])
    engine = Engine(open_bundle(run.path))
    # Without its name, the image is recognized by its pixels.
    for name in ("renamed.png", Path(row["path"]).name):
        found = find_nearest_images(engine, reference, image, name=name, k=50)
        assert isinstance(found, tuple)
        cases = [neighbor.case for neighbor in found]
        assert row["case"] not in cases
        assert len(cases) == len(set(cases)) == reference.images.rows["case"].nunique() - 1
    # A recompressed copy has other pixels, and is recognized by its difference hash.
    packed = cv2.imdecode(cv2.imencode(".jpg", image[..., ::-1])[1], cv2.IMREAD_COLOR_RGB)
    assert (packed != image).any()
    found = find_nearest_images(engine, reference, packed, name="renamed.jpg", k=50)
    assert isinstance(found, tuple)
    assert row["case"] not in [neighbor.case for neighbor in found]
    features = reference.table.features[0]
    nearest = reference.nearest(features, exclude_case="")
    assert isinstance(nearest, tuple)
    assert nearest[0].case == row["case"]
    assert nearest[0].distance == pytest.approx(0.0, abs=1e-6)


def test_nearest_without_another_case_is_a_check(reference: TrainingReference) -> None:
    is_own = reference.table.case == reference.table.case[0]
    columns = {name: values[is_own] for name, values in vars(reference.table).items()}
    one_case = TrainingReference(reference.images, type(reference.table)(**columns))
    found = one_case.nearest(columns["features"][0], exclude_case=str(reference.table.case[0]))
    assert isinstance(found, Check)
    assert found.code == "BC197"


def test_read_verifies_the_place_and_the_pixels(
    reference: TrainingReference, synthetic_dataset: Path, tmp_path: Path
) -> None:
    rows = reference.images.rows
    path = str(rows["path"].iloc[0])
    sha256, data = reference.read(Neighbor(path, "", "benign", 0.0))
    assert sha256 == rows["sha256"].iloc[0]
    assert data == (synthetic_dataset / path).read_bytes()
    outside = rows.assign(path=["../outside.png", *rows["path"].iloc[1:]])
    images = ReferenceImages(reference.images.root, outside, tmp_path, "the run")
    with pytest.raises(DataError, match="outside of its dataset"):
        TrainingReference(images, reference.table).read(
            Neighbor("../outside.png", "", "benign", 0.0)
        )
    changed = rows.assign(sha256="0" * 64)
    images = ReferenceImages(reference.images.root, changed, tmp_path, "the run")
    with pytest.raises(DataError, match="has changed"):
        TrainingReference(images, reference.table).read(Neighbor(path, "", "benign", 0.0))
