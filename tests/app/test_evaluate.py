import json
import math
import shutil
from dataclasses import replace

import pytest

from app.components.evaluate.threshold import CRITERION_LABELS
from bc_model.checks import make_check
from bc_model.data.stain import STAIN_COLUMNS
from bc_model.evaluation.calibrate_model import PREDICTIONS_FILE, read_validation
from bc_model.evaluation.cross_validation import CROSS_VALIDATED_FILE
from bc_model.evaluation.report import read_report
from bc_model.evaluation.thresholds import choose_threshold
from bc_model.inference.bundle import Bundle, file_sha256, open_bundle
from bc_model.inference.model_card import StainStatistics, write_model_card
from bc_model.reporting.labels import CASE_WORDS, METRIC_LABELS

BUNDLED = "boxed (bundled)"
METRICS, THRESHOLD, ERRORS = "Metrics", "Calibration and threshold", "Errors"
EXTERNAL, EXPORT = "External dataset", "Export"


def texts(elements) -> str:
    return "\n".join(str(element.value) for element in elements).replace("\\", "")


@pytest.fixture
def open_section(open_page):
    """Return a function that opens the page at one of its sections."""

    def open_named(section: str):
        return open_page("evaluate", section=section)

    return open_named


def test_without_a_finished_run_the_page_says_where_to_get_one(runs, open_page):
    app = open_page("evaluate")

    assert "No finished run" in texts(app.header)


@pytest.fixture
def cross_validated(runs, tiny_run, monkeypatch) -> Bundle:
    """Return a model that came with the program and with a cross-validation."""
    folder = runs.with_name("shipped") / "boxed"
    shutil.copytree(tiny_run.path / "model", folder)
    shutil.copy(tiny_run.evaluation_dir / "predictions.csv", folder / CROSS_VALIDATED_FILE)
    card = open_bundle(folder).card
    files = {CROSS_VALIDATED_FILE: file_sha256(folder / CROSS_VALIDATED_FILE)}
    values = dict.fromkeys(STAIN_COLUMNS, (-9.0, 0.0, 9.0))
    wide = StainStatistics((0.01, 0.5, 0.99), values, 0.0)
    stained = replace(card.input, stain=wide)
    write_model_card(folder, replace(card, files=card.files | files, input=stained))
    monkeypatch.setattr("app.components.model_picker.SHIPPED_MODELS", folder.parent)
    return open_bundle(folder)


def test_without_a_run_the_model_of_the_program_is_evaluated(cross_validated, tiny_run, open_page):
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
    assert "Each fold shown here has its own temperature" in texts(app.caption)


def test_of_a_model_without_features_no_distance_is_shown(cross_validated, drawn_set, open_section):
    app = open_section(EXTERNAL)
    app.text_input(key="external_folder").set_value(str(drawn_set))
    app.button(key="evaluate-external").click().run()

    assert [(one.label, one.value) for one in app.metric][4:] == [
        ("Most frequent size, px", "96 x 64"), ("Out-of-distribution staining", "0 of 6"),
    ]  # fmt: skip
    assert "no reference features" in texts(app.caption)


def test_a_section_that_a_model_has_not_gives_way(cross_validated, finished_run, open_page):
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


def test_a_section_of_the_address_that_a_model_has_not_gives_way(
    cross_validated, finished_run, open_page
):
    app = open_page("evaluate", evaluated=BUNDLED, section=ERRORS)

    assert app.selectbox(key="evaluated").value == BUNDLED
    assert app.segmented_control(key="section").value == METRICS


def test_a_damaged_model_of_the_program_is_said(cross_validated, finished_run, open_page):
    (cross_validated.folder / "model_card.json").write_text("{}")
    app = open_page("evaluate")

    assert app.selectbox(key="evaluated").options == ["finished"]
    assert str(cross_validated.folder) in texts(app.warning)


def test_a_changed_cross_validation_is_not_shown(cross_validated, open_page):
    with (cross_validated.folder / CROSS_VALIDATED_FILE).open("a") as file:
        file.write("x")
    app = open_page("evaluate")

    assert "is not the file its model card describes" in texts(app.error)
    assert not app.dataframe


