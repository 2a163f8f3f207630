"""Summaries of datasets and fold files: counts and checks."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from bc_model.data.dataset import COLUMNS, Dataset, load_dataset
from bc_model.data.official_folds import read_fold_file
from bc_model.data.summary import fingerprint_folder, summarize_dataset, summarize_fold_file


def checks_of(summary: dict) -> dict[str, dict]:
    """Return the parameters of each check by its code."""
    return {check["code"]: check["params"] for check in summary["checks"]}


def make_dataset(*rows: dict, excluded: tuple[tuple[str, str], ...] = ()) -> Dataset:
    full = [
        {
            "path": f"{i}.png", "sha256": f"{i:064x}", "subtype": "unknown", "year": 14,
            "section": "", "magnification": 200, "width_px": 700, "height_px": 460,
            "dhash": i * 0x9E3779B97F4A7C15 % 2**64,
            "group": row["case"], **row,
        }
        for i, row in enumerate(rows)
    ]  # fmt: skip
    images = pd.DataFrame(full)[COLUMNS].astype({"year": "Int64", "magnification": "Int64"})
    excluded_rows = [(path, reason, "why") for path, reason in excluded]
    return Dataset(
        Path("set"), images, pd.DataFrame(excluded_rows, columns=["path", "reason", "detail"])
    )


BENIGN = {"class": "benign", "subtype": "adenosis", "case": "1"}
MALIGNANT = {"class": "malignant", "subtype": "ductal_carcinoma", "case": "2"}


def test_summarize_dataset_counts_images_cases_and_files() -> None:
    summary = summarize_dataset(
        make_dataset(
            BENIGN | {"section": "A", "magnification": 40},
            BENIGN | {"section": "B"},
            BENIGN | {"section": "B"},
            MALIGNANT,
            MALIGNANT | {"case": "3", "height_px": 456},
            excluded=(("x.png", "empty"), ("y.png", "duplicate"), ("z.png", "duplicate")),
        )
    )
    expected = {
        "root": "set",
        "images": 5,
        "cases": 3,
        "benign_cases": 1,
        "malignant_cases": 2,
        "sections": 4,  # 1A, 1B, 2, 3
        "images_without_case": 0,
        "by_class": {"benign": 3, "malignant": 2},
        "by_magnification": {"200X": 4, "40X": 1},
        "by_subtype": {"adenosis": 3, "ductal_carcinoma": 2},
        "by_size": {"700x456": 1, "700x460": 4},
        "excluded": {"duplicate": 2, "empty": 1},
    }
    assert {key: summary[key] for key in expected} == expected
    assert summary["excluded_files"][0] == {"path": "x.png", "reason": "empty", "detail": "why"}


def test_summarize_dataset_is_json_safe(synthetic_dataset: Path) -> None:
    summary = summarize_dataset(load_dataset(synthetic_dataset))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_summarize_dataset_images_without_case_have_check() -> None:
    unnamed = BENIGN | {"case": "", "magnification": pd.NA}
    summary = summarize_dataset(make_dataset(unnamed, unnamed, MALIGNANT))
    assert (summary["cases"], summary["benign_cases"], summary["images_without_case"]) == (1, 0, 2)
    assert summary["by_magnification"] == {"200X": 1}
    assert checks_of(summary)["BC251"] == {"n_unknown": 2, "n_images": 3}


@pytest.mark.parametrize(("n_benign", "has_check"), [(9, True), (10, False)])
def test_summarize_dataset_few_cases_have_check(n_benign: int, has_check: bool) -> None:
    rows = [BENIGN | {"case": f"b{i}"} for i in range(n_benign)]
    rows += [MALIGNANT | {"case": f"m{i}"} for i in range(10)]
    assert ("BC207" in checks_of(summarize_dataset(make_dataset(*rows)))) is has_check


def test_summarize_dataset_two_heights_have_check() -> None:
    small = MALIGNANT | {"height_px": 456}
    summary = summarize_dataset(make_dataset(BENIGN, small, small | {"case": "3"}))
    params = {"n_images": 2, "n_cases": 2, "height_px": 456, "frame_height_px": 460}
    assert checks_of(summary)["BC252"] == params


def test_summarize_dataset_one_height_has_no_check() -> None:
    assert "BC252" not in checks_of(summarize_dataset(make_dataset(BENIGN, MALIGNANT)))


def test_summarize_dataset_class_revealing_size_has_check() -> None:
    summary = summarize_dataset(
        make_dataset(BENIGN, MALIGNANT, MALIGNANT | {"case": "3", "width_px": 350})
    )
    assert summary["sizes"] == [
        {"size": "350x460", "class": "malignant", "images": 1, "cases": 1},
        {"size": "700x460", "class": "benign", "images": 1, "cases": 1},
        {"size": "700x460", "class": "malignant", "images": 1, "cases": 1},
    ]
    params = {"class_name": "malignant", "sizes": ["350x460 (1 image, 1 case)"]}
    assert checks_of(summary)["BC253"] == params


def test_summarize_dataset_many_sizes_are_shortened() -> None:
    rows = [MALIGNANT | {"width_px": 100 + i} for i in range(5)]
    summary = summarize_dataset(make_dataset(BENIGN, BENIGN, *rows))
    (check,) = (
        check
        for check in summary["checks"]
        if check["code"] == "BC253" and check["params"]["class_name"] == "malignant"
    )
    assert len(check["params"]["sizes"]) == 4
    assert check["params"]["sizes"][-1] == "2 more"


@pytest.mark.parametrize(
    ("other", "code"), [(MALIGNANT, "BC254"), (BENIGN | {"case": "9"}, "BC255")]
)
def test_summarize_dataset_near_duplicates_of_two_cases_have_check(other: dict, code: str) -> None:
    summary = summarize_dataset(make_dataset(BENIGN | {"dhash": 7}, other | {"dhash": 5}))
    params = {"n_pairs": 1, "path": "0.png", "other_path": "1.png"}
    assert checks_of(summary)[code] == params
    assert [pair["distance"] for pair in summary["near_duplicate_pairs"]] == [1]


def test_summarize_dataset_near_duplicates_of_one_case_have_no_check() -> None:
    summary = summarize_dataset(make_dataset(BENIGN | {"dhash": 7}, BENIGN | {"dhash": 7}))
    assert summary["near_duplicates"]["same case"] == 1
    assert not {"BC254", "BC255"} & checks_of(summary).keys()


def test_summarize_fold_file_is_json_safe(tmp_path: Path, synthetic_dataset: Path) -> None:
    dataset = load_dataset(synthetic_dataset)
    names = [Path(path).name for path in dataset.images["path"]]
    file = tmp_path / "dsfold3.txt"
    lines = [f"{name}|200|3|{'test' if i % 3 else 'train'}" for i, name in enumerate(names)]
    file.write_text("\n".join(lines))
    without_dataset = summarize_fold_file(read_fold_file(file))
    assert (without_dataset["fold"], without_dataset["names"], without_dataset["duplicates"]) == (
        3,
        30,
        None,
    )
    # Each case has three images, and the first one is in training.
    assert without_dataset["section_leakage"]["all"] == {
        "n_test": 20, "n_shared": 20, "proportion": 1.0,
        "n_benign_test": 10, "n_benign_shared": 10, "benign_proportion": 1.0,
    }  # fmt: skip
    with_dataset = summarize_fold_file(read_fold_file(file), dataset)
    assert with_dataset["duplicates"]["n_listed"] == 30
    assert json.loads(json.dumps(with_dataset, allow_nan=False)) == with_dataset


def test_fingerprint_folder_changes_with_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"one")
    before = fingerprint_folder(tmp_path)
    assert fingerprint_folder(tmp_path) == before
    (tmp_path / "a/1.png").write_bytes(b"other")
    assert fingerprint_folder(tmp_path) != before


@pytest.mark.skipif(os.name != "posix", reason="file names are UTF-8")
def test_fingerprint_folder_includes_name_not_utf8(tmp_path: Path) -> None:
    before = fingerprint_folder(tmp_path)
    (tmp_path / os.fsdecode(b"Pr\xe4parat.txt")).write_bytes(b"x")
    assert fingerprint_folder(tmp_path) != before
