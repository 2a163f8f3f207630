"""Splits: what a split by case never shares, and what a split by picture is caught sharing."""

from pathlib import Path

import pandas as pd
import pytest

from bc_model.data.dataset import COLUMNS, Dataset
from bc_model.data.splits import (
    PROTOCOLS,
    PROTOCOLS_WITH_LEAKAGE,
    Leak,
    count_leaks,
    make_split,
    match_split,
    read_split,
    write_split,
)
from bc_model.errors import DataError, SplitError


def manifest_of(rows: list[dict]) -> Dataset:
    """Build a manifest from rows of class, case and whatever else differs from the defaults."""
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


def cases(
    *, benign: int = 5, malignant: int = 10, magnifications: tuple[int, ...] = (200,)
) -> list:
    """Return rows of numbered cases with two to four pictures each at each magnification."""
    names = ["benign"] * benign + ["malignant"] * malignant
    return [
        {"class": name, "case": str(1000 + number), "magnification": magnification}
        for number, name in enumerate(names)
        for magnification in magnifications
        for _ in range(2 + number % 3)
    ]


def sides(split: pd.DataFrame, column: str) -> int:
    """Return on how many parts the most scattered value of a column stands."""
    return int(split.groupby(column)["subset"].nunique().max())


# By case


@pytest.mark.parametrize("seed", [0, 1, 42])
@pytest.mark.parametrize("fold", range(5))
def test_a_split_by_case_proportions_nothing(fold: int, seed: int) -> None:
    split = make_split(manifest_of(cases()), "case", fold=fold, seed=seed)
    assert sides(split, "case") == sides(split, "group") == sides(split, "sha256") == 1
    leak = count_leaks(split)
    assert (leak.cases, leak.test_images, leak.pixels) == (0, 0, 0)


@pytest.mark.parametrize("protocol", ["case", "image"])
@pytest.mark.parametrize("fold", range(5))
def test_every_part_has_both_classes(fold: int, protocol: str) -> None:
    split = make_split(manifest_of(cases()), protocol, fold=fold)
    found = split.groupby("subset")["class"].unique().map(set).to_dict()
    both = {"benign", "malignant"}
    assert found == {"train": both, "validation": both, "test": both}


def test_each_fold_has_as_many_cases_of_a_class_as_the_others() -> None:
    # 5 benign and 10 malignant cases in 5 folds: 1 and 2 in each.
    for fold in range(5):
        split = make_split(manifest_of(cases()), "case", fold=fold)
        test = split[split["subset"] == "test"].drop_duplicates("case")
        assert test["class"].value_counts().to_dict() == {"benign": 1, "malignant": 2}


@pytest.mark.parametrize("protocol", ["case", "image"])
def test_over_all_folds_each_image_is_in_test_and_in_validation_once(protocol: str) -> None:
    dataset = manifest_of(cases())
    splits = pd.concat([make_split(dataset, protocol, fold=fold) for fold in range(5)])
    for subset in ("test", "validation"):
        paths = splits.loc[splits["subset"] == subset, "path"]
        assert sorted(paths) == sorted(dataset.images["path"])


def test_a_seed_gives_one_split_and_another_seed_another() -> None:
    dataset = manifest_of(cases())
    first = make_split(dataset, "case", seed=3)
    pd.testing.assert_frame_equal(first, make_split(dataset, "case", seed=3))
    assert not first.equals(make_split(dataset, "case", seed=4))


def test_the_magnifications_of_a_case_stay_together() -> None:
    dataset = manifest_of(cases(magnifications=(40, 100, 200, 400)))
    split = make_split(dataset, "case")
    assert set(split["magnification"]) == {40, 100, 200, 400}
    assert sides(split, "case") == 1


@pytest.mark.parametrize("seed", range(6))
def test_joined_cases_stay_together(seed: int) -> None:
    rows = cases(benign=6, malignant=6)
    for row in rows:
        if row["case"] in ("1001", "1002"):
            row["group"] = "1001"
    split = make_split(manifest_of(rows), "case", seed=seed)
    assert split.loc[split["group"] == "1001", "subset"].nunique() == 1


def test_a_split_has_every_image_once_in_the_order_of_the_manifest() -> None:
    dataset = manifest_of(cases())
    split = make_split(dataset, "case")
    assert list(split["path"]) == list(dataset.images["path"])
    assert set(split["protocol"]) == {"case"}


# By picture


def test_a_split_by_image_leaks_cases() -> None:
    split = make_split(manifest_of(cases()), "image")
    assert count_leaks(split).test_images > 0


