"""`data`, `audit` and `split`: fold files, protocols and the dataset registry."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.registry import DATASET_FILE, IMAGES_FOLDER
from bc_model.data.splits import read_split
from tests.bc_model.conftest import Command
from tests.file_server import Server


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "registry"))
    return tmp_path / "registry"


@pytest.fixture
def fold_files(synthetic_dataset: Path, tmp_path: Path) -> list[Path]:
    """Write two fold files of the synthetic dataset: one of three images per case is in test."""
    names = sorted(path.name for path in synthetic_dataset.rglob("*.png"))
    files = []
    for fold in (1, 2):
        lines = [
            f"{name}|200|{fold}|{'test' if name.endswith(f'00{fold}.png') else 'train'}"
            for name in names
        ]
        files.append(tmp_path / f"dsfold{fold}.txt")
        files[-1].write_text("\n".join(lines) + "\n")
    return files


def test_audit_with_fold_files_only_prints_their_leakage(
    command: Command, fold_files: list[Path]
) -> None:
    code, out, err = command("audit", "--fold-file", *fold_files, "--json")
    found = json.loads(out)
    assert (code, err, list(found)) == (0, "", ["folds"])
    assert [fold["fold"] for fold in found["folds"]] == [1, 2]
    assert found["folds"][0]["section_leakage"]["200X"]["n_shared"] == 10
    assert found["folds"][0]["duplicates"] is None


def test_audit_with_fold_files_prints_text(command: Command, fold_files: list[Path]) -> None:
    _, out, _ = command("audit", "--fold-file", fold_files[0], "--fold-file", fold_files[1])
    assert "fold 1, 30 names" in out
    assert "fold 2, 30 names" in out
    assert "all: 10 of 10 (100.0%); benign 5 of 5 (100.0%)" in out
    assert "cases" not in out


@pytest.mark.parametrize("data_last", [True, False])
def test_audit_with_fold_files_and_data_counts_duplicates(
    command: Command, fold_files: list[Path], synthetic_dataset: Path, data_last: bool
) -> None:
    options = ["--fold-file", *fold_files]
    arguments = [*options, synthetic_dataset] if data_last else [synthetic_dataset, *options]
    _, out, _ = command("audit", *arguments)
    assert "10 cases (5 benign, 5 malignant)" in out
    assert out.count("duplicates: 0 of 10 test images (0 of 5 benign)") == 2
    assert "30 images are listed, 0 are not listed, 0 listed images are missing" in out


def test_audit_with_many_excluded_files_lists_20(
    command: Command, synthetic_dataset: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(synthetic_dataset, tmp_path / "mixed"))
    for k in range(23):
        (folder / f"{k}.png").write_bytes(b"no image")
    _, out, _ = command("audit", folder)
    assert out.count(".png: ") == 20
    assert "    and 3 more; --json lists all of them\n" in out
    assert len(json.loads(command("audit", folder, "--json")[1])["excluded_files"]) == 23


def test_audit_of_two_folders_is_refused(
    refused: Callable[..., str], synthetic_dataset: Path, fold_files: list[Path], tmp_path: Path
) -> None:
    assert "Give one dataset as DATA" in refused("audit", synthetic_dataset, tmp_path)
    line = refused("audit", synthetic_dataset, tmp_path, "--fold-file", fold_files[0])
    assert "Expected one dataset, got " in line


def test_audit_with_an_invalid_fold_file_is_refused(
    refused: Callable[..., str], synthetic_dataset: Path, tmp_path: Path, fold_files: list[Path]
) -> None:
    (tmp_path / "other.txt").write_text("image.png|40|1|train\n")
    assert "other.txt is not a fold file. Line 1" in refused(
        "audit", synthetic_dataset, "--fold-file", fold_files[0], tmp_path / "other.txt"
    )
    assert "There is no fold file" in refused(
        "audit", synthetic_dataset, "--fold-file", tmp_path / "gone.txt"
    )


def test_audit_with_the_fold_file_of_other_data_is_refused(
    refused: Callable[..., str], synthetic_dataset: Path, tmp_path: Path
) -> None:
    file = tmp_path / "f.txt"
    file.write_text("SOB_B_A-14-1-40-001.png|40|1|train\nSOB_B_A-14-2-40-001.png|40|1|test\n")
    assert "lists none of the 30 images" in refused("audit", synthetic_dataset, "--fold-file", file)


@pytest.mark.parametrize(
    ("protocol", "has_leakage", "n_shared", "n_excluded"),
    [("folds", True, 10, 0), ("folder", True, 0, 0)],
)
def test_split_with_leakage_reports_it(
    command: Command, synthetic_dataset: Path, fold_files: list[Path], tmp_path: Path,
    protocol: str, has_leakage: bool, n_shared: int, n_excluded: int,
) -> None:  # fmt: skip
    folds = ["--official-fold-file", fold_files[0]] if protocol == "folds" else []
    options = [
        "split",
        synthetic_dataset,
        "--protocol",
        protocol,
        *folds,
        "--out",
        tmp_path / "s.csv",
    ]
    _, out, _ = command(*options)
    assert "This split has leakage." in out
    _, out, _ = command(*options, "--json")
    result = json.loads(out)
    assert result["has_leakage"] == has_leakage
    assert (result["leakage"]["n_test_images"], result["n_excluded"]) == (n_shared, n_excluded)


def test_split_without_leakage_counts_excluded_images(
    command: Command, synthetic_dataset: Path, tmp_path: Path
) -> None:
    names = sorted(path.name for path in synthetic_dataset.rglob("*.png"))
    cases = sorted({name.split("-")[2] for name in names})
    # One image of the first and of the last case is in test, and one more is not listed.
    tested = [n for n in names if n.split("-")[2] in (cases[0], cases[-1])]
    lines = [
        f"{n}|200|1|{'test' if n in tested and n.endswith('-001.png') else 'train'}"
        for n in names
        if n != tested[1]
    ]
    (tmp_path / "f.txt").write_text("\n".join(lines))
    _, out, _ = command(
        "split", synthetic_dataset, "--protocol", "folds-clean",
        "--official-fold-file", tmp_path / "f.txt", "--out", tmp_path / "s.csv",
    )  # fmt: skip
    assert "shared with training: 0 cases, 0 of 2 test images" in out
    assert "does not list 1 of 30 images" in out
    assert "in no subset: 4 images" in out  # 2 cases of 3 images, 2 of them in test
    assert "has leakage" not in out
    assert len(read_split(tmp_path / "s.csv")) == 26


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--protocol", "folds"], "needs an official fold file"),
        (["--official-fold-file", "f.txt"], "'case' does not use a fold file"),
        (
            ["--protocol", "folds", "--official-fold-file", "gone.txt"],
            "There is no fold file gone.txt",
        ),
    ],
)
@pytest.mark.parametrize("name", ["split", "train"])
def test_command_with_contradicting_protocol_and_fold_file_is_refused(
    refused: Callable[..., str],
    synthetic_dataset: Path,
    tmp_path: Path,
    options: list,
    expected: str,
    name: str,
) -> None:
    out = ["--out", tmp_path / "s.csv"] if name == "split" else ["--run", tmp_path / "run"]
    assert expected in refused(name, synthetic_dataset, *options, *out)


@pytest.fixture
def archive(synthetic_dataset: Path, tmp_path: Path) -> Path:
    path = tmp_path / "synthetic.zip"
    with zipfile.ZipFile(path, "w") as file:
        for image in sorted(synthetic_dataset.rglob("*.png")):
            file.write(image, image.relative_to(synthetic_dataset).as_posix())
        file.writestr("README.txt", "x")
    return path


def test_data_add_list_and_remove_an_archive(
    command: Command, archive: Path, registry: Path
) -> None:
    code, out, err = command("data", "add", archive)
    assert (code, err) == (0, "")
    assert out.startswith(f"synthetic: 30 images, in {registry / 'synthetic' / IMAGES_FOLDER}\n")
    assert "skipped: README.txt: " in out
    _, out, _ = command("data", "list", "--json")
    (row,) = json.loads(out)["datasets"]
    assert (row["name"], row["kind"], row["source"]) == ("synthetic", "stored", "synthetic.zip")
    code, _, _ = command("audit", row["images_dir"])
    assert code == 0
    assert command("data", "remove", "synthetic")[0] == 0
    assert "No dataset in" in command("data", "list")[1]


def test_data_add_without_a_name_derives_it_from_the_file_name(
    command: Command, archive: Path, registry: Path
) -> None:
    archive = archive.rename(archive.with_name("My set (1).zip"))
    code, out, err = command("data", "add", archive)
    assert (code, err) == (0, "")
    assert out.startswith(f"My-set-1: 30 images, in {registry / 'My-set-1' / IMAGES_FOLDER}\n")


def test_data_add_a_folder_links_it(
    command: Command, synthetic_dataset: Path, registry: Path
) -> None:
    _, out, _ = command("data", "add", synthetic_dataset, "--name", "mine", "--json")
    assert json.loads(out)["images_dir"] == str(synthetic_dataset.resolve())
    assert f"mine: {synthetic_dataset.resolve()} (linked)" in command("data", "list")[1]
    assert [path.name for path in registry.rglob("*")] == ["mine", DATASET_FILE]


def test_data_download_prints_checksum_and_missing_images(
    command: Command, archive: Path, registry: Path, server: Server
) -> None:
    server.content = archive.read_bytes()
    server.breaks = [2000]
    code, out, err = command("data", "download", "--url", server.url, "--name", "synthetic")
    assert (code, err) == (0, "")
    assert "SHA-256 of the archive: " in out
    assert "The dataset contains 15 benign images at 200X. BreakHis contains 623." in out
    assert len(load_dataset(registry / "synthetic" / IMAGES_FOLDER).images) == 30


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["add", "{tmp}/gone"], "There is no folder"),
        (["add", "{tmp}/notes.txt"], "notes.txt is not a zip or tar.gz archive"),
        (["add", "{tmp}/synthetic.zip", "--name", "../out"], "Invalid dataset name"),
        (["download", "--sha256", "12"], "64 hexadecimal digits"),
        (["download", "--url", "file:///etc/passwd"], "Expected http:// or https://"),
        (["remove", "mine"], "The dataset 'mine' in"),
    ],
)
def test_data_with_invalid_input_is_refused(
    refused: Callable[..., str], tmp_path: Path, archive: Path, registry: Path,
    arguments: list[str], expected: str,
) -> None:  # fmt: skip
    (tmp_path / "notes.txt").write_text("x" * 100)
    registry.mkdir()
    assert archive.is_file()
    arguments = [text.replace("{tmp}", str(tmp_path)) for text in arguments]
    assert expected in refused("data", *arguments)
