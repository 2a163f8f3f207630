"""The Data page: official fold files, kept, used and audited."""

from bc_model.data.registry import keep_fold_file, list_fold_files
from tests.app.helpers import fold_text, press, tables, texts


def test_an_official_fold_file_is_asked_for_then_used(synthetic, registry, open_page):
    app = open_page("data", view="Split")
    app.selectbox(key="protocol").set_value("folds").run()
    assert "needs an official fold file" in texts(app.info)
    app.file_uploader(key="folds-upload-0").upload(
        "dsfold1.txt", fold_text(synthetic, has_leakage=True)
    ).run()

    assert app.selectbox(key="fold_file").value == "dsfold1.txt"
    assert "10 cases in the test subset: 10 of 10 test images (100%)" in texts(app.warning)
    assert [path.name for path in list_fold_files(registry)] == ["dsfold1.txt"]


def test_the_clean_folds_keep_out_what_proportions_a_case(synthetic, registry, open_page):
    keep_fold_file(fold_text(synthetic, has_leakage=False), "dsfold1.txt", registry)
    app = open_page("data", view="Split")
    app.selectbox(key="protocol").set_value("folds-clean").run()

    assert "no case of the 6 test images" in texts(app.success)
    assert "Validation fold" in [field.label for field in app.number_input]


def test_a_text_that_is_no_fold_file_is_said(synthetic, registry, open_page, tmp_path):
    app = open_page("data", view="Official folds")
    app.file_uploader(key="folds-upload-0").upload("notes.txt", b"hello").run()
    assert "notes.txt is not a fold file: line 1" in texts(app.error)
    app.text_input(key="folds-path-1").set_value(str(tmp_path / "gone")).run()
    assert "There is no fold file" in texts(app.error)
    assert list_fold_files(registry) == []


def test_of_fold_files_sent_together_all_are_kept_or_none(synthetic, registry, open_page):
    app = open_page("data", view="Official folds")
    sent = app.file_uploader(key="folds-upload-0").upload(
        "dsfold1.txt", fold_text(synthetic, has_leakage=True)
    )
    sent.upload("notes.txt", b"hello").run()

    assert "notes.txt is not a fold file: line 1" in texts(app.error)
    assert list_fold_files(registry) == []


def test_the_official_folds_are_audited_without_any_set(registry, drawn_set, tmp_path, open_page):
    folder = tmp_path / "folds"
    folder.mkdir()
    for number in (1, 2):
        text = fold_text(drawn_set, has_leakage=number == 1).replace(b"|1|", b"|%d|" % number)
        (folder / f"dsfold{number}.txt").write_bytes(text)
    app = open_page("data")
    app.text_input(key="folds-path-0").set_value(str(folder)).run()
    (audit,) = tables(app)

    assert audit[["Test images", "Shared"]].values.tolist() == [[10, 10], [6, 0]]
    assert audit["Shared proportion"].tolist() == [1.0, 0.0]
    assert audit[["Benign test images", "Benign shared"]].values.tolist() == [[5, 5], [3, 0]]
    assert "10 of 10 test images (100.0%), 5 of 5 benign" in texts(app.warning)
    app.text_input(key="folds-path-1").set_value(str(folder / "dsfold2.txt")).run()
    assert len(list_fold_files(registry)) == 2  # it was there already
    app.multiselect(key="audited-folds-2").set_value(["dsfold2.txt"]).run()
    assert "No test image has a section of its slide in training" in texts(app.success)
    app.segmented_control(key="audited-magnification").set_value("200X").run()
    assert len(tables(app)[0]) == 1


def test_chosen_fold_files_are_taken_off_the_registry(registry, drawn_set, open_page):
    for number in (1, 2):
        text = fold_text(drawn_set, has_leakage=True).replace(b"|1|", b"|%d|" % number)
        keep_fold_file(text, f"dsfold{number}.txt", registry)
    app = open_page("data")
    app.multiselect(key="audited-folds-2").set_value(["dsfold2.txt"]).run()
    press(app, "Remove fold files")
    assert [path.name for path in list_fold_files(registry)] == ["dsfold1.txt"]
    press(app, "Remove fold files")

    assert list_fold_files(registry) == []
    assert "No fold file yet" in texts(app.info)


def test_a_fold_file_of_other_data_is_counted_by_its_names(synthetic, registry, open_page):
    keep_fold_file(
        b"SOB_B_A-14-1-40-001.png|40|1|train\nSOB_B_A-14-1-40-002.png|40|1|test\n",
        "dsfold1.txt",
        registry,
    )
    app = open_page("data", view="Official folds")

    assert "1 of 1 test image (100.0%)" in texts(app.warning)
    assert "list no image of this dataset" in texts(app.caption)
