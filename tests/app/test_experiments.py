import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bc_model.data.dataset import read_dataset
from bc_model.data.registry import datasets_folder, keep_fold_file, link_folder
from bc_model.experiments.experiment import start_experiment
from bc_model.experiments.plan import (
    experiment_file,
    list_experiments,
    plan_experiment,
    read_experiment,
)
from bc_model.experiments.protocols import note_file, plan_report, start_report
from bc_model.jobs import delete_job
from bc_model.training import run_queue as jobs
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run, list_runs


def texts(elements) -> str:
    return "\n".join(str(element.value) for element in elements).replace("\\", "")


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every run that is started go on, without a process."""
    monkeypatch.setattr(jobs, "launch", lambda run: run.write_status("running"))


@pytest.fixture(scope="module")
def whole(
    tiny_config: TrainingConfig,
    drawn_set: Path,
    fold_files: list[Path],
    end_at_random: Callable[[Run], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a folder with a report of six runs, all done; only copy it."""
    folder = tmp_path_factory.mktemp("whole")
    plan = plan_report(tiny_config, dataset=lambda: read_dataset(drawn_set), fold_files=fold_files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "launch", lambda run: run.write_status("running"))
        for member in start_report("rep", plan, folder)[0].members:
            end_at_random(Run(folder / member.run))
    return folder


@pytest.fixture
def report(runs: Path, whole: Path) -> Callable[[int], None]:
    """Return a function that makes a report of which the first runs are done; the next goes on."""

    def make(n_done: int) -> None:
        shutil.copytree(whole, runs, dirs_exist_ok=True)
        for number, member in enumerate(read_experiment(runs, "rep").members):
            run = Run(runs / member.run)
            if number >= n_done:
                shutil.rmtree(run.evaluation_dir)
                run.split_file.unlink()
                run.write_status("running" if number == n_done else "queued")

    return make


