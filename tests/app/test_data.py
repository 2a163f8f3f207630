"""Page Data: dataset selection, overview, duplicates and gallery."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bc_model.data.dataset import load_dataset
from bc_model.data.official_folds import store_fold_contents
from bc_model.data.registry import link_folder, list_datasets
from bc_model.data.synthetic import generate_dataset
from tests.app.helpers import fold_text, press, probabilities, tables, texts


def test_data_selects_the_dataset_in_the_url(synthetic, registry, open_page):
    link_folder(synthetic, "a-first-one", registry)

    assert open_page("data", dataset="synthetic").selectbox(key="dataset").value == "synthetic"
    assert open_page("data").selectbox(key="dataset").value == "a-first-one"


def test_data_with_an_unknown_dataset_in_the_url_warns(synthetic, open_page):
    app = open_page("data", dataset="gone")

    assert "Dataset 'gone' was not found" in texts(app.warning)
    assert app.selectbox(key="dataset").value == "synthetic"


def test_data_with_a_damaged_dataset_offers_the_others(synthetic, registry, open_page):
    (registry / "broken").mkdir()
    (registry / "broken/dataset.json").write_text("{")
    app = open_page("data")

    assert "broken" in texts(app.warning)
    assert app.selectbox(key="dataset").options == ["synthetic"]


def test_data_with_a_missing_folder_shows_one_error(
    synthetic_dataset, registry, tmp_path, open_page
):
    shutil.copytree(synthetic_dataset, tmp_path / "moved")
    link_folder(tmp_path / "moved", "moved", registry)
    shutil.rmtree(tmp_path / "moved")
    app = open_page("data")

    assert "moved" in texts(app.error)
    assert not app.metric
    assert [button.label for button in app.button if "dataset" in button.label] == [
        "Remove dataset"
    ]


def test_remove_button_keeps_linked_images(synthetic, registry, open_page):
    app = open_page("data")
    press(app, "Remove dataset")

    assert list_datasets(registry) == ([], [])
    assert len(list(synthetic.rglob("*.png"))) == 30
    assert "No dataset yet" in texts(app.info)
    assert not app.warning


def test_train_button_opens_train_with_the_dataset(synthetic, open_page):
    app = open_page("data", dataset="synthetic", view="Split")
    app.button(key="train-on-dataset").click().run()

    assert texts(app.title) == "Train"
    assert app.selectbox(key="dataset").value == "synthetic"
    assert app.metric[0].value == "30"
    assert not app.button(key="start").disabled


def test_overview_counts_by_subtype_magnification_case_and_size(synthetic, open_page):
    app = open_page("data")
    subtypes, magnifications, cases, sizes = tables(app)

    assert subtypes["Images"].sum() == magnifications["Images"].sum() == 30
    assert subtypes.loc[subtypes["Subtype"] == "phyllodes tumor", "Cases"].tolist() == [1]
    assert magnifications.to_numpy().tolist() == [
        [200, "benign", 15, 5],
        [200, "malignant", 15, 5],
    ]
    assert cases["Images"].tolist() == [3] * 10
    assert list(cases.columns) == ["Case", "Class", "Subtype", "Sections", "Images", "200X"]
    assert sizes.to_numpy().tolist() == [
        ["96 x 64", "benign", 15, 5],
        ["96 x 64", "malignant", 15, 5],
    ]
    assert "No image size reveals the class" in texts(app.caption)
    assert len(app.get("vega_lite_chart")) == 3


@pytest.fixture
def flawed(synthetic_dataset: Path, registry: Path) -> Path:
    """Register a copy with excluded files, duplicates and class-revealing sizes."""
    folder = shutil.copytree(synthetic_dataset, registry / "flawed")
    benign = sorted(folder.rglob("SOB_B_A*.png"))
    malignant = sorted(folder.rglob("SOB_M_DC*.png"))
    (folder / "notes.png").write_bytes(b"x")
    (folder / "SOB_B_A-14-1-200-001.png").write_bytes(b"")
    shutil.copy(benign[0], folder / "SOB_B_A-14-7777-200-001.png")  # The same image in two cases.
    shutil.copy(
        benign[1], folder / "SOB_M_DC-14-8888-200-001.png"
    )  # The same image in two classes.
    with Image.open(malignant[0]) as image:  # A size of one class only.
        image.resize((192, 128)).save(malignant[0].with_stem(malignant[0].stem[:-3] + "901"))
    return folder


def test_overview_lists_excluded_files_by_reason(flawed, open_page):
    app = open_page("data")
    (excluded,) = (table for table in tables(app) if "Reason" in table)

    assert excluded["Reason"].is_monotonic_increasing
    assert sorted(excluded["Reason"].value_counts()) == [1, 1, 1, 2]
    assert "empty" in set(excluded["Reason"])
    assert [element.label for element in app.get("download_button")] == ["Save excluded.csv"]
    assert "5 files excluded" in app.expander[-1].label


def test_overview_marks_class_revealing_sizes_and_grouped_cases(flawed, open_page):
    app = open_page("data")
    cases, sizes = tables(app)[-2:]

    assert sizes.loc[sizes["One class only"], "Size, px"].tolist() == ["192 x 128"]
    assert "An image size that occurs in one class only" in texts(app.caption)
    joined = cases[cases["Grouped with"] != ""]
    assert joined[["Case", "Grouped with"]].to_numpy().tolist() == [["90001", "7777"]]


def test_duplicates_are_counted_by_relation_and_shown_in_pairs(flawed, open_page):
    app = open_page("data", view="Duplicates")
    (counts,) = tables(app)

    assert counts.set_index("Kind").loc["Duplicates"].tolist() == [1, 1, 0, 0]
    assert counts.set_index("Kind").loc["Near-duplicates"].tolist() == [0, 0, 0, 1]
    assert len(app.image) == 2
    app.segmented_control(key="duplicates-kind").set_value("Duplicates").run()
    assert len(app.image) == 4
    assert "Different classes" in texts(app.markdown)
    app.pills(key="duplicates-relation-other class-other case").set_value(["other case"]).run()
    assert len(app.image) == 2


def test_duplicates_without_pairs_show_a_message(synthetic, open_page):
    assert "No duplicates or near-duplicates" in texts(open_page("data", view="Duplicates").success)


def test_gallery_filters_and_pages(synthetic, open_page):
    app = open_page("data", view="Gallery")
    assert "30 images of 10 cases" in texts(app.caption)
    assert len(app.image) == 24
    app.pagination(key="gallery-page").set_value(2).run()
    assert len(app.image) == 6
    app.selectbox(key="gallery-case").set_value("90003").run()

    assert "3 images of 1 case." in texts(app.caption)
    assert len(app.image) == 3
    assert not app.pagination
    app.selectbox(key="gallery-class").set_value("malignant").run()
    assert "15 images of 5 cases" in texts(app.caption)


def test_gallery_with_a_missing_file_shows_a_message(
    synthetic_dataset, registry, open_page, monkeypatch
):
    folder = shutil.copytree(synthetic_dataset, registry / "synthetic")
    dataset = load_dataset(folder)
    monkeypatch.setattr("app.components.dataset_cache.load_dataset", lambda *_, **__: dataset)
    next(folder.rglob("SOB_B_A*-001.png")).unlink()
    app = open_page("data", view="Gallery")

    assert len(app.image) == 23
    assert "broken_image" in texts(app.caption)


def test_gallery_opens_an_image_in_classify(synthetic, finished_run, open_page):
    app = open_page("data", view="Gallery")
    next(button for button in app.button if button.label == "Case 90001, 200X").click().run()

    assert texts(app.title) == "Classify"
    assert len(probabilities(app)) == 1
    assert "SOB_B_A-14-90001-200-001.png from the dataset synthetic" in texts(app.markdown)


def test_classify_with_a_dataset_image_in_the_url_can_close_it(synthetic, finished_run, open_page):
    (file,) = synthetic.rglob("SOB_B_A-14-90001-200-001.png")
    app = open_page("classify", image=f"synthetic/{file.relative_to(synthetic).as_posix()}")
    assert len(probabilities(app)) == 1
    app.button(key="close-image").click().run()

    assert not app.metric
    assert "image" not in app.query_params


@pytest.mark.parametrize(
    "image",
    [
        "synthetic/../../secret.png",
        "gone/a.png",
        "synthetic/gone.png",
        f"synthetic/{'a' * 300}.png",
    ],
)
def test_classify_with_an_unknown_dataset_image_shows_an_error(
    synthetic, finished_run, open_page, image
):
    app = open_page("classify", image=image)

    assert len(app.error) == 1
    assert not app.metric


def test_classify_with_a_large_dataset_image_does_not_read_it(
    registry, finished_run, open_page, monkeypatch
):
    generate_dataset(registry / "synthetic", n_cases=2, images_per_case=1, size=(32, 48))
    file = next((registry / "synthetic").rglob("*.png"))
    os.truncate(file, 200 * 2**20 + 1)
    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    app = open_page(
        "classify", image=f"synthetic/{file.relative_to(registry / 'synthetic').as_posix()}"
    )

    assert "200 MB" in texts(app.error)
    assert file not in read


def test_fold_audit_counts_duplicates_of_the_dataset(
    flawed, registry, synthetic_dataset, open_page
):
    store_fold_contents([("dsfold1.txt", fold_text(synthetic_dataset, has_leakage=True))], registry)
    app = open_page("data", view="Official folds")

    assert tables(app)[1]["Listed images"].tolist() == [29]


def test_data_reads_an_unchanged_dataset_once(registry, open_page, monkeypatch):
    generate_dataset(registry / "synthetic", n_cases=6, images_per_case=1, size=(32, 48))
    seen = []
    monkeypatch.setattr(
        "app.components.dataset_cache.load_dataset",
        lambda root, **more: seen.append(more["cache_dir"]) or load_dataset(root),
    )
    app = open_page("data")
    app.run()

    assert seen == [registry / ".cache"]
