"""The audit: the numbers of a manifest, and the sentences that belong beside them."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from bc_model.data.dataset import COLUMNS, Dataset, read_dataset
from bc_model.data.official_folds import read_fold_file
from bc_model.data.summary import audit_folds, folder_fingerprint, summarize_dataset


def checks_of(audit: dict) -> dict[str, dict]:
    """Return the parameters of each check by its code."""
    return {check["code"]: check["params"] for check in audit["checks"]}


def manifest_of(*rows: dict, excluded: tuple[tuple[str, str], ...] = ()) -> Dataset:
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
    left_out = [(path, reason, "why") for path, reason in excluded]
    return Dataset(
        Path("set"), images, pd.DataFrame(left_out, columns=["path", "reason", "detail"])
    )


BENIGN = {"class": "benign", "subtype": "adenosis", "case": "1"}
MALIGNANT = {"class": "malignant", "subtype": "ductal_carcinoma", "case": "2"}


def test_counts_by_hand() -> None:
    audit = summarize_dataset(
        manifest_of(
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
        "pictures_without_case": 0,
        "by_class": {"benign": 3, "malignant": 2},
        "by_magnification": {"200X": 4, "40X": 1},
        "by_subtype": {"adenosis": 3, "ductal_carcinoma": 2},
        "by_size": {"700x456": 1, "700x460": 4},
        "excluded": {"duplicate": 2, "empty": 1},
    }
    assert {key: audit[key] for key in expected} == expected
    assert audit["rejected_files"][0] == {"path": "x.png", "reason": "empty", "detail": "why"}


def test_an_audit_is_plain_json(drawn_set: Path) -> None:
    audit = summarize_dataset(read_dataset(drawn_set))
    assert json.loads(json.dumps(audit, allow_nan=False)) == audit


def test_images_without_a_case_or_magnification_are_counted_apart() -> None:
    unnamed = BENIGN | {"case": "", "magnification": pd.NA}
    audit = summarize_dataset(manifest_of(unnamed, unnamed, MALIGNANT))
    assert (audit["cases"], audit["benign_cases"], audit["pictures_without_case"]) == (1, 0, 2)
    assert audit["by_magnification"] == {"200X": 1}
    assert checks_of(audit)["BC251"] == {"n_unknown": 2, "n_images": 3}


@pytest.mark.parametrize(("n_benign", "warned"), [(9, True), (10, False)])
def test_fewer_than_ten_cases_of_a_class_are_warned_of(n_benign: int, warned: bool) -> None:
    rows = [BENIGN | {"case": f"b{i}"} for i in range(n_benign)]
    rows += [MALIGNANT | {"case": f"m{i}"} for i in range(10)]
    assert ("BC207" in checks_of(summarize_dataset(manifest_of(*rows)))) is warned


def test_two_heights_are_warned_of_as_a_clue_to_the_slide() -> None:
    low = MALIGNANT | {"height_px": 456}
    audit = summarize_dataset(manifest_of(BENIGN, low, low | {"case": "3"}))
    params = {"n_images": 2, "n_cases": 2, "height_px": 456, "frame_height_px": 460}
    assert checks_of(audit)["BC252"] == params


def test_one_height_is_no_clue() -> None:
    assert "BC252" not in checks_of(summarize_dataset(manifest_of(BENIGN, MALIGNANT)))


def test_sizes_are_counted_by_class_and_told_when_one_class_alone_has_one() -> None:
    audit = summarize_dataset(
        manifest_of(BENIGN, MALIGNANT, MALIGNANT | {"case": "3", "width_px": 350})
    )
    assert audit["sizes"] == [
        {"size": "350x460", "class": "malignant", "images": 1, "cases": 1},
        {"size": "700x460", "class": "benign", "images": 1, "cases": 1},
        {"size": "700x460", "class": "malignant", "images": 1, "cases": 1},
    ]
    params = {"class_name": "malignant", "sizes": ["350x460 (1 image, 1 case)"]}
    assert checks_of(audit)["BC253"] == params


def test_many_sizes_of_one_class_are_told_in_short() -> None:
    rows = [MALIGNANT | {"width_px": 100 + i} for i in range(5)]
    audit = summarize_dataset(manifest_of(BENIGN, BENIGN, *rows))
    (check,) = (
        check
        for check in audit["checks"]
        if check["code"] == "BC253" and check["params"]["class_name"] == "malignant"
    )
    assert len(check["params"]["sizes"]) == 4
    assert check["params"]["sizes"][-1] == "2 more"


@pytest.mark.parametrize(
    ("other", "code"), [(MALIGNANT, "BC254"), (BENIGN | {"case": "9"}, "BC255")]
)
def test_near_duplicates_of_two_cases_are_warned_of(other: dict, code: str) -> None:
    audit = summarize_dataset(manifest_of(BENIGN | {"dhash": 7}, other | {"dhash": 5}))
    params = {"n_pairs": 1, "path": "0.png", "other_path": "1.png"}
    assert checks_of(audit)[code] == params
    assert [pair["distance"] for pair in audit["near_duplicate_pairs"]] == [1]


def test_near_duplicates_of_one_case_are_counted_and_no_warning() -> None:
    audit = summarize_dataset(manifest_of(BENIGN | {"dhash": 7}, BENIGN | {"dhash": 7}))
    assert audit["near_duplicates"]["same case"] == 1
    assert not {"BC254", "BC255"} & checks_of(audit).keys()


def test_the_audit_of_a_fold_file_is_plain_json(tmp_path: Path, drawn_set: Path) -> None:
    dataset = read_dataset(drawn_set)
    names = [Path(path).name for path in dataset.images["path"]]
    file = tmp_path / "dsfold3.txt"
    lines = [f"{name}|200|3|{'test' if i % 3 else 'train'}" for i, name in enumerate(names)]
    file.write_text("\n".join(lines))
    alone = audit_folds(read_fold_file(file))
    assert (alone["fold"], alone["names"], alone["duplicates"]) == (3, 30, None)
    # Three pictures a case, the first of each in training: all others have it there.
    assert alone["siblings"]["all"] == {
        "test": 20, "shared": 20, "share": 1.0,
        "benign_test": 10, "benign_shared": 10, "benign_share": 1.0,
    }  # fmt: skip
    beside = audit_folds(read_fold_file(file), dataset)
    assert beside["duplicates"]["listed"] == 30
    assert json.loads(json.dumps(beside, allow_nan=False)) == beside


def test_the_fingerprint_of_a_folder_stays_until_a_file_changes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"one")
    before = folder_fingerprint(tmp_path)
    assert folder_fingerprint(tmp_path) == before
    (tmp_path / "a/1.png").write_bytes(b"other")
    assert folder_fingerprint(tmp_path) != before


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_name_that_is_no_text_is_in_the_fingerprint_too(tmp_path: Path) -> None:
    before = folder_fingerprint(tmp_path)
    (tmp_path / os.fsdecode(b"Pr\xe4parat.txt")).write_bytes(b"x")
    assert folder_fingerprint(tmp_path) != before
