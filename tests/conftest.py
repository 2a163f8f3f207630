"""Fixtures that several test files share: real pictures, a drawn set, a trained tiny model."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from bc_model.data.breakhis import parse_name
from bc_model.data.dataset import read_dataset
from bc_model.data.splits import PROTOCOLS_WITH_LEAKAGE, make_split, write_split
from bc_model.data.synthetic import write_synthetic
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils.serialization import from_json
from tests.file_server import Server

REPOSITORY = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Let the trainers of the tests, which wait for them, go as fast as anybody."""
    os.environ.setdefault("BC_NICENESS", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the browser: it takes longest, and would be waited for by one process alone."""
    items.sort(key=lambda item: "e2e" not in item.keywords)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real pictures, or skip; read it, never write there."""
    named = os.environ.get("BC_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared/data"
    if not folder.is_dir():
        pytest.skip(f"no real pictures: {folder} is not a folder; name one with BC_DATA")
    return folder


@pytest.fixture(scope="session")
def drawn_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a drawn data set: 10 cases, 5 of them benign, 3 pictures each, 64 x 96 px, 200X."""
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_synthetic(folder, n_cases=10, images_per_case=3, size=(64, 96))
    return folder


@pytest.fixture(scope="session")
def fold_files(drawn_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two fold files of the drawn set; each tests two benign and two malignant cases.

    Both test the first of each class. In the first file benign 90003 has a section, not present
    here, in test as well, so that the clean split leaves that case out.
    """
    names = sorted(path.name for path in drawn_set.rglob("*.png"))
    folder = tmp_path_factory.mktemp("folds")
    written = []
    for number, tested in ((1, {"90001", "90002", "90006", "90007"}),
                           (2, {"90001", "90003", "90006", "90008"})):  # fmt: skip
        sides = {name: "test" if parse_name(name).case in tested else "train" for name in names}
        if number == 1:
            sides["SOB_B_PT-14-90003Z-200-001.png"] = "test"
        lines = [f"{name}|200|{number}|{side}" for name, side in sides.items()]
        written.append(folder / f"dsfold{number}.txt")
        written[-1].write_text("\n".join(lines) + "\n")
    return written


@pytest.fixture(scope="session")
def end_at_random() -> Callable[[Run], None]:
    """Return a function that ends a run with its true split and the figures of a random model."""

    def end(run: Run) -> None:
        config = from_json(TrainingConfig, run.read_config()["config"])
        split = make_split(
            read_dataset(Path(config.data)), config.protocol, n_folds=config.n_folds,
            fold=config.test_fold, folds_file=config.official_fold_file,
        )  # fmt: skip
        write_split(split, run.split_file)
        rows = split[split["subset"] == "test"]
        prob = np.random.default_rng(len(run.name)).uniform(0.1, 0.9, len(rows))
        prob += np.where(rows["class"] == "malignant", 0.1, -0.1)
        evaluate_predictions(
            rows[["path", "sha256", "case", "class", "magnification"]].assign(prob_malignant=prob),
            protocol=config.protocol, has_leakage=config.protocol in PROTOCOLS_WITH_LEAKAGE, n_resamples=100,
        ).write(run.evaluation_dir)  # fmt: skip
        run.write_status("done")

    return end


@pytest.fixture(scope="session")
def tiny_config(drawn_set: Path) -> TrainingConfig:
    """Return the settings of the smallest training there is, on the drawn set."""
    return TrainingConfig(
        data=str(drawn_set),
        weights="none",
        backbone="tiny",
        image_size=(32, 32),
        head_epochs=1,
        finetune_epochs=1,
        batch_size=8,
        dense_units=(8,),
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train the three-layer backbone for two epochs and return the finished run; only read it."""
    from bc_model.training.trainer import train

    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny")
    train(tiny_config, run)
    return run


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a running server of one file, and let downloads not wait between their tries."""
    monkeypatch.setattr("bc_model.data.download.BACKOFF_S", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as found:
        Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield found
        found.shutdown()
