"""Shared fixtures: real images, a synthetic dataset and a trained tiny model."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
from PIL import Image

from bc_model.data.breakhis import parse_name
from bc_model.data.dataset import load_dataset
from bc_model.data.images import read_image
from bc_model.data.splits import PROTOCOLS_WITH_LEAKAGE, make_split, write_split
from bc_model.data.synthetic import generate_dataset, generate_image
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.input_reference import add_input_reference
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils.serialization import from_json
from tests.file_server import Server

REPOSITORY = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Set the environment of the worker processes and of all processes that tests start."""
    # Training processes run at normal priority, because tests wait for them.
    os.environ.setdefault("BC_NICENESS", "0")
    # The workers use all cores; on small matrices, more BLAS threads spend their time waiting.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the browser tests first, because they take longest."""
    items.sort(key=lambda item: "e2e" not in item.keywords)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the read-only folder of real images, or skip the test."""
    path = os.environ.get("BC_DATA")
    folder = Path(path) if path else REPOSITORY.parent / "shared/data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not a folder. Set BC_DATA to a folder of real images.")
    return folder


@pytest.fixture(scope="session")
def synthetic_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a synthetic dataset: 10 cases, 5 benign, 3 images each, 64 x 96 px, 200X."""
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    generate_dataset(folder, n_cases=10, images_per_case=3, size=(64, 96))
    return folder


@pytest.fixture(scope="session")
def fold_files(synthetic_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two fold files of the synthetic dataset with four test cases each.

    The first case of each class is in test in both files. The first file also lists a missing
    section of benign case 90003 for test, so that the clean split leaves this case out.
    """
    names = sorted(path.name for path in synthetic_dataset.rglob("*.png"))
    folder = tmp_path_factory.mktemp("folds")
    files = []
    for number, test_cases in ((1, {"90001", "90002", "90006", "90007"}),
                           (2, {"90001", "90003", "90006", "90008"})):  # fmt: skip
        subsets = {
            name: "test" if parse_name(name).case in test_cases else "train" for name in names
        }
        if number == 1:
            subsets["SOB_B_PT-14-90003Z-200-001.png"] = "test"
        lines = [f"{name}|200|{number}|{subset}" for name, subset in subsets.items()]
        files.append(folder / f"dsfold{number}.txt")
        files[-1].write_text("\n".join(lines) + "\n")
    return files


@pytest.fixture(scope="session")
def end_at_random() -> Callable[[Run], None]:
    """Return a function that finishes a run with its split and metrics of a random model."""

    def end(run: Run) -> None:
        config = from_json(TrainingConfig, run.read_config()["config"])
        split = make_split(
            load_dataset(Path(config.data)), config.protocol, n_folds=config.n_folds,
            test_fold=config.test_fold, official_fold_file=config.official_fold_file,
        )  # fmt: skip
        write_split(split, run.split_file)
        rows = split[split["subset"] == "test"]
        prob = np.random.default_rng(len(run.name)).uniform(0.1, 0.9, len(rows))
        prob += np.where(rows["class"] == "malignant", 0.1, -0.1)
        evaluate_predictions(
            rows[["path", "sha256", "case", "class", "magnification"]].assign(prob_malignant=prob),
            protocol=config.protocol, has_leakage=config.protocol in PROTOCOLS_WITH_LEAKAGE,
            n_resamples=100,
        ).save(run.evaluation_dir)  # fmt: skip
        run.write_status("done")

    return end


@pytest.fixture(scope="session")
def tiny_config(synthetic_dataset: Path) -> TrainingConfig:
    """Return the configuration of a very short training on the synthetic dataset."""
    return TrainingConfig(
        data=str(synthetic_dataset),
        weights="none",
        backbone="tiny",
        image_size=(32, 32),
        head_epochs=1,
        finetune_epochs=1,
        batch_size=8,
        dense_units=(8,),
        augmented_copies=2,
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a finished, read-only run: the three-layer backbone, trained for two epochs."""
    from bc_model.training.trainer import train

    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny")
    train(tiny_config, run)
    return run


@pytest.fixture(scope="session")
def labeled_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ten patients, each with one image of the labels 0 and 1.

    A further image has the label 2. The names of the files state nothing.
    """
    root = tmp_path_factory.mktemp("labeled") / "patches"
    for patient in range(10):
        for label in (0, 1):
            image = generate_image(
                malignant=bool(label), seed=10 * patient + label, case_seed=patient, size=(48, 64)
            )
            folder = root / f"patient{patient}" / str(label)
            folder.mkdir(parents=True)
            Image.fromarray(image).save(folder / "patch.png")
    (root / "patient0/2").mkdir()
    Image.fromarray(image[::-1]).save(root / "patient0/2/patch.png")
    return root


@pytest.fixture(scope="session")
def reference_bundle(
    tiny_run: Run, synthetic_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """Return the tiny model with a reference from all images of the synthetic dataset."""
    folder = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(tiny_run.model_dir, folder)
    images = load_dataset(synthetic_dataset).images
    pixels = [
        cv2.resize(read_image(synthetic_dataset / path), (32, 32), interpolation=cv2.INTER_AREA)
        for path in images["path"]
    ]
    cases = images["case"].to_numpy(str)
    enlarged = np.zeros(len(cases), bool)
    return add_input_reference(open_bundle(folder), np.stack(pixels), cases, enlarged)


@pytest.fixture
def damaged_dataset(synthetic_dataset: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """Return a copy of the dataset in which two images are black, and their paths."""
    root = tmp_path / "set"
    shutil.copytree(synthetic_dataset, root)
    paths = sorted(load_dataset(root).images["path"])[:2]
    for number, path in enumerate(paths):
        image = np.full((64, 96, 3), 3 + number, np.uint8)
        cv2.imwrite(str(root / path), image)
    return root, paths


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a running server of one file; downloads do not wait between attempts."""
    monkeypatch.setattr("bc_model.data.download.BACKOFF_S", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running_server:
        Thread(
            target=running_server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        yield running_server
        running_server.shutdown()
