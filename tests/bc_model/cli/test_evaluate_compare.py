"""`compare`, and what a comparison reads from a run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bc_model.checks import make_check
from bc_model.errors import RunError, SplitError
from bc_model.experiments.results import compare_configs, compare_runs
from bc_model.inference.bundle import BUNDLED_MODELS_DIR
from bc_model.training.run import Run
from tests.bc_model.conftest import Command


@pytest.fixture
def pair(tiny_run: Run, tmp_path: Path) -> tuple[Run, Run]:
    """Return two copies of a finished run; the second has the seed 7 in its configuration."""
    runs = tuple(Run(tmp_path / name) for name in ("one", "two"))
    for run in runs:
        shutil.copytree(tiny_run.path, run.path)
    config = runs[1].read_config()
    runs[1].write_config(config | {"config": config["config"] | {"seed": 7}})
    return runs  # type: ignore[return-value]


def test_compare_prints_differences_and_options(command: Command, pair: tuple[Run, Run]) -> None:
    code, out, err = command("compare", pair[0].path, pair[1].path)
    assert (code, err) == (0, "")
    assert out.startswith("two minus one, on 6 common test images of 2 cases")
    assert out.count("no evidence of a difference") == 6
    assert "option seed: 0 and 7" in out
    assert out.count("option ") == 1
    assert "exploratory" in out


def test_compare_with_json_prints_only_json(command: Command, pair: tuple[Run, Run]) -> None:
    code, out, err = command("compare", pair[0].path, pair[1].path, "--json")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["differences"]["accuracy"]["difference"]["value"] == 0.0
    assert result["config"] == {"seed": ["0", "7"]}


def test_compare_without_an_evaluation_is_refused(command: Command, pair: tuple[Run, Run]) -> None:
    shutil.rmtree(pair[1].evaluation_dir)
    code, out, err = command("compare", pair[0].path, pair[1].path)
    assert (code, out) == (2, "")
    assert str(pair[1].evaluation_dir) in err
    assert err.count("\n") == 1


def test_compare_a_run_with_itself_is_refused(command: Command, tiny_run: Run) -> None:
    code, out, err = command("compare", tiny_run.path, tiny_run.path)
    assert (code, out) == (2, "")
    assert "are the same run" in err


def test_compare_without_a_run_is_refused(command: Command, tmp_path: Path) -> None:
    code, _, err = command("compare", tmp_path / "gone", tmp_path / "gone")
    assert code == 2
    assert "There is no run in" in err


def test_train_with_the_run_name_bundled_is_refused(
    command: Command, synthetic_dataset: Path, tmp_path: Path
) -> None:
    code, _, err = command("train", synthetic_dataset, "--run", tmp_path / "bundled")
    assert code == 2
    assert "The run name 'bundled' is reserved" in err
    assert not (tmp_path / "bundled").exists()


def test_model_argument_bundled_is_the_bundled_model_despite_a_directory(
    command: Command, pair: tuple[Run, Run], tmp_path: Path, monkeypatch
) -> None:
    shutil.copytree(pair[0].path, tmp_path / "bundled")
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("models", "verify", "bundled")
    assert code == 0
    assert str(BUNDLED_MODELS_DIR) in out
    code, _, err = command("compare", "bundled", "two")
    assert code == 2
    assert "It is a model without a run" in err


def test_compare_with_a_model_directory_is_refused(
    command: Command, pair: tuple[Run, Run], tmp_path: Path
) -> None:
    first, second = (run.path for run in pair)
    code, _, err = command("compare", first / "model", second)
    assert code == 2
    assert f"Use the run itself: {first}." in err

    shutil.copytree(first / "model", tmp_path / "alone")
    code, _, err = command("compare", tmp_path / "alone", second)
    assert code == 2
    assert "It is a model without a run" in err
    assert "external dataset" in err


def test_compare_runs_reads_seen_cases_from_the_split(pair: tuple[Run, Run]) -> None:
    assert "BC222" not in [check.code for check in compare_runs(*pair).checks]
    split = pd.read_csv(pair[1].split_file, dtype=str, keep_default_na=False)
    split.assign(subset="train").to_csv(pair[1].split_file, index=False)
    comparison = compare_runs(*pair, names=("A", "B"))
    assert (comparison.checks[0].code, comparison.checks[0].params["n_seen"]) == ("BC222", 2)


def test_compare_runs_without_a_split_raises(pair: tuple[Run, Run]) -> None:
    pair[0].split_file.unlink()
    with pytest.raises(SplitError, match="There is no split file"):
        compare_runs(*pair)


def test_compare_runs_with_leakage_returns_a_check(pair: tuple[Run, Run]) -> None:
    path = pair[0].evaluation_dir / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"has_leakage": True}))
    assert compare_runs(*pair).checks[0] == make_check("BC221", run="one")


def test_setting_rows_formats_values(pair: tuple[Run, Run]) -> None:
    rows = {row.name: row for row in compare_configs(list(pair))}
    assert rows["seed"].differs
    assert rows["image size"].values == ("32 x 32", "32 x 32")
    assert rows["unfreeze from"].values == ("default", "default")
    assert [name for name, row in rows.items() if row.differs] == ["seed"]


def test_setting_rows_with_a_missing_value_is_not_stated(pair: tuple[Run, Run]) -> None:
    config = pair[1].read_config()
    del config["config"]["dropout"], config["git_commit"]
    pair[1].write_config(config)
    rows = {row.name: row for row in compare_configs(list(pair))}
    assert rows["dropout"].values[1] == "not stated"
    assert rows["git commit"].values[1] == "not stated"


def test_setting_rows_of_a_damaged_run_raises(pair: tuple[Run, Run]) -> None:
    (pair[1].path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"no readable config\.json"):
        compare_configs(list(pair))


def test_compare_runs_loads_no_heavy_library() -> None:
    code = (
        "import sys, bc_model.experiments.results\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'matplotlib', "
        "'sklearn', 'streamlit')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
