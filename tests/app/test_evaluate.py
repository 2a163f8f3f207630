"""Page Evaluate: metrics, calibration, threshold, errors and external datasets."""

import json
import math
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from app.components.evaluate.threshold import CRITERION_LABELS
from bc_model.checks import make_check
from bc_model.data.stain import STAIN_COLUMNS
from bc_model.evaluation.calibration import (
    VALIDATION_PREDICTIONS_FILE,
    read_validation_predictions,
)
from bc_model.evaluation.cross_validation import CROSS_VALIDATION_FILE
from bc_model.evaluation.report import read_report
from bc_model.evaluation.thresholds import choose_threshold
from bc_model.inference.bundle import Bundle, file_sha256, open_bundle
from bc_model.inference.model_card import StainStatistics, write_model_card
from bc_model.reporting.labels import CASE_METRIC_LABELS, METRIC_LABELS
from bc_model.utils import to_json
from tests.app.helpers import press, texts
from tests.bc_model.inference.model_cards import selective_summary

BUNDLED = "shipped (bundled)"
METRICS, THRESHOLD, ERRORS = "Metrics", "Calibration and threshold", "Errors"
EXTERNAL, EXPORT = "External dataset", "Export"


@pytest.fixture
def open_section(open_page):
    """Return a function that opens the page at one of its sections."""

    def open_named(section: str):
        return open_page("evaluate", section=section)

    return open_named


def test_evaluate_without_a_finished_run_links_to_train(runs, open_page):
    app = open_page("evaluate")

    assert "No finished run" in texts(app.header)


@pytest.fixture
def cross_validated(runs, tiny_run, monkeypatch) -> Bundle:
    """Return a bundled model with a cross-validation."""
    folder = runs.with_name("shipped") / "shipped"
    shutil.copytree(tiny_run.path / "model", folder)
    shutil.copy(tiny_run.evaluation_dir / "predictions.csv", folder / CROSS_VALIDATION_FILE)
    card = open_bundle(folder).card
    files = {CROSS_VALIDATION_FILE: file_sha256(folder / CROSS_VALIDATION_FILE)}
    values = dict.fromkeys(STAIN_COLUMNS, (-9.0, 0.0, 9.0))
    wide = StainStatistics((0.01, 0.5, 0.99), values, 0.0)
    stained = replace(card.input, stain=wide)
    write_model_card(folder, replace(card, files=card.files | files, input=stained))
    monkeypatch.setattr("app.components.model_picker.BUNDLED_MODELS_DIR", folder.parent)
    return open_bundle(folder)


def test_evaluate_without_a_run_shows_the_bundled_model(cross_validated, tiny_run, open_page):
    app = open_page("evaluate")

    assert app.selectbox(key="evaluated").options == [BUNDLED]
    assert "No run has finished yet" in texts(app.caption)
    assert app.segmented_control(key="section").options == [
        METRICS, "Calibration", EXTERNAL, EXPORT,
    ]  # fmt: skip
    shown = app.dataframe[0].value.set_index("Metric")
    area = read_report(tiny_run.evaluation_dir).metrics["roc_auc"]
    assert shown.loc[METRIC_LABELS["roc_auc"][0], "Value"] == area.value
    for section in ("Calibration", EXTERNAL, EXPORT):
        app.segmented_control(key="section").set_value(section).run()
        assert not app.exception
        assert not app.error
    assert len(app.get("download_button")) == 5
    app.segmented_control(key="section").set_value("Calibration").run()
    assert "Each fold has its own temperature" in texts(app.caption)


def test_external_dataset_without_reference_features_shows_no_separability(
    cross_validated, synthetic_dataset, open_section
):
    app = open_section(EXTERNAL)
    app.text_input(key="external_folder").set_value(str(synthetic_dataset))
    app.button(key="evaluate-external").click().run()

    assert [(element.label, element.value) for element in app.metric][4:] == [
        ("Typical size, px", "96 x 64"), ("Out-of-distribution staining", "0 of 6"),
    ]  # fmt: skip
    assert "no reference features" in texts(app.caption)


