"""The input checks of a dataset, and external evaluation without the blocked images."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.images import preprocess_image
from bc_model.errors import DataError
from bc_model.evaluation.external import evaluate_external
from bc_model.evaluation.report import read_report
from bc_model.inference.bundle import Bundle
from bc_model.inference.classifier import load_classifier
from bc_model.inference.dataset_checks import (
    check_blocked,
    check_dataset_image,
    check_files,
    count_reasons,
)
from bc_model.inference.engine import Engine
from bc_model.inference.head import Head


def test_add_input_reference_lists_its_file(reference_bundle: Bundle) -> None:
    reference_bundle.verify()
    assert Engine(reference_bundle).input_reference is not None


def test_check_files_returns_a_row_for_each_image(
    reference_bundle: Bundle, damaged_dataset: tuple[Path, list[str]]
) -> None:
    root, black = damaged_dataset
    images = load_dataset(root).images
    paths = list(images["path"])
    done: list[tuple[int, int]] = []
    table = check_files(Engine(reference_bundle), root, images, progress=lambda *n: done.append(n))
    assert list(table["path"]) == paths
    assert done[-1] == (len(paths), len(paths))
    blocked = table[table["path"].isin(black)]
    assert blocked["is_blocked"].all()
    assert all("BC175" in codes.split() for codes in blocked["codes"])
    (check,) = check_blocked(table)
    assert check.params["n_found"] == table["is_blocked"].sum()
    assert count_reasons(table)["Dark image"] == 2


def test_external_evaluation_excludes_counts_and_lists_blocked_images(
    reference_bundle: Bundle, damaged_dataset: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, black = damaged_dataset
    dataset, engine = load_dataset(root), Engine(reference_bundle)
    report = evaluate_external(engine, dataset)
    assert set(black) <= {image.path for image in report.excluded}
    assert report.n_images == len(dataset.images) - len(report.excluded)
    assert "BC335" in [check.code for check in report.checks]
    report.save(tmp_path / "report")
    assert read_report(tmp_path / "report").excluded == report.excluded
    everything = evaluate_external(engine, dataset, include_blocked=True)
    assert everything.n_images == len(dataset.images)
    assert everything.excluded == ()


def test_external_evaluation_without_usable_images_is_refused(
    reference_bundle: Bundle, damaged_dataset: tuple[Path, list[str]]
) -> None:
    root, _ = damaged_dataset
    dataset = load_dataset(root)
    for i, path in enumerate(dataset.images["path"]):
        cv2.imwrite(str(root / path), np.full((64, 96, 3), i % 30, np.uint8))
    with pytest.raises(DataError, match="block all"):
        evaluate_external(Engine(reference_bundle), load_dataset(root))


@pytest.mark.parametrize(
    ("name", "size", "magnification", "code"),
    [
        ("SOB_B_TA-14-3411F-40-001.png", (700, 460), 40, "BC101"),
        ("SOB_B_TA-14-3411F-200-001.png", (140, 92), 200, "BC105"),
        ("field.png", (100, 80), None, "BC105"),
        ("SOB_B_TA-14-3411F-200-001.png", (700, 460), 200, None),
        ("field.png", (700, 460), None, None),
    ],
)
def test_dataset_images_have_the_checks_of_single_images(
    name: str, size: tuple[int, int], magnification: int | None, code: str | None
) -> None:
    classifier = load_classifier("bundled")
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    image = cv2.resize(noise, size)
    pixels = preprocess_image(image, classifier.bundle.image_size)
    found = check_dataset_image(
        classifier.engine.engine, pixels, name=name, width_px=size[0], height_px=size[1],
        magnification=magnification,
    )  # fmt: skip
    alone = classifier.predict(image, name=name, magnification=magnification)
    # A dataset has no scale in its files, and its known images are listed elsewhere.
    elsewhere = {"BC110", "BC140", "BC401"}
    assert {c.code for c in found} == {c.code for c in alone.checks} - elsewhere
    assert code is None or code in {check.code for check in found}


def test_external_evaluation_excludes_images_without_an_answer_of_their_own(
    reference_bundle: Bundle,
    damaged_dataset: tuple[Path, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = load_dataset(damaged_dataset[0])
    monkeypatch.setattr(Head, "is_constant", lambda _, pooled: np.arange(len(pooled)) < 2)
    report = evaluate_external(Engine(reference_bundle), dataset)
    constant = [image.path for image in report.excluded if "BC106" in image.codes]
    assert constant == list(dataset.images["path"][:2])
