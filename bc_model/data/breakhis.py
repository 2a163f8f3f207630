"""The BreakHis name grammar, and the words of the domain that hang on it.

All 7,909 official names match (Spanhol et al., IEEE TBME 63(7), 2016). A *case* here is a slide
number: the letters behind it are sections of one slide, so a folder is not a patient.
"""

import re
from dataclasses import dataclass

CLASSES = ("benign", "malignant")
"""Class names in the order of every probability vector and confusion matrix."""

SUBTYPES = {
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes_tumor",
    "TA": "tubular_adenoma",
    "DC": "ductal_carcinoma",
    "LC": "lobular_carcinoma",
    "MC": "mucinous_carcinoma",
    "PC": "papillary_carcinoma",
}
BENIGN_SUBTYPES = frozenset({"A", "F", "PT", "TA"})
UNKNOWN_SUBTYPE = "unknown"

TWO_SUBTYPE_CASES = frozenset({"13412"})
"""Filed as ductal and as lobular carcinoma with the same pixels: its subtype is unknown."""

FIRST_SYNTHETIC_CASE = 90001
"""Slide numbers from here on are of pictures drawn by this program; official ones end below."""

OFFICIAL_COUNTS = {40: (625, 1370), 100: (644, 1437), 200: (623, 1390), 400: (588, 1232)}
"""Benign and malignant pictures of BreakHis by magnification: 7,909 in all."""

MPP_RANGE = {40: (2.5, 3.0), 100: (1.0, 1.2), 200: (0.5, 0.6), 400: (0.25, 0.3)}
"""Rough um/px of the original 700x460 frame by magnification, from the size of red cells.

The figure printed in the literature ("0.25 um/px for 40X") is about ten times off.
"""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})

_NAME = re.compile(
    r"(?P<procedure>SOB|CNB)_(?P<label>[BM])_(?P<subtype>A|F|PT|TA|DC|LC|MC|PC)"
    r"-(?P<year>\d{2})-(?P<number>\d+)(?P<section>[A-Z]*)"
    r"-(?P<magnification>40|100|200|400)-(?P<sequence>\d+)",
    re.ASCII,
)


def is_synthetic(case: str) -> bool:
    """Tell whether a case was drawn by `bc_model.data.synthetic`."""
    return case.isdecimal() and int(case) >= FIRST_SYNTHETIC_CASE


@dataclass(frozen=True)
class ImageName:
    """What an official file name says.

    Attributes
    ----------
    procedure : {'SOB', 'CNB'}
        Surgical open biopsy or core needle biopsy.
    class_name : {'benign', 'malignant'}
    subtype : str
        One of the eight values of `SUBTYPES`, or ``'unknown'`` for a case filed under two.
    year : int
        Two-digit year of the slide.
    case : str
        The slide number, the unit that a split must not share.
    section : str
        Section letters behind the slide number, often empty.
    magnification : {40, 100, 200, 400}
        As BreakHis writes it: ten times the objective.
    sequence : int
        Running number of the field.
    """

    procedure: str
    class_name: str
    subtype: str
    year: int
    case: str
    section: str
    magnification: int
    sequence: int


def parse_name(file_name: str) -> ImageName | None:
    """Read an official file name.

    Parameters
    ----------
    file_name : str
        Name without folders. The suffix may be any of `IMAGE_SUFFIXES`: public extracts
        re-encode the pictures.

    Returns
    -------
    ImageName or None
        None when the name does not follow the grammar, or when its class letter and its subtype
        contradict each other.

    Examples
    --------
    >>> parse_name("SOB_B_TA-14-3411F-40-001.png").case
    '3411'
    >>> parse_name("SOB_M_TA-14-3411F-40-001.png") is None
    True
    """
    stem, dot, suffix = file_name.rpartition(".")
    if f"{dot}{suffix}".lower() not in IMAGE_SUFFIXES:
        return None
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    is_benign = match["label"] == "B"
    if is_benign != (match["subtype"] in BENIGN_SUBTYPES):
        return None
    case = match["number"]
    return ImageName(
        procedure=match["procedure"],
        class_name=CLASSES[0] if is_benign else CLASSES[1],
        subtype=UNKNOWN_SUBTYPE if case in TWO_SUBTYPE_CASES else SUBTYPES[match["subtype"]],
        year=int(match["year"]),
        case=case,
        section=match["section"],
        magnification=int(match["magnification"]),
        sequence=int(match["sequence"]),
    )


def name_key(file_name: str) -> str | None:
    """Reduce an official file name to its fields, so that copies of one name are equal.

    Neither the suffix nor leading zeros of the sequence number count: public extracts re-encode
    the pictures. Unlike `ImageName` it keeps the subtype as written, also of a case filed under
    two.

    Returns
    -------
    str or None
        None when `parse_name` cannot read it.

    Examples
    --------
    >>> name_key("SOB_B_TA-14-3411F-40-001.jpg")
    'SOB_B_TA-14-3411F-40-1'
    """
    name = parse_name(file_name)
    if name is None:
        return None
    return f"{file_name.rpartition('.')[0].rpartition('-')[0]}-{name.sequence}"