def test_a_run_of_the_address_that_is_gone_is_said(finished_run, open_page):
    app = open_page("evaluate", evaluated="gone")

    assert "No evaluation of 'gone' was found" in texts(app.warning)


def test_a_step_back_from_diagnose_finds_the_errors_of_the_same_run(finished_run, open_page):
    shutil.copytree(finished_run.path, finished_run.path.with_name("newest"))
    app = open_page("evaluate", run="finished", image="0" * 64)

    assert app.selectbox(key="evaluated").value == "finished"
    assert app.segmented_control(key="section").value == ERRORS


def test_every_figure_stands_with_its_images_and_cases(finished_run, open_page):
    app = open_page("evaluate")
    report = json.loads((finished_run.evaluation_dir / "report.json").read_text())

    for shown, metrics, words in (
        (app.dataframe[0], report["metrics"], METRIC_LABELS),
        (app.dataframe[1], report["by_case"]["metrics"], CASE_WORDS),
    ):
        table = shown.value.set_index("Metric").drop(index="Majority baseline")
        assert list(table.index) == [title for title, _ in words.values()]
        assert list(table["Images"]) == [metrics[name]["n"] for name in words]
        assert list(table["Cases"]) == [metrics[name]["n_cases"] for name in words]
    # Confusion by image and by case, both curves, and the two kinds of groups.
    assert len(app.get("vega_lite_chart")) == 6


def test_the_base_rate_stands_beside_accuracy(finished_run, open_page):
    app = open_page("evaluate")
    report = json.loads((finished_run.evaluation_dir / "report.json").read_text())

    table = app.dataframe[0].value.set_index("Metric")
    assert table.loc["Majority baseline", "Value"] == max(
        report["base_rate"], 1 - report["base_rate"]
    )
    assert "Majority baseline" in texts(app.markdown)


def test_every_case_has_its_patient_score(finished_run, open_page):
    app = open_page("evaluate")

    predictions = read_report(finished_run.evaluation_dir).predictions
    table = app.dataframe[2].value.set_index("Case")
    right = (predictions["prob_malignant"] >= 0.5) == (predictions["class"] == "malignant")
    assert table["Patient score"].to_dict() == right.groupby(predictions["case"]).mean().to_dict()


def test_what_is_not_defined_says_why(finished_run, open_page):
    path = finished_run.evaluation_dir / "report.json"
    report = json.loads(path.read_text())
    report["metrics"]["specificity"] |= {
        "value": None, "low": None, "high": None, "note": "no benign picture",
    }  # fmt: skip
    path.write_text(json.dumps(report | {"roc": None}))
    app = open_page("evaluate")

    table = app.dataframe[0].value.set_index("Metric")
    assert math.isnan(table.loc["Specificity", "Value"])
    assert app.metric[3].value == "Not defined"
    assert "Specificity: not defined: no benign picture." in texts(app.caption)
    assert "all images belong to one class" in texts(app.info)


def test_a_leakage_report_carries_the_word_in_every_section(finished_run, open_page):
    path = finished_run.evaluation_dir / "report.json"
    report = json.loads(path.read_text())
    has_leakage = {
        "has_leakage": True,
        "protocol": "image",
        "checks": [make_check("BC202").as_dict()],
    }
    path.write_text(json.dumps(report | has_leakage))
    app = open_page("evaluate")

    assert "Possible leakage" in texts(app.warning)
    for section in (THRESHOLD, EXPORT):
        app.segmented_control(key="section").set_value(section).run()
        assert "Possible leakage" in texts(app.warning)


def test_a_damaged_report_is_said_in_one_sentence(finished_run, open_page):
    (finished_run.evaluation_dir / "report.json").write_text("{}")
    app = open_page("evaluate")

    assert len(app.error) == 1
    assert not app.dataframe


def test_the_reliability_diagram_stands_with_its_bins_and_its_error(finished_run, open_section):
    app = open_section(THRESHOLD)
    found = json.loads((finished_run.evaluation_dir / "report.json").read_text())["calibration"]

    assert app.metric[0].value == f"{found['ece']:.3f}"
    assert f"perfect calibration: {found['ece_by_chance']:.3f}." in texts(app.caption)
    assert list(app.dataframe[0].value["Images"]) == [one["observed"]["n"] for one in found["bins"]]


