"""No page loads TensorFlow, directly or by an import."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bc_model.data.registry import link_folder
from bc_model.training.run import Run

ROOT = Path(__file__).parents[2]

# A new process, because this one has trained a model and has loaded TensorFlow.
VISIT_EVERY_PAGE = """
import json, sys
from streamlit.testing.v1 import AppTest
from app.server.settings import check_start
from bc_model.data.synthetic import example_png

check_start()
app = AppTest.from_file("app/router.py", default_timeout=60).run()
app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()
app.toggle(key="show-anyway").set_value(True).run()
n_metrics = len(app.metric)
loaded = {}
for page in ("classify", "data", "train", "evaluate", "experiments", "compare"):
    if page != "classify":
        app.switch_page(f"views/{page}.py").run()
    if page == "train" and "Bundled model" in app.selectbox(key="config-weights").options:
        app.selectbox(key="dataset").set_value("synthetic")
        app.selectbox(key="config-weights").set_value("bundled").run()
    errors = [] if page == "classify" else [error.value for error in app.error]
    assert not app.exception and not errors, (page, errors)
    loaded[page] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"n_metrics": n_metrics, "loaded": loaded}))
"""


def test_pages_do_not_load_tensorflow(
    finished_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    link_folder(synthetic_dataset, "synthetic", tmp_path / "datasets")
    done = subprocess.run(
        [sys.executable, "-c", VISIT_EVERY_PAGE],
        cwd=ROOT,
        env=os.environ
        | {"BC_RUNS": str(finished_run.path.parent), "BC_DATASETS": str(tmp_path / "datasets")},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["n_metrics"] == 2, "the page Classify shows no prediction"
    assert set(found["loaded"]) == {
        "classify",
        "data",
        "train",
        "evaluate",
        "experiments",
        "compare",
    }
    for page, modules in found["loaded"].items():
        heavy = {"tensorflow", "keras", "torch", "onnxruntime", "nncf"} & set(modules)
        assert not heavy, f"{page} loads {heavy}"
        assert "openvino" in modules
