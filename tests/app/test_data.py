"""The Data page: sets added in four ways, and all that is said of one."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import psutil
import pytest
from PIL import Image

from bc_model.data.download import OFFICIAL_URL
from bc_model.data.download_record import Download, write_record
from bc_model.data.fold_shelf import keep_fold_file, list_fold_files
from bc_model.data.manifest import read_manifest
from bc_model.data.sets import link_folder, list_sets, open_set
from bc_model.data.splits import make_split, read_split, split_csv
from bc_model.data.synthetic import write_synthetic


def texts(elements) -> str:
    return "\n".join(str(element.value) for element in elements).replace("\\", "")


def tables(app) -> list[pd.DataFrame]:
    return [element.value for element in app.dataframe]


def press(app, label: str):
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception


@pytest.fixture
def shelf(runs: Path, tmp_path: Path) -> Path:
    """Return the shelf of the page, which is empty."""
    return tmp_path / "shelf"


@pytest.fixture
def drawn(drawn_set: Path, shelf: Path) -> Path:
    """Put the drawn set on the shelf: 30 pictures of 10 cases."""
    link_folder(drawn_set, "drawn", shelf)
    return drawn_set


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder).as_posix())
        archive.writestr("README.txt", "no picture")
    return buffer.getvalue()


def fold_text(folder: Path, *, leaky: bool) -> bytes:
    """Write a fold file of the drawn set; leaky, the first field of every case is for test."""
    lines = []
    for path in sorted(folder.rglob("*.png")):
        for_test = "-001" in path.name if leaky else path.name.split("-")[2] in ("90001", "90006")
        lines.append(f"{path.name}|200|1|{'test' if for_test else 'train'}")
    return ("\n".join(lines) + "\n").encode()


# Adding


def test_without_a_set_the_page_says_how_to_get_one(shelf, open_page):
    app = open_page("data")

    assert "No data set yet" in texts(app.info)
    assert not app.selectbox
    assert not app.metric
    assert "What the official folds leak" in texts(app.subheader)


def test_a_folder_is_added_under_its_own_name_and_chosen(shelf, drawn_set, open_page):
    app = open_page("data")
    assert app.button(key="add-folder-button").disabled
    app.text_input(key="add-folder-0").set_value(str(drawn_set)).run()
    app.button(key="add-folder-button").click().run()

    assert app.selectbox(key="set").value == "set"
    assert open_set("set", shelf).pictures == drawn_set.resolve()
    assert [metric.value for metric in app.metric] == ["30", "10", "5", "5"]
    assert "set is on the shelf" in texts(app.toast)


def test_an_archive_on_the_server_is_unpacked(shelf, drawn_set, open_page, tmp_path):
    (tmp_path / "pictures.zip").write_bytes(zipped(drawn_set))
    app = open_page("data")
    app.text_input(key="add-folder-0").set_value(str(tmp_path / "pictures.zip"))
    app.text_input(key="add-folder-name-0").set_value("mine").run()
    app.button(key="add-folder-button").click().run()

    assert open_set("mine", shelf).kind == "stored"
    assert "mine with 30 pictures is on the shelf" in texts(app.toast)
    assert "README.txt" in tables(app)[0].to_string()


@pytest.mark.parametrize(
    ("folder", "name", "said"),
    [
        ("/no/such/folder", "", "no folder /no/such/folder"),
        ("{set}", "../out", "cannot be the name of a data set"),
        ("~nobody-of-this-name/x", "x", "no folder"),
    ],
)
def test_a_folder_that_cannot_be_added_is_said(shelf, drawn_set, open_page, folder, name, said):
    app = open_page("data")
    app.text_input(key="add-folder-0").set_value(folder.replace("{set}", str(drawn_set)))
    app.text_input(key="add-folder-name-0").set_value(name).run()
    app.button(key="add-folder-button").click().run()

    assert said in texts(app.error)
    assert list_sets(shelf) == ([], [])


def test_a_zip_is_uploaded_unpacked_and_let_go_of(shelf, drawn_set, open_page):
    app = open_page("data")
    app.segmented_control(key="add-way").set_value("Zip upload").run()
    assert app.button(key="add-zip-button").disabled
    app.file_uploader[0].upload("my pictures.zip", zipped(drawn_set)).run()
    app.button(key="add-zip-button").click().run()

    assert app.selectbox(key="set").value == "my-pictures"
    assert app.metric[0].value == "30"
    assert open_set("my-pictures", shelf).source == "my pictures.zip"
    assert "left out: not a picture (1)" in texts(app.markdown)
    assert not app.file_uploader[0].value


def test_a_zip_that_is_none_is_said_and_nothing_is_left(shelf, open_page):
    app = open_page("data")
    app.segmented_control(key="add-way").set_value("Zip upload").run()
    app.file_uploader[0].upload("notes.zip", b"no archive at all").run()
    app.button(key="add-zip-button").click().run()

    assert "notes.zip is not a zip or tar.gz archive" in texts(app.error)
    assert list(shelf.iterdir()) == []


def test_a_set_is_drawn(shelf, open_page):
    app = open_page("data")
    app.segmented_control(key="add-way").set_value("Drawn").run()
    app.number_input(key="drawn-cases").set_value(6)
    app.number_input(key="drawn-pictures").set_value(1)
    app.text_input(key="add-drawn-name-0").set_value("mine").run()
    press(app, "Draw")

    assert app.selectbox(key="set").value == "mine"
    assert [metric.value for metric in app.metric] == ["6", "6", "3", "3"]


def test_too_many_pictures_are_not_drawn(shelf, open_page):
    app = open_page("data")
    app.segmented_control(key="add-way").set_value("Drawn").run()
    app.number_input(key="drawn-cases").set_value(200)
    app.number_input(key="drawn-pictures").set_value(100).run()
    press(app, "Draw")

    assert "20,000; at most 2,000" in texts(app.error)
    assert not shelf.exists()


# Downloads


def test_a_download_is_started_with_its_pin_from_the_official_address_alone(
    shelf, open_page, monkeypatch
):
    started = []
    monkeypatch.setattr(
        "app.components.downloads.start_download",
        lambda name, **more: started.append((name, more)),
    )
    app = open_page("data")
    app.segmented_control(key="add-way").set_value("BreakHis").run()
    app.text_input(key="download-sha256").set_value("ab" * 32).run()
    press(app, "Download")

    assert started == [("BreaKHis_v1", {"sha256": "ab" * 32})]
    assert OFFICIAL_URL in texts(app.caption)


def test_a_pin_that_is_none_starts_nothing(shelf, open_page):
    app = open_page("data")
    app.segmented_control(key="add-way").set_value("BreakHis").run()
    app.text_input(key="download-sha256").set_value("12").run()
    press(app, "Download")

    assert "64 hexadecimal digits" in texts(app.error)
    assert not shelf.exists()


def record(shelf: Path, state: str, **more) -> None:
    (shelf / ".downloads").mkdir(parents=True)
    me = psutil.Process()
    who = {"pid": me.pid, "pid_started": me.create_time()}
    write_record(shelf, Download("BreaKHis_v1", OFFICIAL_URL, "ab" * 32, state, **who, **more))


def test_a_download_that_goes_on_is_watched_and_can_be_cancelled(shelf, open_page, monkeypatch):
    cancelled = []
    monkeypatch.setattr("app.components.downloads.cancel_download", cancelled.append)
    record(shelf, "downloading", done=1_000_000_000, total=4_000_000_000)
    app = open_page("data")

    assert app.progress[0].value == 25
    assert app.progress[0].text.replace("\\", "") == ("Downloading BreaKHis_v1: 1,000 of 4,000 MB")
    press(app, "Cancel")
    assert cancelled == ["BreaKHis_v1"]


def test_a_download_that_broke_off_goes_on_with_its_address_and_pin(shelf, open_page, monkeypatch):
    started = []
    monkeypatch.setattr(
        "app.components.downloads.start_download",
        lambda name, **more: started.append((name, more)),
    )
    record(shelf, "failed", message="The line broke.")
    app = open_page("data")

    assert "Broken off: BreaKHis_v1" in texts(app.markdown)
    assert "The line broke." in texts(app.markdown)
    press(app, "Go on")
    assert started == [("BreaKHis_v1", {"url": OFFICIAL_URL, "sha256": "ab" * 32})]


def test_what_came_of_a_download_can_be_deleted(shelf, open_page):
    record(shelf, "cancelled", message="Stopped on request.")
    app = open_page("data")
    press(app, "Delete what came")

    assert "Cancelled" not in texts(app.markdown)
    assert not list((shelf / ".downloads").glob("*.json"))


# Choosing


def test_the_set_in_the_address_is_chosen(drawn, shelf, open_page):
    link_folder(drawn, "a-first-one", shelf)

    assert open_page("data", set="drawn").selectbox(key="set").value == "drawn"
    assert open_page("data").selectbox(key="set").value == "a-first-one"


def test_a_set_in_the_address_that_is_gone_is_said(drawn, open_page):
    app = open_page("data", set="gone")

    assert "The data set gone named in the address is not there" in texts(app.warning)
    assert app.selectbox(key="set").value == "drawn"


def test_a_damaged_set_is_said_and_the_others_are_offered(drawn, shelf, open_page):
    (shelf / "broken").mkdir()
    (shelf / "broken/set.json").write_text("{")
    app = open_page("data")

    assert "The data set broken is damaged" in texts(app.warning)
    assert app.selectbox(key="set").options == ["drawn"]


def test_a_set_whose_folder_has_gone_is_one_sentence(drawn_set, shelf, tmp_path, open_page):
    shutil.copytree(drawn_set, tmp_path / "moved")
    link_folder(tmp_path / "moved", "moved", shelf)
    shutil.rmtree(tmp_path / "moved")
    app = open_page("data")

    assert "There is no folder" in texts(app.error)
    assert not app.metric
    assert [button.label for button in app.button if "this" in button.label] == [
        "Remove this data set"
    ]


def test_a_set_is_removed_and_its_linked_pictures_stay(drawn, shelf, open_page):
    app = open_page("data")
    press(app, "Remove this data set")

    assert list_sets(shelf) == ([], [])
    assert len(list(drawn.rglob("*.png"))) == 30
    assert "No data set yet" in texts(app.info)
    assert not app.warning


def test_train_on_this_set_opens_train_with_it(drawn, open_page):
    app = open_page("data", set="drawn", look="Split")
    app.button(key="train-on-it").click().run()

    assert texts(app.title) == "Train"
    assert app.selectbox(key="set").value == "drawn"
    assert app.metric[0].value == "30"
    assert not app.button(key="start").disabled


# What is said of a set


def test_the_overview_counts_by_subtype_magnification_case_and_size(drawn, open_page):
    app = open_page("data")
    subtypes, magnifications, cases, sizes = tables(app)

    assert subtypes["Pictures"].sum() == magnifications["Pictures"].sum() == 30
    assert subtypes.loc[subtypes["Subtype"] == "phyllodes tumor", "Cases"].tolist() == [1]
    assert magnifications.to_numpy().tolist() == [
        ["200X", "benign", 15, 5],
        ["200X", "malignant", 15, 5],
    ]
    assert cases["Pictures"].tolist() == [3] * 10
    assert list(cases.columns) == ["Case", "Class", "Subtype", "Sections", "Pictures", "200X"]
    assert sizes.to_numpy().tolist() == [["96x64", "benign", 15, 5], ["96x64", "malignant", 15, 5]]
    assert "No size gives a class away" in texts(app.caption)
    assert len(app.get("vega_lite_chart")) == 3


@pytest.fixture
def flawed(drawn_set: Path, shelf: Path) -> Path:
    """Put a copy on the shelf with every flaw: files left out, twins, and sizes that tell."""
    folder = shutil.copytree(drawn_set, shelf / "flawed")
    benign = sorted(folder.rglob("SOB_B_A*.png"))
    malignant = sorted(folder.rglob("SOB_M_DC*.png"))
    (folder / "notes.png").write_bytes(b"x")
    (folder / "SOB_B_A-14-1-200-001.png").write_bytes(b"")
    shutil.copy(benign[0], folder / "SOB_B_A-14-7777-200-001.png")  # the same picture, two cases
    shutil.copy(benign[1], folder / "SOB_M_DC-14-8888-200-001.png")  # and two classes
    with Image.open(malignant[0]) as image:  # a copy at another size, of one class alone
        image.resize((192, 128)).save(malignant[0].with_stem(malignant[0].stem[:-3] + "901"))
    return folder


def test_what_was_left_out_is_listed_by_reason(flawed, open_page):
    app = open_page("data")
    (left_out,) = (table for table in tables(app) if "Reason" in table)

    assert left_out["Reason"].tolist() == [
        "contradiction",
        "contradiction",
        "duplicate",
        "empty",
        "misnamed",
    ]
    assert [one.label for one in app.get("download_button")] == ["left-out.csv"]
    assert "5 files left out" in app.expander[-1].label


def test_sizes_and_joined_cases_are_told(flawed, open_page):
    app = open_page("data")
    cases, sizes = tables(app)[-2:]

    assert sizes.loc[sizes["Clue"] == "in one class only", "Size, px"].tolist() == ["192x128"]
    assert "A size that occurs in one class only tells the class" in texts(app.caption)
    joined = cases[cases["Kept with"] != ""]
    assert joined[["Case", "Kept with"]].to_numpy().tolist() == [["90001", "7777"]]


def test_twins_are_counted_by_what_they_share_and_shown_in_pairs(flawed, open_page):
    app = open_page("data", look="Twins")
    (counts,) = tables(app)

    assert counts.set_index("Pairs").loc["Pixel for pixel"].tolist() == [1, 1, 0, 0]
    assert counts.set_index("Pairs").loc["Look the same"].tolist() == [0, 0, 0, 1]
    assert len(app.image) == 2
    app.segmented_control(key="twins-kind").set_value("Pixel for pixel").run()
    assert len(app.image) == 4
    assert "Benign and malignant" in texts(app.markdown)
    app.pills(key="twins-relation-other class-other case").set_value(["other case"]).run()
    assert len(app.image) == 2


def test_a_set_without_twins_says_so(drawn, open_page):
    assert "No two pictures are" in texts(open_page("data", look="Twins").success)


def test_the_gallery_is_filtered_and_turned(drawn, open_page):
    app = open_page("data", look="Gallery")
    assert "30 pictures of 10 cases" in texts(app.caption)
    assert len(app.image) == 24
    app.pagination(key="gallery-page").set_value(2).run()
    assert len(app.image) == 6
    app.selectbox(key="gallery-case").set_value("90003").run()

    assert "3 pictures of 1 case." in texts(app.caption)
    assert len(app.image) == 3
    assert not app.pagination
    app.selectbox(key="gallery-class").set_value("malignant").run()
    assert "15 pictures of 5 cases" in texts(app.caption)


def test_a_picture_that_has_gone_is_said_in_its_place(drawn_set, shelf, open_page, monkeypatch):
    folder = shutil.copytree(drawn_set, shelf / "drawn")
    manifest = read_manifest(folder)
    monkeypatch.setattr("app.components.readings.read_manifest", lambda *_, **__: manifest)
    next(folder.rglob("SOB_B_A*-001.png")).unlink()
    app = open_page("data", look="Gallery")

    assert len(app.image) == 23
    assert "broken_image" in texts(app.caption)


def test_a_picture_of_the_gallery_opens_in_diagnose(drawn, finished_run, open_page):
    app = open_page("data", look="Gallery")
    next(button for button in app.button if button.label == "Case 90001, 200X").click().run()

    assert texts(app.title) == "Diagnose"
    assert len(app.metric) == 1
    assert "SOB_B_A-14-90001-200-001.png, of the data set drawn" in texts(app.caption)


def test_a_picture_named_in_the_address_can_be_closed(drawn, finished_run, open_page):
    (file,) = drawn.rglob("SOB_B_A-14-90001-200-001.png")
    app = open_page("diagnose", picture=f"drawn/{file.relative_to(drawn).as_posix()}")
    assert len(app.metric) == 1
    app.button(key="close-picture").click().run()

    assert not app.metric
    assert "picture" not in app.query_params


@pytest.mark.parametrize(
    "picture",
    ["drawn/../../secret.png", "gone/a.png", "drawn/gone.png", f"drawn/{'a' * 300}.png"],
)
def test_an_address_that_names_no_picture_is_said(drawn, finished_run, open_page, picture):
    app = open_page("diagnose", picture=picture)

    assert "There is no" in texts(app.error)
    assert not app.metric


def test_an_address_of_a_file_too_large_is_said_unread(shelf, finished_run, open_page, monkeypatch):
    write_synthetic(shelf / "drawn", n_cases=2, pictures_per_case=1, size=(32, 48))
    file = next((shelf / "drawn").rglob("*.png"))
    os.truncate(file, 2**26 + 1)
    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    app = open_page("diagnose", picture=f"drawn/{file.relative_to(shelf / 'drawn').as_posix()}")

    assert "a picture may have at most 64 MB" in texts(app.error)
    assert file not in read


# The split


def test_a_split_by_case_shares_nothing_and_is_exported_whole(drawn, open_page, tmp_path):
    app = open_page("data", look="Split")
    parts, rows = tables(app)

    assert "Test shares nothing with training or validation: none of its 6 pictures" in texts(
        app.success
    )
    assert parts[["Part", "Pictures", "Cases"]].to_numpy().tolist() == [
        ["Train", 18, 6],
        ["Validation", 6, 2],
        ["Test", 6, 2],
    ]
    assert len(rows) == 30
    app.pills(key="split-parts").set_value(["test"]).run()
    app.text_input(key="split-search").set_value("sob_b").run()
    assert "3 pictures of 1 case." in texts(app.caption)
    assert set(tables(app)[1]["Part"]) == {"test"}
    assert [one.label for one in app.get("download_button")] == ["split.csv"]


def test_the_fold_and_the_seed_choose_another_test_part(drawn, open_page):
    app = open_page("data", look="Split")
    before = tables(app)[1]
    app.number_input(key="fold").set_value(1)
    app.number_input(key="split_seed").set_value(3).run()
    after = tables(app)[1]

    wanted = make_split(read_manifest(drawn), "case", fold=1, seed=3)
    assert after["Part"].tolist() == wanted["part"].tolist() != before["Part"].tolist()


def test_fewer_folds_than_the_test_fold_are_no_trouble(drawn, open_page):
    app = open_page("data", look="Split")
    app.number_input(key="fold").set_value(4).run()
    app.number_input(key="n_folds").set_value(3).run()

    assert app.number_input(key="fold").value == 2
    assert not app.error


def test_more_folds_than_cases_are_said(drawn, open_page):
    app = open_page("data", look="Split")
    app.number_input(key="n_folds").set_value(6).run()

    assert "needs at least 6 benign cases" in texts(app.error)


def test_a_leaky_split_says_in_red_what_it_shares(drawn, open_page):
    app = open_page("data", look="Split")
    app.selectbox(key="protocol").set_value("image").run()

    assert "test pictures, of" in texts(app.error)
    assert "have other pictures of their case in training" in texts(app.error)
    assert not app.success


def test_a_set_without_cases_says_so_and_its_split_is_not_called_clean(drawn_set, shelf, open_page):
    for name in ("benign", "malignant"):
        (shelf / "plain" / name).mkdir(parents=True)
        for number, path in enumerate(sorted(drawn_set.rglob(f"SOB_{name[0].upper()}_*.png"))):
            shutil.copy(path, shelf / "plain" / name / f"{number}.png")
    overview = open_page("data")
    assert [metric.value for metric in overview.metric] == ["30", "unknown", "unknown", "unknown"]
    assert "The names say no case" in texts(overview.caption)
    assert "30 pictures of unknown cases" in texts(open_page("data", look="Gallery").caption)
    app = open_page("data", look="Split")
    assert "carry no case in their names" in texts(app.error)
    app.selectbox(key="protocol").set_value("image").run()

    assert "nobody can tell what test shares with training" in texts(app.error)
    assert "Cases" not in tables(app)[0]


def test_an_official_fold_file_is_asked_for_then_used(drawn, shelf, open_page):
    app = open_page("data", look="Split")
    app.selectbox(key="protocol").set_value("folds").run()
    assert "needs an official fold file" in texts(app.info)
    app.file_uploader(key="folds-upload-0").upload(
        "dsfold1.txt", fold_text(drawn, leaky=True)
    ).run()

    assert app.selectbox(key="folds_file").value == "dsfold1.txt"
    assert "10 of 10 (100%) test pictures, of 10 cases" in texts(app.error)
    assert [path.name for path in list_fold_files(shelf)] == ["dsfold1.txt"]


def test_the_clean_folds_keep_out_what_shares_a_case(drawn, shelf, open_page):
    keep_fold_file(fold_text(drawn, leaky=False), "dsfold1.txt", shelf)
    app = open_page("data", look="Split")
    app.selectbox(key="protocol").set_value("folds-clean").run()

    assert "none of its 6 pictures" in texts(app.success)
    assert "Share that validates" in [field.label for field in app.number_input]


def test_a_text_that_is_no_fold_file_is_said(drawn, shelf, open_page, tmp_path):
    app = open_page("data", look="Official folds")
    app.file_uploader(key="folds-upload-0").upload("notes.txt", b"hello").run()
    assert "notes.txt is not a fold file: line 1" in texts(app.error)
    app.text_input(key="folds-path-1").set_value(str(tmp_path / "gone")).run()
    assert "There is no fold file" in texts(app.error)
    assert list_fold_files(shelf) == []


def test_of_fold_files_sent_together_all_are_kept_or_none(drawn, shelf, open_page):
    app = open_page("data", look="Official folds")
    sent = app.file_uploader(key="folds-upload-0").upload(
        "dsfold1.txt", fold_text(drawn, leaky=True)
    )
    sent.upload("notes.txt", b"hello").run()

    assert "notes.txt is not a fold file: line 1" in texts(app.error)
    assert list_fold_files(shelf) == []


# The official folds


def test_the_official_folds_are_audited_without_any_set(shelf, drawn_set, tmp_path, open_page):
    folder = tmp_path / "folds"
    folder.mkdir()
    for number in (1, 2):
        text = fold_text(drawn_set, leaky=number == 1).replace(b"|1|", b"|%d|" % number)
        (folder / f"dsfold{number}.txt").write_bytes(text)
    app = open_page("data")
    app.text_input(key="folds-path-0").set_value(str(folder)).run()
    (audit,) = tables(app)

    assert audit["With a sibling"].tolist() == ["10 of 10 (100.0%)", "0 of 6 (0.0%)"]
    assert audit["Benign with a sibling"].tolist() == ["5 of 5 (100.0%)", "0 of 3 (0.0%)"]
    assert "dsfold1.txt: 10 of 10 (100.0%); of the benign ones 5 of 5" in texts(app.error)
    app.text_input(key="folds-path-1").set_value(str(folder / "dsfold2.txt")).run()
    assert len(list_fold_files(shelf)) == 2  # it was there already
    app.multiselect(key="audited-folds-2").set_value(["dsfold2.txt"]).run()
    assert "No test picture has a section of its slide in training" in texts(app.success)
    app.segmented_control(key="audited-scale").set_value("200X").run()
    assert len(tables(app)[0]) == 1


def test_chosen_fold_files_are_taken_off_the_shelf(shelf, drawn_set, open_page):
    for number in (1, 2):
        text = fold_text(drawn_set, leaky=True).replace(b"|1|", b"|%d|" % number)
        keep_fold_file(text, f"dsfold{number}.txt", shelf)
    app = open_page("data")
    app.multiselect(key="audited-folds-2").set_value(["dsfold2.txt"]).run()
    press(app, "Remove the chosen fold files")
    assert [path.name for path in list_fold_files(shelf)] == ["dsfold1.txt"]
    press(app, "Remove the chosen fold files")

    assert list_fold_files(shelf) == []
    assert "No fold file yet" in texts(app.info)


def test_twins_are_counted_among_the_pictures_of_the_set(flawed, shelf, drawn_set, open_page):
    keep_fold_file(fold_text(drawn_set, leaky=True), "dsfold1.txt", shelf)
    app = open_page("data", look="Official folds")

    assert tables(app)[1]["Listed pictures here"].tolist() == [29]


def test_a_fold_file_of_other_data_is_counted_by_its_names(drawn, shelf, open_page):
    keep_fold_file(
        b"SOB_B_A-14-1-40-001.png|40|1|train\nSOB_B_A-14-1-40-002.png|40|1|test\n",
        "dsfold1.txt",
        shelf,
    )
    app = open_page("data", look="Official folds")

    assert "1 of 1 (100.0%)" in texts(app.error)
    assert "list none of its pictures" in texts(app.caption)


def test_the_pixels_are_remembered_between_two_looks(shelf, open_page, monkeypatch):
    write_synthetic(shelf / "drawn", n_cases=6, pictures_per_case=1, size=(32, 48))
    seen = []
    monkeypatch.setattr(
        "app.components.readings.read_manifest",
        lambda root, **more: seen.append(more["cache"]) or read_manifest(root),
    )
    app = open_page("data")
    app.run()

    assert seen == [shelf / ".cache"]


def test_the_exported_split_can_be_read_again(drawn, tmp_path):
    split = make_split(read_manifest(drawn), "case")
    (tmp_path / "split.csv").write_text(split_csv(split))
    pd.testing.assert_frame_equal(read_split(tmp_path / "split.csv"), split, check_dtype=False)
