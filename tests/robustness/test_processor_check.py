"""TensorFlow is imported only after a check of the processor, which it would end without AVX."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "bc_model"
LIBRARIES = {"keras", "tensorflow"}
CHECK = "require_tensorflow"

ALLOWED = {
    ("cli/distill.py", "_prepare_backend"): "checks unless Keras uses another backend",
    ("distillation/student.py", ""): "Keras may use another backend",
    ("distillation/student.py", "_trains_on_cpu"): "Keras has loaded its backend",
    ("gradcam.py", "GradCAM.__call__"): "has a model",
    ("model.py", "_negative_slope"): "has a layer",
    ("model.py", "_preprocess"): "called by `build_model`",
    ("model.py", "_resnet50"): "called by `build_model`",
    ("model.py", "_efficientnetb0"): "called by `build_model`",
    ("model.py", "_vgg16"): "called by `build_model`",
    ("model.py", "_tiny"): "called by `build_model`",
}
"""Functions and modules (empty), each with the reason why it needs no check of its own."""


def loads_tensorflow(node: ast.stmt) -> bool:
    match node:
        case ast.Import(names):
            return any(alias.name.split(".")[0] in LIBRARIES for alias in names)
        case ast.ImportFrom(module=str(module), level=0):
            return module.split(".")[0] in LIBRARIES
    return False


def is_check(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(ast.Call(ast.Name(name))):
            return name == CHECK
    return False


def has_model(function: ast.FunctionDef) -> bool:
    """Return whether an argument is an object of TensorFlow, which has started then."""
    arguments = function.args
    hints = [one.annotation for one in (*arguments.args, *arguments.kwonlyargs) if one.annotation]
    return any(f"{name}." in ast.unparse(hint) for hint in hints for name in ("keras", "tf"))


def find_unchecked(body: list[ast.stmt], scope: str = "", checked: bool = False) -> Iterator[str]:
    """Yield the functions, or "" for the module, that import TensorFlow without a check before."""
    for node in body:
        checked = checked or is_check(node)
        if loads_tensorflow(node):
            if not checked:
                yield scope
        elif isinstance(node, ast.FunctionDef):
            name = f"{scope}.{node.name}".strip(".")
            yield from find_unchecked(node.body, name, checked or has_model(node))
        elif isinstance(node, ast.ClassDef):
            yield from find_unchecked(node.body, f"{scope}.{node.name}".strip("."), checked)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            for part in ("body", "orelse", "finalbody"):
                yield from find_unchecked(getattr(node, part, []), scope, checked)


def test_tensorflow_is_imported_after_the_check_of_the_processor() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), scope)
        for path in sorted(PACKAGE.rglob("*.py"))
        for scope in find_unchecked(ast.parse(path.read_text(encoding="utf-8")).body)
    }
    assert found == ALLOWED.keys()


@pytest.mark.parametrize(
    ("source", "scopes"),
    [
        ("import keras", [""]),
        ("require_tensorflow()\nimport keras", []),
        ("if TYPE_CHECKING:\n    import keras", []),
        ("if fast:\n    import tensorflow as tf", [""]),
        ("def f(n: int):\n    from keras.layers import Dense", ["f"]),
        ("def f(model: keras.Model):\n    import keras", []),
        ("def f():\n    require_tensorflow()\n    with x:\n        import keras", []),
        ("def f():\n    import keras\n    require_tensorflow()", ["f"]),
        ("class A:\n    def f(self):\n        import keras", ["A.f"]),
        ("import kerastuner", []),
    ],
)
def test_find_unchecked_finds_imports_without_a_check(source: str, scopes: list[str]) -> None:
    assert list(find_unchecked(ast.parse(source).body)) == scopes
