"""Paths that users type and paste, and the folders that they can name."""

import ast
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from app.components import paths
from app.components.dataset_cache import load_folder
from app.components.evaluate.external_dataset import _evaluate_folder
from app.components.paths import list_roots, parse_path, require_links_inside
from app.components.split_form import _store_copies
from bc_model.errors import DataError

APP = Path(paths.__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" /data/a dataset ", Path("/data/a dataset")),
        ("'/data/a dataset'", Path("/data/a dataset")),
        ('"/data/a dataset"', Path("/data/a dataset")),
        ("~/images", Path.home() / "images"),
        ("'", Path("'")),
        ("''", Path("''")),  # Not the working directory of the server.
        ("/it's", Path("/it's")),
    ],
)
def test_parse_path_returns_the_path(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: Path
) -> None:
    monkeypatch.setenv("BC_ROOTS", expected.anchor or os.sep)
    assert parse_path(text) == expected.resolve()


def test_parse_path_is_limited_to_the_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is the same for what exists and for what does not."""
    root, secret = tmp_path / "root", tmp_path / "secret"
    (root / "images").mkdir(parents=True)
    secret.mkdir()
    (root / "link").symlink_to(secret)
    monkeypatch.setenv("BC_ROOTS", str(root))
    monkeypatch.chdir(root)
    for inside in (root, root / "images", root / "missing", Path("images")):
        assert parse_path(str(inside)) == inside.resolve()
    messages = set()
    for text in (
        str(secret), str(tmp_path / "missing"), f"{root}/../secret", f"{root}/link/file",
        f"{root}/link", f"{root}-other", "/", "/etc/passwd", "~/x", "..",
        f"{root}/a\0b",
    ):  # fmt: skip
        with pytest.raises(DataError) as error:
            parse_path(text)
        messages.add(str(error.value).replace(repr(text), "PATH"))
    assert messages == {
        f"Path not allowed. Expected a path in {root}, got PATH. Name further folders in BC_ROOTS."
    }


def test_parse_path_does_not_show_whether_a_user_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_ROOTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert parse_path("~root/x") == tmp_path / "~root/x"
    assert parse_path("~no-such-user/x") == tmp_path / "~no-such-user/x"


def test_parse_path_outside_of_the_roots_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network path of Windows would open a connection."""
    monkeypatch.setenv("BC_ROOTS", str(tmp_path))
    monkeypatch.setattr(Path, "resolve", lambda path: pytest.fail(f"looked at {path}"))
    with pytest.raises(DataError, match="not allowed"):
        parse_path("/net/host/share")


def test_links_out_of_a_folder_are_refused_on_a_shared_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, root, secret = tmp_path / "images", tmp_path / "root", tmp_path / "secret"
    for place in (folder / "benign", root, secret):
        place.mkdir(parents=True)
        (place / "a.png").touch()
    (folder / "benign/b.png").symlink_to("a.png")
    (folder / "benign/c.png").symlink_to(root / "a.png")
    (folder / "link").symlink_to(secret)
    monkeypatch.setenv("BC_ROOTS", str(root))
    shared = True
    monkeypatch.setattr(paths, "is_shared", lambda: shared)
    require_links_inside(folder / "benign", [folder / "benign/b.png", folder / "benign/c.png"])
    with pytest.raises(DataError, match=r"'a\.png' .* leads out of it"):
        require_links_inside(folder, [folder / "link/a.png"])
    require_links_inside(folder)  # Folders are not walked through links.
    (folder / "benign/d.png").symlink_to(secret / "a.png")
    with pytest.raises(DataError, match=r"'d\.png' .* BC_ROOTS"):
        require_links_inside(folder)
    (folder / "benign/d.png").unlink()
    (folder / "benign/d.png").symlink_to("d.png")
    with pytest.raises(DataError, match="leads out"):
        require_links_inside(folder)
    shared = False
    require_links_inside(folder)


def test_typed_folders_are_checked_for_links(
    synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for file in (folder / "a.png", folder / "a.txt"):
        file.symlink_to(next(synthetic_dataset.rglob("*.png")))
    monkeypatch.setenv("BC_ROOTS", str(tmp_path))
    monkeypatch.setattr(paths, "is_shared", lambda: True)
    for read in (
        lambda: load_folder(folder),
        lambda: _store_copies(str(folder)),
        lambda: _evaluate_folder(Mock(), str(folder), "", False, Mock()),
    ):
        with pytest.raises(DataError, match="leads out"):
            read()


def test_list_roots_has_defaults_on_one_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BC_ROOTS", raising=False)
    assert {Path.home(), paths.ROOT} < set(list_roots())
    assert not {Path("/"), Path("/etc"), Path("/tmp")} & set(list_roots())
    monkeypatch.setattr(paths, "is_shared", lambda: True)
    assert list_roots() == []
    with pytest.raises(DataError, match="disabled"):
        parse_path(str(paths.ROOT))
    monkeypatch.setenv("BC_ROOTS", os.pathsep.join(["/a", "", "/b"]))
    assert list_roots() == [Path("/a"), Path("/b")]


def test_typed_paths_are_parsed_by_one_function() -> None:
    """A text field with a path names a place as its placeholder; its module uses `parse_path`."""
    fields = {}
    for file in sorted(APP.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and ast.unparse(call.func).endswith("text_input")):
                continue
            hints = {k.arg: ast.unparse(k.value) for k in call.keywords}
            if "/" in hints.get("placeholder", ""):
                fields[hints["key"]] = "parse_path(" in file.read_text(encoding="utf-8")
    assert len(fields) == 5
    assert all(fields.values())


def test_nothing_else_in_the_app_expands_a_typed_path() -> None:
    users = [
        file.name
        for file in APP.rglob("*.py")
        if "expanduser" in file.read_text(encoding="utf-8") and file.name != "paths.py"
    ]
    assert users == []