def test_section_falls_back_to_metrics_after_a_change_of_model(
    cross_validated, finished_run, open_page
):
    app = open_page("evaluate")
    app.segmented_control(key="section").set_value(ERRORS).run()
    app.selectbox(key="evaluated").set_value(BUNDLED).run()

    assert not app.exception
    assert app.segmented_control(key="section").value == METRICS
    assert "Confusion by image" in texts(app.header)
    app.segmented_control(key="section").set_value("Calibration").run()
    app.selectbox(key="evaluated").set_value("finished").run()
    assert not app.exception
    assert app.segmented_control(key="section").value == METRICS


def test_section_in_the_url_falls_back_to_metrics(cross_validated, finished_run, open_page):
    app = open_page("evaluate", evaluated=BUNDLED, section=ERRORS)

    assert app.selectbox(key="evaluated").value == BUNDLED
    assert app.segmented_control(key="section").value == METRICS


def test_evaluate_with_a_damaged_bundled_model_warns(cross_validated, finished_run, open_page):
    (cross_validated.folder / "model_card.json").write_text("{}")
    app = open_page("evaluate")

    assert app.selectbox(key="evaluated").options == ["finished"]
    assert str(cross_validated.folder) in texts(app.warning)


def test_evaluate_with_a_changed_cross_validation_shows_an_error(cross_validated, open_page):
    with (cross_validated.folder / CROSS_VALIDATION_FILE).open("a") as file:
        file.write("x")
    app = open_page("evaluate")

    assert "does not match its model card" in texts(app.error)
    assert not app.dataframe


def test_evaluate_with_an_unknown_run_in_the_url_warns(finished_run, open_page):
    app = open_page("evaluate", evaluated="gone")

    assert "No evaluation of 'gone' was found" in texts(app.warning)


def test_evaluate_after_going_back_from_classify_shows_the_same_errors(finished_run, open_page):
    shutil.copytree(finished_run.path, finished_run.path.with_name("newest"))
    app = open_page("evaluate", run="finished", image="0" * 64)

    assert app.selectbox(key="evaluated").value == "finished"
    assert app.segmented_control(key="section").value == ERRORS


def test_metric_tables_list_images_and_cases(finished_run, open_page):
    app = open_page("evaluate")
    report = json.loads((finished_run.evaluation_dir / "report.json").read_text())

    for shown, metrics, words in (
        (app.dataframe[0], report["metrics"], METRIC_LABELS),
        (app.dataframe[1], report["case_metrics"]["metrics"], CASE_METRIC_LABELS),
    ):
        table = shown.value.set_index("Metric").drop(index="Majority baseline")
        assert list(table.index) == [title for title, _ in words.values()]
        assert list(table["Images"]) == [metrics[name]["n_images"] for name in words]
        assert list(table["Cases"]) == [metrics[name]["n_cases"] for name in words]
    # Confusion by image and by case, both curves, and the two kinds of groups.
    assert len(app.get("vega_lite_chart")) == 6


def test_metric_table_contains_the_majority_baseline(finished_run, open_page):
    app = open_page("evaluate")
    report = json.loads((finished_run.evaluation_dir / "report.json").read_text())

    table = app.dataframe[0].value.set_index("Metric")
    assert table.loc["Majority baseline", "Value"] == max(
        report["malignant_proportion"], 1 - report["malignant_proportion"]
    )
    assert "always predicting" in texts(app.markdown)


def test_case_table_contains_the_patient_score(finished_run, open_page):
    app = open_page("evaluate")

    predictions = read_report(finished_run.evaluation_dir).predictions
    table = app.dataframe[2].value.set_index("Case")
    right = (predictions["prob_malignant"] >= 0.5) == (predictions["class"] == "malignant")
    assert table["Patient score"].to_dict() == right.groupby(predictions["case"]).mean().to_dict()


def test_undefined_metric_shows_the_reason(finished_run, open_page):
    path = finished_run.evaluation_dir / "report.json"
    report = json.loads(path.read_text())
    report["metrics"]["specificity"] |= {
        "value": None, "ci_low": None, "ci_high": None, "note": "no benign image",
    }  # fmt: skip
    path.write_text(json.dumps(report | {"roc": None}))
    app = open_page("evaluate")

    table = app.dataframe[0].value.set_index("Metric")
    assert math.isnan(table.loc["Specificity", "Value"])
    assert app.metric[3].value == "Not defined"
    assert "Specificity: not defined: no benign image." in texts(app.caption)
    assert "all images belong to one class" in texts(app.info)


