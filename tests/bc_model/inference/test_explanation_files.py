"""The files of `explain_file`: values, raw heatmaps and overlays."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bc_model.contribution_map import ContributionMap
from bc_model.data.breakhis import CLASSES
from bc_model.data.declared_scale import DeclaredScale
from bc_model.data.images import read_image
from bc_model.errors import ImageError
from bc_model.gradcam import Heatmap, encode_png
from bc_model.inference.batching import ImageExplanation
from bc_model.inference.classifier import Classifier, load_classifier
from bc_model.inference.explanation_files import explain_file
from bc_model.inference.image_prediction import Prediction
from bc_model.training.run import Run


@pytest.fixture(scope="module")
def classifier(tiny_run: Run) -> Classifier:
    return load_classifier(tiny_run.path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def write_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_explain_file_writes_seven_files(classifier: Classifier, tmp_path: Path, out: Path) -> None:
    result = explain_file(classifier, write_image(tmp_path / "a.png"), out)
    base = f"a-{result['sha256'][:8]}"
    assert sorted(path.name for path in out.iterdir()) == [
        f"{base}-benign.npy", f"{base}-benign.png",
        f"{base}-contribution.npy", f"{base}-contribution.png",
        f"{base}-malignant.npy", f"{base}-malignant.png", f"{base}.json",
    ]  # fmt: skip
    for name in CLASSES:
        assert (out / result["heatmaps"][name]["raw"]).is_file()
        assert (out / result["heatmaps"][name]["overlay"]).is_file()


def test_explain_file_passes_the_scale_of_the_file(
    classifier: Classifier, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, predict, scales = write_image(tmp_path / "a.png"), classifier.predict, []

    def record(image: np.ndarray, *, scale: DeclaredScale, **options: Any) -> Prediction:
        scales.append(scale.mpp)
        return predict(image, scale=scale, **options)

    monkeypatch.setattr(classifier, "predict", record)
    explain_file(classifier, path, out)
    with Image.open(path) as image:
        image.save(path, dpi=(50_800, 50_800))
    explain_file(classifier, path, out)
    assert scales == [None, pytest.approx(0.5)]


def test_explain_file_returns_the_content_of_the_json_file(
    classifier: Classifier, tmp_path: Path, out: Path
) -> None:
    result = explain_file(classifier, write_image(tmp_path / "a.png"), out)
    (path,) = out.glob("*.json")
    assert json.loads(path.read_text()) == result


def test_explain_file_returns_the_values_of_the_prediction(
    classifier: Classifier, tmp_path: Path, out: Path
) -> None:
    path = write_image(tmp_path / "a.png")
    result = explain_file(classifier, path, out)
    prediction = classifier.predict(read_image(path), name=path.name)
    assert prediction.is_classified
    assert result["prob_malignant"] == prediction.prob_malignant
    assert result["predicted_class"] == prediction.predicted_class
    assert result["logits"] == dict(zip(CLASSES, prediction.logits, strict=True))
    assert [check["code"] for check in result["checks"]] == [c.code for c in prediction.checks]
    assert result["model"] == classifier.bundle.card.name
    for name in CLASSES:
        raw = np.load(out / result["heatmaps"][name]["raw"], allow_pickle=False)
        assert raw.dtype == np.float32
        np.testing.assert_array_equal(raw, prediction.heatmaps[name].raw)
        assert result["heatmaps"][name]["maximum"] == raw.max()


def test_explain_file_writes_the_signed_contribution_map(
    classifier: Classifier, tmp_path: Path, out: Path
) -> None:
    path = write_image(tmp_path / "a.png")
    with Image.open(path) as image:
        image.save(path, dpi=(50_800, 50_800))  # 0.5 µm per pixel.
    result = explain_file(classifier, path, out)
    entry, logits = result["contribution"], result["logits"]
    cells = np.load(out / entry["raw"], allow_pickle=False)
    assert cells.dtype == np.float32
    assert entry["cells"] == list(cells.shape[::-1])
    assert entry["sum"] == pytest.approx(cells.sum(dtype=np.float64))
    assert entry["margin"] == pytest.approx(logits["malignant"] - logits["benign"])
    assert entry["baseline"] + entry["sum"] == pytest.approx(entry["margin"], abs=1e-4)
    assert abs(entry["residual"]) < 1e-4
    assert (pixels(out / entry["overlay"]) != pixels(path)).any()
    location = result["location"]
    assert (location["code"], location["severity"]) == ("BC182", "info")
    assert location["message"].endswith(" % of the evidence lies on background.")
    # The cells of the network are 8 of its 32 px apart, and the image has 60 x 90 px.
    assert location["cell_um"] == pytest.approx(8 * (60 / 32 * 90 / 32) ** 0.5 * 0.5)


def test_explain_file_with_a_blocking_check_writes_only_codes(
    classifier: Classifier, tmp_path: Path, out: Path
) -> None:
    path = tmp_path / "blank.png"
    Image.new("RGB", (96, 64), (244, 244, 244)).save(path)
    base = f"blank-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    # From an earlier call with another model.
    (out / f"{base}-benign.png").touch()
    (out / f"{base}-contribution.npy").touch()
    result = explain_file(classifier, path, out)
    assert result["checks"][0]["code"] == "BC104"
    assert result["heatmaps"] == {}
    for name in ("prob_malignant", "predicted_class", "logits", "contribution", "location"):
        assert result[name] is None
    assert [file.name for file in out.iterdir()] == [f"{base}.json"]


def test_explain_file_writes_overlays_of_the_image_size(
    classifier: Classifier, tmp_path: Path, out: Path
) -> None:
    explain_file(classifier, write_image(tmp_path / "a.png"), out)
    assert {pixels(path).shape for path in out.glob("*.png")} == {(60, 90, 3)}


def test_explain_file_states_that_it_is_not_a_diagnosis(
    classifier: Classifier, tmp_path: Path, out: Path
) -> None:
    result = explain_file(classifier, write_image(tmp_path / "a.png"), out)
    assert "not a diagnosis" in result["use"]


def test_explain_file_with_equal_names_writes_separate_files(
    classifier: Classifier, tmp_path: Path, out: Path
) -> None:
    for seed in range(2):
        explain_file(classifier, write_image(tmp_path / str(seed) / "a.png", seed), out)
    assert len(list(out.glob("a-*.json"))) == 2
    assert len(list(out.iterdir())) == 14


def test_explain_file_twice_replaces_the_files(
    classifier: Classifier, tmp_path: Path, out: Path
) -> None:
    path = write_image(tmp_path / "a.png")
    first = explain_file(classifier, path, out)
    assert explain_file(classifier, path, out) == first
    assert len(list(out.iterdir())) == 7


def test_explain_file_with_empty_heatmaps_writes_the_image_unchanged(
    classifier: Classifier, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = {name: Heatmap(name, np.zeros((4, 4), np.float32)) for name in CLASSES}
    nothing = ContributionMap(np.zeros((4, 4), np.float32), 0.0, 0.0, 0.0)
    monkeypatch.setattr(
        classifier.engine,
        "explain_one",
        lambda *_: ImageExplanation(np.zeros(2, np.float32), empty, False, nothing, np.ones(2)),
    )
    path = write_image(tmp_path / "a.png")
    result = explain_file(classifier, path, out)
    for name in CLASSES:
        assert not result["heatmaps"][name]["has_positive_contribution"]
        overlay = pixels(out / result["heatmaps"][name]["overlay"])
        np.testing.assert_array_equal(overlay, pixels(path))
    overlay = pixels(out / result["contribution"]["overlay"])
    np.testing.assert_array_equal(overlay, pixels(path))
    assert result["location"] is None


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_explain_file_with_an_unreadable_image_writes_nothing(
    content: bytes | None, classifier: Classifier, tmp_path: Path, out: Path
) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png"):
        explain_file(classifier, path, out)
    assert not list(out.iterdir())


def test_encode_png_keeps_every_pixel() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(rgb)))), rgb)
