"""Page Experiments: protocol comparisons, cross-validations and sweeps."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.official_folds import store_fold_contents
from bc_model.data.registry import datasets_dir, link_folder
from bc_model.experiments.experiment import start_experiment
from bc_model.experiments.plan import (
    experiment_file,
    list_experiments,
    plan_experiment,
    read_experiment,
)
from bc_model.experiments.protocols import comparison_file, plan_comparison, start_comparison
from bc_model.jobs import delete_job
from bc_model.training import run_queue
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run, list_runs
from tests.app.helpers import press, texts


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mark every started run as running, without a process."""
    monkeypatch.setattr(run_queue, "launch_run", lambda run: run.write_status("running"))


@pytest.fixture(scope="module")
def complete(
    tiny_config: TrainingConfig,
    synthetic_dataset: Path,
    fold_files: list[Path],
    end_at_random: Callable[[Run], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a directory with a comparison of six finished runs; a test only copies it."""
    folder = tmp_path_factory.mktemp("complete")
    plan = plan_comparison(
        tiny_config, dataset=lambda: load_dataset(synthetic_dataset), fold_files=fold_files
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_queue, "launch_run", lambda run: run.write_status("running"))
        for member in start_comparison("rep", plan, folder)[0].runs:
            end_at_random(Run(folder / member.name))
    return folder


@pytest.fixture
def comparison(runs: Path, complete: Path) -> Callable[[int], None]:
    """Return a function that makes a comparison whose first runs are finished."""

    def make(n_done: int) -> None:
        shutil.copytree(complete, runs, dirs_exist_ok=True)
        for number, member in enumerate(read_experiment(runs, "rep").runs):
            run = Run(runs / member.name)
            if number >= n_done:
                shutil.rmtree(run.evaluation_dir)
                run.split_file.unlink()
                run.write_status("running" if number == n_done else "queued")

    return make


def test_experiments_without_an_experiment_shows_the_form(runs, open_page):
    app = open_page("experiments")

    assert "No experiment yet" in texts(app.info)
    assert app.button(key="protocols_start").disabled
    assert "The official folds are skipped without a fold file" in texts(app.caption)


def fill(app, synthetic_dataset: Path) -> None:
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset))
    app.selectbox(key="config-backbone").set_value("tiny")
    app.selectbox(key="config-weights").set_value("none")
    app.select_slider(key="config-image_size").set_value("32").run()


def test_protocol_form_starts_the_runs(
    runs, open_page, synthetic_dataset: Path, fold_files: list[Path]
):
    for file in fold_files:
        store_fold_contents([(file.name, file.read_bytes())])
    app = open_page("experiments")
    fill(app, synthetic_dataset)
    assert app.button(key="protocols_start").label == "Start 6 runs"
    app.button(key="protocols_start").click().run()

    assert not app.exception
    (name,) = list_experiments(runs)
    experiment = read_experiment(runs, name)
    assert experiment.name.startswith("report-")
    assert [member.label for member in experiment.runs] == [
        "image-fold0", "folds-dsfold1", "folds-dsfold2", "folds-clean-dsfold1",
        "folds-clean-dsfold2", "case-fold0",
    ]  # fmt: skip
    config = experiment.runs[0].config
    assert (config.backbone, config.image_size, config.finetune_epochs) == (
        "tiny", (32, 32), 20,
    )  # fmt: skip
    assert app.selectbox(key="experiment").value == experiment.name
    assert len(list_runs(runs)) == 6
    assert "0 of 6 runs. The metrics will change" in texts(app.markdown)


def test_protocol_form_with_all_folds_counts_the_runs(runs, open_page, synthetic_dataset: Path):
    app = open_page("experiments")
    fill(app, synthetic_dataset)
    app.multiselect(key="protocols").set_value(["image", "case"])
    app.toggle(key="protocols_all_folds").set_value(True).run()

    assert app.button(key="protocols_start").label == "Start 10 runs"
    assert "Fold files" not in [choice.label for choice in app.multiselect]


def test_protocol_comparison_without_fold_files_warns(runs, open_page, synthetic_dataset: Path):
    app = open_page("experiments")
    fill(app, synthetic_dataset)
    app.button(key="protocols_start").click().run()

    (details,) = (
        element.value for element in app.markdown if "official fold file" in element.value
    )
    assert "official folds" in details
    assert "cleaned official folds" in details
    assert len(list_runs(runs)) == 2


def test_protocol_form_uses_the_selected_dataset_and_fold_files(
    runs, open_page, synthetic_dataset: Path, fold_files: list[Path]
):
    link_folder(synthetic_dataset, "synthetic", datasets_dir())
    for file in fold_files:
        store_fold_contents([(file.name, file.read_bytes())])
    app = open_page("experiments", dataset="synthetic")
    app.multiselect(key="protocols-folds-2").set_value(["dsfold2.txt"]).run()
    assert app.button(key="protocols_start").label == "Start 4 runs"
    app.button(key="protocols_start").click().run()

    (name,) = list_experiments(runs)
    experiment = read_experiment(runs, name)
    assert {Path(member.config.data) for member in experiment.runs} == {synthetic_dataset.resolve()}
    assert [member.label for member in experiment.runs if "dsfold" in member.label] == [
        "folds-dsfold2", "folds-clean-dsfold2",
    ]  # fmt: skip


@pytest.mark.parametrize("folder", ["/no/such/folder", "~no-such-user/set"])
def test_protocol_form_with_a_missing_folder_starts_nothing(
    runs, open_page, synthetic_dataset: Path, folder: str
):
    app = open_page("experiments")
    fill(app, synthetic_dataset)
    app.text_input(key="dataset_folder").set_value(folder).run()
    app.button(key="protocols_start").click().run()

    assert "There is no folder" in texts(app.error)
    assert folder in texts(app.error)
    assert not any(runs.iterdir())


def test_protocol_form_with_an_invalid_option_shows_the_rule(runs, open_page):
    app = open_page("experiments")
    app.text_input(key="config-dense_units").set_value("wide").run()

    assert "Invalid dense_units 'wide'. Expected whole numbers" in texts(app.error)


def test_partial_comparison_shows_the_finished_runs(runs, comparison, open_page):
    comparison(2)
    app = open_page("experiments")

    assert "2 of 6 runs. The metrics will change" in texts(app.markdown)
    assert len(app.get("vega_lite_chart")) == 3
    table = app.dataframe[0].value.set_index("Split")
    assert list(table.index) == [
        "Image-level (with leakage)", "Official folds (with leakage)",
        "Cleaned official folds", "Case-level",
    ]  # fmt: skip
    assert table[["Finished", "Runs"]].values.tolist() == [[1, 1], [1, 2], [0, 2], [0, 1]]
    metrics = app.dataframe[1].value
    assert set(metrics["Split"]) == {"Image-level (with leakage)", "Official folds (with leakage)"}
    assert metrics["Value"].between(0, 1).all()
    assert "1 of 2 runs. The metrics will change" in texts(app.markdown)
    assert "Cancel all runs" in [button.label for button in app.button]
    assert {link.label for link in app.get("page_link")} >= {"image-fold0", "case-fold0"}


def test_complete_comparison_shows_the_leakage_effect_and_exports(runs, comparison, open_page):
    comparison(6)
    app = open_page("experiments", experiment="rep")

    assert "Leakage effect" in texts(app.header)
    assert "balanced accuracy" in texts(app.markdown)
    table = app.dataframe[0].value.set_index("Split")
    assert table.loc["Cleaned official folds", "Case in training"] == 0
    metrics = app.dataframe[1].value.set_index(["Split", "Metric"])
    averaged = metrics.loc[("Official folds (with leakage)", "Accuracy")]
    assert averaged["Lowest file"] <= averaged["Value"] <= averaged["Highest file"]
    assert [button.label for button in app.get("download_button")] == [
        "Save protocols.png", "Save protocols.svg", "Save metrics.csv", "Save report.md",
        "Save report.json",
    ]  # fmt: skip
    assert "accuracy image-level (with leakage) 0.967 to 0.998" in texts(app.caption)


def test_comparison_is_updated_when_a_run_ends(runs, comparison, open_page, end_at_random):
    comparison(5)
    app = open_page("experiments")
    assert "Case-level" not in set(app.dataframe[1].value["Split"])
    end_at_random(Run(runs / "rep-case-fold0"))
    app.run()

    assert "Case-level" in set(app.dataframe[1].value["Split"])


def test_comparison_is_updated_when_a_split_changes(runs, comparison, open_page):
    comparison(6)
    app = open_page("experiments")
    table = app.dataframe[0].value.set_index("Split")
    assert table.loc["Case-level", "Case in training"] == 0
    split_file = Run(runs / "rep-case-fold0").split_file
    split_file.write_text(split_file.read_text().replace("90001", "90002"))
    app.run()

    assert "90002" in split_file.read_text()
    table = app.dataframe[0].value.set_index("Split")
    assert table.loc["Case-level", "Case in training"] != 0


def test_implausibly_high_metric_warns(runs, comparison, open_page):
    comparison(6)
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

    assert "Implausibly high metrics**, case-level" in texts(app.warning)
    table = app.dataframe[1].value.set_index(["Split", "Metric"])
    assert table.loc[("Case-level", "Balanced accuracy"), "Implausible"]


def test_failed_runs_can_be_resumed(runs, comparison, open_page):
    comparison(5)
    Run(runs / "rep-case-fold0").write_status("failed", message="The disk is full.")
    app = open_page("experiments")
    assert "The disk is full." in texts(app.caption)
    assert "5 of 6 runs, and 1 run ended without a result" in texts(app.warning)
    press(app, "Resume runs")

    assert Run(runs / "rep-case-fold0").read_status()["state"] == "running"


def test_unfinished_runs_can_be_canceled(runs, comparison, open_page):
    comparison(4)
    app = open_page("experiments")
    press(app, "Cancel all runs")

    states = {run.name: run.read_status()["state"] for run in list_runs(runs)}
    assert Run(runs / "rep-folds-clean-dsfold2").requested_action() == "cancel"
    assert states["rep-case-fold0"] == "canceled"
    assert states["rep-image-fold0"] == "done"


def test_cancel_with_an_exporting_run_cancels_the_others(runs, comparison, open_page):
    comparison(4)
    Run(runs / "rep-folds-clean-dsfold2").write_status("running", phase="export")
    app = open_page("experiments")
    press(app, "Cancel all runs")

    assert "is exporting its model" in texts(app.error)
    assert Run(runs / "rep-case-fold0").read_status()["state"] == "canceled"


def test_cross_validation_shows_pooled_metrics(
    runs, tiny_config: TrainingConfig, open_page, end_at_random
):
    for member in start_experiment("cv", plan_experiment(tiny_config), runs).runs:
        end_at_random(Run(runs / member.name))
    app = open_page("experiments", experiment="cv")

    (table,) = [element.value for element in app.dataframe]
    shown = table[["Configuration", "Finished", "Runs", "Images", "Cases"]]
    assert shown.values.tolist() == [["cv", 5, 5, 30, 10]]
    assert {"Accuracy", "Accuracy CI low"} <= set(table.select_dtypes("number"))
    assert "pooled out-of-fold predictions" in texts(app.caption)
    assert not app.get("vega_lite_chart")


def test_sweep_shows_a_row_per_configuration_and_a_warning(
    runs, tiny_config: TrainingConfig, open_page, end_at_random
):
    plan = plan_experiment(tiny_config, folds=[0], grid={"dropout": [0.1, 0.5]})
    for member in start_experiment("sweep", plan, runs).runs[:1]:
        end_at_random(Run(runs / member.name))
    app = open_page("experiments")

    assert app.dataframe[0].value["Configuration"].tolist() == ["dropout=0.1", "dropout=0.5"]
    assert "2 configurations were compared on the same test images" in texts(app.warning)


def test_many_runs_are_paged(runs, tiny_config: TrainingConfig, open_page):
    start_experiment("many", plan_experiment(dataclasses.replace(tiny_config, n_folds=12)), runs)
    app = open_page("experiments")

    assert len(app.get("page_link")) == 10


def test_deleted_run_is_marked(runs, comparison, open_page):
    comparison(6)
    delete_job(Run(runs / "rep-case-fold0"))
    app = open_page("experiments")

    assert "Deleted" in texts(app.markdown)
    assert "1 run ended without a result" in texts(app.warning)


def test_experiments_with_an_unknown_experiment_in_the_url_ignores_it(runs, comparison, open_page):
    comparison(1)
    app = open_page("experiments", experiment="../gone")

    assert not app.error
    assert app.selectbox(key="experiment").value in (None, "rep")


def test_comparison_with_a_damaged_note_shows_one_error(runs, comparison, open_page):
    comparison(1)
    comparison_file(runs, "rep").write_text("{")
    app = open_page("experiments")

    assert len(app.error) == 1
    assert "Cannot read the protocol comparison" in texts(app.error)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000, None])
def test_damaged_experiment_is_listed_and_can_be_deleted(runs, open_page, content: bytes | None):
    file = experiment_file(runs, "rep")
    file.mkdir() if content is None else file.write_bytes(content)
    comparison_file(runs, "rep").write_text("{}")
    app = open_page("experiments")
    assert "Cannot read the experiment file" in texts(app.error)
    press(app, "Delete experiment")

    assert not app.error
    assert "No experiment yet" in texts(app.info)
    assert {path.name for path in runs.iterdir()} == {".lock", "actions.log"}


def test_finished_experiment_can_be_deleted_without_its_runs(runs, comparison, open_page):
    comparison(6)
    app = open_page("experiments")
    press(app, "Delete experiment")

    assert "No experiment yet" in texts(app.info)
    assert len(list_runs(runs)) == 6


def test_run_with_a_damaged_status_does_not_hide_the_others(runs, comparison, open_page):
    comparison(6)
    (runs / "rep-case-fold0/status.json").write_bytes(b"\xff")
    app = open_page("experiments")

    assert not app.error
    assert "has no readable status.json" in texts(app.caption)
    assert "1 run ended without a result" in texts(app.warning)


def test_cross_validation_starts_on_train(runs, open_page, synthetic_dataset: Path):
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()
    app.selectbox(key="config-backbone").set_value("tiny")
    app.selectbox(key="config-weights").set_value("none")
    app.toggle(key="all_folds").set_value(True).run()
    assert app.button(key="start").label == "Start 5 runs"
    assert "for each of 5 runs" in texts(app.caption)
    app.button(key="start").click().run()

    assert not app.exception
    (name,) = list_experiments(runs)
    experiment = read_experiment(runs, name)
    assert experiment.name.startswith("cv-")
    assert experiment.name.endswith("-tiny")
    assert [member.fold for member in read_experiment(runs, experiment.name).runs] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert app.multiselect(key="run").value == [f"{experiment.name}-fold0"]
    assert any(link.label == f"Open {experiment.name}" for link in app.get("page_link"))