def test_report_with_leakage_warns_in_every_section(finished_run, open_page):
    path = finished_run.evaluation_dir / "report.json"
    report = json.loads(path.read_text())
    has_leakage = {
        "has_leakage": True,
        "protocol": "image",
        "checks": [to_json(make_check("BC202"))],
    }
    path.write_text(json.dumps(report | has_leakage))
    app = open_page("evaluate")

    assert "Possible leakage" in texts(app.warning)
    for section in (THRESHOLD, EXPORT):
        app.segmented_control(key="section").set_value(section).run()
        assert "Possible leakage" in texts(app.warning)


def test_evaluate_with_a_damaged_report_shows_one_error(finished_run, open_page):
    (finished_run.evaluation_dir / "report.json").write_text("{}")
    app = open_page("evaluate")

    assert len(app.error) == 1
    assert not app.dataframe


def test_calibration_shows_bins_and_expected_error(finished_run, open_section):
    app = open_section(THRESHOLD)
    found = json.loads((finished_run.evaluation_dir / "report.json").read_text())["calibration"]

    assert app.metric[0].value == f"{found['ece']:.3f}"
    assert f"perfect calibration: {found['ece_if_calibrated']:.3f}." in texts(app.caption)
    assert list(app.dataframe[0].value["Images"]) == [
        bin_["observed"]["n_images"] for bin_ in found["bins"]
    ]


def test_uncertain_range_is_measured_on_the_test_images(finished_run, open_section):
    app = open_section(THRESHOLD)
    assert "The model has no uncertain range" in texts(app.markdown)
    n_charts = len(app.get("vega_lite_chart"))

    bundle = open_bundle(finished_run.path)
    selective = selective_summary(0.45, 0.55, bundle.threshold)
    metrics = replace(bundle.card.metrics, selective=selective)
    write_model_card(bundle.folder, replace(bundle.card, metrics=metrics))
    app = open_section(THRESHOLD)
    report = read_report(finished_run.evaluation_dir)
    prob = report.predictions["prob_malignant"]
    # Every case of the synthetic dataset has three images.
    coverage = float(((prob <= 0.45) | (prob >= 0.55)).mean())
    assert f"Proportion of images with a class: {coverage:.2f} " in texts(app.markdown)
    assert len(app.get("vega_lite_chart")) == n_charts


@pytest.mark.parametrize("criterion", CRITERION_LABELS)
@pytest.mark.parametrize("unit", ["image", "case"])
def test_threshold_is_selected_on_validation_data(finished_run, open_section, criterion, unit):
    app = open_section(THRESHOLD)
    app.selectbox(key="criterion").set_value(criterion).run()
    app.segmented_control(key="unit").set_value(unit).run()

    validation = read_validation_predictions(finished_run.evaluation_dir)
    expected = choose_threshold(validation, criterion=criterion, target=0.95, unit=unit)
    assert f"Selected threshold: **{expected.value:.3f}**" in texts(app.markdown)
    assert f"{expected.n_images} validation " in texts(app.markdown)
    assert f"{expected.n_cases} cases" in texts(app.markdown)


def test_predictive_values_follow_the_prevalence(finished_run, open_section):
    app = open_section(THRESHOLD)

    def positive() -> tuple[float, float, float]:
        trial, values = (app.dataframe[k].value.set_index("Metric")["Value"] for k in (1, 2))
        rates = float(trial["Sensitivity"]), float(trial["Specificity"])
        return (*rates, float(values["Positive predictive value"]))

    for percent in (5, 80):
        app.slider(key="prevalence").set_value(percent).run()
        sensitivity, specificity, value = positive()
        proportion = percent / 100
        predicted = proportion * sensitivity + (1 - proportion) * (1 - specificity)
        assert value == pytest.approx(proportion * sensitivity / predicted, abs=0.02)


