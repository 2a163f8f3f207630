"""Tables of a manifest, counted by hand."""

import pandas as pd
import pytest

from bc_model.data.summary import case_table, compare_with_official, count_images, size_clues

ROWS = [
    # class, subtype, case, section, magnification, width, height
    ("benign", "adenosis", "1", "A", 40, 700, 460),
    ("benign", "adenosis", "1", "B", 200, 700, 460),
    ("benign", "adenosis", "1", "B", 200, 700, 460),
    ("malignant", "ductal_carcinoma", "2", "", 40, 700, 460),
    ("malignant", "ductal_carcinoma", "3", "", 40, 700, 456),
    ("malignant", "unknown", "", "", pd.NA, 700, 456),
]
COLUMNS = ["class", "subtype", "case", "section", "magnification", "width_px", "height_px"]
IMAGES = pd.DataFrame(ROWS, columns=COLUMNS).assign(path=list("abcdef"))
IMAGES = IMAGES.assign(group=IMAGES["case"]).astype({"magnification": "Int64"})


def rows(table: pd.DataFrame) -> list[tuple]:
    return [tuple(row) for row in table.itertuples(index=False)]


def test_images_and_cases_of_each_class() -> None:
    table = count_images(IMAGES, "class")
    assert list(table.columns) == ["class", "images", "cases"]
    assert rows(table) == [("benign", 3, 1), ("malignant", 3, 2)]


def test_of_two_columns_together() -> None:
    assert rows(count_images(IMAGES, "class", "size")) == [
        ("benign", "700x460", 3, 1),
        ("malignant", "700x456", 2, 1),
        ("malignant", "700x460", 1, 1),
    ]


def test_a_magnification_that_is_not_known_is_a_row() -> None:
    table = count_images(IMAGES, "magnification")
    assert list(table["images"]) == [3, 2, 1]
    assert table["magnification"].isna().tolist() == [False, False, True]
    assert list(table["cases"]) == [3, 1, 0]


def test_each_case_is_a_row() -> None:
    table = case_table(IMAGES)
    assert list(table.columns) == [
        "case", "group", "class", "subtype", "sections", "images", "40X", "200X",
    ]  # fmt: skip
    assert rows(table) == [
        ("1", "1", "benign", "adenosis", 2, 3, 1, 2),
        ("2", "2", "malignant", "ductal_carcinoma", 1, 1, 1, 0),
        ("3", "3", "malignant", "ductal_carcinoma", 1, 1, 1, 0),
    ]


def test_images_without_cases_give_an_empty_table() -> None:
    assert len(case_table(IMAGES.iloc[5:])) == 0


def test_a_size_of_one_class_alone_is_a_clue() -> None:
    assert rows(size_clues(IMAGES)) == [("700x456", "malignant", 2, 1)]


@pytest.mark.parametrize("keep", [slice(0, 4), slice(3, 6)], ids=["one size", "one class"])
def test_one_size_or_one_class_is_no_clue(keep: slice) -> None:
    assert len(size_clues(IMAGES.iloc[keep])) == 0


def official_names() -> list[str]:
    counts = {40: (625, 1370), 100: (644, 1437), 200: (623, 1390), 400: (588, 1232)}
    return [
        f"SOB_{kind}-14-1-{zoom}-{number}.png"
        for zoom, of_classes in counts.items()
        for kind, count in zip(("B_A", "M_DC"), of_classes, strict=True)
        for number in range(count)
    ]


def test_the_whole_of_breakhis_differs_in_nothing() -> None:
    names = official_names()
    assert len(names) == 7909
    assert compare_with_official(names) == []
    assert compare_with_official([*names, "README.png"]) == []


def test_what_is_missing_or_too_many_is_said() -> None:
    names = [*official_names()[1:], "SOB_M_DC-14-1-400-99999.png"]
    assert [check.message for check in compare_with_official(names)] == [
        "The dataset contains 624 benign images at 40X. BreakHis contains 625.",
        "The dataset contains 1,233 malignant images at 400X. BreakHis contains 1,232.",
    ]
