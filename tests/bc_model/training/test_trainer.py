"""Training runs with the tiny backbone on synthetic images."""

import dataclasses
import errno
import logging
import math
import shutil
from pathlib import Path

import filelock
import keras
import numpy as np
import pytest

from bc_model import jobs
from bc_model.checks import is_blocked, make_check
from bc_model.data.dataset import load_dataset
from bc_model.data.images import read_image
from bc_model.data.pipeline import class_weights, load_pixels, one_hot
from bc_model.data.registry import link_folder
from bc_model.data.splits import count_leakage, read_split
from bc_model.data.stain import STAIN_COLUMNS, stain_statistics
from bc_model.data.synthetic import generate_dataset
from bc_model.errors import ModelError, RunError, SplitError, WeightsError
from bc_model.evaluation import read_report
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.classifier import load_classifier
from bc_model.inference.input_checks import check_staining
from bc_model.inference.input_reference import REFERENCE_FILE
from bc_model.inference.model_card import CardMetrics, SubsetCounts
from bc_model.inference.scale_check import SCALE_FILE
from bc_model.inference.seen_images import SeenImages
from bc_model.model import build_model, load_keras
from bc_model.training import trainer as trainer_module
from bc_model.training.callbacks import EndRequested, RunReporter
from bc_model.training.checkpoint import load_weights, read_state
from bc_model.training.config import TrainingConfig
from bc_model.training.provenance import dataset_sha256, draft_model_card
from bc_model.training.run import Run, RunImages
from bc_model.training.trainer import (
    STAGES,
    Trainer,
    _log_split,
    require_varying_logits,
    train,
)
from bc_model.utils.serialization import from_json, to_json

pytestmark = pytest.mark.usefixtures("eagerly")

NO_IMAGES = SeenImages({}, is_complete=True)


def make_config(data: Path, **changes: object) -> TrainingConfig:
    """Return the configuration of `tiny_run` with changes."""
    values = {
        "data": str(data), "weights": "none", "backbone": "tiny", "image_size": (32, 32),
        "head_epochs": 1, "finetune_epochs": 1, "batch_size": 8, "dense_units": (8,),
        "augmented_copies": 2,
    }  # fmt: skip
    return TrainingConfig(**{**values, **changes})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run")


# --- Class weights ---


def test_class_weights_are_inversely_proportional_to_the_counts() -> None:
    # 4 images, 2 classes: 4 / (2 * 3) and 4 / (2 * 1).
    labels = one_hot(["benign", "malignant", "benign", "benign"])
    assert class_weights(labels) == {0: pytest.approx(2 / 3), 1: pytest.approx(2.0)}


def test_class_weights_of_balanced_classes_are_one() -> None:
    assert class_weights(one_hot(["benign", "malignant"])) == {0: 1.0, 1: 1.0}


# --- A finished run ---


def test_run_directory_contains_all_files(tiny_run: Run) -> None:
    files = {str(path.relative_to(tiny_run.path)) for path in tiny_run.path.rglob("*")}
    assert files >= {
        "config.json", "split.csv", "history.jsonl", "status.json",
        "checkpoints/best.npz", "checkpoints/state.npz",
        "model/model.keras", "model/model_card.json",
        "evaluation/report.json", "evaluation/predictions.csv",
    }  # fmt: skip
    assert not [name for name in files if name.endswith(".tmp") or "/." in name]


def test_finished_run_is_done(tiny_run: Run) -> None:
    status = tiny_run.read_status()
    assert status["state"] == "done"
    assert "Stopped" not in status["message"]


def test_config_file_contains_the_configuration_hash_and_versions(
    tiny_run: Run, synthetic_dataset: Path
) -> None:
    config = tiny_run.read_config()
    assert from_json(TrainingConfig, config["config"]) == make_config(synthetic_dataset)
    assert config["data_sha256"] == dataset_sha256(load_dataset(synthetic_dataset))
    assert {"keras", "tensorflow", "openvino", "python"} <= set(config["versions"])


def test_split_file_has_no_leakage(tiny_run: Run) -> None:
    split = read_split(tiny_run.split_file)
    assert set(split["subset"]) == {"train", "validation", "test"}
    assert count_leakage(split).n_cases == 0


