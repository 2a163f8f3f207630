"""Splits by the official fold files: test as given and, when clean, none of its cases elsewhere."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from bc_model.checks import make_check
from bc_model.data.breakhis import parse_name
from bc_model.data.dataset import COLUMNS, Dataset, read_dataset
from bc_model.data.official_folds import match_folds, read_fold_file
from bc_model.data.splits import count_leaks, make_split, match_split
from bc_model.errors import SplitError

# Benign 100 and malignant 500 have sections on both sides; the other cases stand on one.
TEST = ["SOB_B_A-14-100CD", "SOB_B_F-14-110", "SOB_M_DC-14-500B", "SOB_M_LC-14-510"]
TRAIN = [
    "SOB_B_A-14-100AB", "SOB_B_A-14-120", "SOB_B_A-14-130",
    "SOB_M_DC-14-500A", *(f"SOB_M_PC-14-{number}" for number in range(520, 529)),
]  # fmt: skip


def images_of(sections: list[str], suffix: str = "png") -> list[str]:
    return [f"{s}-{zoom}-{n:03d}.{suffix}" for s in sections for zoom in (40, 200) for n in (1, 2)]


def fold_file(folder: Path, train: list[str] | None = None, test: list[str] | None = None) -> Path:
    sides = {
        "train": images_of(TRAIN) if train is None else train,
        "test": images_of(TEST) if test is None else test,
    }
    lines = [
        f"{name}|{parse_name(name).magnification}|1|{side}"
        for side, names in sides.items()
        for name in names
    ]
    path = folder / "dsfold1.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def manifest_of(
    names: list[str],
    *,
    duplicates: dict[str, str] | None = None,
    groups: dict[str, str] | None = None,
) -> Dataset:
    rows = []
    for number, name in enumerate(sorted(names)):
        parsed = parse_name(name)
        rows.append(
            {
                "path": name, "sha256": f"{number:064x}", "class": parsed.class_name,
                "subtype": parsed.subtype, "year": 14, "case": parsed.case,
                "section": parsed.section, "magnification": parsed.magnification,
                "width_px": 700, "height_px": 460, "dhash": number,
                "group": (groups or {}).get(parsed.case, parsed.case),
            }
        )  # fmt: skip
    return Dataset(
        Path("set"),
        pd.DataFrame(rows)[COLUMNS].astype({"year": "Int64", "magnification": "Int64"}),
        pd.DataFrame(columns=["path", "reason", "detail"]),
        pd.DataFrame(list((duplicates or {}).items()), columns=["path", "twin_of"], dtype="str"),
    )


@pytest.fixture
def whole() -> Dataset:
    return manifest_of(images_of(TRAIN + TEST))


def part_of(split: pd.DataFrame) -> dict[str, str]:
    return dict(zip(split["path"], split["part"], strict=True))


def cases(split: pd.DataFrame, part: str) -> set[str]:
    return set(split.loc[split["part"] == part, "case"])


# As published


def test_test_is_as_the_file_gives_it(tmp_path: Path, whole: Dataset) -> None:
    split = make_split(whole, "folds", folds_file=fold_file(tmp_path))
    assert set(split["protocol"]) == {"folds"}
    assert sorted(split.loc[split["part"] == "test", "path"]) == sorted(images_of(TEST))
    assert sorted(split.loc[split["part"] != "test", "path"]) == sorted(images_of(TRAIN))
    match_split(split, whole)


@pytest.mark.parametrize("fold", range(5))
@pytest.mark.parametrize("seed", [0, 7])
def test_validation_is_whole_cases_of_training(
    tmp_path: Path, whole: Dataset, fold: int, seed: int
) -> None:
    split = make_split(whole, "folds", folds_file=fold_file(tmp_path), fold=fold, seed=seed)
    assert cases(split, "validation").isdisjoint(cases(split, "train"))
    for part in ("train", "validation"):
        assert set(split.loc[split["part"] == part, "class"]) == {"benign", "malignant"}
    validating = split[split["part"] == "validation"].drop_duplicates("case")
    # 3 benign cases in 3 shares, 10 malignant ones in 5.
    assert validating["class"].value_counts().to_dict() == {"malignant": 2, "benign": 1}


def test_each_case_of_training_validates_in_one_proportion(tmp_path: Path, whole: Dataset) -> None:
    path = fold_file(tmp_path)
    proportions = [
        cases(make_split(whole, "folds", folds_file=path, fold=fold), "validation")
        for fold in range(5)
    ]
    malignant = [case for proportion in proportions for case in proportion if case.startswith("5")]
    assert sorted(malignant) == ["500", *(str(number) for number in range(520, 529))]


def test_the_published_files_leak_siblings(tmp_path: Path, whole: Dataset) -> None:
    leak = count_leaks(make_split(whole, "folds", folds_file=fold_file(tmp_path)))
    # 100CD and 500B: four pictures each.
    assert (leak.cases, leak.test_images, leak.benign_test_images) == (2, 8, 4)


def test_suffix_and_zeros_do_not_count(tmp_path: Path) -> None:
    dataset = manifest_of([name.replace("-001", "-1") for name in images_of(TRAIN, "jpg")]
                           + images_of(TEST, "jpg"))  # fmt: skip
    split = make_split(dataset, "folds", folds_file=fold_file(tmp_path))
    assert len(split) == len(dataset.images)


# Clean


@pytest.mark.parametrize("fold", range(5))
def test_clean_keeps_the_cases_of_test_out(tmp_path: Path, whole: Dataset, fold: int) -> None:
    path = fold_file(tmp_path)
    split = make_split(whole, "folds-clean", folds_file=path, fold=fold)
    assert sorted(split.loc[split["part"] == "test", "path"]) == sorted(images_of(TEST))
    kept = cases(split, "train") | cases(split, "validation")
    assert kept == {"120", "130", *(str(number) for number in range(520, 529))}
    assert count_leaks(split).test_images == 0


def test_clean_keeps_out_a_case_whose_test_images_are_not_here(tmp_path: Path) -> None:
    dataset = manifest_of(images_of([*TRAIN, "SOB_B_F-14-110", "SOB_M_LC-14-510"]))
    split = make_split(dataset, "folds-clean", folds_file=fold_file(tmp_path))
    assert {"100", "500"}.isdisjoint(split["case"])


def test_clean_keeps_out_a_case_joined_with_one_of_test(tmp_path: Path) -> None:
    dataset = manifest_of(images_of(TRAIN + TEST), groups={"520": "510"})
    split = make_split(dataset, "folds-clean", folds_file=fold_file(tmp_path))
    assert "520" not in cases(split, "train") | cases(split, "validation")
    assert count_leaks(split).test_images == 0


def test_a_image_on_both_sides_under_two_names_is_in_test(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = images_of([*TRAIN, "SOB_B_F-14-110", "SOB_M_LC-14-510"])
    kept, duplicate = "SOB_M_PC-14-520-40-001.png", "SOB_M_DC-14-500B-40-001.png"
    dataset = manifest_of(names, duplicates={duplicate: kept})
    with caplog.at_level(logging.INFO, "bc_model.data"):
        split = make_split(dataset, "folds", folds_file=fold_file(tmp_path))
    assert part_of(split)[kept] == "test"
    assert make_check("BC263", n_duplicates=1).message in caplog.messages
    assert match_folds(dataset, read_fold_file(fold_file(tmp_path))).both_sides == 1


def test_a_image_listed_under_its_other_name_alone_is_found(tmp_path: Path) -> None:
    kept = "SOB_M_PC-14-999-40-001.png"
    dataset = manifest_of(
        [*images_of(TRAIN + TEST), kept], duplicates={"SOB_M_DC-14-500B-40-001.png": kept}
    )
    match = match_folds(dataset, read_fold_file(fold_file(tmp_path)))
    assert match.side[dataset.images["path"] == kept].item() == "test"
    assert (match.not_listed, match.both_sides) == (0, 0)


# What the file and the data do not have in common


def test_what_is_not_in_common_is_counted_and_said(tmp_path: Path, whole: Dataset) -> None:
    path = fold_file(tmp_path, train=[*images_of(TRAIN), "SOB_M_DC-14-777-40-001.png"])
    names = [*whole.images["path"], "SOB_M_PC-14-520-40-003.png"]
    dataset = manifest_of(names)
    match = match_folds(dataset, read_fold_file(path))
    assert (match.not_listed, match.absent) == (1, 1)
    assert match.checks() == [
        make_check("BC261", n_unlisted=1, n_images=len(names)),
        make_check("BC262", n_missing=1),
    ]
    assert len(make_split(dataset, "folds", folds_file=path)) == len(names) - 1


def test_a_file_of_another_release_is_refused_with_counts(tmp_path: Path, whole: Dataset) -> None:
    # 40 of 68 pictures are listed.
    path = fold_file(tmp_path, train=images_of(TRAIN[:6]))
    with pytest.raises(SplitError, match=r"dsfold1\.txt lists 40 of the 68 pictures under set and "
                                         r"must list 90%; it is of another release"):  # fmt: skip
        make_split(whole, "folds", folds_file=path)


def test_no_image_in_the_test_part(tmp_path: Path) -> None:
    dataset = manifest_of(images_of(TRAIN))
    with pytest.raises(SplitError, match="stands in the test part"):
        make_split(dataset, "folds", folds_file=fold_file(tmp_path))


def test_too_few_cases_left_for_training(tmp_path: Path) -> None:
    dataset = manifest_of(images_of([*TRAIN[:2], *TRAIN[3:], *TEST]))
    make_split(dataset, "folds", folds_file=fold_file(tmp_path))
    with pytest.raises(SplitError, match=r"leaves 1 benign cases .* once siblings and twins"):
        make_split(dataset, "folds-clean", folds_file=fold_file(tmp_path))


# On the real files


@pytest.mark.real
@pytest.mark.parametrize("fold", range(1, 6))
@pytest.mark.parametrize("name", ["breakhis_200x_224", "breakhis_100x"])
def test_a_public_extract_splits_by_each_official_file(
    real_data: Path, name: str, fold: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = real_data / f"folds/dsfold{fold}.txt"
    if not (real_data / name).is_dir() or not path.is_file():
        pytest.skip(f"there is no {name} or no fold files in {real_data}")
    cache = tmp_path_factory.getbasetemp() / "pixels"
    dataset = read_dataset(real_data / name, cache=cache)
    match = match_folds(dataset, read_fold_file(path))
    assert match.not_listed == {"breakhis_200x_224": 19, "breakhis_100x": 0}[name]
    has_leakage = make_split(dataset, "folds", folds_file=path)
    clean = make_split(dataset, "folds-clean", folds_file=path)
    assert count_leaks(clean).test_images == count_leaks(clean).pixels == 0
    test = has_leakage["part"] == "test"
    assert sorted(has_leakage.loc[test, "path"]) == sorted(
        clean.loc[clean["part"] == "test", "path"]
    )
    assert count_leaks(has_leakage).cases > 0