def test_leaks_counted_by_hand() -> None:
    split = pd.DataFrame(
        # part, case, class, pixels
        [
            ("test", "1", "benign", "a"),  # case 1 is in training
            ("test", "1", "benign", "b"),  # and its pixels too
            ("test", "2", "malignant", "c"),  # case 2 is in validation, which chooses the model
            ("test", "3", "malignant", "d"),  # case 3 is nowhere else
            ("train", "1", "benign", "b"),
            ("validation", "2", "malignant", "e"),
        ],
        columns=["subset", "case", "class", "sha256"],
    ).assign(group=lambda frame: frame["case"])
    assert count_leaks(split) == Leak(
        cases=2, test_images=3, benign_test_images=2, n_test=4, n_benign_test=2, pixels=1
    )


def test_a_joined_case_in_training_is_a_leak() -> None:
    split = pd.DataFrame(
        {
            "subset": ["test", "train"],
            "case": ["2", "1"],
            "group": ["1", "1"],
            "class": "benign",
            "sha256": ["a", "b"],
        }
    )
    assert count_leaks(split).test_images == 1


def test_images_without_a_case_leak_only_by_their_pixels() -> None:
    split = pd.DataFrame(
        {
            "subset": ["test", "test", "train"],
            "case": "",
            "group": "",
            "class": "benign",
            "sha256": ["a", "b", "a"],
        }
    )
    leak = count_leaks(split)
    assert (leak.cases, leak.test_images, leak.pixels) == (0, 0, 1)


def test_images_without_a_case_can_be_split_by_image() -> None:
    rows = [{"class": name, "case": ""} for name in ("benign", "malignant") for _ in range(6)]
    parts = make_split(manifest_of(rows), "image", n_folds=3)["subset"].value_counts().to_dict()
    assert parts == {"train": 4, "validation": 4, "test": 4}


# By folder


def sections(*, benign: int = 6, malignant: int = 10) -> list[dict]:
    """Return rows of cases with two sections each and two pictures a section."""
    return [row | {"section": s} for row in cases(benign=benign, malignant=malignant) for s in "AB"]


@pytest.mark.parametrize("fold", range(5))
def test_a_split_by_folder_keeps_sections_whole_and_parts_siblings(fold: int) -> None:
    dataset = manifest_of(sections())
    split = make_split(dataset, "folder", fold=fold)
    section = split["path"].map(dataset.images.set_index("path")["section"])
    assert split.groupby(split["case"] + section)["subset"].nunique().max() == 1
    assert count_leaks(split).test_images > 0
    assert set(split["protocol"]) == {"folder"}


def test_a_split_by_folder_counts_folders_not_cases() -> None:
    # 3 benign cases are 6 folders.
    make_split(manifest_of(sections(benign=3)), "folder", n_folds=6)
    with pytest.raises(SplitError, match="at least 7 benign folders, one a fold; this data has 6"):
        make_split(manifest_of(sections(benign=3)), "folder", n_folds=7)


def test_exactly_these_protocols_leak() -> None:
    leakage_free = set(PROTOCOLS) - PROTOCOLS_WITH_LEAKAGE
    assert leakage_free == {"case", "folds-clean"}
    assert set(PROTOCOLS) - leakage_free == {"image", "folder", "folds"}


# What cannot be split


@pytest.mark.parametrize("protocol", ["folds", "folds-clean"])
def test_a_protocol_without_its_fold_file(protocol: str) -> None:
    with pytest.raises(SplitError, match=f"'{protocol}' needs an official fold file; choose one"):
        make_split(manifest_of(cases()), protocol)


@pytest.mark.parametrize("protocol", ["case", "folder", "image"])
def test_a_fold_file_that_the_protocol_does_not_take(protocol: str) -> None:
    with pytest.raises(SplitError, match=f"'{protocol}' takes no fold file; .* leave f.txt out"):
        make_split(manifest_of(cases()), protocol, folds_file="f.txt")


def test_an_unknown_protocol() -> None:
    with pytest.raises(SplitError, match=r"no split protocol 'random'; choose one of case, "):
        make_split(manifest_of(cases()), "random")


@pytest.mark.parametrize(("n_folds", "fold"), [(5, 5), (5, -1), (2, 0), (0, 0)])
def test_a_fold_out_of_range(n_folds: int, fold: int) -> None:
    with pytest.raises(SplitError, match=f"Fold {fold} of {n_folds}"):
        make_split(manifest_of(cases()), "case", n_folds=n_folds, fold=fold)


def test_one_class_only() -> None:
    with pytest.raises(SplitError, match=r"All .* pictures under set are malignant"):
        make_split(manifest_of(cases(benign=0)), "case")


def test_fewer_cases_than_folds_names_the_numbers() -> None:
    with pytest.raises(SplitError, match=r"at least 5 benign cases, one a fold; this data has 4"):
        make_split(manifest_of(cases(benign=4)), "case", n_folds=5)


