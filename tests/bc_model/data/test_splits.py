"""Splits by protocol, their leakage reports and files."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bc_model.data.dataset import COLUMNS, Dataset, load_dataset
from bc_model.data.dataset_rules import parse_rules
from bc_model.data.splits import (
    PROTOCOLS,
    PROTOCOLS_WITH_LEAKAGE,
    Leakage,
    count_leakage,
    make_split,
    read_split,
    require_matching_split,
    write_split,
)
from bc_model.errors import DataError, SplitError


def make_dataset(rows: list[dict]) -> Dataset:
    """Return a dataset from rows with class, case and other columns that are not the default."""
    full = [
        {
            "path": f"{i:03d}.png", "sha256": f"{i:064x}", "subtype": "unknown", "year": 14,
            "section": "", "magnification": 200, "width_px": 700, "height_px": 460, "dhash": i,
            "group": row["case"], **row,
        }
        for i, row in enumerate(rows)
    ]  # fmt: skip
    images = pd.DataFrame(full)[COLUMNS].astype({"year": "Int64", "magnification": "Int64"})
    return Dataset(Path("set"), images, pd.DataFrame(columns=["path", "reason", "detail"]))


def make_cases(
    *, benign: int = 5, malignant: int = 10, magnifications: tuple[int, ...] = (200,)
) -> list:
    """Return rows of numbered cases with two to four images at each magnification."""
    names = ["benign"] * benign + ["malignant"] * malignant
    return [
        {"class": name, "case": str(1000 + number), "magnification": magnification}
        for number, name in enumerate(names)
        for magnification in magnifications
        for _ in range(2 + number % 3)
    ]


def count_subsets(split: pd.DataFrame, column: str) -> int:
    """Return the largest number of subsets of a value in a column."""
    return int(split.groupby(column)["subset"].nunique().max())


# Case-level split


@pytest.mark.parametrize("seed", [0, 1, 42])
@pytest.mark.parametrize("fold", range(5))
def test_make_split_case_has_no_leakage(fold: int, seed: int) -> None:
    split = make_split(make_dataset(make_cases()), "case", test_fold=fold, seed=seed)
    assert (
        count_subsets(split, "case")
        == count_subsets(split, "group")
        == count_subsets(split, "sha256")
        == 1
    )
    leakage = count_leakage(split)
    assert (leakage.n_cases, leakage.n_test_images, leakage.n_duplicates) == (0, 0, 0)


@pytest.mark.parametrize("protocol", ["case", "image"])
@pytest.mark.parametrize("fold", range(5))
def test_make_split_all_subsets_have_both_classes(fold: int, protocol: str) -> None:
    split = make_split(make_dataset(make_cases()), protocol, test_fold=fold)
    found = split.groupby("subset")["class"].unique().map(set).to_dict()
    both = {"benign", "malignant"}
    assert found == {"train": both, "validation": both, "test": both}


def test_make_split_case_folds_have_equal_numbers_of_cases() -> None:
    # 5 benign and 10 malignant cases in 5 folds: 1 and 2 in each.
    for fold in range(5):
        split = make_split(make_dataset(make_cases()), "case", test_fold=fold)
        test = split[split["subset"] == "test"].drop_duplicates("case")
        assert test["class"].value_counts().to_dict() == {"benign": 1, "malignant": 2}


@pytest.mark.parametrize("protocol", ["case", "image"])
def test_make_split_each_image_is_in_test_and_validation_of_one_fold(protocol: str) -> None:
    dataset = make_dataset(make_cases())
    splits = pd.concat([make_split(dataset, protocol, test_fold=fold) for fold in range(5)])
    for subset in ("test", "validation"):
        paths = splits.loc[splits["subset"] == subset, "path"]
        assert sorted(paths) == sorted(dataset.images["path"])


def test_make_split_depends_on_seed() -> None:
    dataset = make_dataset(make_cases())
    first = make_split(dataset, "case", seed=3)
    pd.testing.assert_frame_equal(first, make_split(dataset, "case", seed=3))
    assert not first.equals(make_split(dataset, "case", seed=4))


def test_make_split_case_keeps_magnifications_together() -> None:
    dataset = make_dataset(make_cases(magnifications=(40, 100, 200, 400)))
    split = make_split(dataset, "case")
    assert set(split["magnification"]) == {40, 100, 200, 400}
    assert count_subsets(split, "case") == 1


@pytest.mark.parametrize("seed", range(6))
def test_make_split_case_keeps_group_together(seed: int) -> None:
    rows = make_cases(benign=6, malignant=6)
    for row in rows:
        if row["case"] in ("1001", "1002"):
            row["group"] = "1001"
    split = make_split(make_dataset(rows), "case", seed=seed)
    assert split.loc[split["group"] == "1001", "subset"].nunique() == 1


def test_make_split_contains_each_image_in_order() -> None:
    dataset = make_dataset(make_cases())
    split = make_split(dataset, "case")
    assert list(split["path"]) == list(dataset.images["path"])
    assert set(split["protocol"]) == {"case"}


# Image-level split and leakage


def test_make_split_image_has_leakage() -> None:
    split = make_split(make_dataset(make_cases()), "image")
    assert count_leakage(split).n_test_images > 0


def test_count_leakage_returns_manual_counts() -> None:
    split = pd.DataFrame(
        # subset, case, class, pixels
        [
            ("test", "1", "benign", "a"),  # case 1 is in training
            ("test", "1", "benign", "b"),  # and its pixels as well
            ("test", "2", "malignant", "c"),  # case 2 is in validation, which selects the epoch
            ("test", "3", "malignant", "d"),  # case 3 is in test only
            ("train", "1", "benign", "b"),
            ("validation", "2", "malignant", "e"),
        ],
        columns=["subset", "case", "class", "sha256"],
    ).assign(group=lambda frame: frame["case"])
    assert count_leakage(split) == Leakage(
        n_cases=2,
        n_test_images=3,
        n_benign_test_images=2,
        n_duplicates=1,
        total_test_images=4,
        total_benign_test_images=2,
    )


def test_count_leakage_case_of_same_group_in_training_is_counted() -> None:
    split = pd.DataFrame(
        {
            "subset": ["test", "train"],
            "case": ["2", "1"],
            "group": ["1", "1"],
            "class": "benign",
            "sha256": ["a", "b"],
        }
    )
    assert count_leakage(split).n_test_images == 1


def test_count_leakage_images_without_case_count_as_duplicates_only() -> None:
    split = pd.DataFrame(
        {
            "subset": ["test", "test", "train"],
            "case": "",
            "group": "",
            "class": "benign",
            "sha256": ["a", "b", "a"],
        }
    )
    leakage = count_leakage(split)
    assert (leakage.n_cases, leakage.n_test_images, leakage.n_duplicates) == (0, 0, 1)


def test_make_split_image_accepts_images_without_case() -> None:
    rows = [{"class": name, "case": ""} for name in ("benign", "malignant") for _ in range(6)]
    parts = make_split(make_dataset(rows), "image", n_folds=3)["subset"].value_counts().to_dict()
    assert parts == {"train": 4, "validation": 4, "test": 4}


# Section-level split


def make_sections(*, benign: int = 6, malignant: int = 10) -> list[dict]:
    """Return rows of cases with two sections each."""
    return [
        row | {"section": s} for row in make_cases(benign=benign, malignant=malignant) for s in "AB"
    ]


@pytest.mark.parametrize("fold", range(5))
def test_make_split_folder_keeps_sections_and_divides_cases(fold: int) -> None:
    dataset = make_dataset(make_sections())
    split = make_split(dataset, "folder", test_fold=fold)
    section = split["path"].map(dataset.images.set_index("path")["section"])
    assert split.groupby(split["case"] + section)["subset"].nunique().max() == 1
    assert count_leakage(split).n_test_images > 0
    assert set(split["protocol"]) == {"folder"}


def test_make_split_folder_needs_sections_not_cases() -> None:
    # 3 benign cases are 6 folders.
    make_split(make_dataset(make_sections(benign=3)), "folder", n_folds=6)
    with pytest.raises(SplitError, match=r"Too few benign section folders .* at least 7, got 6"):
        make_split(make_dataset(make_sections(benign=3)), "folder", n_folds=7)


def test_protocols_with_leakage_are_image_folder_and_folds() -> None:
    leakage_free = set(PROTOCOLS) - PROTOCOLS_WITH_LEAKAGE
    assert leakage_free == {"case", "folds-clean"}
    assert set(PROTOCOLS) - leakage_free == {"image", "folder", "folds"}


# Invalid splits


@pytest.mark.parametrize("protocol", ["folds", "folds-clean"])
def test_make_split_folds_without_file_is_refused(protocol: str) -> None:
    with pytest.raises(SplitError, match=f"'{protocol}' needs an official fold file"):
        make_split(make_dataset(make_cases()), protocol)


@pytest.mark.parametrize("protocol", ["case", "folder", "image"])
def test_make_split_other_protocol_with_fold_file_is_refused(protocol: str) -> None:
    with pytest.raises(SplitError, match=f"'{protocol}' does not use a fold file"):
        make_split(make_dataset(make_cases()), protocol, official_fold_file="f.txt")


def test_make_split_unknown_protocol_is_refused() -> None:
    with pytest.raises(
        SplitError, match=r"Unknown split protocol 'random'. Expected one of case, "
    ):
        make_split(make_dataset(make_cases()), "random")


@pytest.mark.parametrize(("n_folds", "fold"), [(5, 5), (5, -1), (2, 0), (0, 0)])
def test_make_split_test_fold_out_of_range_is_refused(n_folds: int, fold: int) -> None:
    with pytest.raises(SplitError, match=f"Invalid test fold {fold} of {n_folds} folds"):
        make_split(make_dataset(make_cases()), "case", n_folds=n_folds, test_fold=fold)


def test_make_split_one_class_is_refused() -> None:
    with pytest.raises(SplitError, match=r"set has one class only.* malignant images"):
        make_split(make_dataset(make_cases(benign=0)), "case")


def test_make_split_fewer_cases_than_folds_is_refused() -> None:
    with pytest.raises(SplitError, match=r"Too few benign cases for 5 folds.* got 4"):
        make_split(make_dataset(make_cases(benign=4)), "case", n_folds=5)


def test_make_split_group_counts_as_one_case() -> None:
    rows = make_cases(benign=5)
    for row in rows:
        if row["case"] == "1001":
            row["group"] = "1000"
    with pytest.raises(SplitError, match="got 4"):
        make_split(make_dataset(rows), "case", n_folds=5)


def test_make_split_images_without_case_are_refused() -> None:
    rows = [*make_cases(), {"class": "benign", "case": ""}]
    for protocol in ("case", "folder"):
        with pytest.raises(SplitError, match=f"protocol '{protocol}' needs cases"):
            make_split(make_dataset(rows), protocol)


# Files


def test_read_split_returns_written_split(tmp_path: Path) -> None:
    rows = make_cases()
    for row in rows:
        if row["case"] == "1000":
            row |= {"case": "013", "magnification": pd.NA}
    split = make_split(make_dataset(rows), "case")
    write_split(split, tmp_path / "split.csv")
    back = read_split(tmp_path / "split.csv")
    assert back["magnification"].isna().sum() == 2
    assert "013" in set(back["case"])
    pd.testing.assert_frame_equal(back, split, check_dtype=False)


def test_read_split_without_cases_and_magnifications(tmp_path: Path) -> None:
    rows = [
        {"class": name, "case": "", "magnification": pd.NA}
        for name in ("benign", "malignant")
        for _ in range(3)
    ]
    split = make_split(make_dataset(rows), "image", n_folds=3)
    write_split(split, tmp_path / "split.csv")
    back = read_split(tmp_path / "split.csv")
    assert list(back["case"]) == list(back["group"]) == [""] * 6
    assert count_leakage(back) == count_leakage(split)


def test_read_split_group_like_missing_value_stays_string(tmp_path: Path) -> None:
    split = make_split(make_dataset(make_cases()), "case").assign(group="NA")
    write_split(split, tmp_path / "split.csv")
    assert set(read_split(tmp_path / "split.csv")["group"]) == {"NA"}


def test_read_split_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"There is no split file .*split\.csv"):
        read_split(tmp_path / "split.csv")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"path,subset\n1.png,test\n",
        b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe",
        b'"path\n',
        b"path,sha256,class,case,group,magnification,subset,protocol\na,b,benign,1,1,big,test,case\n",
        b"path,sha256,class,case,group,magnification,subset,protocol\na,b,benign,1,1,200,exam,case\n",
        b"path,sha256,class,case,group,magnification,subset,protocol\na,b,foo,1,1,200,test,case\n",
        b"path,sha256,class,case,group,magnification,subset,protocol\na,b,benign,1,1,200,test,luck\n",
    ],
)
def test_read_split_other_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    with pytest.raises(SplitError, match=r"split\.csv is not a split file"):
        read_split(path)


def test_read_split_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="is not a split file"):
        read_split(tmp_path)


def test_read_split_duplicate_path_is_refused(tmp_path: Path) -> None:
    split = make_split(make_dataset(make_cases()), "case")
    write_split(pd.concat([split, split.iloc[:1]]), tmp_path / "split.csv")
    with pytest.raises(SplitError, match="is listed twice"):
        read_split(tmp_path / "split.csv")


# Comparison with the dataset


def test_require_matching_split_own_dataset_is_accepted() -> None:
    dataset = make_dataset(make_cases())
    require_matching_split(make_split(dataset, "case"), dataset)


def test_require_matching_split_missing_image_raises() -> None:
    dataset = make_dataset(make_cases())
    split = make_split(dataset, "case")
    smaller = Dataset(dataset.root, dataset.images.drop(index=7), dataset.excluded)
    with pytest.raises(DataError, match=rf"lacks 1 of {len(split)} images .* first is 007\.png"):
        require_matching_split(split, smaller)


def test_require_matching_split_changed_pixels_raise() -> None:
    dataset = make_dataset(make_cases())
    split = make_split(dataset, "case")
    split.loc[7, "sha256"] = "f" * 64
    with pytest.raises(DataError, match=r"The pixels of .* first is 007\.png"):
        require_matching_split(split, dataset)


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [("class", "malignant", "class"), ("case", "7", "case"), ("group", "7", "group of cases")],
)
def test_require_matching_split_changed_label_raises(column: str, value: str, name: str) -> None:
    dataset = make_dataset(make_cases())
    split = make_split(dataset, "case")
    split.loc[7, column] = value
    with pytest.raises(
        DataError, match=rf"The {name} of 1 of {len(split)} images has changed .* first is 007\.png"
    ):
        require_matching_split(split, dataset)


def test_require_matching_split_additional_image_is_accepted() -> None:
    dataset = make_dataset(make_cases())
    split = make_split(dataset, "case").drop(index=7)
    require_matching_split(split, dataset)


def test_cases_with_both_classes_are_divided_evenly(labeled_dataset: Path) -> None:
    """Each of ten patients has images of both classes, as in patches of tumors."""
    rules = parse_rules("0=benign,1=malignant,2=exclude", "folder:2")
    dataset = load_dataset(labeled_dataset, rules=rules)
    split = make_split(dataset, n_folds=5)
    cases = split.groupby("subset")["case"].nunique()
    assert cases.to_dict() == {"test": 2, "train": 6, "validation": 2}
    assert split.groupby("subset")["class"].nunique().eq(2).all()
    assert split.groupby("case")["subset"].nunique().eq(1).all()
    # Three pure cases are too few for a stratum of their own.
    images = dataset.images
    is_pure = images["case"].isin(["patient0", "patient1", "patient2"])
    pure = replace(dataset, images=images[~is_pure | (images["class"] == "benign")])
    split = make_split(pure, n_folds=5)
    assert split["case"].nunique() == 10
    with pytest.raises(SplitError, match="Too few malignant cases for 8 folds"):
        make_split(pure, n_folds=8)
