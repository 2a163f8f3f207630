"""Packages that must not be loaded: TensorFlow for inference, Streamlit in the library."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bc_model.training.run import Run

REPOSITORY = Path(__file__).parents[2]
HEAVY = ("tensorflow", "keras", "openvino_telemetry", "streamlit", "torch", "distributed")
TENSORFLOW_AT_IMPORT = {"bc_model.training.trainer", "bc_model.training.callbacks"}


def loaded_after(code: str, *arguments: str) -> list[str]:
    """Run code in a new interpreter and return the heavy packages that it loaded."""
    report = f"""
import json, sys
print(json.dumps([name for name in {HEAVY!r} if sys.modules.get(name) is not None]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code + report, *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_inference_loads_no_training_library(tiny_run: Run) -> None:
    code = """
import sys
import numpy as np
import bc_model.inference.classifier, bc_model.inference.engine, bc_model.gradcam
import bc_model.training.run_queue, bc_model.training.run, bc_model.evaluation
import bc_model.experiments.experiment, bc_model.experiments.results
from bc_model.inference.bundle import open_bundle
from bc_model.inference.engine import Engine
Engine(open_bundle(sys.argv[1])).explain(np.zeros((1, 32, 32, 3), np.uint8))
"""
    assert loaded_after(code, str(tiny_run.path)) == []


@pytest.mark.parametrize(
    "module", ["bc_model", "bc_model.cli", "bc_model.model", "bc_model.experiments.dask_cluster"]
)
def test_import_of_light_modules_loads_no_heavy_package(module: str) -> None:
    assert loaded_after(f"import {module}") == []


def sources(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of all modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(package: str, forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in sources(package)
        for name in imported(path)
        if name.split(".")[0] in forbidden or name in forbidden
    ]


def test_sources_contain_both_packages() -> None:
    assert len(sources("bc_model")) > 20
    assert sources("app")


def test_library_does_not_import_the_app_or_streamlit() -> None:
    assert offenders("bc_model", {"streamlit", "app"}) == []


def test_app_does_not_import_tensorflow() -> None:
    assert offenders("app", {"tensorflow", "keras", *TENSORFLOW_AT_IMPORT}) == []


def test_jobs_imports_only_modules_of_lower_layers() -> None:
    names = {name for name in imported(REPOSITORY / "bc_model/jobs.py") if "bc_model" in name}
    modules = {".".join(name.split(".")[:2]) for name in names}
    assert modules <= {"bc_model.errors", "bc_model.utils", "bc_model.checks"}