@pytest.mark.parametrize("criterion", CRITERION_LABELS)
@pytest.mark.parametrize("unit", ["image", "case"])
def test_the_bench_chooses_on_validation_data(finished_run, open_section, criterion, unit):
    app = open_section(THRESHOLD)
    app.selectbox(key="criterion").set_value(criterion).run()
    app.segmented_control(key="unit").set_value(unit).run()

    validation = read_validation(finished_run.evaluation_dir)
    expected = choose_threshold(validation, criterion=criterion, target=0.95, unit=unit)
    assert f"Selected threshold: **{expected.value:.3f}**" in texts(app.markdown)
    assert f"{expected.n} validation pictures of {expected.n_cases} cases" in texts(app.markdown)


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
        called = proportion * sensitivity + (1 - proportion) * (1 - specificity)
        assert value == pytest.approx(proportion * sensitivity / called, abs=0.02)


def test_a_locked_cut_off_is_in_the_card_with_its_reason_and_in_diagnose(
    finished_run, open_section
):
    app = open_section(THRESHOLD)
    app.selectbox(key="criterion").set_value("youden").run()
    app.text_input(key="reason").set_value("Both mistakes weigh the same")
    app.button(key="set-threshold").click().run()

    expected = choose_threshold(read_validation(finished_run.evaluation_dir), criterion="youden")
    bundle = open_bundle(finished_run.path)
    assert bundle.threshold == expected.value
    assert bundle.card.threshold.reason == "Both mistakes weigh the same"
    assert "is stored in the model card" in texts(app.success)
    app.switch_page("views/classify.py").run()
    assert f"Threshold {expected.value:.2f}" in texts(app.markdown)


def test_without_a_reason_nothing_is_locked(finished_run, open_section):
    before = (finished_run.model_dir / "model_card.json").read_bytes()
    app = open_section(THRESHOLD)
    app.button(key="set-threshold").click().run()

    assert "locked with its reason" in texts(app.error)
    assert (finished_run.model_dir / "model_card.json").read_bytes() == before


def test_threshold_without_validation_predictions_shows_message(finished_run, open_section):
    (finished_run.evaluation_dir / PREDICTIONS_FILE).unlink()
    app = open_section(THRESHOLD)

    assert "no validation predictions" in texts(app.info)
    assert not app.button


def test_everything_can_be_taken_away(finished_run, open_section):
    app = open_section(EXPORT)

    assert [button.label for button in app.get("download_button")] == [
        "Save PDF", "Save HTML", "Save CSV", "Save JSON", "Save MD",
    ]  # fmt: skip


def test_the_gallery_shows_six_cards_a_page_of_every_kind(finished_run, open_section):
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Most certain").run()

    estimates = texts(app.markdown).count("Estimated probability of malignancy")
    assert estimates == 6
    assert len(app.get("image")) == (2 + 3) * estimates  # picture, heatmap, nearest ones
    assert "Research use only" in texts(app.caption)
    links = [link.proto for link in app.get("page_link")]
    assert len(links) == estimates
    assert all("picture=" in link.query_string for link in links)


def test_the_gallery_can_be_held_to_one_case(finished_run, open_section):
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Least certain").run()
    case = app.selectbox[1].options[1]
    app.selectbox[1].set_value(case).run()

    cards = [one.value for one in app.caption if one.value.startswith("Case ")]
    assert cards
    assert all(card.startswith(f"Case {case}") for card in cards)


def test_cards_have_the_nearest_training_images(finished_run, open_section):
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Most certain").run()

    assert texts(app.markdown).count("Nearest training images of other cases") == 6
    assert "training images of other cases" in texts(app.caption)


def test_neighbors_of_a_run_that_kept_none_are_found_on_request(finished_run, open_section):
    kept = finished_run.evaluation_dir / "training_features.npz"
    kept.unlink()
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Most certain").run()
    assert "Nearest training images" not in texts(app.markdown)
    app.button(key="find-neighbors").click().run()

    assert texts(app.markdown).count("Nearest training images of other cases") == 6
    assert kept.is_file()
    app.segmented_control(key="gallery").set_value("Least certain").run()
    assert "Nearest training images" in texts(app.markdown)


