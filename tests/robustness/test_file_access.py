"""Files are read by the bounded readers of `utils.io`, and CSV is written by `utils.csv_table`."""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATH_METHODS = {"read_text", "read_bytes"}
PARSERS = {"load", "fromfile", "memmap", "read_csv", "read_json", "read_parquet", "imread"}
PARSER_MODULES = {"np", "numpy", "pd", "pandas", "cv2"}
CSV_WRITERS = {"to_csv", "writer", "DictWriter"}

ALLOWED_READS = {
    ("app/server/access.py", "read_text"): "the page that Streamlit installs",
    ("app/components/classify/rectangle_selector.py", "read_text"): "a script of the program",
}
ALLOWED_WRITES = {
    ("bc_model/utils/csv_table.py", "to_csv"): "the writer itself",
    ("bc_model/training/trainer.py", "to_csv"): "hashes of `SeenImages`",
    ("bc_model/distillation/build.py", "to_csv"): "hashes of `SeenImages`",
}


def sources() -> list[Path]:
    return [
        path for folder in ("bc_model", "app") for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def is_reading_mode(call: ast.Call, position: int) -> bool:
    """Return whether the mode of an `open` call, a literal at a position, is that of a reader."""
    modes = [word.value for word in call.keywords if word.arg == "mode"]
    mode = modes[0] if modes else (call.args[position : position + 1] or [ast.Constant("r")])[0]
    return isinstance(mode, ast.Constant) and str(mode.value).strip("bt+") == "r"


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_system_file(node: ast.expr) -> bool:
    """Return whether an expression is ``Path("/proc/...")`` or ``Path("/sys/...")``."""
    texts = [argument.value for argument in getattr(node, "args", []) if is_text(argument)]
    return any(text.startswith(("/proc/", "/sys/")) for text in texts)


def find_reads(tree: ast.Module) -> Iterator[str]:
    """Yield the functions that read a file, unless `open_regular` has opened it."""
    streams = {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.optional_vars, ast.Name)
        and "open_regular" in ast.dump(item.context_expr)
    }
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        match call.func:
            case ast.Name("open") if is_reading_mode(call, 1):
                yield "open"
            case ast.Attribute(attr="open") if is_reading_mode(call, 0):
                yield "open"
            case ast.Attribute(value=receiver, attr=name) if name in PATH_METHODS:
                if not is_system_file(receiver) and all(map(is_text, call.args)):
                    yield name
            case ast.Attribute(ast.Name(module), name) if (
                module in PARSER_MODULES and name in PARSERS
            ):
                argument = call.args[0]
                if not (isinstance(argument, ast.Name) and argument.id in streams) and not (
                    isinstance(argument, ast.Call) and "BytesIO" in ast.dump(argument.func)
                ):
                    yield name


def find_writers(tree: ast.Module) -> set[str]:
    attributes = (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return CSV_WRITERS.intersection(attributes)


@cache
def read_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_file_is_read_by_a_bounded_reader() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), call)
        for path in sources()
        for call in find_reads(read_tree(path))
    }
    assert found == ALLOWED_READS.keys()


def test_every_csv_file_is_written_by_table_to_csv() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), call)
        for path in sources()
        for call in find_writers(read_tree(path))
    }
    assert found == ALLOWED_WRITES.keys()


def test_tables_of_the_app_offer_no_csv_of_their_own() -> None:
    """The export of Streamlit does not escape formulas."""
    config = tomllib.loads((ROOT / ".streamlit/config.toml").read_text(encoding="utf-8"))
    assert config["client"]["disableDataExport"] is True


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("path.read_text()", ["read_text"]),
        ("path.read_text('utf-8')", ["read_text"]),
        ("Path('/proc/cpuinfo').read_text()", []),
        ("tiff.read_bytes(field)", []),
        ("path.open()", ["open"]),
        ("path.open('rb')", ["open"]),
        ("path.open(mode='r+b')", ["open"]),
        ("open(path)", ["open"]),
        ("np.load(path)", ["load"]),
        ("with open(path) as stream: np.load(stream)", ["open", "load"]),
        ("with open_regular(path) as stream: np.load(stream)", []),
        ("pd.read_csv(io.BytesIO(data))", []),
        ("read_text(path), path.open('xb'), open(path, 'w'), Run.open(path)", []),
    ],
)
def test_find_reads_finds_unbounded_readers(source: str, calls: list[str]) -> None:
    assert sorted(find_reads(ast.parse(source))) == sorted(calls)
