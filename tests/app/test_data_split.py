"""Page Data: splits, their subsets and their leakage."""

import shutil

import pandas as pd

from app.components.split_summary import SUBSET_LABELS
from bc_model.checks import make_check
from bc_model.data.dataset import load_dataset
from bc_model.data.splits import format_split, make_split, read_split
from tests.app.helpers import tables, texts


def test_case_level_split_has_no_leakage_and_exports_all_images(synthetic, open_page, tmp_path):
    app = open_page("data", view="Split")
    subsets, rows = tables(app)

    assert texts(app.success) == make_check("BC270", n_test=6).message
    assert subsets[["Subset", "Images", "Cases"]].to_numpy().tolist() == [
        ["Training", 18, 6],
        ["Validation", 6, 2],
        ["Test", 6, 2],
    ]
    assert len(rows) == 30
    app.pills(key="split-subsets").set_value(["test"]).run()
    app.text_input(key="split-search").set_value("sob_b").run()
    assert "3 images of 1 case." in texts(app.caption)
    assert set(tables(app)[1]["Subset"]) == {"Test"}
    assert [element.label for element in app.get("download_button")] == ["Save split.csv"]


def test_split_follows_test_fold_and_seed(synthetic, open_page):
    app = open_page("data", view="Split")
    before = tables(app)[1]
    app.number_input(key="fold").set_value(1)
    app.number_input(key="split_seed").set_value(3).run()
    after = tables(app)[1]

    expected = make_split(load_dataset(synthetic), "case", test_fold=1, seed=3)
    assert after["Subset"].tolist() == expected["subset"].map(SUBSET_LABELS).tolist()
    assert after["Subset"].tolist() != before["Subset"].tolist()


def test_test_fold_is_reduced_with_the_number_of_folds(synthetic, open_page):
    app = open_page("data", view="Split")
    app.number_input(key="fold").set_value(4).run()
    app.number_input(key="n_folds").set_value(3).run()

    assert app.number_input(key="fold").value == 2
    assert not app.error


def test_split_with_more_folds_than_cases_shows_an_error(synthetic, open_page):
    app = open_page("data", view="Split")
    app.number_input(key="n_folds").set_value(6).run()

    assert "6" in texts(app.error)


def test_image_level_split_warns_of_leakage(synthetic, open_page):
    app = open_page("data", view="Split")
    app.selectbox(key="protocol").set_value("image").run()

    assert app.warning
    assert not app.success


def test_dataset_without_cases_is_not_called_leakage_free(synthetic_dataset, registry, open_page):
    for name in ("benign", "malignant"):
        (registry / "plain" / name).mkdir(parents=True)
        for number, path in enumerate(
            sorted(synthetic_dataset.rglob(f"SOB_{name[0].upper()}_*.png"))
        ):
            shutil.copy(path, registry / "plain" / name / f"{number}.png")
    overview = open_page("data")
    assert [metric.value for metric in overview.metric] == ["30", "unknown", "unknown", "unknown"]
    assert "The file names contain no case" in texts(overview.caption)
    assert "30 images of unknown cases" in texts(open_page("data", view="Gallery").caption)
    app = open_page("data", view="Split")
    assert len(app.error) == 1
    app.selectbox(key="protocol").set_value("image").run()

    assert make_check("BC269").message in texts(app.warning)
    assert "Cases" not in tables(app)[0]


def test_exported_split_round_trips(synthetic, tmp_path):
    split = make_split(load_dataset(synthetic), "case")
    (tmp_path / "split.csv").write_text(format_split(split))
    pd.testing.assert_frame_equal(read_split(tmp_path / "split.csv"), split, check_dtype=False)