def test_history_counts_epochs_through_both_phases(tiny_run: Run) -> None:
    history = tiny_run.read_history()
    assert [(entry["epoch"], entry["phase"]) for entry in history] == [
        (1, "head"),
        (2, "finetune"),
    ]
    for entry in history:
        assert all(math.isfinite(entry[key]) for key in ("loss", "val_loss", "learning_rate"))


def test_exported_model_has_the_weights_of_the_best_epoch(tiny_run: Run) -> None:
    best = build_model("tiny", image_size=(32, 32), dense_units=(8,))
    load_weights(tiny_run.best_weights, best)
    exported = load_keras(tiny_run.model_dir / "model.keras")
    pairs = zip(best.get_weights(), exported.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_bundle_is_valid(tiny_run: Run) -> None:
    open_bundle(tiny_run.path).verify()


def test_images_without_cases_are_logged_as_unknown_cases(
    tiny_run: Run, synthetic_dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    synthetic = load_dataset(synthetic_dataset)
    dataset = dataclasses.replace(synthetic, images=synthetic.images.assign(case=""))
    split = read_split(tiny_run.split_file).assign(case="")
    card = draft_model_card(make_config(synthetic_dataset), dataset, split, tiny_run, NO_IMAGES, 1)
    assert card.data.n_cases == SubsetCounts()
    with caplog.at_level(logging.INFO):
        _log_split(dataset, split, "none")
    first, *subsets = caplog.messages
    assert first == "30 images of unknown cases; 0 files excluded"
    assert len(subsets) == 3
    assert all(subset.count("of unknown cases") == 2 for subset in subsets)


def test_model_card_contains_cases_and_license_of_the_initial_weights(
    tiny_run: Run, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_bundle(tiny_run.path)
    data = dataclasses.replace(first.card.data, license="Other license.")
    bundled = Bundle(first.folder, dataclasses.replace(first.card, data=data))
    monkeypatch.setattr("bc_model.training.initial_weights.open_bundled_model", lambda: bundled)
    dataset, split = load_dataset(synthetic_dataset), read_split(tiny_run.split_file)
    config = dataclasses.replace(make_config(synthetic_dataset), backbone="resnet50")

    for weights in ("bundled", str(first.folder / "model.keras")):
        started = dataclasses.replace(config, weights=weights)
        card = draft_model_card(started, dataset, split, tiny_run, NO_IMAGES, 1)
        assert card.data.initial_cases == tuple(sorted(first.seen_cases))
    credited = draft_model_card(
        dataclasses.replace(config, weights="bundled"), dataset, split, tiny_run, NO_IMAGES, 1
    )
    assert credited.data.license.endswith("were trained on: Other license.")
    assert not credited.data.has_leakage
    own = draft_model_card(config, dataset, split, tiny_run, NO_IMAGES, 1)
    assert own.data.initial_cases == ()


def test_test_images_seen_by_the_initial_weights_are_leakage(
    tiny_run: Run, synthetic_dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The initial weights were trained on the test images, which have other names."""
    dataset, split = load_dataset(synthetic_dataset), read_split(tiny_run.split_file)
    other = split["subset"].map({"train": "test", "test": "train", "validation": "validation"})
    names = {path: f"{n}.png" for n, path in enumerate(split["path"])}
    renamed = split.assign(subset=other, path=split["path"].map(names), case=split["case"] + "x")
    images = dataset.images.assign(path=dataset.images["path"].map(names))
    dataset = dataclasses.replace(dataset, images=images)
    weights = str(tiny_run.model_dir / "model.keras")
    config = dataclasses.replace(make_config(synthetic_dataset), weights=weights)

    card = draft_model_card(config, dataset, renamed, tiny_run, NO_IMAGES, 1)
    assert card.data.has_leakage
    _log_split(dataset, renamed, weights)
    n = int((other == "test").sum())
    assert make_check("BC410", n_seen=n, n_test=n).message in caplog.messages[-1]


def test_model_card_has_the_metrics_of_the_report(tiny_run: Run) -> None:
    report = read_report(tiny_run.evaluation_dir)
    assert open_bundle(tiny_run.path).card.metrics == CardMetrics(test=report.summary())


def test_report_evaluates_the_test_subset(tiny_run: Run) -> None:
    split = read_split(tiny_run.split_file)
    report = read_report(tiny_run.evaluation_dir)
    assert report.n_images == (split["subset"] == "test").sum()
    assert not report.has_leakage


def test_model_card_describes_the_training_data(tiny_run: Run) -> None:
    split = read_split(tiny_run.split_file)
    card = open_bundle(tiny_run.path).card
    training = split[split["subset"] == "train"]
    assert card.data.training_cases == tuple(sorted(set(training["case"].astype(str))))
    assert card.data.n_images.train == len(training)
    assert card.input.training_sizes == ("96x64",)
    assert card.input.reshaped_sizes == ()
    assert card.data.is_synthetic
    assert card.scale.magnifications == ()  # Synthetic images have no scale.


def test_model_card_has_the_stain_statistics_of_the_training_images(
    tiny_run: Run, synthetic_dataset: Path
) -> None:
    split = read_split(tiny_run.split_file)
    card = open_bundle(tiny_run.path).card
    pixels = load_pixels(
        synthetic_dataset, list(split.loc[split["subset"] == "train", "path"]), (32, 32)
    )

    stain = card.input.stain
    median = np.median(stain_statistics(pixels), axis=0)
    for name, value in zip(STAIN_COLUMNS, median, strict=True):
        assert stain.values[name][stain.quantiles.index(0.5)] == pytest.approx(value, abs=1e-4)
    assert stain.grayscale_proportion == 0.0
    assert 0.0 <= stain.out_of_distribution_proportion <= 1.0
    blank = np.full((32, 32, 3), (244, 230, 240), np.uint8)
    assert check_staining(blank, card) == make_check("BC103")
    assert not is_blocked(filter(None, (check_staining(one, card) for one in pixels)))


# --- Stages ---


@pytest.fixture
def trainer(synthetic_dataset: Path, run: Run, tmp_path: Path) -> Trainer:
    """Return a trainer that starts from weights of a file, so that fine-tuning starts at block3."""
    build_model("tiny", image_size=(32, 32)).save_weights(tmp_path / "start.weights.h5")
    weights = str(tmp_path / "start.weights.h5")
    return Trainer(make_config(synthetic_dataset, weights=weights, finetune_epochs=2), run)


def run_until(trainer: Trainer, last: str) -> Trainer:
    for stage in STAGES[: STAGES.index(last) + 1]:
        getattr(trainer, stage)()
    return trainer


def layer_weights(trainer: Trainer) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in trainer.model.layers if layer.weights}


def changed_layers(before: dict[str, list[np.ndarray]], after: dict[str, list[np.ndarray]]) -> set:
    return {
        name
        for name in before
        if not all(np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True))
    }


def test_build_model_does_not_read_the_dataset(trainer: Trainer, run: Run) -> None:
    trainer.build_model()
    assert trainer.model.name == "tiny"
    assert sorted(path.name for path in run.path.iterdir()) == ["status.json"]
    assert run.read_status()["state"] == "starting"


def test_prepare_data_writes_split_and_config(trainer: Trainer, run: Run) -> None:
    run_until(trainer, "prepare_data")
    split = read_split(run.split_file)
    assert run.read_config()["config"] == to_json(trainer.config)
    assert run.read_history() == []
    for name, subset in (("train", trainer.training), ("validation", trainer.validation)):
        assert len(subset.labels) == len(subset.pixels) == (split["subset"] == name).sum() > 0


def test_prepare_data_with_a_state_and_without_resume_raises(
    trainer: Trainer, run: Run, synthetic_dataset: Path
) -> None:
    run_until(trainer, "train_head")
    other = Trainer(trainer.config, run)
    other.build_model()
    with pytest.raises(RunError, match="has a training state already"):
        other.prepare_data()


def test_train_head_leaves_the_backbone_unchanged(trainer: Trainer, run: Run) -> None:
    run_until(trainer, "prepare_data")
    before = layer_weights(trainer)
    trainer.train_head()
    assert changed_layers(before, layer_weights(trainer)) == {"dense_1", "logits"}
    assert [entry["phase"] for entry in run.read_history()] == ["head"]
    assert run.best_weights.is_file()
    assert read_state(run.state_file).phase_over


def test_fine_tune_changes_only_the_unfrozen_block_and_the_head(trainer: Trainer, run: Run) -> None:
    run_until(trainer, "train_head")
    before = layer_weights(trainer)
    trainer.fine_tune()
    assert changed_layers(before, layer_weights(trainer)) == {"block3_conv", "dense_1", "logits"}
    assert [entry["phase"] for entry in run.read_history()] == ["head", "finetune", "finetune"]
    assert not hasattr(trainer, "training")


def test_fine_tune_in_a_new_trainer_gives_the_same_weights(
    trainer: Trainer, tmp_path: Path
) -> None:
    """The run directory contains everything that the next stage needs."""
    trainer.config = dataclasses.replace(trainer.config, deterministic=True)
    other = Run.create(tmp_path / "other")
    run_until(Trainer(trainer.config, other), "train_head")
    resumed = run_until(Trainer(trainer.config, other, resume=True), "fine_tune")
    run_until(trainer, "fine_tune")
    assert changed_layers(layer_weights(trainer), layer_weights(resumed)) == set()


def test_export_after_a_cancel_request_writes_no_model(trainer: Trainer, run: Run) -> None:
    run_until(trainer, "fine_tune")
    run.request("cancel")
    with pytest.raises(EndRequested, match="cancel"):
        trainer.export()
    assert not run.model_dir.exists()


def test_export_writes_the_bundle_and_evaluate_the_report(trainer: Trainer, run: Run) -> None:
    run_until(trainer, "export")
    open_bundle(run.path).verify()
    assert trainer.bundle.card.metrics == CardMetrics()
    assert trainer.bundle.card.architecture.initial_weights == "start.weights.h5"
    assert not run.has_report
    assert not hasattr(trainer, "model")

    trainer.evaluate()
    report = read_report(run.evaluation_dir)
    assert trainer.bundle.card.metrics.test.n_images == report.n_images
    assert open_bundle(run.path).card == trainer.bundle.card
    assert trainer.completed_stages == STAGES


@pytest.mark.parametrize("stage", STAGES[1:])
def test_stage_out_of_order_raises(trainer: Trainer, run: Run, stage: str) -> None:
    with pytest.raises(RunError, match=rf"Invalid stage '{stage}'\. Expected 'build_model'"):
        getattr(trainer, stage)()
    assert list(run.path.iterdir()) == []


def test_completed_stage_raises(trainer: Trainer) -> None:
    trainer.build_model()
    with pytest.raises(RunError, match=r"Expected 'prepare_data' after \['build_model'\]"):
        trainer.build_model()


# --- train ---


def test_train_creates_the_run_directory_and_resolves_paths(
    synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(synthetic_dataset.parent)
    run = train(make_config(Path(synthetic_dataset.name), head_epochs=0), tmp_path / "runs" / "new")
    assert run == Run.open(tmp_path / "runs" / "new")
    assert run.read_status()["state"] == "done"
    assert run.read_config()["config"]["data"] == str(synthetic_dataset.resolve())
    with pytest.raises(RunError, match="already exists"):
        train(make_config(synthetic_dataset), run.path)


def test_train_accepts_the_name_of_a_registered_dataset(
    synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "registry"))
    link_folder(synthetic_dataset, "registered")
    run = train(make_config(Path("registered"), head_epochs=0), tmp_path / "run")
    assert run.read_status()["state"] == "done"
    # The path, so that the run can be resumed after the dataset is removed from the registry.
    assert run.read_config()["config"]["data"] == str(synthetic_dataset.resolve())


def test_stages_accept_the_name_of_a_registered_dataset(
    synthetic_dataset: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "registry"))
    link_folder(synthetic_dataset, "registered")
    trainer = Trainer(make_config(Path("registered")), run)
    trainer.build_model()
    trainer.prepare_data()
    assert trainer.dataset.root == synthetic_dataset.resolve()
    images = RunImages.from_run(run)
    row = images.split.iloc[0]
    assert images.read(row["sha256"])[0] == row["path"]


def test_train_logs_one_line_per_epoch_and_the_leakage(
    synthetic_dataset: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="bc_model.training"):
        train(make_config(synthetic_dataset, head_epochs=0, protocol="image"), run)
    lines = [message for message in caplog.messages if message.startswith("epoch ")]
    assert len(lines) == 1
    assert lines[0].startswith("epoch 1/1 fine-tuning  loss ")
    assert any("'image' has leakage" in message for message in caplog.messages)
    assert any(message.startswith("test accuracy (with leakage): ") for message in caplog.messages)
    assert open_bundle(run.path).card.data.has_leakage is True
    assert read_report(run.evaluation_dir).has_leakage


def test_train_with_official_folds_reports_leakage(
    synthetic_dataset: Path, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = sorted(path.name for path in synthetic_dataset.rglob("*.png"))
    cases = sorted({name.split("-")[2] for name in names})
    # The last image of every fourth case is a test image; the others are training images.
    test = [n for n in names if n.split("-")[2] in cases[::4] and n.endswith("-003.png")]
    lines = [f"{name}|200|1|{'test' if name in test else 'train'}" for name in names]
    file = tmp_path / "dsfold1.txt"
    file.write_text("\n".join(lines))
    with caplog.at_level(logging.INFO, logger="bc_model"):
        train(
            make_config(
                synthetic_dataset, head_epochs=0, protocol="folds", official_fold_file=str(file)
            ),
            run,
        )
    split = read_split(run.split_file)
    assert sorted(Path(p).name for p in split.loc[split["subset"] == "test", "path"]) == test
    data = open_bundle(run.path).card.data
    report = read_report(run.evaluation_dir)
    assert (
        (data.protocol, data.has_leakage)
        == (report.protocol, report.has_leakage)
        == ("folds", True)
    )
    assert any("3 of 3 test images are in training" in message for message in caplog.messages)


def test_train_stopped_before_the_first_epoch_is_canceled(
    synthetic_dataset: Path, run: Run
) -> None:
    run.request("stop")
    assert train(make_config(synthetic_dataset), run) == run
    assert run.read_status()["state"] == "canceled"
    assert not run.model_dir.exists()
    assert run.read_history() == []


def test_train_stopped_later_keeps_the_best_model(
    synthetic_dataset: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Run.append_history

    def append_and_stop(self: Run, record: dict) -> None:
        append(self, record)
        self.request("stop")

    monkeypatch.setattr(Run, "append_history", append_and_stop)
    train(make_config(synthetic_dataset, head_epochs=5), run)
    status = run.read_status()
    assert status["state"] == "done"
    assert "Stopped on request" in status["message"]
    assert [entry["epoch"] for entry in run.read_history()] == [1]
    bundle = open_bundle(run.path)
    bundle.verify()
    assert bundle.card.metrics.test.n_images > 0


def test_train_stopped_while_a_resumed_run_loads_keeps_the_best_model(
    synthetic_dataset: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Trainer) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "state.npz")

    config = make_config(synthetic_dataset)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fine_tune", fail)
        with pytest.raises(OSError, match="No space"):
            train(config, run)
    status = run.read_status()
    message = "The disk is full ('state.npz'). Free disk space and try again."
    assert (status["state"], status["message"]) == ("failed", message)

    run.request("stop")
    train(config, run, resume=True)
    status = run.read_status()
    assert (status["state"], status["message"][:18]) == ("done", "Stopped on request")
    assert [entry["phase"] for entry in run.read_history()] == ["head"]
    open_bundle(run.path).verify()


def test_train_in_a_run_of_another_process_changes_nothing(
    synthetic_dataset: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PROCESS_LOCK_TIMEOUT_S", 0.1)
    run.write_status("running")
    before = run.status_file.read_bytes()
    with (
        filelock.FileLock(run.path / jobs.PROCESS_LOCK_FILE),
        pytest.raises(RunError, match="Another process works on Run 'run'"),
    ):
        train(make_config(synthetic_dataset), run)
    assert run.status_file.read_bytes() == before


def test_train_that_fails_writes_the_error_into_the_status(
    synthetic_dataset: Path, run: Run, tmp_path: Path
) -> None:
    for image in synthetic_dataset.rglob("SOB_B_*.png"):
        target = tmp_path / "benign" / image.relative_to(synthetic_dataset)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, target)
    with pytest.raises(SplitError, match="benign and malignant") as caught:
        train(make_config(tmp_path / "benign"), run)
    status = run.read_status()
    assert (status["state"], status["message"]) == ("failed", str(caught.value))
    assert status["error"] == "SplitError"


def test_train_without_a_finite_loss_raises_with_advice(
    synthetic_dataset: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "class_weights", lambda _: {0: math.nan, 1: math.nan})
    with pytest.raises(RunError, match=r"loss of epoch 1 is not finite.*lower learning rates"):
        train(make_config(synthetic_dataset), run)
    assert run.read_status()["state"] == "failed"
    assert not run.model_dir.exists()


def test_train_with_infinite_loss_in_fine_tuning_keeps_the_best_epoch(
    synthetic_dataset: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = iter([{0: 1.0, 1: 1.0}, {0: math.nan, 1: math.nan}])
    monkeypatch.setattr(trainer_module, "class_weights", lambda _: next(weights))
    train(make_config(synthetic_dataset), run)
    assert run.read_status()["state"] == "done"
    assert run.read_status()["message"].startswith("Training ended in epoch 2")
    assert [entry["phase"] for entry in run.read_history()] == ["head"]
    exported = load_keras(run.model_dir / "model.keras")
    assert all(np.isfinite(w).all() for w in exported.get_weights())


def test_train_with_weights_that_become_nan_names_the_epoch(
    synthetic_dataset: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The NaN is in a batch norm before a ReLU, so that the loss stays finite."""

    def spoil(reporter: RunReporter, epoch: int, logs: dict | None = None) -> None:
        bias = reporter.model.get_layer("block3_bn").beta
        bias.assign(np.full(bias.shape, np.nan, np.float32))

    monkeypatch.setattr(RunReporter, "on_epoch_end", spoil)
    config = dataclasses.replace(make_config(synthetic_dataset), cache_features=False)
    with pytest.raises(WeightsError, match=r"after epoch 1 .*not finite.* block3_bn"):
        train(config, run)
    assert run.read_status()["state"] == "failed"
    assert not run.best_weights.exists()


def test_require_varying_logits_refuses_a_model_that_ignores_its_images() -> None:
    model = build_model("tiny", image_size=(32, 32), dense_units=(8,))
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    require_varying_logits(model, images)
    kernel, _ = model.get_layer("dense_1").get_weights()
    model.get_layer("dense_1").set_weights([kernel, np.full(8, -1e6, np.float32)])
    with pytest.raises(ModelError, match="same logits for all 40 validation images"):
        require_varying_logits(model, images)
    require_varying_logits(model, images[:1].repeat(5, axis=0))


def test_config_from_pretrained_weights_fine_tunes_from_the_default_block(
    synthetic_dataset: Path,
) -> None:
    config = dataclasses.replace(make_config(synthetic_dataset), weights="start.weights.h5")
    assert config.resolved_unfreeze_from == "block3"
    assert not config.from_scratch


def test_train_leaves_keras_in_float32() -> None:
    assert keras.config.dtype_policy().name == "float32"


# --- The parts that judge the input ---


def test_run_with_enough_cases_checks_the_scale_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "MIN_REFERENCE_CASES", 4)
    data = tmp_path / "set"
    generate_dataset(data, n_cases=10, images_per_case=1, size=(460, 700))
    run = Run.create(tmp_path / "run")
    train(make_config(data, image_size=(64, 96), head_epochs=1, finetune_epochs=0), run)
    classifier = load_classifier(run.path)
    assert {REFERENCE_FILE, SCALE_FILE} <= set(classifier.bundle.card.files)
    row = next(load_dataset(data).images.itertuples())
    image = read_image(data / row.path)
    prediction = classifier.predict(image, magnification=row.magnification, show_anyway=True)
    assert prediction.estimated_mpp == pytest.approx(prediction.scale.mpp, rel=0.4)


def test_run_with_few_cases_has_no_scale_estimator(tiny_run: Run) -> None:
    assert open_bundle(tiny_run.path).card.files.keys().isdisjoint({REFERENCE_FILE, SCALE_FILE})
