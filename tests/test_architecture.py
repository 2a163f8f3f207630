"""The layers of the packages: imports go one way, without cycles, and through public names."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

LAYERS = (
    "errors",
    "utils",
    "checks",
    "jobs",
    "data",
    "model",
    "gradcam",
    "contribution_map",
    "image_label",
    "scale_bar",
    "heatmap_methods",
    "inference",
    "evaluation",
    "training",
    "experiments",
    "distillation",
    "reporting",
    "cli",
)
"""A package or module of `bc_model` imports only from those before it."""

ENTRY_POINTS = {"bc_model", "bc_model.__main__"}
"""The lazy facade and the command line's entry point refer to every layer."""


def modules_of(folder: str) -> dict[str, Path]:
    """Return every module below a folder of the repository: dotted name to file."""
    names = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = modules_of("bc_model")


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the modules of `bc_model` that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in inside]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "bc_model")


def layer_of(module: str) -> str:
    return module.split(".")[1]


def upward_imports() -> list[str]:
    return [
        f"{module} imports {imported}"
        for module, path in MODULES.items()
        if module not in ENTRY_POINTS
        for imported in imported_modules(path)
        if imported != "bc_model"
        and LAYERS.index(layer_of(imported)) > LAYERS.index(layer_of(module))
    ]


def import_cycles() -> list[list[str]]:
    """Return groups of modules that import each other, by Tarjan's algorithm."""
    graph = {m: sorted(set(imported_modules(p)) - {m}) for m, p in MODULES.items()}
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        stack.append(module)
        for other in graph[module]:
            if other not in graph:
                continue
            if other not in index:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], index[other])
        if lowest[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(group)

    for module in graph:
        if module not in index:
            visit(module)
    return found


def deep_imports() -> list[str]:
    """Return imports of modules inside a package of the library, by those who only use it."""
    users = {**modules_of("app"), **modules_of("benchmarks")}
    users |= {name: path for name, path in MODULES.items() if name.startswith("bc_model.cli")}
    return [
        f"{user} imports {imported}"
        for user, path in users.items()
        for imported in imported_modules(path)
        if imported.count(".") > 1 and not imported.startswith("bc_model.cli")
    ]


def test_every_package_has_a_layer() -> None:
    assert {layer_of(m) for m in MODULES if m not in ENTRY_POINTS} <= set(LAYERS)


def test_imports_go_from_upper_to_lower_layers() -> None:
    assert upward_imports() == []


def test_modules_have_no_import_cycles() -> None:
    assert import_cycles() == []


def test_app_cli_and_benchmarks_use_public_names() -> None:
    assert deep_imports() == []


def test_no_two_modules_differ_by_a_plural() -> None:
    """The command groups of `cli` are named like the packages that they use."""
    names = {path.stem for module, path in MODULES.items() if not module.startswith("bc_model.cli")}
    names -= {"__init__", "__main__"}
    assert [name for name in sorted(names) if f"{name}s" in names] == []
