"""The commands on reports: evaluate and what it writes, export, cards, cut-offs, other sets."""

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
    """Return a copy of the finished run that may be changed."""
    return Run(Path(shutil.copytree(tiny_run.path, tmp_path / "runs/tiny")))


@pytest.fixture
def patches(drawn_set: Path, tmp_path: Path) -> Path:
    """Return the drawn pictures in folders named 0 and 1."""
    for path in drawn_set.rglob("*.png"):
        folder = tmp_path / "patches" / ("0" if "_B_" in path.name else "1")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    return tmp_path / "patches"


def test_evaluate_writes_everything(
    command: Command, tiny_run: Run, drawn_set: Path, tmp_path: Path
) -> None:
    code, out, _ = command("evaluate", tiny_run.path, drawn_set, "--out", tmp_path / "e")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == [
        "confusion.png", "predictions.csv", "report.html", "report.json", "report.pdf", "roc.png",
    ]  # fmt: skip
    assert "recognition rate" in out
    assert "40X" in out or "200X" in out
    again = command("evaluate", tiny_run.path, drawn_set, "--out", tmp_path / "f", "--no-pdf")
    assert again[0] == 0
    assert not (tmp_path / "f/report.pdf").exists()
    names = ("report.html", "report.json", "predictions.csv")
    for name in names:
        assert (tmp_path / "e" / name).read_bytes() == (tmp_path / "f" / name).read_bytes()


def test_another_set_by_its_labels(
    command: Command, tiny_run: Run, patches: Path, tmp_path: Path
) -> None:
    code, out, _ = command(
        "evaluate", tiny_run.path, patches, "--map", "0=benign,1=malignant",
        "--out", tmp_path / "e", "--json", "--no-pdf",
    )  # fmt: skip
    told = json.loads(out)
    assert (code, told["protocol"], told["n_images"], told["n_cases"]) == (0, "external dataset", 30, 0)
    assert "BC334" in [check["code"] for check in told["checks"]]
    assert told["domain_shift"]["n_reference_images"] > 0
    assert "confidence intervals are too narrow" in (tmp_path / "e/report.html").read_text()


def test_another_set_of_official_names(
    command: Command, tiny_run: Run, drawn_set: Path, tmp_path: Path
) -> None:
    code, out, _ = command(
        "evaluate", tiny_run.path, drawn_set, "--unseen", "--out", tmp_path / "e", "--no-pdf"
    )
    assert code == 0
    assert "external dataset (LEAKY)" in out
    (line,) = [one for one in out.splitlines() if one.startswith("  unseen in training: ")]
    for name in ("accuracy", "balanced accuracy", "roc auc"):
        assert f"{name} " in line
    assert "6 pictures, 2 cases" in line
    assert "By what the model knows" in (tmp_path / "e/report.html").read_text()


def test_labels_outside_the_mapping(
    refused: Callable[..., str], tiny_run: Run, patches: Path, tmp_path: Path
) -> None:
    line = refused(
        "evaluate", tiny_run.path, patches, "--map", "1=malignant,2=benign", "--out", tmp_path / "e"
    )
    assert "outside the mapping 1=malignant, 2=benign, first '0'" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--map", "0=good"), "0=benign,1=malignant"),
        (("--map", "0=benign,1=benign"), "names none that is malignant"),
        (("--map", "0=benign", "--part", "test"), "not of another set"),
        (("--unseen", "--split", "s.csv"), "not of another set"),
        (("--case-above",), "goes with --map"),
    ],
)
def test_options_that_contradict(
    refused: Callable[..., str],
    tiny_run: Run,
    patches: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    said: str,
) -> None:
    assert said in refused("evaluate", tiny_run.path, patches, "--out", tmp_path / "e", *options)


def test_a_report_is_exported(command: Command, tiny_run: Run, tmp_path: Path) -> None:
    for name, start in (("x/a.html", b"<!DOCTYPE"), ("b.pdf", b"%PDF")):
        code, _, _ = command("export", "report", tiny_run.path, "--out", tmp_path / name)
        assert code == 0
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.skipif(not has_bundled_model(), reason="this copy has no model in the box")
def test_the_report_of_the_model_in_the_box_is_that_of_its_cross_validation(
    command: Command, tmp_path: Path
) -> None:
    code, _, err = command("export", "report", "bundled", "--out", tmp_path / "a.html")
    assert code == 0, err
    text = (tmp_path / "a.html").read_text()
    assert "The metrics are from 5 models with the same configuration" in text
    assert "1,053" in text