def test_joined_cases_count_as_one_towards_the_folds() -> None:
    rows = cases(benign=5)
    for row in rows:
        if row["case"] == "1001":
            row["group"] = "1000"
    with pytest.raises(SplitError, match="this data has 4"):
        make_split(manifest_of(rows), "case", n_folds=5)


def test_unknown_cases_cannot_be_split_by_case() -> None:
    rows = [*cases(), {"class": "benign", "case": ""}]
    for protocol in ("case", "folder"):
        with pytest.raises(SplitError, match=f"carry no case .* split by {protocol} cannot"):
            make_split(manifest_of(rows), protocol)


# On disk


def test_a_split_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = cases()
    for row in rows:
        if row["case"] == "1000":
            row |= {"case": "013", "magnification": pd.NA}
    split = make_split(manifest_of(rows), "case")
    write_split(split, tmp_path / "split.csv")
    back = read_split(tmp_path / "split.csv")
    assert back["magnification"].isna().sum() == 2
    assert "013" in set(back["case"])
    pd.testing.assert_frame_equal(back, split, check_dtype=False)


def test_a_split_without_cases_and_magnifications_comes_back(tmp_path: Path) -> None:
    rows = [
        {"class": name, "case": "", "magnification": pd.NA}
        for name in ("benign", "malignant")
        for _ in range(3)
    ]
    split = make_split(manifest_of(rows), "image", n_folds=3)
    write_split(split, tmp_path / "split.csv")
    back = read_split(tmp_path / "split.csv")
    assert list(back["case"]) == list(back["group"]) == [""] * 6
    assert count_leaks(back) == count_leaks(split)


def test_a_case_named_like_a_missing_value_stays_a_string(tmp_path: Path) -> None:
    split = make_split(manifest_of(cases()), "case").assign(group="NA")
    write_split(split, tmp_path / "split.csv")
    assert set(read_split(tmp_path / "split.csv")["group"]) == {"NA"}


def test_a_missing_split_file(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"no split file .*split\.csv"):
        read_split(tmp_path / "split.csv")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"path,part\n1.png,test\n",
        b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe",
        b'"path\n',
        b"path,sha256,class,case,group,magnification,part,protocol\na,b,benign,1,1,big,test,case\n",
        b"path,sha256,class,case,group,magnification,part,protocol\na,b,benign,1,1,200,exam,case\n",
        b"path,sha256,class,case,group,magnification,part,protocol\na,b,foo,1,1,200,test,case\n",
        b"path,sha256,class,case,group,magnification,part,protocol\na,b,benign,1,1,200,test,luck\n",
    ],
)
def test_other_files_are_not_splits(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    with pytest.raises(SplitError, match=r"split\.csv is not a split file"):
        read_split(path)


def test_a_folder_is_not_a_split(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="is not a split file"):
        read_split(tmp_path)


def test_a_image_that_stands_in_a_split_twice_is_said_so(tmp_path: Path) -> None:
    split = make_split(manifest_of(cases()), "case")
    write_split(pd.concat([split, split.iloc[:1]]), tmp_path / "split.csv")
    with pytest.raises(SplitError, match=r"twice|once|more than|duplicate"):
        read_split(tmp_path / "split.csv")


# Against the data


def test_a_split_matches_the_data_it_was_made_from() -> None:
    dataset = manifest_of(cases())
    match_split(make_split(dataset, "case"), dataset)


def test_a_image_of_the_split_that_is_gone_is_named() -> None:
    dataset = manifest_of(cases())
    split = make_split(dataset, "case")
    smaller = Dataset(dataset.root, dataset.images.drop(index=7), dataset.excluded)
    with pytest.raises(DataError, match=rf"1 of {len(split)} pictures .* first 007\.png"):
        match_split(split, smaller)


def test_a_image_with_other_pixels_is_named() -> None:
    dataset = manifest_of(cases())
    split = make_split(dataset, "case")
    split.loc[7, "sha256"] = "f" * 64
    with pytest.raises(DataError, match=r"have other pixels than .* first 007\.png"):
        match_split(split, dataset)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("class", "malignant", "class"), ("case", "7", "case"), ("group", "7", "group of cases")],
)
def test_a_image_of_another_class_or_case_is_named(column: str, value: str, words: str) -> None:
    dataset = manifest_of(cases())
    split = make_split(dataset, "case")
    split.loc[7, column] = value
    with pytest.raises(
        DataError, match=rf"1 of {len(split)} pictures have another {words} than .* first 007\.png"
    ):
        match_split(split, dataset)


def test_a_image_more_than_the_split_knows_is_no_misfit() -> None:
    dataset = manifest_of(cases())
    split = make_split(dataset, "case").drop(index=7)
    match_split(split, dataset)