def test_set_threshold_is_stored_and_used_by_classify(finished_run, open_section):
    app = open_section(THRESHOLD)
    app.selectbox(key="criterion").set_value("youden").run()
    app.text_input(key="reason").set_value("Both errors have the same weight")
    app.button(key="set-threshold").click().run()

    expected = choose_threshold(
        read_validation_predictions(finished_run.evaluation_dir), criterion="youden"
    )
    bundle = open_bundle(finished_run.path)
    assert bundle.threshold == expected.value
    assert bundle.card.threshold.reason == "Both errors have the same weight"
    assert '"action": "Set threshold"' in (finished_run.path.parent / "actions.log").read_text()
    assert "is stored in the model card" in texts(app.success)
    app.switch_page("views/classify.py").run()
    assert f"Threshold {expected.value:.2f}" in texts(app.markdown)


def test_set_threshold_without_a_reason_changes_nothing(finished_run, open_section):
    before = (finished_run.model_dir / "model_card.json").read_bytes()
    app = open_section(THRESHOLD)
    app.button(key="set-threshold").click().run()

    assert len(app.error) == 1
    assert (finished_run.model_dir / "model_card.json").read_bytes() == before


def test_threshold_without_validation_predictions_shows_message(finished_run, open_section):
    (finished_run.evaluation_dir / VALIDATION_PREDICTIONS_FILE).unlink()
    app = open_section(THRESHOLD)

    assert "no validation predictions" in texts(app.info)
    assert not app.button


def test_export_offers_all_files(finished_run, open_section):
    app = open_section(EXPORT)

    assert [button.label for button in app.get("download_button")] == [
        "Save PDF", "Save HTML", "Save CSV", "Save JSON", "Save MD",
    ]  # fmt: skip


def test_error_gallery_shows_six_cards_per_page(finished_run, open_section):
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Most certain").run()

    estimates = texts(app.markdown).count("Estimated probability of malignancy")
    assert estimates == 6
    assert len(app.get("image")) == (2 + 3) * estimates  # Image, heatmap and nearest images.
    assert "Research use only" in texts(app.caption)
    links = [link.proto for link in app.get("page_link")]
    assert len(links) == estimates
    assert all("image=" in link.query_string for link in links)


def test_error_gallery_filters_by_case(finished_run, open_section):
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Least certain").run()
    case = app.selectbox[1].options[1]
    app.selectbox[1].set_value(case).run()

    cards = [element.value for element in app.caption if element.value.startswith("Case ")]
    assert cards
    assert all(card.startswith(f"Case {case}") for card in cards)


def test_error_cards_show_nearest_training_images(finished_run, open_section):
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Most certain").run()

    assert texts(app.markdown).count("Nearest training images of other cases") == 6
    assert "training images of other cases" in texts(app.caption)


def test_error_gallery_without_features_computes_them_on_request(finished_run, open_section):
    features = finished_run.evaluation_dir / "training_features.npz"
    features.unlink()
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Most certain").run()
    assert "Nearest training images" not in texts(app.markdown)
    app.button(key="find-neighbors").click().run()

    assert texts(app.markdown).count("Nearest training images of other cases") == 6
    assert features.is_file()
    app.segmented_control(key="gallery").set_value("Least certain").run()
    assert "Nearest training images" in texts(app.markdown)


def test_error_cards_with_missing_images_show_a_message(finished_run, open_section, tmp_path):
    config = finished_run.read_config()
    config["config"]["data"] = str(tmp_path / "gone")
    finished_run.write_config(config)
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Most certain").run()

    assert len([element for element in app.info if element.value]) == 6
    assert not app.error


def test_external_dataset_shows_metrics_and_domain_shift(
    finished_run, synthetic_dataset, open_section
):
    app = open_section(EXTERNAL)
    assert not app.dataframe
    app.text_input(key="external_folder").set_value(str(synthetic_dataset))
    app.button(key="evaluate-external").click().run()

    assert "Domain shift" in texts(app.header)
    assert [element.label for element in app.metric][4:] == [
        "Typical size, px", "Out-of-distribution images", "Separability",
    ]  # fmt: skip
    assert app.metric[4].value == "96 x 64"
    tables = [element.value for element in app.dataframe]
    assert "Optical density" in tables[0].columns
    assert tables[1].set_index("Metric").loc["Accuracy", "Images"] == 30
    # Of 10 cases with 3 images each, 8 are training or validation cases of the model.
    seen = next(
        table
        for table in tables
        if table.get("Images", pd.Series()).tolist().count(24) and "Metric" in table
    )
    seen = seen[seen["Metric"] == "Accuracy"]
    assert seen[["Images", "Cases"]].values.tolist() == [[6, 2], [24, 8]]
    assert [element.label for element in app.get("download_button")] == [
        "Save PDF", "Save HTML", "Save CSV", "Save JSON",
    ]  # fmt: skip


