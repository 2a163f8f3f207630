"""The grammar of BreakHis file names."""

from pathlib import Path

import pytest

from bc_model.data.breakhis import ImageName, name_key, parse_name


def test_parse_name_official_name_returns_all_fields() -> None:
    assert parse_name("SOB_B_TA-14-3411F-40-001.png") == ImageName(
        procedure="SOB",
        class_name="benign",
        subtype="tubular_adenoma",
        year=14,
        case="3411",
        section="F",
        magnification=40,
        sequence=1,
    )


def test_parse_name_core_needle_biopsy_is_valid() -> None:
    assert parse_name("CNB_M_LC-14-12204-400-012.png").procedure == "CNB"


def test_parse_name_year_15_is_valid() -> None:
    name = parse_name("SOB_M_PC-15-190EF-100-003.png")
    assert (name.year, name.case, name.section) == (15, "190", "EF")


def test_parse_name_letters_are_sections_of_one_case() -> None:
    sections = [parse_name(f"SOB_B_A-14-22549{s}-100-001.png") for s in ("AB", "CD", "G", "")]
    assert [name.section for name in sections] == ["AB", "CD", "G", ""]
    assert {name.case for name in sections} == {"22549"}


def test_parse_name_keeps_leading_zero_of_case() -> None:
    assert parse_name("SOB_B_A-14-013-100-001.png").case == "013"


@pytest.mark.parametrize(
    ("code", "subtype"),
    [
        ("B_A", "adenosis"),
        ("B_F", "fibroadenoma"),
        ("B_PT", "phyllodes_tumor"),
        ("B_TA", "tubular_adenoma"),
        ("M_DC", "ductal_carcinoma"),
        ("M_LC", "lobular_carcinoma"),
        ("M_MC", "mucinous_carcinoma"),
        ("M_PC", "papillary_carcinoma"),
    ],
)
def test_parse_name_code_gives_subtype_and_class(code: str, subtype: str) -> None:
    name = parse_name(f"SOB_{code}-14-1234-200-005.png")
    assert name.subtype == subtype
    assert name.class_name == {"B": "benign", "M": "malignant"}[code[0]]


@pytest.mark.parametrize("code", ["DC", "LC"])
def test_parse_name_case_with_two_subtypes_is_unknown(code: str) -> None:
    assert parse_name(f"SOB_M_{code}-14-13412-400-001.png").subtype == "unknown"


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".JPEG", ".tif", ".Tiff"])
def test_parse_name_accepts_image_suffixes(suffix: str) -> None:
    assert parse_name(f"SOB_M_DC-14-2523-40-010{suffix}").case == "2523"


@pytest.mark.parametrize(
    "name",
    [
        "SOB_M_TA-14-3411F-40-001.png",  # a benign subtype with the letter of malignant
        "SOB_B_DC-14-3411F-40-001.png",
        "SOB_B_TA_14-3411F",  # the name of a folder
        "SOB_B_TA_14-3411F-40-001.png",  # the `_14` of a folder in a file name
        "SOB_B_TA-14-3411F-40-001",  # no suffix
        "SOB_B_TA-14-3411F-40-001.gif",
        "SOB_B_TA-14-3411F-50-001.png",  # no such magnification
        "SOB_B_TA-14-3411F-4000-001.png",
        "SOB_B_XX-14-3411F-40-001.png",
        "SOB_B_TA-2014-3411F-40-001.png",
        "SOB_B_TA-14-F-40-001.png",  # no slide number
        "SOB_B_TA-14-3411f-40-001.png",
        "sob_b_ta-14-3411F-40-001.png",
        "SOB_B_TA-14-3411F-40-001.png\n",
        "SOB_B_TA-14-3411F-40-001\n.png",
        " SOB_B_TA-14-3411F-40-001.png",
        "x/SOB_B_TA-14-3411F-40-001.png",
        "SOB_B_TA-14-3411F-40-001.png.png",
        "SOB_B_TA-14-\u0663\u0664\u0661\u0661F-40-001.png",  # 3411 in Arabic-Indic digits
        "SOB_B_TA-1\uff14-3411F-40-001.png",  # a full-width 4
        "image.png",
        ".png",
        "",
    ],
)
def test_parse_name_other_name_returns_none(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "SOB_M_DC-14-13412-40-007.png",
        "SOB_M_DC-14-13412-40-7.jpg",
        "SOB_M_DC-14-13412-40-0007.TIFF",
    ],
)
def test_name_key_ignores_suffix_and_leading_zeros(name: str) -> None:
    assert name_key(name) == "SOB_M_DC-14-13412-40-7"


def test_name_key_keeps_subtype() -> None:
    assert name_key("SOB_M_LC-14-13412-40-007.png") != name_key("SOB_M_DC-14-13412-40-007.png")


def test_name_key_other_name_returns_none() -> None:
    assert name_key("SOB_M_TA-14-3411F-40-001.png") is None


@pytest.mark.real
def test_parse_name_all_official_names_have_70_cases_16_benign(real_data: Path) -> None:
    folds = real_data / "folds/dsfold1.txt"
    if not folds.is_file():
        pytest.skip(f"{folds} does not exist")
    lines = folds.read_text().splitlines()
    names = [parse_name(line.split("|")[0]) for line in lines]
    assert len(names) == 7909
    assert None not in names
    assert len({name.case for name in names}) == 70
    assert len({name.case for name in names if name.class_name == "benign"}) == 16
