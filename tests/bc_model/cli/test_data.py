"""Data sets from the command line: fold files, protocols, and the shelf."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.splits import read_split
from tests.bc_model.conftest import Command
from tests.file_server import Server


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "shelf"))
    return tmp_path / "shelf"


@pytest.fixture
def fold_files(drawn_set: Path, tmp_path: Path) -> list[Path]:
    """Write two fold files of the drawn set: 10 cases of 3 pictures, one of each in test."""
    names = sorted(path.name for path in drawn_set.rglob("*.png"))
    files = []
    for fold in (1, 2):
        lines = [
            f"{name}|200|{fold}|{'test' if name.endswith(f'00{fold}.png') else 'train'}"
            for name in names
        ]
        files.append(tmp_path / f"dsfold{fold}.txt")
        files[-1].write_text("\n".join(lines) + "\n")
    return files


# Fold files


def test_fold_files_are_audited_without_data(command: Command, fold_files: list[Path]) -> None:
    code, out, err = command("audit", "--folds", *fold_files, "--json")
    found = json.loads(out)
    assert (code, err, list(found)) == (0, "", ["folds"])
    assert [one["fold"] for one in found["folds"]] == [1, 2]
    assert found["folds"][0]["section_leakage"]["200X"]["n_shared"] == 10
    assert found["folds"][0]["duplicates"] is None


def test_fold_files_are_audited_in_words(command: Command, fold_files: list[Path]) -> None:
    _, out, _ = command("audit", "--folds", fold_files[0], "--folds", fold_files[1])
    assert "fold 1, 30 names" in out
    assert "fold 2, 30 names" in out
    assert "all: 10 of 10 (100.0%); benign 5 of 5 (100.0%)" in out
    assert "cases" not in out


@pytest.mark.parametrize("data_last", [True, False])
def test_duplicates_are_counted_beside_them_with_data(
    command: Command, fold_files: list[Path], drawn_set: Path, data_last: bool
) -> None:
    options = ["--folds", *fold_files]
    arguments = [*options, drawn_set] if data_last else [drawn_set, *options]
    _, out, _ = command("audit", *arguments)
    assert "10 cases (5 benign, 5 malignant)" in out
    assert out.count("among the 30 pictures present and listed: 0 of 10 test pictures") == 2
    assert "0 pictures are not listed, 0 names have no picture here" in out


def test_an_audit_lists_so_many_left_out_files_and_no_more(
    command: Command, drawn_set: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(drawn_set, tmp_path / "mixed"))
    for k in range(23):
        (folder / f"{k}.png").write_bytes(b"no picture")
    _, out, _ = command("audit", folder)
    assert out.count(".png: ") == 20
    assert "    and 3 more; --json lists all of them\n" in out
    assert len(json.loads(command("audit", folder, "--json")[1])["excluded_files"]) == 23


def test_an_audit_of_two_folders_and_of_none(
    refused: Callable[..., str], drawn_set: Path, fold_files: list[Path], tmp_path: Path
) -> None:
    assert "Name one folder as DATA" in refused("audit", drawn_set, tmp_path)
    line = refused("audit", drawn_set, tmp_path, "--folds", fold_files[0])
    assert "One folder can be audited at a time" in line


def test_an_audit_of_a_file_that_is_no_fold_file(
    refused: Callable[..., str], drawn_set: Path, tmp_path: Path, fold_files: list[Path]
) -> None:
    (tmp_path / "other.txt").write_text("picture.png|40|1|train\n")
    assert "other.txt is not a fold file: line 1" in refused(
        "audit", drawn_set, "--folds", fold_files[0], tmp_path / "other.txt"
    )
    assert "no fold file" in refused("audit", drawn_set, "--folds", tmp_path / "gone.txt")


def test_an_audit_with_the_fold_file_of_other_data(
    refused: Callable[..., str], drawn_set: Path, tmp_path: Path
) -> None:
    file = tmp_path / "f.txt"
    file.write_text("SOB_B_A-14-1-40-001.png|40|1|train\nSOB_B_A-14-2-40-001.png|40|1|test\n")
    assert "None of the 30 pictures" in refused("audit", drawn_set, "--folds", file)


# Protocols


@pytest.mark.parametrize(
    ("protocol", "has_leakage", "shared", "rest"), [("folds", True, 10, 0), ("folder", True, 0, 0)]
)
def test_a_leakage_split_carries_the_word(
    command: Command, drawn_set: Path, fold_files: list[Path], tmp_path: Path,
    protocol: str, has_leakage: bool, shared: int, rest: int,
) -> None:  # fmt: skip
    folds = ["--official-fold-file", fold_files[0]] if protocol == "folds" else []
    options = ["split", drawn_set, "--protocol", protocol, *folds, "--out", tmp_path / "s.csv"]
    _, out, _ = command(*options)
    assert "This split is LEAKY" in out
    _, out, _ = command(*options, "--json")
    told = json.loads(out)
    assert (told["has_leakage"], told["shared"]["test_pictures"], told["in_no_part"]) == (
        has_leakage, shared, rest,
    )  # fmt: skip


def test_a_clean_split_says_what_is_in_no_part(
    command: Command, drawn_set: Path, tmp_path: Path
) -> None:
    names = sorted(path.name for path in drawn_set.rglob("*.png"))
    cases = sorted({name.split("-")[2] for name in names})
    # Of the first and the last case one picture is in test, and one more is not listed.
    tested = [n for n in names if n.split("-")[2] in (cases[0], cases[-1])]
    lines = [
        f"{n}|200|1|{'test' if n in tested and n.endswith('-001.png') else 'train'}"
        for n in names
        if n != tested[1]
    ]
    (tmp_path / "f.txt").write_text("\n".join(lines))
    _, out, _ = command(
        "split", drawn_set, "--protocol", "folds-clean", "--official-fold-file", tmp_path / "f.txt",
        "--out", tmp_path / "s.csv",
    )  # fmt: skip
    assert "shared with training: 0 cases, 0 of 2 test pictures" in out
    assert "does not list 1 of 30 images" in out
    assert "in no part: 4 pictures" in out  # 2 cases of 3 pictures, 2 of them in test
    assert "LEAKY" not in out
    assert len(read_split(tmp_path / "s.csv")) == 26


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--protocol", "folds"], "needs an official fold file"),
        (["--official-fold-file", "f.txt"], "'case' takes no fold file"),
        (["--protocol", "folds", "--official-fold-file", "gone.txt"], "no fold file gone.txt"),
    ],
)
@pytest.mark.parametrize("name", ["split", "train"])
def test_a_protocol_and_its_fold_file_belong_together(
    refused: Callable[..., str],
    drawn_set: Path,
    tmp_path: Path,
    options: list,
    said: str,
    name: str,
) -> None:
    out = ["--out", tmp_path / "s.csv"] if name == "split" else ["--run", tmp_path / "run"]
    assert said in refused(name, drawn_set, *options, *out)


# The shelf


@pytest.fixture
def archive(drawn_set: Path, tmp_path: Path) -> Path:
    path = tmp_path / "drawn.zip"
    with zipfile.ZipFile(path, "w") as file:
        for image in sorted(drawn_set.rglob("*.png")):
            file.write(image, image.relative_to(drawn_set).as_posix())
        file.writestr("README.txt", "x")
    return path


def test_an_archive_is_added_listed_audited_and_removed(
    command: Command, archive: Path, registry: Path
) -> None:
    code, out, err = command("data", "add", archive)
    assert (code, err) == (0, "")
    assert out.startswith(f"drawn: 30 pictures, in {registry / 'drawn/pictures'}\n")
    assert "left out: README.txt: not a picture" in out
    _, out, _ = command("data", "list", "--json")
    (one,) = json.loads(out)["sets"]
    assert (one["name"], one["kind"], one["source"]) == ("drawn", "stored", "drawn.zip")
    code, _, _ = command("audit", one["images"])
    assert code == 0
    assert command("data", "remove", "drawn")[0] == 0
    assert "No data set in" in command("data", "list")[1]


def test_a_name_is_made_from_any_file_name(command: Command, archive: Path, registry: Path) -> None:
    archive = archive.rename(archive.with_name("My set (1).zip"))
    code, out, err = command("data", "add", archive)
    assert (code, err) == (0, "")
    assert out.startswith(f"My-set-1: 30 pictures, in {registry / 'My-set-1/pictures'}\n")


def test_a_folder_is_added_by_its_path(command: Command, drawn_set: Path, registry: Path) -> None:
    _, out, _ = command("data", "add", drawn_set, "--name", "mine", "--json")
    assert json.loads(out)["images"] == str(drawn_set.resolve())
    assert f"mine: {drawn_set.resolve()} (linked)" in command("data", "list")[1]
    assert [path.name for path in registry.rglob("*")] == ["mine", "dataset.json"]


def test_a_download_tells_its_hash_and_what_is_missing(
    command: Command, archive: Path, registry: Path, server: Server
) -> None:
    server.content = archive.read_bytes()
    server.breaks = [2000]
    code, out, err = command("data", "download", "--url", server.url, "--name", "drawn")
    assert (code, err) == (0, "")
    assert "SHA-256 of the archive: " in out
    assert "The dataset contains 15 benign images at 200X. BreakHis contains 623." in out
    assert len(load_dataset(registry / "drawn/pictures").images) == 30


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "{tmp}/gone"], "no folder"),
        (["add", "{tmp}/notes.txt"], "notes.txt is not a zip or tar.gz archive"),
        (["add", "{tmp}/drawn.zip", "--name", "../out"], "cannot be the name"),
        (["download", "--sha256", "12"], "64 hexadecimal digits"),
        (["download", "--url", "file:///etc/passwd"], "begins with http"),
        (["remove", "mine"], "no data set mine"),
    ],
)
def test_what_cannot_be_added_is_one_line(
    refused: Callable[..., str], tmp_path: Path, archive: Path, arguments: list[str], said: str,
    registry: Path,
) -> None:  # fmt: skip
    (tmp_path / "notes.txt").write_text("x" * 100)
    registry.mkdir()
    assert archive.is_file()
    assert said in refused(
        "data", *(subset.replace("{tmp}", str(tmp_path)) for subset in arguments)
    )
