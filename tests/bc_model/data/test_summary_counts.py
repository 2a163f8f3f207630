"""Tables of images and cases, with manual counts."""

import pandas as pd
import pytest

from bc_model.data.summary import (
    case_table,
    class_revealing_sizes,
    compare_with_official,
    count_images,
)

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


def test_count_images_by_class() -> None:
    table = count_images(IMAGES, "class")
    assert list(table.columns) == ["class", "images", "cases"]
    assert rows(table) == [("benign", 3, 1), ("malignant", 3, 2)]


def test_count_images_by_two_columns() -> None:
    assert rows(count_images(IMAGES, "class", "size")) == [
        ("benign", "700x460", 3, 1),
        ("malignant", "700x456", 2, 1),
        ("malignant", "700x460", 1, 1),
    ]


def test_count_images_missing_magnification_has_own_row() -> None:
    table = count_images(IMAGES, "magnification")
    assert list(table["images"]) == [3, 2, 1]
    assert table["magnification"].isna().tolist() == [False, False, True]
    assert list(table["cases"]) == [3, 1, 0]


def test_case_table_has_one_row_per_case() -> None:
    table = case_table(IMAGES)
    assert list(table.columns) == [
        "case", "group", "class", "subtype", "sections", "images", "40X", "200X",
    ]  # fmt: skip
    assert rows(table) == [
        ("1", "1", "benign", "adenosis", 2, 3, 1, 2),
        ("2", "2", "malignant", "ductal_carcinoma", 1, 1, 1, 0),
        ("3", "3", "malignant", "ductal_carcinoma", 1, 1, 1, 0),
    ]


def test_case_table_without_cases_is_empty() -> None:
    assert len(case_table(IMAGES.iloc[5:])) == 0


def test_class_revealing_sizes_returns_size_of_one_class() -> None:
    assert rows(class_revealing_sizes(IMAGES)) == [("700x456", "malignant", 2, 1)]


@pytest.mark.parametrize("keep", [slice(0, 4), slice(3, 6)], ids=["one size", "one class"])
def test_class_revealing_sizes_one_size_or_class_is_empty(keep: slice) -> None:
    assert len(class_revealing_sizes(IMAGES.iloc[keep])) == 0


def official_names() -> list[str]:
    counts = {40: (625, 1370), 100: (644, 1437), 200: (623, 1390), 400: (588, 1232)}
    return [
        f"SOB_{kind}-14-1-{zoom}-{number}.png"
        for zoom, class_counts in counts.items()
        for kind, count in zip(("B_A", "M_DC"), class_counts, strict=True)
        for number in range(count)
    ]


def test_compare_with_official_complete_dataset_has_no_check() -> None:
    names = official_names()
    assert len(names) == 7909
    assert compare_with_official(names) == []
    assert compare_with_official([*names, "README.png"]) == []


def test_compare_with_official_missing_and_additional_images_have_checks() -> None:
    names = [*official_names()[1:], "SOB_M_DC-14-1-400-99999.png"]
    assert [check.message for check in compare_with_official(names)] == [
        "The dataset contains 624 benign images at 40X. BreakHis contains 625.",
        "The dataset contains 1,233 malignant images at 400X. BreakHis contains 1,232.",
    ]
