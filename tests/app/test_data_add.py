"""The Data page: sets added in four ways."""

from pathlib import Path

import pytest

from bc_model.data.download import OFFICIAL_URL
from bc_model.data.ingest import DownloadJob
from bc_model.data.registry import list_datasets, open_dataset
from bc_model.jobs import JobSpec
from tests.app.helpers import press, tables, texts, zipped


def test_without_a_set_the_page_says_how_to_get_one(registry, open_page):
    app = open_page("data")

    assert "No dataset yet" in texts(app.info)
    assert not app.selectbox
    assert not app.metric
    assert "Leakage of the official folds" in texts(app.header)


def test_a_folder_is_added_under_its_own_name_and_chosen(registry, drawn_set, open_page):
    app = open_page("data")
    assert app.button(key="add-folder-button").disabled
    app.text_input(key="add-folder-0").set_value(str(drawn_set)).run()
    app.button(key="add-folder-button").click().run()

    assert app.selectbox(key="dataset").value == "set"
    assert open_dataset("set", registry).images == drawn_set.resolve()
    assert [metric.value for metric in app.metric] == ["30", "10", "5", "5"]
    assert "Dataset set was added" in texts(app.toast)


def test_an_archive_on_the_server_is_unpacked(registry, drawn_set, open_page, tmp_path):
    (tmp_path / "pictures.zip").write_bytes(zipped(drawn_set))
    app = open_page("data")
    app.text_input(key="add-folder-0").set_value(str(tmp_path / "pictures.zip"))
    app.text_input(key="add-folder-name-0").set_value("mine").run()
    app.button(key="add-folder-button").click().run()

    assert open_dataset("mine", registry).kind == "stored"
    assert "Dataset mine with 30 images was added" in texts(app.toast)
    assert "README.txt" in tables(app)[0].to_string()


@pytest.mark.parametrize(
    ("folder", "name", "said"),
    [
        ("/no/such/folder", "", "no folder /no/such/folder"),
        ("{set}", "../out", "cannot be the name of a data set"),
        ("~nobody-of-this-name/x", "x", "no folder"),
    ],
)
def test_a_folder_that_cannot_be_added_is_said(registry, drawn_set, open_page, folder, name, said):
    app = open_page("data")
    app.text_input(key="add-folder-0").set_value(folder.replace("{set}", str(drawn_set)))
    app.text_input(key="add-folder-name-0").set_value(name).run()
    app.button(key="add-folder-button").click().run()

    assert said in texts(app.error)
    assert list_datasets(registry) == ([], [])


def test_a_zip_is_uploaded_unpacked_and_let_go_of(registry, drawn_set, open_page):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("Zip upload").run()
    assert app.button(key="add-zip-button").disabled
    app.file_uploader[0].upload("my pictures.zip", zipped(drawn_set)).run()
    app.button(key="add-zip-button").click().run()

    assert app.selectbox(key="dataset").value == "my-pictures"
    assert app.metric[0].value == "30"
    assert open_dataset("my-pictures", registry).source == "my pictures.zip"
    assert "left out: not a picture (1)" in texts(app.markdown)
    assert not app.file_uploader[0].value


def test_a_zip_that_is_none_is_said_and_nothing_is_left(registry, open_page):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("Zip upload").run()
    app.file_uploader[0].upload("notes.zip", b"no archive at all").run()
    app.button(key="add-zip-button").click().run()

    assert "notes.zip is not a zip or tar.gz archive" in texts(app.error)
    assert list(registry.iterdir()) == []


def test_a_set_is_drawn(registry, open_page):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("Synthetic").run()
    app.number_input(key="synthetic-cases").set_value(6)
    app.number_input(key="synthetic-images").set_value(1)
    app.text_input(key="add-synthetic-name-0").set_value("mine").run()
    press(app, "Generate")

    assert app.selectbox(key="dataset").value == "mine"
    assert [metric.value for metric in app.metric] == ["6", "6", "3", "3"]


def test_too_many_images_are_not_drawn(registry, open_page):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("Synthetic").run()
    app.number_input(key="synthetic-cases").set_value(200)
    app.number_input(key="synthetic-images").set_value(100).run()
    press(app, "Generate")

    assert "at most 2,000, got 20,000" in texts(app.error)
    assert not registry.exists()


def test_a_download_is_started_with_its_pin_from_the_official_address_alone(
    registry, open_page, monkeypatch
):
    started = []
    monkeypatch.setattr(
        "app.components.data.downloads.start_download",
        lambda name, **more: started.append((name, more)),
    )
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("BreakHis").run()
    app.text_input(key="download-sha256").set_value("ab" * 32).run()
    press(app, "Download")

    assert started == [("BreaKHis_v1", {"sha256": "ab" * 32})]
    assert OFFICIAL_URL in texts(app.caption)


def test_a_pin_that_is_none_starts_nothing(registry, open_page):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("BreakHis").run()
    app.text_input(key="download-sha256").set_value("12").run()
    press(app, "Download")

    assert "64 hexadecimal digits" in texts(app.error)
    assert not registry.exists()


def record(registry: Path, state: str, **more) -> None:
    job = DownloadJob(registry / ".downloads" / "BreaKHis_v1")
    job.path.mkdir(parents=True)
    job.write_spec(JobSpec(config={"url": OFFICIAL_URL, "sha256": "ab" * 32}))
    job.write_status(state, **more)


def test_a_download_that_goes_on_is_watched_and_can_be_canceled(registry, open_page, monkeypatch):
    canceled = []
    monkeypatch.setattr("app.components.data.downloads.cancel_download", canceled.append)
    record(registry, "running", phase="downloading", n_bytes=10**9, n_total_bytes=4 * 10**9)
    app = open_page("data")

    assert app.progress[0].value == 25
    assert app.progress[0].text.replace("\\", "") == ("Downloading BreaKHis_v1: 1,000 of 4,000 MB")
    press(app, "Cancel")
    assert canceled == ["BreaKHis_v1"]


def test_a_download_that_broke_off_goes_on_with_its_address_and_pin(
    registry, open_page, monkeypatch
):
    started = []
    monkeypatch.setattr(
        "app.components.data.downloads.start_download",
        lambda name, **more: started.append((name, more)),
    )
    record(registry, "failed", message="The line broke.")
    app = open_page("data")

    assert "Failed: BreaKHis_v1" in texts(app.markdown)
    assert "The line broke." in texts(app.markdown)
    press(app, "Resume")
    assert started == [("BreaKHis_v1", {"url": OFFICIAL_URL, "sha256": "ab" * 32})]


def test_what_came_of_a_download_can_be_deleted(registry, open_page):
    record(registry, "canceled", message="Stopped on request.")
    app = open_page("data")
    press(app, "Delete")

    assert "Canceled" not in texts(app.markdown)
    assert not (registry / ".downloads" / "BreaKHis_v1").exists()
