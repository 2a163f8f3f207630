"""`evaluate`, `report`, and the commands of `models` that change a report."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bc_model.evaluation.report import read_report
from bc_model.inference.bundle import has_bundled_model, open_bundle
from bc_model.inference.model_card import DecisionThreshold, Temperature, write_model_card
from bc_model.training.run import Run
from tests.bc_model.conftest import Command


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Run:
    """Return a copy of the finished run that the test can change."""
    return Run(Path(shutil.copytree(tiny_run.path, tmp_path / "runs/tiny")))


@pytest.fixture
def patches(synthetic_dataset: Path, tmp_path: Path) -> Path:
    """Return the synthetic images in folders named 0 and 1."""
    for path in synthetic_dataset.rglob("*.png"):
        folder = tmp_path / "patches" / ("0" if "_B_" in path.name else "1")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    return tmp_path / "patches"


def test_evaluate_writes_report_predictions_and_plots(
    command: Command, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    code, out, _ = command("evaluate", tiny_run.path, synthetic_dataset, "--out", tmp_path / "e")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == [
        "confusion.png", "predictions.csv", "report.html", "report.json", "report.pdf", "roc.png",
    ]  # fmt: skip
    assert "recognition rate" in out
    assert "40X" in out or "200X" in out
    again = command(
        "evaluate", tiny_run.path, synthetic_dataset, "--out", tmp_path / "f", "--no-pdf"
    )
    assert again[0] == 0
    assert not (tmp_path / "f/report.pdf").exists()
    names = ("report.html", "report.json", "predictions.csv")
    for name in names:
        assert (tmp_path / "e" / name).read_bytes() == (tmp_path / "f" / name).read_bytes()


def test_evaluate_goes_on_after_a_file_that_cannot_be_written(
    command: Command, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "e"
    (out / "report.html").mkdir(parents=True)
    (out / "roc.png").mkdir()
    code, printed, err = command("evaluate", tiny_run.path, synthetic_dataset, "--out", out)
    assert code == 1
    assert [line.partition(". ")[0] for line in err.splitlines()] == [
        "not written: The plots cannot be written",
        f"not written: Is a directory ('{out}/report.html').",
    ]
    assert "recognition rate" in printed
    assert read_report(out).n_images > 0
    assert (out / "report.pdf").is_file()


def test_evaluate_external_dataset_with_labels(
    command: Command, tiny_run: Run, patches: Path, tmp_path: Path
) -> None:
    code, out, _ = command(
        "evaluate", tiny_run.path, patches, "--labels", "0=benign,1=malignant",
        "--out", tmp_path / "e", "--json", "--no-pdf",
    )  # fmt: skip
    result = json.loads(out)
    assert (code, result["n_images"], result["n_cases"]) == (0, 30, 0)
    assert "BC334" in [check["code"] for check in result["checks"]]
    assert result["domain_shift"]["n_reference_images"] > 0
    assert "confidence intervals are too narrow" in (tmp_path / "e/report.html").read_text()


def test_evaluate_external_dataset_with_seen_images_reports_unseen_images(
    command: Command, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    code, out, _ = command(
        "evaluate",
        tiny_run.path,
        synthetic_dataset,
        "--external",
        "--out",
        tmp_path / "e",
        "--no-pdf",
    )
    assert code == 0
    assert "(with leakage)" in out
    # Both rows by seen and unseen images have three metrics.
    (line,) = [
        line
        for line in out.splitlines()
        if "; roc auc " in line and "6 " in line and " 2 cases" in line
    ]
    for name in ("accuracy", "balanced accuracy", "roc auc"):
        assert f"{name} " in line


def test_evaluate_with_a_label_that_no_image_has_is_refused(
    refused: Callable[..., str], tiny_run: Run, patches: Path, tmp_path: Path
) -> None:
    line = refused(
        "evaluate",
        tiny_run.path,
        patches,
        "--labels",
        "1=malignant,2=benign",
        "--out",
        tmp_path / "e",
    )
    assert "The label '2' matches no image in" in line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--labels", "0=good"), "0=benign,1=malignant"),
        (("--labels", "0=benign,1=benign"), "no label for the class malignant"),
        (("--labels", "0=benign", "--subset", "test"), "do not apply to an external dataset"),
        (("--external", "--split", "s.csv"), "do not apply to an external dataset"),
        (("--case-from", "folder:2"), "requires --external"),
    ],
)
def test_evaluate_with_contradicting_options_is_refused(
    refused: Callable[..., str],
    tiny_run: Run,
    patches: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    expected: str,
) -> None:
    assert expected in refused(
        "evaluate", tiny_run.path, patches, "--out", tmp_path / "e", *options
    )


def test_report_writes_html_and_pdf(command: Command, tiny_run: Run, tmp_path: Path) -> None:
    for name, start in (("x/a.html", b"<!DOCTYPE"), ("b.pdf", b"%PDF")):
        code, _, _ = command("report", tiny_run.path, "--out", tmp_path / name)
        assert code == 0
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.skipif(not has_bundled_model(), reason="There is no bundled model.")
def test_report_of_the_bundled_model_is_its_cross_validation(
    command: Command, tmp_path: Path
) -> None:
    code, _, err = command("report", "bundled", "--out", tmp_path / "a.html")
    assert code == 0, err
    text = (tmp_path / "a.html").read_text()
    assert "The metrics are from 5 models with the same configuration" in text
    assert "1,053" in text


def test_report_of_an_incomplete_run_is_refused(
    refused: Callable[..., str], run: Run, tmp_path: Path
) -> None:
    line = refused("report", run.path, "--out", tmp_path / "a.docx")
    assert "Expected the suffix .html" in line
    predictions = run.evaluation_dir / "predictions.csv"
    text = predictions.read_text().replace(",benign,", ",malignant,")
    predictions.write_text(text)
    line = refused("report", run.path, "--out", tmp_path / "a.pdf")
    assert "of one evaluation, got different counts" in line
    (run.evaluation_dir / "report.json").unlink()
    line = refused("report", run.path, "--out", tmp_path / "a.pdf")
    assert str(run.evaluation_dir) in line
    (run.path / "split.csv").unlink()
    line = refused("report", run.path, "--out", tmp_path / "a.pdf")
    assert "finished run" in line


def test_models_card_prints_or_writes_markdown(
    command: Command, tiny_run: Run, tmp_path: Path
) -> None:
    code, out, _ = command("models", "card", tiny_run.path)
    assert code == 0
    assert out.startswith("# Model card: tiny\n")
    code, _, _ = command("models", "card", tiny_run.path, "--out", tmp_path / "d/CARD.md")
    assert code == 0
    assert (tmp_path / "d/CARD.md").read_text() == out


def test_models_choose_threshold_tests_and_sets_it(command: Command, run: Run) -> None:
    before = open_bundle(run.path).card
    code, out, _ = command(
        "models", "choose-threshold", run.path, "--criterion", "youden", "--json"
    )
    result = json.loads(out)
    assert (code, result["is_set"], result["prevalence"]) == (0, False, 0.1)
    assert set(result["predictive_values"]) == {"positive", "negative"}
    assert open_bundle(run.path).card == before

    code, out, _ = command(
        "models", "choose-threshold", run.path, "--criterion", "youden", "--set", "a trial"
    )
    assert code == 0
    assert "The threshold is set." in out
    bundle = open_bundle(run.path)
    bundle.verify()
    assert bundle.threshold == result["choice"]["value"]
    assert bundle.card.threshold.reason == "a trial"
    assert read_report(run.evaluation_dir).threshold == bundle.threshold


def test_models_set_threshold_updates_card_and_report(
    command: Command, refused: Callable[..., str], run: Run
) -> None:
    code, out, _ = command("models", "set-threshold", run.path, 0.3, "--reason", "a trial")
    assert code == 0
    assert out.startswith("threshold 0.300, ")
    bundle = open_bundle(run.path)
    bundle.verify()
    assert (bundle.threshold, bundle.card.threshold.reason) == (0.3, "a trial")
    assert read_report(run.evaluation_dir).threshold == 0.3
    assert "1.5" in refused("models", "set-threshold", run.path, 1.5, "--reason", "a trial")
    assert "reason" in refused("models", "set-threshold", run.path, 0.3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--target", "2"), "sensitivity"),
        (("--criterion", "youden", "--target", "0.9"), "--target requires --criterion sensitivity"),
        (("--prevalence", "1"), "--prevalence"),
    ],
)
def test_models_choose_threshold_with_invalid_options_is_refused(
    refused: Callable[..., str], run: Run, options: tuple[str, ...], expected: str
) -> None:
    assert expected in refused("models", "choose-threshold", run.path, *options)


def test_models_calibrate_restores_missing_validation_predictions(
    command: Command, refused: Callable[..., str], run: Run, synthetic_dataset: Path
) -> None:
    kept = {
        name: (run.evaluation_dir / name).read_bytes()
        for name in ("validation_predictions.csv", "predictions.csv")
    }
    expected = open_bundle(run.path).card
    (run.evaluation_dir / "validation_predictions.csv").unlink()
    refused("models", "choose-threshold", run.path)
    code, out, _ = command("models", "calibrate", run.path, synthetic_dataset)
    assert code == 0
    assert out.startswith("temperature 1.000, not fitted")
    assert "\nthreshold 0.500 (unchanged), " in out
    for name, content in kept.items():
        assert (run.evaluation_dir / name).read_bytes() == content
    assert open_bundle(run.path).card == expected


def test_models_calibrate_converts_a_set_threshold(
    command: Command, run: Run, synthetic_dataset: Path
) -> None:
    chosen = DecisionThreshold(0.4, "by wish", "x", unit="image")
    card = open_bundle(run.path).card
    write_model_card(
        run.model_dir,
        replace(card, temperature=Temperature(2.0, "fitted"), threshold=chosen),
    )
    code, out, _ = command("models", "calibrate", run.path, synthetic_dataset)
    assert code == 0
    after = open_bundle(run.path)
    assert after.temperature == 1.0
    # 0.4 is a margin of 2 log(2/3), which is (2/3)^2 to 1 at a temperature of 1.
    assert after.threshold == pytest.approx(4 / 13)
    method = "by wish; rescaled from 0.400 because the temperature changed from 2.000 to 1.000"
    assert after.card.threshold == replace(chosen, value=after.threshold, method=method)
    assert f"threshold 0.308, {method}" in out
    report = read_report(run.evaluation_dir)
    assert report.threshold == after.card.metrics.test.threshold == after.threshold


def test_models_calibrate_that_is_interrupted_changes_nothing(
    command: Command, run: Run, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(open_bundle(run.path).card, temperature=Temperature(2.0, "x"))
    write_model_card(run.model_dir, card)
    kept = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bc_model.evaluation.evaluate_split", stop)
    assert command("models", "calibrate", run.path, synthetic_dataset)[0] == 130
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == kept


def test_evaluate_robustness_prints_a_row_for_each_change(
    command: Command, tiny_run: Run, synthetic_dataset: Path
) -> None:
    code, out, _ = command("evaluate-robustness", tiny_run.path, synthetic_dataset)
    assert code == 0
    assert "Blur, 2 px" in out
    assert "BC321" in out  # the run was trained on some of the images
    code, out, _ = command("evaluate-robustness", tiny_run.path, synthetic_dataset, "--json")
    assert code == 0
    table = json.loads(out)
    assert "BC321" in {check["code"] for check in table["checks"]}
    blur = table["rows"][0]
    assert blur["name"] == "blur_2"
    n_flips = blur["n_to_malignant"] + blur["n_to_benign"]
    assert blur["flips"]["value"] == pytest.approx(n_flips / table["n_images"])


def test_evaluate_on_another_dataset_suggests_external(
    refused: Callable[..., str], tiny_run: Run, labeled_dataset: Path, tmp_path: Path
) -> None:
    line = refused("evaluate", tiny_run.path, labeled_dataset, "--out", tmp_path / "report")
    assert "For another dataset, add --external." in line
