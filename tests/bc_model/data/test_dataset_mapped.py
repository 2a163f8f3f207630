"""Other sets: labels by folder, refused when the mapping leaves one open."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bc_model.data import dataset as mapped
from bc_model.data.dataset import parse_mapping, read_mapped
from bc_model.errors import ConfigError, DataError, FolderNotFoundError

MAPPING = {"0": "benign", "1": "malignant"}


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Draw patients p and q with labels 0 and 1, three pictures each; one picture is a twin."""
    rng = np.random.default_rng(0)
    for patient in ("p", "q"):
        for label in ("0", "1"):
            folder = tmp_path / "set" / patient / label
            folder.mkdir(parents=True)
            for k in range(3):
                pixels = rng.integers(0, 256, (50, 50, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    duplicate = tmp_path / "set/q/0/twin.png"
    duplicate.write_bytes((tmp_path / "set/p/0/0.png").read_bytes())
    return tmp_path / "set"


def test_folders_are_labels(patches: Path) -> None:
    (patches / "p/1/bad.png").write_bytes(b"no picture")
    told: list[tuple[int, int]] = []
    found = read_mapped(patches, MAPPING, progress=lambda *done: told.append(done))
    assert len(found.images) == 12
    assert found.images["class"].value_counts().to_dict() == {"benign": 6, "malignant": 6}
    assert set(found.images["case"]) == {""}
    assert found.images["magnification"].isna().all()
    assert found.images[["width_px", "height_px"]].drop_duplicates().to_numpy().tolist() == [
        [50, 50]
    ]
    assert dict(zip(found.excluded["path"], found.excluded["reason"], strict=True)) == {
        "p/1/bad.png": "unreadable", "q/0/twin.png": "duplicate",
    }  # fmt: skip
    assert told[-1] == (14, 14)


def test_the_folder_above_may_name_the_case(patches: Path) -> None:
    found = read_mapped(patches, MAPPING, case_above=True)
    assert found.images.groupby("case").size().to_dict() == {"p": 6, "q": 6}
    with pytest.raises(DataError, match=r"name the case, but 0/0.png under .* has none"):
        read_mapped(patches / "p", MAPPING, case_above=True)


def test_one_label_alone_may_be_pointed_at(patches: Path) -> None:
    found = read_mapped(patches / "p" / "1", MAPPING)
    assert set(found.images["class"]) == {"malignant"}


def test_a_label_outside_the_mapping_is_refused(patches: Path) -> None:
    (patches / "p/2").mkdir()
    (patches / "p/2/x.png").write_bytes((patches / "p/0/0.png").read_bytes())
    with pytest.raises(DataError) as caught:
        read_mapped(patches, MAPPING)
    message = str(caught.value)
    assert "1 of 14 pictures" in message
    assert "outside the mapping 0=benign, 1=malignant, first '2' of p/2/x.png" in message
    assert "\n" not in message


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_path_that_is_no_text_is_left_out_and_spelled(patches: Path) -> None:
    image = (patches / "p/0/0.png").read_bytes()
    (patches / "p/0" / os.fsdecode(b"\xe4.png")).write_bytes(image)
    excluded = read_mapped(patches, MAPPING).excluded.set_index("path")
    assert excluded["reason"]["p/0/\\udce4.png"] == "misnamed"
    label = patches / "p" / os.fsdecode(b"\xe4")
    label.mkdir()
    (label / "x.png").write_bytes(image)
    with pytest.raises(DataError, match=r"first '\\udce4' of p/\\udce4/x.png"):
        read_mapped(patches, MAPPING)


@pytest.mark.parametrize("text", ["", "0", "0=", "=benign", "0=cancer", "0=benign,0=malignant"])
def test_a_mapping_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="0=benign,1=malignant"):
        parse_mapping(text)


def test_a_mapping_may_be_written_with_blanks_and_capitals() -> None:
    assert parse_mapping("Gutartig = Benign , 1=MALIGNANT") == {
        "Gutartig": "benign",
        "1": "malignant",
    }


@pytest.mark.parametrize(
    ("text", "missing"),
    [("0=benign,1=benign", "malignant"), ("1=malignant", "benign")],
)
def test_a_mapping_to_one_class(text: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"'{text}' names none that is {missing}"):
        parse_mapping(text)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError, match="no folder"):
        read_mapped(tmp_path / "gone", MAPPING)
    with pytest.raises(DataError, match="holds no PNG"):
        read_mapped(tmp_path, MAPPING)
    (tmp_path / "0").mkdir()
    (tmp_path / "0/x.png").write_bytes(b"")
    with pytest.raises(DataError, match="None of the 1 picture files"):
        read_mapped(tmp_path, MAPPING)


@pytest.mark.real
def test_the_real_patches(real_data: Path) -> None:
    found = read_mapped(real_data / "idc_patches", MAPPING, case_above=True)
    assert len(found.images) + len(found.excluded) == 478
    assert set(found.images["case"]) == {"14082"}


def test_who_stops_the_reading_does_not_wait_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        path = tmp_path / "01"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    read, facts = [], mapped.read_facts

    def counted(path: Path, *others: Any) -> Any:
        read.append(path)
        time.sleep(0.005)
        return facts(path, *others)

    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mapped, "read_facts", counted)
    with pytest.raises(KeyboardInterrupt):
        read_mapped(tmp_path, MAPPING, progress=stop)
    assert len(read) < 100