def test_images_that_are_gone_are_said_on_their_cards(finished_run, open_section, tmp_path):
    config = finished_run.read_config()
    config["config"]["data"] = str(tmp_path / "gone")
    finished_run.write_config(config)
    app = open_section(ERRORS)
    app.segmented_control(key="gallery").set_value("Most certain").run()

    assert len([one for one in app.info if "There is no picture" in one.value]) == 6
    assert not app.error


def test_another_set_shows_figures_and_shift(finished_run, drawn_set, open_section):
    app = open_section(EXTERNAL)
    assert not app.dataframe
    app.text_input(key="external_folder").set_value(str(drawn_set))
    app.button(key="evaluate-external").click().run()

    assert "Domain shift" in texts(app.header)
    assert [one.label for one in app.metric][4:] == [
        "Most frequent size, px", "Out-of-distribution images", "Separability",
    ]  # fmt: skip
    assert app.metric[4].value == "96 x 64"
    tables = [one.value for one in app.dataframe]
    assert "Optical density" in tables[0].columns
    assert tables[1].set_index("Metric").loc["Accuracy", "Images"] == 30
    # Of 10 cases with 3 pictures each it knows 8.
    assert "By what the model knows" in texts(app.header)
    parts = next(table for table in tables if "Part" in table.columns)
    parts = parts[parts["Metric"] == "Accuracy"]
    assert parts[["Part", "Images", "Cases"]].values.tolist() == [
        ["not known to the model", 6, 2], ["known to the model", 24, 8],
    ]  # fmt: skip
    assert [one.label for one in app.get("download_button")] == [
        "Save PDF", "Save HTML", "Save CSV", "Save JSON",
    ]  # fmt: skip


def test_labels_of_another_set_are_mapped_and_the_other_task_is_said(
    finished_run, drawn_set, open_section, tmp_path
):
    images = sorted(drawn_set.rglob("*.png"))
    for number, image in enumerate(images[:4]):
        place = tmp_path / "labelled" / str(number % 2) / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image.read_bytes())
    app = open_section(EXTERNAL)
    app.text_input(key="external_folder").set_value(str(tmp_path / "labelled"))
    app.text_input(key="label_mapping").set_value("0=benign,1=malignant")
    app.button(key="evaluate-external").click().run()

    assert "another task" in texts(app.warning)
    assert "no case is known" in texts(app.info)


@pytest.mark.parametrize(
    ("folder", "mapping", "said"),
    [
        ("", "", "The dataset folder is empty"),
        ("{tmp}/nowhere", "", "There is no folder"),
        ("{set}", "0=cancerous", "does not fit"),
        ("{set}", "0=benign", "names none that is malignant"),
        ("{set}", "0=benign,1=malignant", "outside the mapping"),
        ("/" + "x" * 300, "", "(File name too long); check the path"),
    ],
)
def test_another_set_that_cannot_be_used_is_one_sentence(
    finished_run, drawn_set, open_section, tmp_path, folder, mapping, said
):
    app = open_section(EXTERNAL)
    app.text_input(key="external_folder").set_value(folder.format(tmp=tmp_path, set=drawn_set))
    app.text_input(key="label_mapping").set_value(mapping)
    app.button(key="evaluate-external").click().run()

    assert len(app.error) == 1
    assert said in texts(app.error)
    assert not app.dataframe


def test_external_dataset_above_the_limit_is_refused_without_a_command(
    finished_run, drawn_set, open_section, monkeypatch
):
    monkeypatch.setattr("app.components.evaluate.external_dataset.MAX_IMAGES", 29)
    app = open_section(EXTERNAL)
    app.text_input(key="external_folder").set_value(str(drawn_set))
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
    sentence = f"{report.n} images of {report.n_cases} cases, case-level split. Majority baseline"
    assert sentence in texts(app.markdown)


def test_cross_validation_notes_are_in_the_details(cross_validated, open_page):
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
