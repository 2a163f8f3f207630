"""Splits by official fold files, with and without leakage."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from bc_model.checks import make_check
from bc_model.data.breakhis import parse_name
from bc_model.data.dataset import COLUMNS, Dataset, load_dataset
from bc_model.data.official_folds import match_folds, read_fold_file
from bc_model.data.splits import count_leakage, make_split, require_matching_split
from bc_model.errors import SplitError

# Benign 100 and malignant 500 have sections in both subsets; all other cases in one.
TEST = ["SOB_B_A-14-100CD", "SOB_B_F-14-110", "SOB_M_DC-14-500B", "SOB_M_LC-14-510"]
TRAIN = [
    "SOB_B_A-14-100AB", "SOB_B_A-14-120", "SOB_B_A-14-130",
    "SOB_M_DC-14-500A", *(f"SOB_M_PC-14-{number}" for number in range(520, 529)),
]  # fmt: skip


def list_names(sections: list[str], suffix: str = "png") -> list[str]:
    return [f"{s}-{zoom}-{n:03d}.{suffix}" for s in sections for zoom in (40, 200) for n in (1, 2)]


def write_fold_file(
    folder: Path, train: list[str] | None = None, test: list[str] | None = None
) -> Path:
    subsets = {
        "train": list_names(TRAIN) if train is None else train,
        "test": list_names(TEST) if test is None else test,
    }
    lines = [
        f"{name}|{parse_name(name).magnification}|1|{subset}"
        for subset, names in subsets.items()
        for name in names
    ]
    path = folder / "dsfold1.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def make_dataset(
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
        pd.DataFrame(
            list((duplicates or {}).items()), columns=["path", "duplicate_of"], dtype="str"
        ),
    )


@pytest.fixture
def dataset() -> Dataset:
    return make_dataset(list_names(TRAIN + TEST))


def map_subsets(split: pd.DataFrame) -> dict[str, str]:
    return dict(zip(split["path"], split["subset"], strict=True))


def list_cases(split: pd.DataFrame, subset: str) -> set[str]:
    return set(split.loc[split["subset"] == subset, "case"])


# With leakage, as published


def test_make_split_folds_test_subset_is_that_of_file(tmp_path: Path, dataset: Dataset) -> None:
    split = make_split(dataset, "folds", official_fold_file=write_fold_file(tmp_path))
    assert set(split["protocol"]) == {"folds"}
    assert sorted(split.loc[split["subset"] == "test", "path"]) == sorted(list_names(TEST))
    assert sorted(split.loc[split["subset"] != "test", "path"]) == sorted(list_names(TRAIN))
    require_matching_split(split, dataset)


@pytest.mark.parametrize("fold", range(5))
@pytest.mark.parametrize("seed", [0, 7])
def test_make_split_folds_validation_consists_of_training_cases(
    tmp_path: Path, dataset: Dataset, fold: int, seed: int
) -> None:
    split = make_split(
        dataset, "folds", official_fold_file=write_fold_file(tmp_path), test_fold=fold, seed=seed
    )
    assert list_cases(split, "validation").isdisjoint(list_cases(split, "train"))
    for subset in ("train", "validation"):
        assert set(split.loc[split["subset"] == subset, "class"]) == {"benign", "malignant"}
    validating = split[split["subset"] == "validation"].drop_duplicates("case")
    # 3 benign cases in 3 folds, 10 malignant cases in 5.
    assert validating["class"].value_counts().to_dict() == {"malignant": 2, "benign": 1}


def test_make_split_folds_each_training_case_validates_in_one_fold(
    tmp_path: Path, dataset: Dataset
) -> None:
    path = write_fold_file(tmp_path)
    validation_cases = [
        list_cases(
            make_split(dataset, "folds", official_fold_file=path, test_fold=fold), "validation"
        )
        for fold in range(5)
    ]
    malignant = [case for cases in validation_cases for case in cases if case.startswith("5")]
    assert sorted(malignant) == ["500", *(str(number) for number in range(520, 529))]


def test_make_split_folds_has_section_leakage(tmp_path: Path, dataset: Dataset) -> None:
    leak = count_leakage(make_split(dataset, "folds", official_fold_file=write_fold_file(tmp_path)))
    # 100CD and 500B have four images each.
    assert (leak.n_cases, leak.n_test_images, leak.n_benign_test_images) == (2, 8, 4)


def test_make_split_folds_ignores_suffix_and_zeros(tmp_path: Path) -> None:
    dataset = make_dataset([name.replace("-001", "-1") for name in list_names(TRAIN, "jpg")]
                           + list_names(TEST, "jpg"))  # fmt: skip
    split = make_split(dataset, "folds", official_fold_file=write_fold_file(tmp_path))
    assert len(split) == len(dataset.images)


# Without leakage


@pytest.mark.parametrize("fold", range(5))
def test_make_split_clean_leaves_out_test_cases(
    tmp_path: Path, dataset: Dataset, fold: int
) -> None:
    path = write_fold_file(tmp_path)
    split = make_split(dataset, "folds-clean", official_fold_file=path, test_fold=fold)
    assert sorted(split.loc[split["subset"] == "test", "path"]) == sorted(list_names(TEST))
    kept = list_cases(split, "train") | list_cases(split, "validation")
    assert kept == {"120", "130", *(str(number) for number in range(520, 529))}
    assert count_leakage(split).n_test_images == 0


def test_make_split_clean_leaves_out_case_with_missing_test_images(tmp_path: Path) -> None:
    dataset = make_dataset(list_names([*TRAIN, "SOB_B_F-14-110", "SOB_M_LC-14-510"]))
    split = make_split(dataset, "folds-clean", official_fold_file=write_fold_file(tmp_path))
    assert {"100", "500"}.isdisjoint(split["case"])


def test_make_split_clean_leaves_out_case_in_group_of_test_case(tmp_path: Path) -> None:
    dataset = make_dataset(list_names(TRAIN + TEST), groups={"520": "510"})
    split = make_split(dataset, "folds-clean", official_fold_file=write_fold_file(tmp_path))
    assert "520" not in list_cases(split, "train") | list_cases(split, "validation")
    assert count_leakage(split).n_test_images == 0


def test_make_split_folds_image_in_both_subsets_is_in_test(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = list_names([*TRAIN, "SOB_B_F-14-110", "SOB_M_LC-14-510"])
    kept, duplicate = "SOB_M_PC-14-520-40-001.png", "SOB_M_DC-14-500B-40-001.png"
    dataset = make_dataset(names, duplicates={duplicate: kept})
    with caplog.at_level(logging.INFO, "bc_model.data"):
        split = make_split(dataset, "folds", official_fold_file=write_fold_file(tmp_path))
    assert map_subsets(split)[kept] == "test"
    assert make_check("BC263", n_duplicates=1).message in caplog.messages
    assert match_folds(dataset, read_fold_file(write_fold_file(tmp_path))).n_in_both == 1


def test_match_folds_finds_image_by_name_of_duplicate(tmp_path: Path) -> None:
    kept = "SOB_M_PC-14-999-40-001.png"
    dataset = make_dataset(
        [*list_names(TRAIN + TEST), kept], duplicates={"SOB_M_DC-14-500B-40-001.png": kept}
    )
    match = match_folds(dataset, read_fold_file(write_fold_file(tmp_path)))
    assert match.subset[dataset.images["path"] == kept].item() == "test"
    assert (match.n_unlisted, match.n_in_both) == (0, 0)


# Differences between file and dataset


def test_match_folds_unlisted_and_missing_images_have_checks(
    tmp_path: Path, dataset: Dataset
) -> None:
    path = write_fold_file(tmp_path, train=[*list_names(TRAIN), "SOB_M_DC-14-777-40-001.png"])
    names = [*dataset.images["path"], "SOB_M_PC-14-520-40-003.png"]
    dataset = make_dataset(names)
    match = match_folds(dataset, read_fold_file(path))
    assert (match.n_unlisted, match.n_missing) == (1, 1)
    assert match.checks() == [
        make_check("BC261", n_unlisted=1, n_images=len(names)),
        make_check("BC262", n_missing=1),
    ]
    assert len(make_split(dataset, "folds", official_fold_file=path)) == len(names) - 1


def test_make_split_folds_of_other_release_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    # 40 of 68 images are listed.
    path = write_fold_file(tmp_path, train=list_names(TRAIN[:6]))
    with pytest.raises(SplitError, match="at least 90% of the 68 images in it, got 40"):
        make_split(dataset, "folds", official_fold_file=path)


def test_make_split_folds_empty_test_subset_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(list_names(TRAIN))
    with pytest.raises(SplitError, match="for test"):
        make_split(dataset, "folds", official_fold_file=write_fold_file(tmp_path))


def test_make_split_clean_too_few_training_cases_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(list_names([*TRAIN[:2], *TRAIN[3:], *TEST]))
    make_split(dataset, "folds", official_fold_file=write_fold_file(tmp_path))
    with pytest.raises(SplitError, match=r"after leaving out .* at least 2 benign cases, got 1"):
        make_split(dataset, "folds-clean", official_fold_file=write_fold_file(tmp_path))


# Real files


@pytest.mark.real
@pytest.mark.parametrize("fold", range(1, 6))
@pytest.mark.parametrize("name", ["breakhis_200x_224", "breakhis_100x"])
def test_make_split_public_extract_with_official_file(
    real_data: Path, name: str, fold: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = real_data / f"folds/dsfold{fold}.txt"
    if not (real_data / name).is_dir() or not path.is_file():
        pytest.skip(f"{real_data} lacks {name} or the fold files")
    cache = tmp_path_factory.getbasetemp() / "pixels"
    dataset = load_dataset(real_data / name, cache_dir=cache)
    match = match_folds(dataset, read_fold_file(path))
    assert match.n_unlisted == {"breakhis_200x_224": 19, "breakhis_100x": 0}[name]
    has_leakage = make_split(dataset, "folds", official_fold_file=path)
    clean = make_split(dataset, "folds-clean", official_fold_file=path)
    assert count_leakage(clean).n_test_images == count_leakage(clean).n_duplicates == 0
    test = has_leakage["subset"] == "test"
    assert sorted(has_leakage.loc[test, "path"]) == sorted(
        clean.loc[clean["subset"] == "test", "path"]
    )
    assert count_leakage(has_leakage).n_cases > 0
