"""Page Train: the form, the start of runs, and the run monitor."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.components.train.config_form import PAGE_SPECIFIC
from bc_model.data.official_folds import store_fold_contents
from bc_model.data.registry import RegisteredDataset, datasets_dir, link_folder
from bc_model.errors import RunError
from bc_model.inference.bundle import open_bundle
from bc_model.training.config import OPTIONS, TrainingConfig
from bc_model.training.run import Run
from bc_model.utils import to_json
from tests.app.helpers import press, texts


def test_train_with_a_missing_folder_disables_start(runs, open_page):
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value("/no/such/folder").run()

    assert "/no/such/folder" in texts(app.error)
    assert app.button(key="start").disabled


def test_train_with_an_empty_folder_disables_start(runs, open_page, tmp_path):
    (tmp_path / "empty").mkdir()
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(tmp_path / "empty")).run()

    assert "empty" in texts(app.error)
    assert app.button(key="start").disabled


def test_train_with_one_class_disables_start(runs, open_page, synthetic_dataset: Path):
    app = open_page("train")
    benign = synthetic_dataset / "histology_slides/breast/benign"
    app.text_input(key="dataset_folder").set_value(str(benign)).run()

    assert "benign" in texts(app.error)
    assert app.button(key="start").disabled


def test_train_shows_the_counts_of_the_dataset(runs, open_page, synthetic_dataset: Path):
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()

    shown = {metric.label: metric.value for metric in app.metric}
    assert shown == {
        "Images": "30",
        "Cases": "10",
        "Benign cases": "5",
        "Malignant cases": "5",
    }
    assert not app.button(key="start").disabled


def test_train_on_a_dataset_with_labels_and_cases(runs, open_page, labeled_dataset: Path):
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(labeled_dataset)).run()
    assert "21 invalid name" in texts(app.error)
    app.text_input(key="config-labels").set_value("0=benign,1=malignant,2=exclude").run()
    app.text_input(key="config-case_from").set_value("folder:2").run()
    assert not app.exception
    assert not app.error
    counts = {metric.label: metric.value for metric in app.metric}
    assert counts["Images"] == "20"
    assert counts["Cases"] == "10"
    app.text_input(key="config-case_from").set_value("folder:x").run()
    assert "Invalid rule 'folder:x' for the case" in texts(app.error)


def test_start_button_starts_a_run_with_the_configuration(
    runs, open_page, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    started: list[tuple[TrainingConfig, Path]] = []

    def start(config: TrainingConfig, folder: Path) -> Run:
        started.append((config, folder))
        run = Run.create(folder / "new-run")
        run.write_config({"config": to_json(config)})
        run.write_status("running", phase="head", epoch=1, epochs=3, step=1, steps=2)
        return run

    monkeypatch.setattr("app.components.train.start_button.start_run", start)
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()
    app.selectbox(key="config-backbone").set_value("tiny")
    app.selectbox(key="config-weights").set_value("none")
    app.select_slider(key="config-image_size").set_value("64")
    app.number_input(key="config-head_epochs").set_value(1)
    app.number_input(key="config-finetune_epochs").set_value(2).run()
    app.button(key="start").click().run()

    assert not app.exception
    (config, folder), *rest = started
    assert not rest
    assert folder == runs
    assert config == TrainingConfig(
        data=str(synthetic_dataset.resolve()),
        weights="none",
        backbone="tiny",
        head_epochs=1,
        finetune_epochs=2,
        image_size=(64, 64),
    )
    assert app.multiselect(key="run").value == ["new-run"]
    app.run()  # The browser may have missed the first message.
    assert app.multiselect(key="run").proto.set_value


@pytest.fixture
def synthetic(runs: Path, synthetic_dataset: Path) -> RegisteredDataset:
    """Register the synthetic dataset."""
    return link_folder(synthetic_dataset, "synthetic", datasets_dir())


def fold_file(synthetic: RegisteredDataset) -> Path:
    """Store a fold file whose test cases are 90001 and 90006."""
    names = sorted(path.name for path in synthetic.images_dir.rglob("*.png"))
    sides = ["test" if name.split("-")[2] in ("90001", "90006") else "train" for name in names]
    lines = [f"{name}|200|1|{side}" for name, side in zip(names, sides, strict=True)]
    return store_fold_contents([("dsfold1.txt", "\n".join(lines).encode())])[0]


def test_train_selects_a_registered_dataset(synthetic: RegisteredDataset, open_page):
    app = open_page("train")
    assert not app.metric
    assert "Dataset folder" not in [field.label for field in app.text_input]
    app.selectbox(key="dataset").set_value("synthetic").run()

    assert app.metric[0].value == "30"
    assert str(synthetic.images_dir) in texts(app.caption)


def test_train_accepts_a_typed_folder(synthetic: RegisteredDataset, open_page):
    app = open_page("train")
    app.selectbox(key="dataset").set_value("Other folder").run()
    app.text_input(key="dataset_folder").set_value(str(synthetic.images_dir)).run()

    assert app.metric[0].value == "30"
    assert not app.button(key="start").disabled


def test_dataset_in_the_url_expands_the_form(synthetic: RegisteredDataset, finished_run, open_page):
    assert open_page("train", dataset="synthetic").expander[0].proto.expanded
    app = open_page("train", dataset="gone")
    assert "Dataset 'gone' was not found" in texts(app.warning)


def test_train_with_official_folds_needs_a_file(synthetic: RegisteredDataset, open_page):
    app = open_page("train", dataset="synthetic")
    app.selectbox(key="config-weights").set_value("none")
    app.selectbox(key="protocol").set_value("folds-clean").run()

    assert "needs an official fold file" in texts(app.info)
    assert app.button(key="start").disabled
    assert not app.error


def test_train_with_official_folds_starts_with_the_file(
    synthetic: RegisteredDataset, open_page, monkeypatch
):
    stored = fold_file(synthetic)
    started: list[TrainingConfig] = []

    def start(config: TrainingConfig, folder: Path) -> Run:
        started.append(config)
        raise RunError("not started")

    monkeypatch.setattr("app.components.train.start_button.start_run", start)
    app = open_page("train", dataset="synthetic")
    app.selectbox(key="config-weights").set_value("none")
    app.selectbox(key="protocol").set_value("folds-clean").run()
    app.number_input(key="n_folds").set_value(4).run()
    app.number_input(key="fold").set_value(1)
    app.number_input(key="split_seed").set_value(7).run()
    app.button(key="start").click().run()

    (config,) = started
    assert (config.data, config.official_fold_file) == (
        str(synthetic.images_dir),
        str(stored.resolve()),
    )
    assert (config.protocol, config.n_folds, config.test_fold) == ("folds-clean", 4, 1)
    assert config.split_seed == 7
    assert "test 6 images (1 benign and 1 malignant cases)" in texts(app.caption)


def test_train_with_an_image_level_split_shows_the_leakage(synthetic: RegisteredDataset, open_page):
    app = open_page("train", dataset="synthetic")
    app.selectbox(key="protocol").set_value("image").run()

    assert "Leakage" in texts(app.warning) or "leakage" in texts(app.warning)


def test_refused_start_shows_the_error(runs, open_page, synthetic_dataset, monkeypatch):
    def refuse(config: TrainingConfig, folder: Path) -> Run:
        raise RunError("The run first is still running.")

    monkeypatch.setattr("app.components.train.start_button.start_run", refuse)
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()
    app.selectbox(key="config-weights").set_value("none").run()
    app.button(key="start").click().run()

    assert "still running" in texts(app.error)


def test_train_with_unavailable_imagenet_weights_disables_start(runs, open_page, synthetic_dataset):
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()
    app.selectbox(key="config-backbone").set_value("tiny")
    app.selectbox(key="config-weights").set_value("imagenet").run()

    assert "Invalid weights 'imagenet' for tiny" in texts(app.error)
    assert app.button(key="start").disabled
    assert not any(runs.iterdir())


def test_train_from_the_bundled_model_warns_of_initialization_leakage(
    runs, open_page, synthetic_dataset: Path, tiny_run, monkeypatch
):
    """The model of the tests was trained on all but two cases of the synthetic dataset."""
    monkeypatch.setattr("app.components.train.config_form.has_bundled_model", lambda: True)
    bundle = open_bundle(tiny_run.path / "model")
    for module in ("app.components.train.config_form", "bc_model.training.initial_weights"):
        monkeypatch.setattr(f"{module}.open_bundled_model", lambda: bundle)
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset))
    app.selectbox(key="config-weights").set_value("bundled").run()
    fold, n_folds = tiny_run.read_config()["config"]["test_fold"], 5
    app.number_input(key="fold").set_value(fold).run()

    assert "Initialization leakage" not in texts(app.warning)

    app.number_input(key="fold").set_value((fold + 1) % n_folds).run()
    assert "**Initialization leakage.**" in texts(app.warning)
    assert not app.button(key="start").disabled


def test_train_from_the_bundled_model_uses_its_image_size(runs, open_page, monkeypatch):
    bundle = SimpleNamespace(image_size=(100, 150))
    monkeypatch.setattr("app.components.train.config_form.has_bundled_model", lambda: True)
    monkeypatch.setattr("app.components.train.config_form.open_bundled_model", lambda: bundle)
    app = open_page("train")
    app.selectbox(key="config-weights").set_value("bundled").run()

    size = app.select_slider(key="config-image_size-bundled")
    assert size.value == "100 x 150"
    app.segmented_control(key="preset").set_value("Quick look").run()
    assert app.select_slider(key="config-image_size-bundled").value == "100 x 150"
    app.segmented_control(key="preset").set_value("Standard").run()
    assert size.options == ["32", "64", "96", "100 x 150", "128", "160", "192", "224", "256", "320"]

    app.selectbox(key="config-weights").set_value("imagenet").run()
    assert app.select_slider(key="config-image_size").value == "224"


def test_train_without_a_bundled_model_does_not_offer_it(runs, open_page, monkeypatch):
    monkeypatch.setattr("bc_model.inference.bundle.BUNDLED_MODELS_DIR", runs / "none")
    app = open_page("train")

    assert "Bundled model" not in app.selectbox(key="config-weights").options


def test_train_from_a_damaged_bundled_model_disables_start(runs, open_page, monkeypatch):
    folder = runs.parent / "shipped" / "breakhis-scratch"
    folder.mkdir(parents=True)
    (folder / "model_card.json").write_text("half")
    monkeypatch.setattr("bc_model.inference.bundle.BUNDLED_MODELS_DIR", folder.parent)
    app = open_page("train")
    app.selectbox(key="config-weights").set_value("bundled").run()

    assert len(app.error) == 1
    assert app.button(key="start").disabled


def test_train_with_an_image_level_split_warns(runs, open_page):
    app = open_page("train")
    app.selectbox(key="protocol").set_value("image").run()

    assert "marked as with leakage" in texts(app.warning)


def test_finished_run_shows_curves_and_a_link(finished_run, open_page):
    app = open_page("train")

    assert len(app.get("vega_lite_chart")) == 3
    assert "Finished" in texts(app.markdown)
    assert app.get("page_link")


def test_run_without_a_process_is_interrupted(finished_run, open_page):
    status = finished_run.path / "status.json"
    status.write_text('{"state": "running", "pid": 1, "pid_started": 1.0, "heartbeat": 1.0}')
    app = open_page("train")

    assert "Interrupted" in texts(app.markdown)
    assert [button.label for button in app.button if button.label == "Resume"]


def test_train_selects_the_run_in_the_url(finished_run, runs, open_page):
    other = Run.create(runs / "later")
    other.write_config({"config": to_json(TrainingConfig("set"))})
    other.write_status("canceled", message="Stopped before the first epoch had ended.")
    app = open_page("train", run="finished")

    assert app.multiselect(key="run").value == ["finished"]


def test_train_with_more_folds_than_cases_disables_start(runs, open_page, synthetic_dataset: Path):
    app = open_page("train")
    app.number_input(key="n_folds").set_value(6)
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()

    assert "6" in texts(app.error)
    assert app.button(key="start").disabled


def test_preset_sets_defaults_that_can_be_changed(runs, open_page):
    app = open_page("train")
    app.segmented_control(key="preset").set_value("Quick look").run()

    # The value is the default of the widget, because a value sent later can be lost.
    assert app.number_input(key="config-head_epochs-Quick look").proto.default == 3
    assert app.number_input(key="config-head_epochs-Quick look").value == 3
    assert app.select_slider(key="config-image_size-Quick look").value == "128"
    app.number_input(key="config-head_epochs-Quick look").set_value(7).run()
    assert app.number_input(key="config-head_epochs-Quick look").value == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wide", "Invalid dense_units 'wide'. Expected whole numbers"),
        ("0", "Invalid dense_units 0. Expected whole numbers with 1 <= dense_units <= 8192"),
    ],
)
def test_train_form_invalid_dense_units_blocks_start(
    runs, open_page, synthetic_dataset: Path, text: str, message: str
):
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()
    app.text_input(key="config-dense_units").set_value(text).run()

    assert message in texts(app.error)
    assert app.button(key="start").disabled


def test_train_form_zero_learning_rate_blocks_start(runs, open_page, synthetic_dataset: Path):
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()
    app.number_input(key="config-head_learning_rate").set_value(0.0).run()

    assert "Expected 0 < head_learning_rate <= 1" in texts(app.error)
    assert app.button(key="start").disabled


def test_train_form_has_a_widget_for_every_option(runs, open_page):
    app = open_page("train")
    widgets = [
        *app.number_input, *app.text_input, *app.selectbox, *app.checkbox, *app.select_slider,
    ]  # fmt: skip
    by_key = {widget.key: widget for widget in widgets}

    assert OPTIONS.keys() > PAGE_SPECIFIC
    for option in OPTIONS.values():
        if option.name not in PAGE_SPECIFIC:
            widget = by_key[f"config-{option.name}"]
            assert widget.label.startswith(option.label)
            assert widget.help == option.help


def test_train_form_defaults_equal_those_of_the_config(
    runs, open_page, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    started: list[TrainingConfig] = []

    def start(config: TrainingConfig, folder: Path) -> Run:
        started.append(config)
        raise RunError("not started")

    monkeypatch.setattr("app.components.train.start_button.start_run", start)
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()
    app.button(key="start").click().run()

    assert started == [TrainingConfig(data=str(synthetic_dataset.resolve()))]


def test_train_with_an_invalid_weights_file_disables_start(
    runs, open_page, synthetic_dataset, tmp_path
):
    app = open_page("train")
    app.text_input(key="dataset_folder").set_value(str(synthetic_dataset)).run()
    app.selectbox(key="config-weights").set_value("file").run()
    assert "No weights file is given" in texts(app.error)
    assert app.button(key="start").disabled

    (tmp_path / "start.h5").write_text("not weights")
    for name in ("gone.h5", "start.h5"):
        app.text_input(key="config-weights-file").set_value(str(tmp_path / name)).run()
        assert name in texts(app.error)
        assert app.button(key="start").disabled


def create_run(runs: Path, state: str) -> Run:
    """Return a run whose process is this one."""
    run = Run.create(runs / "active")
    run.write_config({"config": to_json(TrainingConfig("set"))})
    run.write_status(state, phase="head", epoch=1, epochs=3, step=1, steps=2)
    return run


@pytest.mark.parametrize(
    ("state", "label", "action"),
    [
        ("running", "Pause", "pause"),
        ("running", "Stop run", "stop"),
        ("running", "Cancel run", "cancel"),
        ("paused", "Stop run", "stop"),
    ],
)
def test_run_buttons_request_the_action(runs, open_page, state: str, label: str, action: str):
    run = create_run(runs, state)
    app = open_page("train")
    press(app, label)

    assert run.requested_action() == action


def test_continue_button_clears_the_pause_request(runs, open_page):
    run = create_run(runs, "paused")
    run.request("pause")
    app = open_page("train")
    press(app, "Continue")

    assert run.requested_action() is None


def test_resume_button_resumes_an_interrupted_run(finished_run, open_page, monkeypatch):
    resumed: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        "app.components.train.run_monitor.resume_run",
        lambda run, accept_changes=False: resumed.append((run.name, accept_changes)),
    )
    (finished_run.path / "status.json").write_text('{"state": "running"}')
    app = open_page("train")
    press(app, "Resume")

    assert resumed == [("finished", False)]


def test_resume_anyway_accepts_changes(finished_run, open_page, monkeypatch):
    resumed: list[bool] = []
    monkeypatch.setattr(
        "app.components.train.run_monitor.resume_run",
        lambda run, accept_changes=False: resumed.append(accept_changes),
    )
    finished_run.write_status("failed", message="The data has changed.", error="RunChangedError")
    app = open_page("train")
    press(app, "Resume anyway")

    assert resumed == [True]


def test_delete_button_deletes_a_finished_run(finished_run, open_page):
    app = open_page("train")
    press(app, "Delete run")

    assert not finished_run.path.exists()
    assert "No run yet" in texts(app.info)


def test_damaged_run_can_be_deleted(finished_run, open_page):
    (finished_run.path / "status.json").write_text("half")
    app = open_page("train")
    assert "finished" in texts(app.error)
    press(app, "Delete run")

    assert not finished_run.path.exists()


def test_train_with_two_runs_shows_them_side_by_side(finished_run, runs, open_page):
    shutil.copytree(finished_run.path, runs / "second")
    app = open_page("train")
    app.multiselect(key="run").set_value(["finished", "second"]).run()

    assert [header.value for header in app.header] == ["finished", "second"]
    assert len(app.get("vega_lite_chart")) == 6


DAMAGED_STATUSES = {
    "nothing": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "half": b'{"state": "done"',
    "unknown state": b'{"state": "asleep"}',
    "list as state": b'{"state": ["done"]}',
    "text as number": b'{"state": "running", "pid": "x"}',
    "number as text": b'{"state": "done", "message": 123}',
    "NaN": b'{"state": "done", "epoch": NaN}',
    "infinite": b'{"state": "running", "epochs": 1e999}',
    "large": b'{"state": "done"}' + b" " * 2**20,
    "huge": b'{"state": "running", "epochs": 1' + b"0" * 400 + b"}",
    "negative": b'{"state": "running", "epochs": 5, "epoch": -4}',
    "half a character": b'{"state": "failed", "message": "\\ud800"}',
}


def test_run_with_a_damaged_status_shows_its_problem_and_can_be_deleted(finished_run, open_page):
    app = open_page("train")
    for name, content in DAMAGED_STATUSES.items():
        finished_run.status_file.write_bytes(content)
        app.run()
        assert "has no readable status.json" in texts(app.error), name
        assert [button.label for button in app.button if "Delete" in button.label], name
    finished_run.status_file.unlink()
    os.mkfifo(finished_run.status_file)
    app.run()
    assert "Not a regular file" in texts(app.error)
    press(app, "Delete run")

    assert not finished_run.path.exists()


def test_run_with_an_incomplete_status_is_shown(runs, open_page):
    run = create_run(runs, "running")
    app = open_page("train")
    for fields in ({}, {"epochs": 5}, {"epochs": 5, "epoch": 0, "step": 9, "steps": 0}):
        run.write_status("running", phase="other", **fields)
        app.run()
        assert not app.exception
        assert not app.error
        assert "Running" in texts(app.markdown)


DAMAGED_HISTORIES = {
    "not UTF-8": b'{"epoch": 1}\n\xff\n',
    "list": b"[]\n",
    "number": b"1\n",
    "missing key": b'{"epoch": 1}\n',
    "text as number": b'{"epoch": "x"}\n',
    "NaN": b'{"epoch": 1, "loss": NaN}\n',
    "deep": b"[" * 100_000 + b"\n",
}


def test_run_with_a_damaged_history_shows_its_problem_and_can_be_deleted(finished_run, open_page):
    app = open_page("train")
    for name, content in DAMAGED_HISTORIES.items():
        (finished_run.path / "history.jsonl").write_bytes(content)
        app.run()
        assert "has a damaged history.jsonl" in texts(app.error), name
        assert "Finished" in texts(app.markdown), name
    press(app, "Delete run")

    assert not finished_run.path.exists()


def test_page_lists_a_run_without_a_status(finished_run, open_page):
    finished_run.status_file.unlink()
    app = open_page("train")

    assert app.multiselect(key="run").options == ["finished"]
    press(app, "Delete run")
    assert not finished_run.path.exists()
