import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bc_model.checks import make_check
from bc_model.distillation import student, view_pool
from bc_model.distillation.build import build_bundled_model, prepare_networks
from bc_model.distillation.cross_validation import Networks
from bc_model.errors import BundleError, ConfigError
from bc_model.evaluation.cross_validation import (
    CROSS_VALIDATION_FILE,
    NESTED_CROSS_VALIDATION_FILE,
    cross_validation_report,
    is_cross_validated,
)
from bc_model.evaluation.predictions import read_predictions
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.export import rebuild_keras_model
from bc_model.inference.model_card import ModelCard, NestedResult, SearchSpace
from bc_model.inference.seen_images import find_seen_images
from bc_model.model import reference_logits
from bc_model.reporting.model_card import card_to_markdown
from bc_model.utils.serialization import dumps, loads
from tests.bc_model.distillation.conftest import QUICK, eager_training, measure

SHORT = SearchSpace({"equal": (1.0, 1.0, 1.0, 1.0)}, (0.1, 1.0), (1.0, 30.0))


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def trained(source, pool, work_dir: Path) -> Networks:
    return Networks(source, pool, QUICK, work_dir)


@pytest.fixture(scope="module")
def built(trained: Networks, work_dir: Path) -> Bundle:
    with eager_training():
        return build_bundled_model(trained, work_dir / "models" / "bundle", None, SHORT)


def test_build_bundled_model_bundle_is_valid_without_a_keras_file(built, source):
    bundle = open_bundle(built.folder)
    bundle.verify()
    pixels = source.pixels[:3]

    assert "model.keras" not in bundle.card.files
    expected = reference_logits(rebuild_keras_model(bundle), pixels)
    np.testing.assert_allclose(Engine(bundle).predict(pixels), expected, atol=1e-4)
    assert bundle.card.precisions["f32"].passes_parity
    np.testing.assert_allclose(expected.sum(axis=1), 0.0, atol=1e-5)  # no bias


def test_build_bundled_model_card_has_cross_validation_metrics(built, source):
    card = built.card
    test = card.metrics.test

    assert make_check("BC212", n_folds=3) in test.checks
    assert (test.protocol, test.has_leakage, test.n_images) == ("case", False, len(source.table))
    rows = [(r.protocol, r.has_leakage, r.n_folds) for r in card.metrics.protocols]
    assert rows == [("case", False, 3), ("image", True, 1)]
    assert card.data.is_synthetic
    assert card.data.training_cases == tuple(sorted(set(source.table["case"])))
    statistics = card.input.stain
    assert "hematoxylin_mean" in statistics.values
    predictions = read_predictions(built.folder / CROSS_VALIDATION_FILE)
    assert sorted(predictions["path"]) == sorted(source.table["path"])
    assert loads(ModelCard, dumps(card)) == card


def test_cross_validation_report_is_recomputed_with_curves(built, tmp_path):
    assert is_cross_validated(built)
    report = cross_validation_report(built)
    test = built.card.metrics.test

    assert report.metrics == test.metrics
    assert report.checks[:-1] == test.checks
    assert report.checks[-1].code == "BC214"
    assert report.roc is not None

    metrics = built.card.metrics.protocols[0].metrics
    nested = NestedResult("large networks", SearchSpace({}, (), ()), (), 3, 9, 3, metrics)
    card_metrics = dataclasses.replace(built.card.metrics, nested=nested)
    with_nested = Bundle(built.folder, dataclasses.replace(built.card, metrics=card_metrics))
    *first, last = cross_validation_report(with_nested).checks
    assert tuple(first) == test.checks
    assert (last.code, last.params["network"]) == ("BC214", "large networks")
    assert last.params["roc_auc"] == metrics["roc_auc"].value
    assert last.message.endswith("Evaluated with large networks.")

    shutil.copytree(built.folder, tmp_path / "bundle")
    with (tmp_path / "bundle" / CROSS_VALIDATION_FILE).open("a") as file:
        file.write("x")
    with pytest.raises(BundleError, match="does not match its model card"):
        cross_validation_report(open_bundle(tmp_path / "bundle"))