def test_external_dataset_with_a_label_mapping_warns_of_the_task(
    finished_run, synthetic_dataset, open_section, tmp_path
):
    images = sorted(synthetic_dataset.rglob("*.png"))
    for number, image in enumerate(images[:4]):
        place = tmp_path / "labeled" / str(number % 2) / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image.read_bytes())
    app = open_section(EXTERNAL)
    app.text_input(key="external_folder").set_value(str(tmp_path / "labeled"))
    app.text_input(key="label_mapping").set_value("0=benign,1=malignant")
    app.button(key="evaluate-external").click().run()

    assert app.warning
    assert "no case is known" in texts(app.info)


@pytest.mark.parametrize(
    ("folder", "mapping", "value"),
    [
        ("", "", "No dataset folder is given"),
        ("{tmp}/nowhere", "", "nowhere"),
        ("{set}", "0=cancerous", "cancerous"),
        ("{set}", "0=benign", "malignant"),
        ("{set}", "0=benign,1=malignant", "mapping"),
        ("/" + "x" * 300, "", "xxx"),
    ],
)
def test_external_dataset_with_invalid_input_shows_one_error(
    finished_run, synthetic_dataset, open_section, tmp_path, folder, mapping, value
):
    app = open_section(EXTERNAL)
    app.text_input(key="external_folder").set_value(
        folder.format(tmp=tmp_path, set=synthetic_dataset)
    )
    app.text_input(key="label_mapping").set_value(mapping)
    app.button(key="evaluate-external").click().run()

    assert len(app.error) == 1
    assert value in texts(app.error)
    assert not app.dataframe


def test_external_dataset_above_the_limit_shows_an_error(
    finished_run, synthetic_dataset, open_section, monkeypatch
):
    monkeypatch.setattr("app.components.evaluate.external_dataset.MAX_IMAGES", 29)
    app = open_section(EXTERNAL)
    app.text_input(key="external_folder").set_value(str(synthetic_dataset))
    app.button(key="evaluate-external").click().run()

    assert "Expected at most 29, got 30" in texts(app.error)
    assert "--" not in texts(app.error)
    assert not app.dataframe


def test_metrics_open_with_four_tiles_and_one_sentence(finished_run, open_page):
    app = open_page("evaluate")
    report = read_report(finished_run.evaluation_dir)

    assert [tile.label for tile in app.metric] == [
        "Balanced accuracy", "ROC AUC", "Sensitivity", "Specificity",
    ]  # fmt: skip
    metric = report.metrics["balanced_accuracy"]
    assert app.metric[0].value == f"{metric.value:.2f}"
    sentence = (
        f"{report.n_images} images of {report.n_cases} cases, test subset of set, case-level split;"
    )
    assert sentence in texts(app.markdown)


def test_cross_validation_method_is_in_the_details(cross_validated, open_page):
    app = open_page("evaluate")

    assert "trained without its case" in texts(app.caption)
    assert not app.info


def test_metric_tables_contain_numbers(finished_run, open_page):
    app = open_page("evaluate")

    for element in app.dataframe:
        numeric = element.value.select_dtypes("number").columns
        assert {"Images"} <= set(numeric)
        if "Value" in element.value:
            assert {"Value", "CI low", "CI high", "Cases"} <= set(numeric)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evaluation/report.json", b"\xff"),
        ("evaluation/report.json", b"[" * 100_000),
        ("config.json", b'{"config": {"data": 5}}'),
    ],
)
def test_evaluate_a_damaged_run_shows_its_problem_and_deletes_it(
    finished_run, open_page, name: str, content: bytes
):
    (finished_run.path / name).write_bytes(content)
    app = open_page("evaluate")
    assert len(app.error) == 1
    press(app, "Delete run")

    assert not finished_run.path.exists()
    assert "No finished run" in texts(app.header)
