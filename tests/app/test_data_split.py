"""The Data page: splits and what their parts share."""

import shutil

import pandas as pd

from app.components.split_summary import SUBSET_WORDS
from bc_model.checks import make_check
from bc_model.data.dataset import load_dataset
from bc_model.data.splits import make_split, read_split, format_split
from tests.app.data_page import tables, texts


def test_a_split_by_case_proportions_nothing_and_is_exported_whole(synthetic, open_page, tmp_path):
    app = open_page("data", look="Split")
    parts, rows = tables(app)

    assert texts(app.success) == make_check("BC270", n_test=6).message
    assert parts[["Subset", "Images", "Cases"]].to_numpy().tolist() == [
        ["Training", 18, 6],
        ["Validation", 6, 2],
        ["Test", 6, 2],
    ]
    assert len(rows) == 30
    app.pills(key="split-parts").set_value(["test"]).run()
    app.text_input(key="split-search").set_value("sob_b").run()
    assert "3 images of 1 case." in texts(app.caption)
    assert set(tables(app)[1]["Subset"]) == {"Test"}
    assert [one.label for one in app.get("download_button")] == ["Save split.csv"]


def test_the_fold_and_the_seed_choose_another_test_part(synthetic, open_page):
    app = open_page("data", look="Split")
    before = tables(app)[1]
    app.number_input(key="fold").set_value(1)
    app.number_input(key="split_seed").set_value(3).run()
    after = tables(app)[1]

    target = make_split(load_dataset(synthetic), "case", test_fold=1, seed=3)
    assert after["Subset"].tolist() == target["subset"].map(SUBSET_WORDS).tolist()
    assert after["Subset"].tolist() != before["Subset"].tolist()


def test_fewer_folds_than_the_test_fold_are_no_trouble(synthetic, open_page):
    app = open_page("data", look="Split")
    app.number_input(key="fold").set_value(4).run()
    app.number_input(key="n_folds").set_value(3).run()

    assert app.number_input(key="fold").value == 2
    assert not app.error


def test_more_folds_than_cases_are_said(synthetic, open_page):
    app = open_page("data", look="Split")
    app.number_input(key="n_folds").set_value(6).run()

    assert "needs at least 6 benign cases" in texts(app.error)


def test_a_leakage_split_says_in_red_what_it_proportions(synthetic, open_page):
    app = open_page("data", look="Split")
    app.selectbox(key="protocol").set_value("image").run()

    assert "contains other images of" in texts(app.warning)
    assert not app.success


def test_a_set_without_cases_says_so_and_its_split_is_not_called_clean(
    drawn_set, registry, open_page
):
    for name in ("benign", "malignant"):
        (registry / "plain" / name).mkdir(parents=True)
        for number, path in enumerate(sorted(drawn_set.rglob(f"SOB_{name[0].upper()}_*.png"))):
            shutil.copy(path, registry / "plain" / name / f"{number}.png")
    overview = open_page("data")
    assert [metric.value for metric in overview.metric] == ["30", "unknown", "unknown", "unknown"]
    assert "The file names contain no case" in texts(overview.caption)
    assert "30 images of unknown cases" in texts(open_page("data", look="Gallery").caption)
    app = open_page("data", look="Split")
    assert "carry no case in their names" in texts(app.error)
    app.selectbox(key="protocol").set_value("image").run()

    assert make_check("BC269").message in texts(app.warning)
    assert "Cases" not in tables(app)[0]


def test_the_exported_split_can_be_read_again(synthetic, tmp_path):
    split = make_split(load_dataset(synthetic), "case")
    (tmp_path / "split.csv").write_text(format_split(split))
    pd.testing.assert_frame_equal(read_split(tmp_path / "split.csv"), split, check_dtype=False)
