"""Page Data: adding datasets and downloading BreakHis."""

from pathlib import Path

import pytest
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from bc_model.data.download import OFFICIAL_URL
from bc_model.data.ingest import DownloadJob
from bc_model.data.registry import list_datasets, open_dataset
from bc_model.jobs import JobSpec
from tests.app.helpers import press, tables, texts, zip_images


def test_data_without_a_dataset_shows_the_form_and_the_fold_audit(registry, open_page):
    app = open_page("data")

    assert "No dataset yet" in texts(app.info)
    assert not app.selectbox
    assert not app.metric
    assert "Leakage of the official folds" in texts(app.header)


def test_add_folder_links_and_selects_the_dataset(registry, synthetic_dataset, open_page):
    app = open_page("data")
    assert app.button(key="add-folder-button").disabled
    app.text_input(key="add-folder-0").set_value(str(synthetic_dataset)).run()
    app.button(key="add-folder-button").click().run()

    assert app.selectbox(key="dataset").value == "set"
    assert open_dataset("set", registry).images_dir == synthetic_dataset.resolve()
    assert [metric.value for metric in app.metric] == ["30", "10", "5", "5"]
    assert "Dataset set was added" in texts(app.toast)


def test_add_archive_stores_the_dataset(registry, synthetic_dataset, open_page, tmp_path):
    (tmp_path / "images.zip").write_bytes(zip_images(synthetic_dataset))
    app = open_page("data")
    app.text_input(key="add-folder-0").set_value(str(tmp_path / "images.zip"))
    app.text_input(key="add-folder-name-0").set_value("my-dataset").run()
    app.button(key="add-folder-button").click().run()

    assert open_dataset("my-dataset", registry).kind == "stored"
    assert "Dataset my-dataset with 30 images was added" in texts(app.toast)
    assert "README.txt" in tables(app)[0].to_string()


@pytest.mark.parametrize(
    ("folder", "name", "value"),
    [
        ("/no/such/folder", "", "/no/such/folder"),
        ("{set}", "../out", "../out"),
        ("~unknown-user/x", "x", "~unknown-user"),
    ],
)
def test_add_folder_with_invalid_input_shows_an_error(
    registry, synthetic_dataset, open_page, folder, name, value
):
    app = open_page("data")
    app.text_input(key="add-folder-0").set_value(folder.replace("{set}", str(synthetic_dataset)))
    app.text_input(key="add-folder-name-0").set_value(name).run()
    app.button(key="add-folder-button").click().run()

    assert value in texts(app.error)
    assert list_datasets(registry) == ([], [])


def test_add_zip_upload_stores_the_dataset_and_frees_the_upload(
    registry, synthetic_dataset, open_page
):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("Zip upload").run()
    assert app.button(key="add-zip-button").disabled
    app.file_uploader[0].upload("my images.zip", zip_images(synthetic_dataset)).run()
    app.button(key="add-zip-button").click().run()

    assert app.selectbox(key="dataset").value == "my-images"
    assert app.metric[0].value == "30"
    assert open_dataset("my-images", registry).source == "my images.zip"
    assert not app.file_uploader[0].value


def test_add_zip_upload_with_an_invalid_file_leaves_nothing(registry, open_page):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("Zip upload").run()
    app.file_uploader[0].upload("notes.zip", b"no archive at all").run()
    app.button(key="add-zip-button").click().run()

    assert "notes.zip" in texts(app.error)
    assert list(registry.iterdir()) == []


def test_zip_upload_that_the_server_lost_is_reported(
    registry, synthetic_dataset, open_page, monkeypatch
):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("Zip upload").run()
    with monkeypatch.context() as patch:  # As after a restart: the browser still lists the file.
        patch.setattr(MemoryUploadedFileManager, "get_files", lambda *_, **__: [])
        app.file_uploader[0].upload("set.zip", b"lost").run()
    assert "no longer holds the zip file" in texts(app.warning)

    app.file_uploader[0].upload("set.zip", zip_images(synthetic_dataset)).run()
    assert not app.warning
    app.button(key="add-zip-button").click().run()
    assert app.selectbox(key="dataset").value == "set"


def test_add_synthetic_generates_a_dataset(registry, open_page):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("Synthetic").run()
    app.number_input(key="synthetic-cases").set_value(6)
    app.number_input(key="synthetic-images").set_value(1)
    app.text_input(key="add-synthetic-name-0").set_value("my-dataset").run()
    press(app, "Generate")

    assert app.selectbox(key="dataset").value == "my-dataset"
    assert [metric.value for metric in app.metric] == ["6", "6", "3", "3"]


def test_add_synthetic_above_the_limit_generates_nothing(registry, open_page):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("Synthetic").run()
    app.number_input(key="synthetic-cases").set_value(200)
    app.number_input(key="synthetic-images").set_value(100).run()
    press(app, "Generate")

    assert "at most 2,000, got 20,000" in texts(app.error)
    assert not registry.exists()


def test_download_starts_with_the_checksum(registry, open_page, monkeypatch):
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


def test_download_with_an_invalid_checksum_starts_nothing(registry, open_page):
    app = open_page("data")
    app.segmented_control(key="add-source").set_value("BreakHis").run()
    app.text_input(key="download-sha256").set_value("12").run()
    press(app, "Download")

    assert len(app.error) == 1
    assert not registry.exists()


def record(registry: Path, state: str, **more) -> None:
    job = DownloadJob(registry / ".downloads" / "BreaKHis_v1")
    job.path.mkdir(parents=True)
    job.write_spec(JobSpec(config={"url": OFFICIAL_URL, "sha256": "ab" * 32}))
    job.write_status(state, **more)


def test_running_download_shows_progress_and_can_be_canceled(registry, open_page, monkeypatch):
    canceled = []
    monkeypatch.setattr("app.components.data.downloads.cancel_download", canceled.append)
    record(registry, "running", phase="downloading", n_bytes=10**9, n_total_bytes=4 * 10**9)
    app = open_page("data")

    assert app.progress[0].value == 25
    assert app.progress[0].text.replace("\\", "") == "Downloading BreaKHis_v1: 1,000 of 4,000 MB"
    press(app, "Cancel")
    assert canceled == ["BreaKHis_v1"]


def test_failed_download_resumes_with_its_url_and_checksum(registry, open_page, monkeypatch):
    started = []
    monkeypatch.setattr(
        "app.components.data.downloads.start_download",
        lambda name, **more: started.append((name, more)),
    )
    record(registry, "failed", message="The connection was lost.")
    app = open_page("data")

    assert "Failed: BreaKHis_v1" in texts(app.markdown)
    assert "The connection was lost." in texts(app.markdown)
    press(app, "Resume")
    assert started == [("BreaKHis_v1", {"url": OFFICIAL_URL, "sha256": "ab" * 32})]


def test_canceled_download_can_be_deleted(registry, open_page):
    record(registry, "canceled", message="Stopped on request.")
    app = open_page("data")
    press(app, "Delete download")

    assert "Canceled" not in texts(app.markdown)
    assert not (registry / ".downloads" / "BreaKHis_v1").exists()


def test_damaged_download_is_listed_and_can_be_deleted(registry, open_page):
    record(registry, "failed")
    (registry / ".downloads/BreaKHis_v1/status.json").write_text('{"state": 5}')
    app = open_page("data")
    assert "Damaged: BreaKHis" in texts(app.markdown)
    assert "resume:BreaKHis_v1" not in [button.key for button in app.button]
    press(app, "Delete download")
    assert not (registry / ".downloads" / "BreaKHis_v1").exists()
