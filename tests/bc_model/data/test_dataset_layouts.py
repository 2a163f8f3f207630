"""Layouts of real datasets: images, cases, classes and excluded files of each."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from bc_model.data.dataset import load_dataset
from bc_model.data.dataset_rules import parse_rules


class Layout(NamedTuple):
    """A tree of files with the rules and the expected dataset."""

    name: str
    files: tuple[str, ...]
    labels: str = ""
    case_from: str = ""
    n_benign: int = 0
    n_malignant: int = 0
    cases: frozenset[str] = frozenset()
    excluded: tuple[str, ...] = ()
    """Reasons, sorted."""


def official(*names: tuple[str, str, str, int]) -> Iterable[str]:
    """Return official paths for (class letter, subtype, case, magnification)."""
    tumors = {"B": "benign", "M": "malignant"}
    for letter, subtype, case, magnification in names:
        name = f"SOB_{letter}_{subtype}-14-{case}-{magnification}-001.png"
        yield f"{tumors[letter]}/SOB/{magnification}X/{name}"


FOUR = (("B", "A", "100", 200), ("B", "F", "101", 200), ("M", "DC", "200", 200),
        ("M", "LC", "201", 400))  # fmt: skip
BACH = ("Normal/n001.tif", "Benign/b001.tif", "InSitu/is001.tif", "Invasive/iv001.tif")
BACH_CLASSES = "normal=benign,benign=benign,invasive=malignant"
IDC = ("8863/0/8863_idx5_class0.png", "8863/1/8863_idx5_class1.png", "9000/0/9000_idx1_class0.png")
IDC_LABELS = "0=benign,1=malignant"

LAYOUTS = (
    Layout("official tree", tuple(official(*FOUR)), "", "", 2, 2,
           frozenset({"100", "101", "200", "201"})),
    Layout("nested official tree", tuple(f"BreaKHis_v1/histology/{p}" for p in official(*FOUR)),
           "", "", 2, 2, frozenset({"100", "101", "200", "201"})),
    Layout("official names, flat", tuple(Path(p).name for p in official(*FOUR)), "", "", 2, 2,
           frozenset({"100", "101", "200", "201"})),
    Layout("folder per class", ("benign/a.png", "malignant/b.png"), "", "", 1, 1, frozenset({""})),
    Layout("Keras subsets with capitals",
           ("train/Benign/a.png", "train/Malignant/b.png", "test/Benign/c.png"), "", "", 2, 1,
           frozenset({""})),
    Layout("IDC, patient above", IDC, IDC_LABELS, "folder:2", 2, 1, frozenset({"8863", "9000"})),
    Layout("IDC, patient in the name", IDC, IDC_LABELS, "regex:([0-9]+)_idx", 2, 1,
           frozenset({"8863", "9000"})),
    Layout("IDC without cases", IDC, IDC_LABELS, "", 2, 1, frozenset({""})),
    Layout("patient below", ("normal/P1/a.png", "tumor/P2/b.png"), "normal=benign,tumor=malignant",
           "folder:1", 1, 1, frozenset({"P1", "P2"})),
    Layout("BACH with an excluded class", BACH, f"{BACH_CLASSES},insitu=exclude", "", 2, 1,
           frozenset({""}), ("excluded label",)),
    Layout("BACH with an unlabeled class", BACH, BACH_CLASSES, "", 2, 1, frozenset({""}),
           ("no label",)),
    Layout("labels in names", ("scan/normal_1.png", "scan/tumor_2.png", "scan/control_3.png"),
           "normal*=benign,tumor*=malignant,control*=exclude", "", 1, 1, frozenset({""}),
           ("excluded label",)),
    Layout("eight subtypes",
           tuple(f"{s}/x.png" for s in ("adenosis", "fibroadenoma", "phyllodes_tumor",
                                        "tubular_adenoma", "ductal_carcinoma", "lobular_carcinoma",
                                        "mucinous_carcinoma", "papillary_carcinoma")),
           "*adenoma=benign,adenosis=benign,phyllodes*=benign,*carcinoma=malignant", "", 4, 4,
           frozenset({""})),
    Layout("umlauts and upper-case suffixes",
           ("Gutartig/Präparat 1.PNG", "Bösartig/Präparat 2.JPG"),
           "gutartig=benign,bösartig=malignant", "regex:Präparat ([0-9]+)", 1, 1,
           frozenset({"1", "2"})),
    Layout("other formats",
           ("benign/a.png", "benign/b.bmp", "malignant/c.JFIF", "malignant/d.webp"),
           "", "", 1, 1, frozenset({""}), ("other format", "other format")),
    Layout("macOS leftovers", ("benign/a.png", "benign/._a.png", "malignant/b.png"), "", "", 1, 1,
           frozenset({""})),
    Layout("some names without a case", ("0/P1_a.png", "1/P2_b.png", "1/c.png"), IDC_LABELS,
           "regex:(P[0-9]+)_", 1, 1, frozenset({"P1", "P2"}), ("no case",)),
    Layout("official names, two labels for a case by folder",
           ("x/0/SOB_B_A-14-100-200-001.png", "y/1/SOB_M_DC-14-200-200-001.png"), IDC_LABELS,
           "breakhis", 1, 1, frozenset({"100", "200"})),
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_layout(layout: Layout, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for file in layout.files:
        path = tmp_path / "set" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
        image_format = "JPEG" if path.suffix == ".JFIF" else None
        Image.fromarray(pixels).save(path, image_format)
    rules = parse_rules(layout.labels, layout.case_from)
    dataset = load_dataset(tmp_path / "set", rules=rules)
    counts = dataset.images["class"].value_counts()
    assert (counts.get("benign", 0), counts.get("malignant", 0)) == (
        layout.n_benign,
        layout.n_malignant,
    )
    assert set(dataset.images["case"]) == layout.cases
    assert tuple(sorted(dataset.excluded["reason"])) == layout.excluded


def test_a_linked_folder_is_listed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("set/benign", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    (tmp_path / "set/malignant").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/benign/loop").symlink_to(tmp_path / "set")
    excluded = load_dataset(tmp_path / "set").excluded
    assert dict(zip(excluded["path"], excluded["reason"], strict=True)) == {
        "benign/loop": "linked folder", "malignant": "linked folder",
    }  # fmt: skip
    assert excluded["detail"].str.contains("Copy its images").all()
