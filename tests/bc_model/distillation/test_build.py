import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bc_model.checks import make_check
from bc_model.distillation import student as learner
from bc_model.distillation.build import build_bundled_model
from bc_model.distillation.config import PROXY
from bc_model.distillation.nested_cv import SearchGrid
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
from tests.bc_model.distillation.conftest import QUICK, without_traces


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def box(root: Path, work: Path) -> Bundle:
    with without_traces():
        return build_bundled_model(
            root, ("drawn",), work / "models" / "boxed", work, None, QUICK, search_space=None
        )


def test_the_box_holds_a_model_that_verifies_and_serves_without_a_keras_file(box, source):
    bundle = open_bundle(box.folder)
    bundle.verify()
    pixels = source.pixels[:3]

    assert "model.keras" not in bundle.card.files
    duplicate = reference_logits(rebuild_keras_model(bundle), pixels)
    np.testing.assert_allclose(Engine(bundle).predict(pixels), duplicate, atol=1e-4)
    assert bundle.card.precisions["f32"].passes_parity


def test_its_figures_are_those_of_the_recipe_and_say_so(box, source):
    card = box.card
    test = card.metrics.test

    assert make_check("BC212", n_folds=3) in test.checks
    assert (test.protocol, test.has_leakage, test.n_images) == ("case", False, len(source.table))
    rows = [(r.protocol, r.has_leakage, r.n_folds) for r in card.metrics.protocols]
    assert rows == [("case", False, 3), ("image", True, 1)]
    assert card.data.is_synthetic
    assert card.data.training_cases == tuple(sorted(set(source.table["case"])))
    statistics = card.input.stain
    assert "hematoxylin_mean" in statistics.values
    assert NESTED_CROSS_VALIDATION_FILE not in card.files
    kept = read_predictions(box.folder / CROSS_VALIDATION_FILE)
    assert sorted(kept["path"]) == sorted(source.table["path"])
    assert loads(ModelCard, dumps(card)) == card


def test_its_report_can_be_made_anew_with_curves(box, tmp_path):
    assert is_cross_validated(box)
    report = cross_validation_report(box)
    test = box.card.metrics.test

    assert report.metrics == test.metrics
    assert report.checks == test.checks
    assert report.roc is not None

    metrics = box.card.metrics.protocols[0].metrics
    nested = NestedResult("large ones", "small ones", SearchSpace({}, (), ()), (), 3, 9, 3, metrics)
    card_metrics = dataclasses.replace(box.card.metrics, nested=nested)
    judged = Bundle(box.folder, dataclasses.replace(box.card, metrics=card_metrics))
    *first, last = cross_validation_report(judged).checks
    assert tuple(first) == report.checks
    assert (last.code, last.params["network"]) == ("BC214", "large ones")
    assert last.params["roc_auc"] == metrics["roc_auc"].value
    assert last.message.endswith("Evaluated with large ones.")

    shutil.copytree(box.folder, tmp_path / "boxed")
    with (tmp_path / "boxed" / CROSS_VALIDATION_FILE).open("a") as file:
        file.write("x")
    with pytest.raises(BundleError, match="is not the file its model card describes"):
        cross_validation_report(open_bundle(tmp_path / "boxed"))


def test_its_own_images_are_known_under_any_name(box, source):
    renamed = source.table.assign(path=[f"{i}.png" for i in range(len(source.table))])
    unusual = renamed.assign(sha256="0" * 64)

    known = find_seen_images(box, renamed)
    assert known.is_seen.all()
    assert known.checks[0] == make_check("BC321", n_seen=len(renamed), n_images=len(renamed))
    assert find_seen_images(box, unusual).images.all()  # copies, by their looks
    unusual, renamed = unusual.drop(columns="dhash"), renamed.drop(columns="dhash")
    assert find_seen_images(box, unusual).n_seen == 0

    # Of each case one picture is its own: it knows the case.
    first = ~renamed["case"].duplicated()
    resized = renamed.assign(sha256=renamed["sha256"].where(first, "0" * 64))
    assert find_seen_images(box, resized).images.all()
    without_cases = find_seen_images(box, resized.assign(case=""))
    np.testing.assert_array_equal(without_cases.images, first)


def test_what_was_cut_off_goes_on_where_it_was(box, root, work, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("learned again")

    monkeypatch.setattr(learner, "learn", fail)
    again = build_bundled_model(
        root, ("drawn",), work / "models" / "again", work, None, QUICK, search_space=None
    )

    assert again.card.metrics == box.card.metrics
    assert again.card.files["head.npz"] == box.card.files["head.npz"]


def test_too_few_folds_to_choose_inside_them_are_refused_before_anything_is_learned(root, tmp_path):
    with pytest.raises(ConfigError, match=r"at least 4 of them; asked for 3"):
        build_bundled_model(root, ("drawn",), tmp_path / "boxed", tmp_path / "work", None, QUICK)

    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_the_choosing_is_judged_with_real_networks_and_told_in_the_card(root, tmp_path, eagerly):
    four = dataclasses.replace(QUICK, n_folds=4)
    quick_proxy = dataclasses.replace(four, backbone=PROXY, compute_dtype="float32")
    search_space = SearchGrid({"strange": {}}, (0.1, 1.0), (1.0, 30.0))

    made = build_bundled_model(
        root, ("drawn",), tmp_path / "boxed", tmp_path / "work", None, four, search_space=search_space,
        inside=(four, quick_proxy),
    )  # fmt: skip

    told = made.card.metrics.nested
    assert [one.fold for one in told.choices] == [0, 1, 2, 3]
    assert {one.penalty for one in told.choices} <= {0.1, 1.0}
    assert told.n_images == made.card.metrics.test.n_images
    kept, plain = (
        read_predictions(made.file(name))
        for name in (NESTED_CROSS_VALIDATION_FILE, CROSS_VALIDATION_FILE)
    )
    assert sorted(kept["path"]) == sorted(plain["path"])
    area = roc_auc_score(kept["class"] == "malignant", kept["prob_malignant"])
    assert told.metrics["roc_auc"].value == pytest.approx(area, abs=1e-6)
    # Six pairs of folds, and four folds.
    assert len(list((tmp_path / "work").glob("nested-*.npz"))) == 10
    assert "Nested cross-validation" in card_to_markdown(made.card)


def test_another_backend_is_refused_before_anything_is_learned(root, tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")

    with pytest.raises(ConfigError, match=r"Invalid KERAS_BACKEND 'jax'.*Expected 'tensorflow'"):
        build_bundled_model(
            root, ("drawn",), tmp_path / "boxed", tmp_path / "work", None, QUICK, search_space=None
        )

    assert not (tmp_path / "work").exists()


def test_drawn_images_do_not_replace_the_model_that_knows_tissue(root, tmp_path, monkeypatch):
    monkeypatch.setattr("bc_model.distillation.build.BUNDLED_MODELS_DIR", tmp_path)
    monkeypatch.chdir(tmp_path)

    for boxed in (tmp_path / "boxed", Path("boxed")):
        with pytest.raises(ConfigError, match=r"these images are synthetic. Choose another folder"):
            build_bundled_model(
                root, ("drawn",), boxed, tmp_path / "work", None, QUICK, search_space=None
            )

    assert not (tmp_path / "boxed").exists()
