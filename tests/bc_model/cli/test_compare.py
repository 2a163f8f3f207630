"""The command that compares two runs, and what a comparison reads of a run."""

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
from bc_model.inference.bundle import SHIPPED_MODELS
from bc_model.training.run import Run
from tests.bc_model.conftest import Command


@pytest.fixture
def pair(tiny_run: Run, tmp_path: Path) -> tuple[Run, Run]:
    """Return two copies of a finished run; the second says that its seed was 7."""
    runs = tuple(Run(tmp_path / name) for name in ("one", "two"))
    for run in runs:
        shutil.copytree(tiny_run.path, run.path)
    config = runs[1].read_config()
    runs[1].write_config(config | {"config": config["config"] | {"seed": 7}})
    return runs  # type: ignore[return-value]


def test_two_runs_in_words(command: Command, pair: tuple[Run, Run]) -> None:
    code, out, err = command("compare", pair[0].path, pair[1].path)
    assert (code, err) == (0, "")
    assert out.startswith("two minus one, on 6 test pictures of 2 cases")
    assert out.count("no evidence of a difference") == 6
    assert "setting seed: 0 and 7" in out
    assert out.count("setting ") == 1
    assert "exploratory" in out


def test_json_is_all_of_stdout(command: Command, pair: tuple[Run, Run]) -> None:
    code, out, err = command("compare", pair[0].path, pair[1].path, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["differences"]["accuracy"]["difference"]["value"] == 0.0
    assert told["settings_that_differ"] == {"seed": ["0", "7"]}


def test_a_run_without_an_evaluation_is_refused(command: Command, pair: tuple[Run, Run]) -> None:
    shutil.rmtree(pair[1].evaluation_dir)
    code, out, err = command("compare", pair[0].path, pair[1].path)
    assert (code, out) == (2, "")
    assert f"`evaluate RUN DATA --out {pair[1].evaluation_dir}`" in err
    assert err.count("\n") == 1


def test_a_run_is_not_compared_with_itself(command: Command, tiny_run: Run) -> None:
    code, out, err = command("compare", tiny_run.path, tiny_run.path)
    assert (code, out) == (2, "")
    assert "are one run; name two" in err


def test_what_is_no_run_is_refused(command: Command, tmp_path: Path) -> None:
    code, _, err = command("compare", tmp_path / "gone", tmp_path / "gone")
    assert code == 2
    assert "There is no run in" in err


def test_no_run_is_called_what_the_model_in_the_box_is(
    command: Command, drawn_set: Path, tmp_path: Path
) -> None:
    code, _, err = command("train", drawn_set, "--run", tmp_path / "bundled")
    assert code == 2
    assert "'bundled' is reserved for the bundled model" in err
    assert not (tmp_path / "bundled").exists()


def test_a_folder_called_bundled_does_not_stand_before_the_model_in_the_box(
    command: Command, pair: tuple[Run, Run], tmp_path: Path, monkeypatch
) -> None:
    shutil.copytree(pair[0].path, tmp_path / "bundled")
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("models", "verify", "bundled")
    assert code == 0
    assert str(SHIPPED_MODELS) in out
    code, _, err = command("compare", "bundled", "two")
    assert code == 2
    assert "It is a model without its run" in err


def test_a_model_is_no_run(command: Command, pair: tuple[Run, Run], tmp_path: Path) -> None:
    first, second = (run.path for run in pair)
    code, _, err = command("compare", first / "model", second)
    assert code == 2
    assert f"Use the run itself: {first}." in err

    shutil.copytree(first / "model", tmp_path / "alone")
    code, _, err = command("compare", tmp_path / "alone", second)
    assert code == 2
    assert "It is a model without its run" in err
    assert "external dataset" in err


def test_the_split_says_which_cases_a_run_knows(pair: tuple[Run, Run]) -> None:
    assert "BC222" not in [check.code for check in compare_runs(*pair).checks]
    split = pd.read_csv(pair[1].split_file, dtype=str, keep_default_na=False)
    split.assign(subset="train").to_csv(pair[1].split_file, index=False)
    found = compare_runs(*pair, names=("A", "B"))
    assert (found.checks[0].code, found.checks[0].params["n_seen"]) == ("BC222", 2)


def test_a_run_without_its_split_is_refused(pair: tuple[Run, Run]) -> None:
    pair[0].split_file.unlink()
    with pytest.raises(SplitError, match="no split file"):
        compare_runs(*pair)


def test_a_leakage_run_is_told(pair: tuple[Run, Run]) -> None:
    path = pair[0].evaluation_dir / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"has_leakage": True}))
    assert compare_runs(*pair).checks[0] == make_check("BC221", run="one")


def test_settings_in_words(pair: tuple[Run, Run]) -> None:
    rows = {row.name: row for row in compare_configs(list(pair))}
    assert rows["seed"].differs
    assert rows["image size"].values == ("32 x 32", "32 x 32")
    assert rows["unfreeze from"].values == ("default", "default")
    assert [name for name, row in rows.items() if row.differs] == ["seed"]


def test_a_setting_that_one_run_lacks_is_not_stated(pair: tuple[Run, Run]) -> None:
    config = pair[1].read_config()
    del config["config"]["dropout"], config["git_commit"]
    pair[1].write_config(config)
    rows = {row.name: row for row in compare_configs(list(pair))}
    assert rows["dropout"].values[1] == "not stated"
    assert rows["git commit"].values[1] == "not stated"


def test_settings_of_a_damaged_run_are_refused(pair: tuple[Run, Run]) -> None:
    (pair[1].path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"no readable config\.json"):
        compare_configs(list(pair))


def test_comparing_loads_no_heavy_library() -> None:
    code = (
        "import sys, bc_model.experiments.results\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'matplotlib', "
        "'sklearn', 'streamlit')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