def test_what_is_not_exported(refused: Callable[..., str], run: Run, tmp_path: Path) -> None:
    line = refused("export", "report", run.path, "--out", tmp_path / "a.docx")
    assert "Expected the suffix .html or .pdf" in line
    predictions = run.evaluation_dir / "predictions.csv"
    text = predictions.read_text().replace(",benign,", ",malignant,")
    predictions.write_text(text)
    line = refused("export", "report", run.path, "--out", tmp_path / "a.pdf")
    assert "of one evaluation, got different counts" in line
    (run.evaluation_dir / "report.json").unlink()
    line = refused("export", "report", run.path, "--out", tmp_path / "a.pdf")
    assert "Missing evaluation of the model" in line
    (run.path / "split.csv").unlink()
    line = refused("export", "report", run.path, "--out", tmp_path / "a.pdf")
    assert "is not in a run" in line


def test_a_card(command: Command, tiny_run: Run, tmp_path: Path) -> None:
    code, out, _ = command("models", "card", tiny_run.path)
    assert code == 0
    assert out.startswith("# Model card: tiny\n")
    code, _, _ = command("models", "card", tiny_run.path, "--out", tmp_path / "d/CARD.md")
    assert code == 0
    assert (tmp_path / "d/CARD.md").read_text() == out


def test_a_cut_off_is_tried_and_locked(command: Command, run: Run) -> None:
    before = open_bundle(run.path).card
    code, out, _ = command("models", "cutoff", run.path, "--goal", "youden", "--json")
    told = json.loads(out)
    assert (code, told["locked"], told["prevalence"]) == (0, False, 0.1)
    assert set(told["predictive_values"]) == {"positive", "negative"}
    assert open_bundle(run.path).card == before

    code, out, _ = command("models", "cutoff", run.path, "--goal", "youden", "--lock", "a trial")
    assert code == 0
    assert "locked into the model card" in out
    locked = open_bundle(run.path)
    locked.verify()
    assert locked.threshold == told["chosen"]["value"]
    assert locked.card.threshold.reason == "a trial"
    assert read_report(run.evaluation_dir).threshold == locked.threshold


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--wanted", "2"), "Invalid target sensitivity"),
        (("--goal", "youden", "--wanted", "0.9"), "--wanted goes with --goal sensitivity"),
        (("--prevalence", "1"), "--prevalence"),
    ],
)
def test_impossible_cut_offs(
    refused: Callable[..., str], run: Run, options: tuple[str, ...], said: str
) -> None:
    assert said in refused("models", "cutoff", run.path, *options)


def test_a_run_of_an_earlier_version_is_calibrated(
    command: Command, refused: Callable[..., str], run: Run, drawn_set: Path
) -> None:
    kept = {
        name: (run.evaluation_dir / name).read_bytes()
        for name in ("validation_predictions.csv", "predictions.csv")
    }
    expected = open_bundle(run.path).card
    (run.evaluation_dir / "validation_predictions.csv").unlink()
    assert "Calibrate the model again" in refused("models", "cutoff", run.path)
    code, out, _ = command("models", "calibrate", run.path, drawn_set)
    assert code == 0
    assert out.startswith("temperature 1.000, not fitted")
    assert "\ncut-off 0.500 as before, " in out
    for name, content in kept.items():
        assert (run.evaluation_dir / name).read_bytes() == content
    assert open_bundle(run.path).card == expected


def test_a_cut_off_goes_with_the_temperature(command: Command, run: Run, drawn_set: Path) -> None:
    chosen = DecisionThreshold(0.4, "by wish", "x", unit="image")
    card = open_bundle(run.path).card
    write_model_card(
        run.model_dir,
        replace(card, temperature=Temperature(2.0, "fitted"), threshold=chosen),
    )
    code, out, _ = command("models", "calibrate", run.path, drawn_set)
    assert code == 0
    after = open_bundle(run.path)
    assert after.temperature == 1.0
    # 0.4 is a margin of 2 log(2/3), which is (2/3)^2 to 1 at a temperature of 1.
    assert after.threshold == pytest.approx(4 / 13)
    said = "by wish; carried over from 0.400 as temperature 2.000 became 1.000"
    assert after.card.threshold == replace(chosen, value=after.threshold, method=said)
    assert f"cut-off 0.308, {said}" in out
    report = read_report(run.evaluation_dir)
    assert report.threshold == after.card.metrics.test.threshold == after.threshold


def test_a_calibration_that_is_broken_off_changes_nothing(
    command: Command, run: Run, drawn_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(open_bundle(run.path).card, temperature=Temperature(2.0, "x"))
    write_model_card(run.model_dir, card)
    kept = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bc_model.evaluation.evaluate.evaluate_split", stop)
    assert command("models", "calibrate", run.path, drawn_set)[0] == 130
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == kept