def press(app, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()


def test_without_a_experiment_the_page_says_how_to_get_one(runs, open_page):
    app = open_page("experiments")

    assert "No experiment yet" in texts(app.info)
    assert app.button(key="protocols_start").disabled
    assert "The official folds are skipped without a fold file" in texts(app.caption)


# The form


def fill(app, drawn_set: Path) -> None:
    app.text_input(key="dataset_folder").set_value(str(drawn_set))
    app.selectbox(key="config-backbone").set_value("tiny")
    app.selectbox(key="config-weights").set_value("none")
    app.select_slider(key="config-image_size").set_value("32").run()


def test_one_button_starts_the_report_that_is_on_the_page(
    runs, open_page, drawn_set: Path, fold_files: list[Path]
):
    for file in fold_files:
        keep_fold_file(file.read_bytes(), file.name)
    app = open_page("experiments")
    fill(app, drawn_set)
    assert app.button(key="protocols_start").label == "Start 6 runs"
    app.button(key="protocols_start").click().run()

    assert not app.exception
    (experiment,) = list_experiments(runs)
    assert experiment.name.startswith("report-")
    assert [member.label for member in experiment.members] == [
        "image-fold0", "folds-dsfold1", "folds-dsfold2", "folds-clean-dsfold1",
        "folds-clean-dsfold2", "case-fold0",
    ]  # fmt: skip
    config = experiment.members[0].config
    assert (config.backbone, config.image_size, config.finetune_epochs) == (
        "tiny", (32, 32), 20,
    )  # fmt: skip
    assert app.selectbox(key="experiment").value == experiment.name
    assert len(list_runs(runs)) == 6
    assert "0 of 6 runs. The metrics will change" in texts(app.markdown)


def test_every_fold_can_be_tested(runs, open_page, drawn_set: Path):
    app = open_page("experiments")
    fill(app, drawn_set)
    app.multiselect(key="protocols").set_value(["image", "case"])
    app.toggle(key="protocols_all_folds").set_value(True).run()

    assert app.button(key="protocols_start").label == "Start 10 runs"
    assert "Fold files" not in [choice.label for choice in app.multiselect]


def test_a_protocol_without_its_file_is_told_above_the_figures(runs, open_page, drawn_set: Path):
    app = open_page("experiments")
    fill(app, drawn_set)
    app.button(key="protocols_start").click().run()

    (details,) = (one.value for one in app.markdown if "official fold file" in one.value)
    assert "official folds" in details
    assert "cleaned official folds" in details
    assert len(list_runs(runs)) == 2


def test_a_set_of_the_registry_and_some_of_its_fold_files_can_be_chosen(
    runs, open_page, drawn_set: Path, fold_files: list[Path]
):
    link_folder(drawn_set, "drawn", datasets_folder())
    for file in fold_files:
        keep_fold_file(file.read_bytes(), file.name)
    app = open_page("experiments", dataset="drawn")
    app.multiselect(key="protocols-folds-2").set_value(["dsfold2.txt"]).run()
    assert app.button(key="protocols_start").label == "Start 4 runs"
    app.button(key="protocols_start").click().run()

    (experiment,) = list_experiments(runs)
    assert {Path(member.config.data) for member in experiment.members} == {drawn_set.resolve()}
    assert [member.label for member in experiment.members if "dsfold" in member.label] == [
        "folds-dsfold2", "folds-clean-dsfold2",
    ]  # fmt: skip


@pytest.mark.parametrize("folder", ["/no/such/folder", "~no-such-user/set"])
def test_what_cannot_be_started_is_said_and_nothing_is_left(
    runs, open_page, drawn_set: Path, folder: str
):
    app = open_page("experiments")
    fill(app, drawn_set)
    app.text_input(key="dataset_folder").set_value(folder).run()
    app.button(key="protocols_start").click().run()

    assert "There is no folder" in texts(app.error)
    assert folder in texts(app.error)
    assert not any(runs.iterdir())


def test_report_form_invalid_option_shows_the_rule(runs, open_page):
    app = open_page("experiments")
    app.text_input(key="config-dense_units").set_value("wide").run()

    assert "Invalid dense_units 'wide'. Expected whole numbers" in texts(app.error)


# A report


def test_a_partial_report_shows_what_is_in_and_says_what_is_not(runs, report, open_page):
    report(2)
    app = open_page("experiments")

    assert "2 of 6 runs. The metrics will change" in texts(app.markdown)
    assert len(app.get("vega_lite_chart")) == 3
    table = app.dataframe[0].value.set_index("Split")
    assert list(table.index) == [
        "By picture (leaky)", "Official folds (leaky)", "Cleaned official folds", "By case",
    ]  # fmt: skip
    assert table[["Finished", "Runs"]].values.tolist() == [[1, 1], [1, 2], [0, 2], [0, 1]]
    metrics = app.dataframe[1].value
    assert set(metrics["Split"]) == {"By picture (leaky)", "Official folds (leaky)"}
    assert metrics["Value"].between(0, 1).all()
    assert "1 of 2 runs. The metrics will change" in texts(app.markdown)
    assert "Cancel runs" in [button.label for button in app.button]
    assert {link.label for link in app.get("page_link")} >= {"image-fold0", "case-fold0"}


def test_a_whole_report_compares_and_can_be_taken_away(runs, report, open_page):
    report(6)
    app = open_page("experiments", experiment="rep")

    assert "Leakage effect" in texts(app.header)
    assert "common test images, the balanced accuracy" in texts(app.markdown)
    assert "not other training seeds" in texts(app.markdown)
    table = app.dataframe[0].value.set_index("Split")
    assert table.loc["Cleaned official folds", "Case in training"] == 0
    metrics = app.dataframe[1].value.set_index(["Split", "Metric"])
    averaged = metrics.loc[("Official folds (leaky)", "Accuracy")]
    assert averaged["Lowest file"] <= averaged["Value"] <= averaged["Highest file"]
    assert [button.label for button in app.get("download_button")] == [
        "Save protocols.png", "Save protocols.svg", "Save metrics.csv", "Save report.md",
        "Save report.json",
    ]  # fmt: skip
    assert "accuracy by picture (with leakage) 0.967 to 0.998" in texts(app.caption)


def test_a_run_that_ends_changes_the_figures(runs, report, open_page, end_at_random):
    report(5)
    app = open_page("experiments")
    assert "By case" not in set(app.dataframe[1].value["Split"])
    end_at_random(Run(runs / "rep-case-fold0"))
    app.run()

    assert "By case" in set(app.dataframe[1].value["Split"])


def test_a_figure_too_good_to_be_true_is_an_alarm(runs, report, open_page):
    report(6)
    folder = Run(runs / "rep-case-fold0").evaluation_dir
    table = (folder / "predictions.csv").read_text().splitlines()
    perfect = [
        line.rpartition(",")[0] + (",0.9" if ",malignant," in line else ",0.1")
        for line in table[1:]
    ]
    (folder / "predictions.csv").write_text("\n".join([table[0], *perfect]) + "\n")
    report_file = json.loads((folder / "report.json").read_text())
    report_file["confusion"] = [[3, 0], [0, 3]]
    (folder / "report.json").write_text(json.dumps(report_file))
    app = open_page("experiments")

    assert "Implausibly high metrics** (by case)" in texts(app.warning)
    table = app.dataframe[1].value.set_index(["Split", "Metric"])
    assert table.loc[("By case", "Balanced accuracy"), "Too good"]


def test_runs_that_failed_can_be_gone_on_with(runs, report, open_page):
    report(5)
    Run(runs / "rep-case-fold0").write_status("failed", message="The disk is full.")
    app = open_page("experiments")
    assert "The disk is full." in texts(app.caption)
    assert "5 of 6 runs, and 1 run ended without a result" in texts(app.warning)
    press(app, "Resume runs")

    assert Run(runs / "rep-case-fold0").read_status()["state"] == "running"


def test_what_goes_on_can_be_canceled(runs, report, open_page):
    report(4)
    app = open_page("experiments")
    press(app, "Cancel runs")

    states = {run.name: run.read_status()["state"] for run in list_runs(runs)}
    assert Run(runs / "rep-folds-clean-dsfold2").requested_action() == "cancel"
    assert states["rep-case-fold0"] == "canceled"
    assert states["rep-image-fold0"] == "done"


def test_a_run_that_writes_its_model_keeps_no_other_from_being_canceled(runs, report, open_page):
    report(4)
    Run(runs / "rep-folds-clean-dsfold2").write_status("running", phase="export")
    app = open_page("experiments")
    press(app, "Cancel runs")

    assert "is exporting its model" in texts(app.error)
    assert Run(runs / "rep-case-fold0").read_status()["state"] == "canceled"


# Other studies


def test_a_cross_validation_shows_its_pooled_figures(
    runs, tiny_config: TrainingConfig, open_page, end_at_random
):
    for member in start_experiment("cv", plan_experiment(tiny_config), runs).members:
        end_at_random(Run(runs / member.run))
    app = open_page("experiments", experiment="cv")

    (table,) = [element.value for element in app.dataframe]
    shown = table[["Configuration", "Finished", "Runs", "Images", "Cases"]]
    assert shown.values.tolist() == [["cv", 5, 5, 30, 10]]
    assert {"Accuracy", "Accuracy CI low"} <= set(table.select_dtypes("number"))
    assert "pooled out-of-fold predictions" in texts(app.caption)
    assert not app.get("vega_lite_chart")


def test_a_sweep_shows_a_line_for_each_setting_and_its_caution(
    runs, tiny_config: TrainingConfig, open_page, end_at_random
):
    plan = plan_experiment(tiny_config, folds=[0], grid={"dropout": [0.1, 0.5]})
    for member in start_experiment("sweep", plan, runs).members[:1]:
        end_at_random(Run(runs / member.run))
    app = open_page("experiments")

    assert app.dataframe[0].value["Configuration"].tolist() == ["dropout=0.1", "dropout=0.5"]
    assert "2 configurations were compared on the same test images" in texts(app.warning)


def test_many_runs_come_in_pages(runs, tiny_config: TrainingConfig, open_page):
    start_experiment("many", plan_experiment(dataclasses.replace(tiny_config, n_folds=12)), runs)
    app = open_page("experiments")

    assert len(app.get("page_link")) == 10


def test_a_run_that_was_deleted_is_said(runs, report, open_page):
    report(6)
    delete_job(Run(runs / "rep-case-fold0"))
    app = open_page("experiments")

    assert "Deleted" in texts(app.markdown)
    assert "1 run ended without a result" in texts(app.warning)


def test_an_unknown_experiment_in_the_address_is_passed_over(runs, report, open_page):
    report(1)
    app = open_page("experiments", experiment="../gone")

    assert not app.error
    assert app.selectbox(key="experiment").value in (None, "rep")


def test_a_damaged_note_is_said_in_one_sentence(runs, report, open_page):
    report(1)
    note_file(runs, "rep").write_text("{")
    app = open_page("experiments")

    assert len(app.error) == 1
    assert "note of the report" in texts(app.error)


def test_a_damaged_experiment_is_not_offered(runs, report, open_page):
    report(1)
    experiment_file(runs, "rep").write_text("{")

    assert "No experiment yet" in texts(open_page("experiments").info)


# Cross-validation from Train


def test_a_cross_validation_is_started_on_train(runs, open_page, drawn_set: Path):
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(drawn_set)).run()
    app.selectbox(key="config-backbone").set_value("tiny")
    app.selectbox(key="config-weights").set_value("none")
    app.toggle(key="all_folds").set_value(True).run()
    assert app.button(key="start").label == "Start 5 runs"
    assert "for each of 5 runs" in texts(app.caption)
    app.button(key="start").click().run()

    assert not app.exception
    (experiment,) = list_experiments(runs)
    assert experiment.name.startswith("cv-")
    assert experiment.name.endswith("-tiny")
    assert [member.fold for member in read_experiment(runs, experiment.name).members] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert app.multiselect(key="run").value == [f"{experiment.name}-fold0"]
    assert any("pooled figures" in link.label for link in app.get("page_link"))
