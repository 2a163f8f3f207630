"""Page Data: official fold files, their use in a split, and their audit."""

from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from bc_model.data.official_folds import list_fold_files, store_fold_contents
from tests.app.helpers import fold_text, press, tables, texts


def test_split_by_official_folds_uses_an_uploaded_file(synthetic, registry, open_page):
    app = open_page("data", view="Split")
    app.selectbox(key="protocol").set_value("folds").run()
    assert "needs an official fold file" in texts(app.info)
    app.file_uploader(key="folds-upload-0").upload(
        "dsfold1.txt", fold_text(synthetic, has_leakage=True)
    ).run()

    assert app.selectbox(key="fold_file").value == "dsfold1.txt"
    assert "10 of 10 test images" in texts(app.warning)
    assert [path.name for path in list_fold_files(registry)] == ["dsfold1.txt"]


def test_split_by_leakage_free_folds_has_no_common_case(synthetic, registry, open_page):
    store_fold_contents([("dsfold1.txt", fold_text(synthetic, has_leakage=False))], registry)
    app = open_page("data", view="Split")
    app.selectbox(key="protocol").set_value("folds-clean").run()

    assert app.success
    assert "Validation fold" in [field.label for field in app.number_input]


def test_fold_upload_with_an_invalid_file_shows_an_error(synthetic, registry, open_page, tmp_path):
    app = open_page("data", view="Official folds")
    app.file_uploader(key="folds-upload-0").upload("notes.txt", b"hello").run()
    assert "notes.txt" in texts(app.error)
    app.text_input(key="folds-path-1").set_value(str(tmp_path / "gone")).run()
    assert "gone" in texts(app.error)
    assert list_fold_files(registry) == []


def test_fold_upload_that_the_server_lost_is_reported(synthetic, registry, open_page, monkeypatch):
    app = open_page("data", view="Official folds")
    monkeypatch.setattr(MemoryUploadedFileManager, "get_files", lambda *_, **__: [])
    app.file_uploader(key="folds-upload-0").upload("dsfold1.txt", b"lost").run()
    assert "no longer holds the fold files" in texts(app.error)
    assert app.file_uploader(key="folds-upload-1")


def test_fold_upload_with_one_invalid_file_stores_none(synthetic, registry, open_page):
    app = open_page("data", view="Official folds")
    uploader = app.file_uploader(key="folds-upload-0").upload(
        "dsfold1.txt", fold_text(synthetic, has_leakage=True)
    )
    uploader.upload("notes.txt", b"hello").run()

    assert "notes.txt" in texts(app.error)
    assert list_fold_files(registry) == []


def test_fold_audit_without_a_dataset_counts_names(
    registry, synthetic_dataset, tmp_path, open_page
):
    folder = tmp_path / "folds"
    folder.mkdir()
    for number in (1, 2):
        text = fold_text(synthetic_dataset, has_leakage=number == 1).replace(
            b"|1|", b"|%d|" % number
        )
        (folder / f"dsfold{number}.txt").write_bytes(text)
    app = open_page("data")
    app.text_input(key="folds-path-0").set_value(str(folder)).run()
    (audit,) = tables(app)

    assert audit[["Test images", "With leakage"]].values.tolist() == [[10, 10], [6, 0]]
    assert audit["Proportion"].tolist() == [1.0, 0.0]
    assert audit[["Benign test images", "Benign with leakage"]].values.tolist() == [[5, 5], [3, 0]]
    assert "10 of 10 test images" in texts(app.warning)
    app.text_input(key="folds-path-1").set_value(str(folder / "dsfold2.txt")).run()
    assert len(list_fold_files(registry)) == 2  # The file is stored already.
    app.multiselect(key="audited-folds-2").set_value(["dsfold2.txt"]).run()
    assert "No test image has its case in training" in texts(app.success)
    app.segmented_control(key="audited-magnification").set_value("200X").run()
    assert len(tables(app)[0]) == 1


def test_selected_fold_files_are_removed(registry, synthetic_dataset, open_page):
    for number in (1, 2):
        text = fold_text(synthetic_dataset, has_leakage=True).replace(b"|1|", b"|%d|" % number)
        store_fold_contents([(f"dsfold{number}.txt", text)], registry)
    app = open_page("data")
    app.multiselect(key="audited-folds-2").set_value(["dsfold2.txt"]).run()
    press(app, "Remove fold files")
    assert [path.name for path in list_fold_files(registry)] == ["dsfold1.txt"]
    press(app, "Remove fold files")

    assert list_fold_files(registry) == []
    assert "No fold file yet" in texts(app.info)


def test_fold_audit_of_an_unrelated_dataset_counts_names(synthetic, registry, open_page):
    store_fold_contents(
        [
            (
                "dsfold1.txt",
                b"SOB_B_A-14-1-40-001.png|40|1|train\nSOB_B_A-14-1-40-002.png|40|1|test\n",
            )
        ],
        registry,
    )
    app = open_page("data", view="Official folds")

    assert "1 of 1 test image" in texts(app.warning)
    assert "list no image of this dataset" in texts(app.caption)
