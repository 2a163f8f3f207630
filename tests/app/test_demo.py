"""The demonstration of the page Classify, and the samples of a registered dataset."""

from pathlib import Path

import pytest

from bc_model.data.splits import read_split
from bc_model.data.synthetic import example_png
from bc_model.inference.bundle import BUNDLED_MODELS_DIR
from tests.app.helpers import texts


@pytest.fixture
def page(runs, open_page, monkeypatch):
    """Open Classify with the bundled models."""
    for module in ("model_picker", "classify.demo"):
        monkeypatch.setattr(f"app.components.{module}.BUNDLED_MODELS_DIR", BUNDLED_MODELS_DIR)
    return open_page("classify")


def test_demo_shows_every_outcome_and_the_pointing_score(page):
    page.button(key="show-demo").click().run()

    assert not page.exception
    shown = texts(page.markdown)
    for text in ("**Glands 1** :blue-badge[Benign]", "**Lesion 2** :orange-badge[Malignant]",
                 "**Faint lesion** :gray-badge[Uncertain]",
                 "**Grayscale** :gray-badge[Blocked]", "Not classified. The image is grayscale",
                 "**Pointing score:** 1.00 (0.29 to 1.00, n = 3)", "n = 120)"):  # fmt: skip
        assert text in shown
    assert "Synthetic images, synthetic demo model. Not tissue." in texts(page.warning)


def test_demo_survives_a_rerun_until_it_is_closed(page):
    page.button(key="show-demo").click().run()
    assert page.query_params["demo"] in ("1", ["1"])
    page.run()
    assert "Demo" in texts(page.header)

    page.button(key="close-demo").click().run()
    assert "demo" not in page.query_params
    assert "Demo" not in texts(page.header)
    assert page.button(key="show-demo")


def test_demo_with_a_damaged_model_shows_an_error(runs, open_page, monkeypatch, tmp_path):
    (tmp_path / "models/synthetic-demo").mkdir(parents=True)
    monkeypatch.setattr("app.components.model_picker.BUNDLED_MODELS_DIR", BUNDLED_MODELS_DIR)
    monkeypatch.setattr("app.components.classify.demo.BUNDLED_MODELS_DIR", tmp_path / "models")
    app = open_page("classify", demo="1")

    assert "is not a model" in texts(app.error)


def test_samples_of_a_dataset_are_classified_until_they_are_closed(
    synthetic, finished_run, open_page
):
    app = open_page("classify")
    app.button(key="samples:synthetic").click().run()

    assert not app.exception
    assert "Samples from the dataset synthetic, from the test subset" in texts(app.markdown)
    split = read_split(finished_run.split_file)
    tested = split.loc[split["subset"] == "test", "path"].map(lambda path: Path(path).name)
    assert set(app.dataframe[0].value["Image"]) <= set(tested)
    app.button(key="close-samples").click().run()
    assert app.button(key="samples:synthetic")


def test_samples_of_an_unknown_dataset_show_an_error(finished_run, open_page):
    app = open_page("classify", samples="gone")
    assert "gone" in texts(app.error)


def test_an_upload_closes_the_demo(page):
    page.button(key="show-demo").click().run()
    page.file_uploader[0].upload("field.png", example_png(malignant=True)).run()

    assert "demo" not in page.query_params
    assert "field.png" in texts(page.header)