def test_find_seen_images_recognizes_renamed_training_images(built, source):
    renamed = source.table.assign(path=[f"{i}.png" for i in range(len(source.table))])
    other_bytes = renamed.assign(sha256="0" * 64)

    known = find_seen_images(built, renamed)
    assert known.is_seen.all()
    assert known.checks[0] == make_check("BC321", n_seen=len(renamed), n_images=len(renamed))
    assert find_seen_images(built, other_bytes).is_seen.all()  # near-duplicates
    other_bytes, renamed = other_bytes.drop(columns="dhash"), renamed.drop(columns="dhash")
    assert find_seen_images(built, other_bytes).n_seen == 0

    # One training image of each case is sufficient to recognize the case.
    first = ~renamed["case"].duplicated()
    resized = renamed.assign(sha256=renamed["sha256"].where(first, "0" * 64))
    assert find_seen_images(built, resized).is_seen.all()
    without_cases = find_seen_images(built, resized.assign(case=""))
    np.testing.assert_array_equal(without_cases.is_seen, first)


def test_build_bundled_model_again_uses_saved_results(built, trained, work_dir, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(student, "train_student", fail)
    again = build_bundled_model(trained, work_dir / "models" / "again", None, SHORT)

    assert again.card.metrics == built.card.metrics
    assert again.card.files["head.npz"] == built.card.files["head.npz"]


def test_build_bundled_model_too_few_folds_raise_before_training(source, pool, tmp_path):
    two = dataclasses.replace(QUICK, n_folds=2)
    with pytest.raises(ConfigError, match=r"Invalid n_folds 2\. Expected n_folds >= 3"):
        build_bundled_model(
            Networks(source, pool, two, tmp_path / "work"), tmp_path / "bundle", None
        )

    assert not (tmp_path / "work").exists()


def test_build_bundled_model_card_has_nested_cross_validation(built):
    nested = built.card.metrics.nested
    assert [one.fold for one in nested.choices] == [0, 1, 2]
    assert {one.penalty_factor for one in nested.choices} <= {0.1, 1.0}
    assert nested.n_images == built.card.metrics.test.n_images
    nested_predictions, predictions = (
        read_predictions(built.file(name))
        for name in (NESTED_CROSS_VALIDATION_FILE, CROSS_VALIDATION_FILE)
    )
    assert sorted(nested_predictions["path"]) == sorted(predictions["path"])
    roc_auc = roc_auc_score(
        nested_predictions["class"] == "malignant", nested_predictions["prob_malignant"]
    )
    assert nested.metrics["roc_auc"].value == pytest.approx(roc_auc, abs=1e-6)
    assert "Nested cross-validation" in card_to_markdown(built.card)


def test_prepare_networks_reads_images_and_makes_views(root, tmp_path, monkeypatch):
    monkeypatch.setattr("bc_model.distillation.build.write_networks", lambda folder: None)
    monkeypatch.setattr(view_pool, "FeatureExtractor", lambda folder, n_threads: measure)
    config = dataclasses.replace(QUICK, n_views=8)

    networks = prepare_networks(root, ("synthetic",), ("extra",), tmp_path, config)

    assert len(networks.source.table) == 40
    assert networks.pool.pixels.shape == (8, 32, 32, 3)


def test_build_bundled_model_other_backend_raises_before_training(networks, tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")

    with pytest.raises(ConfigError, match=r"KERAS_BACKEND is 'jax'\. Expected tensorflow"):
        build_bundled_model(networks, tmp_path / "bundle", None, SHORT)

    assert not (tmp_path / "work").exists()


def test_build_bundled_model_synthetic_images_do_not_replace_the_bundled_model(
    networks, tmp_path, monkeypatch
):
    monkeypatch.setattr("bc_model.distillation.build.BUNDLED_MODELS_DIR", tmp_path)
    monkeypatch.chdir(tmp_path)

    for bundle_dir in (tmp_path / "bundle", Path("bundle")):
        with pytest.raises(ConfigError, match="got synthetic images"):
            build_bundled_model(networks, bundle_dir, None, SHORT)

    assert not (tmp_path / "bundle").exists()
