"""Page Compare: differences, metrics, curves and configurations of several runs."""

import itertools
import json
import shutil
from pathlib import Path

import pytest

from app.components.charts import chart_runs
from bc_model.training.run import Run
from tests.app.helpers import press, tables, texts


@pytest.fixture
def other_run(finished_run: Run) -> Run:
    """Return a second finished run with another seed and the same test images."""
    other = Run(finished_run.path.with_name("other"))
    shutil.copytree(finished_run.path, other.path)
    config = other.read_config()
    other.write_config(config | {"config": config["config"] | {"seed": 7}})
    return other


@pytest.fixture
def unfinished_run(runs: Path, tiny_run: Run) -> Run:
    """Return a run without an evaluation."""
    shutil.copytree(tiny_run.path, runs / "unfinished")
    shutil.rmtree(runs / "unfinished/evaluation")
    return Run(runs / "unfinished")


def test_compare_with_one_run_links_to_train(finished_run, open_page):
    app = open_page("compare")

    assert "Fewer than two runs" in texts(app.header)
    assert not app.dataframe
    assert not app.multiselect


def test_compare_with_two_runs_shows_tables_and_curves(finished_run, other_run, open_page):
    app = open_page("compare", compared=["finished", "other"])

    differences, support, metrics, config = tables(app)
    assert set(differences["Result"]) == {"No evidence of a difference"}
    assert list(differences["Metric"])[:2] == ["Balanced accuracy", "Sensitivity"]
    assert set(differences["B - A"]) == {0.0}
    assert differences["Images"].tolist() == [6, 3, 3, 6, 6, 6]
    assert differences["Cases"].tolist() == [2, 1, 1, 2, 2, 2]
    assert support.values.tolist() == [["A", 6, 3, 3, 2], ["B", 6, 3, 3, 2]]
    assert list(metrics.columns) == [
        "Metric", "A", "A CI low", "A CI high", "B", "B CI low", "B CI high",
    ]  # fmt: skip
    assert {"A", "B"} <= set(metrics.select_dtypes("number"))
    assert config.values.tolist() == [["Seed", "0", "7"]]
    assert len(app.get("vega_lite_chart")) == 2
    assert "no evidence of a difference" in texts(app.markdown)
    assert "exploratory" in texts(app.info)


def test_compare_with_show_all_lists_equal_options(finished_run, other_run, open_page):
    app = open_page("compare", compared=["finished", "other"])
    app.toggle(key="all_options").set_value(True).run()

    assert "Backbone" in set(tables(app)[-1]["Option"])


def test_compare_with_three_runs_uses_the_first_as_reference(finished_run, other_run, open_page):
    shutil.copytree(other_run.path, other_run.path.with_name("third"))
    app = open_page("compare", compared=["finished", "other", "third"])

    assert [list(table.columns)[3] for table in tables(app)[:2]] == ["B - A", "C - A"]
    assert "12 confidence intervals" in texts(app.info)


def test_compare_reads_the_runs_from_the_url_in_order(finished_run, other_run, open_page):
    for chosen in (["other", "finished"], ["finished", "other"]):
        app = open_page("compare", compared=chosen)

        assert app.multiselect(key="compared").value == chosen
        assert list(tables(app)[-1].columns)[1] == f"A: {chosen[0]}"


def test_compare_with_five_runs_in_the_url_keeps_four(finished_run, other_run, open_page):
    for name in ("three", "four", "five"):
        shutil.copytree(other_run.path, other_run.path.with_name(name))
    app = open_page("compare", compared=["finished", "other", "three", "four", "five"])

    assert len(app.multiselect(key="compared").value) == 4
    assert "18 confidence intervals" in texts(app.info)


def test_compare_with_an_unknown_run_in_the_url_ignores_it(finished_run, other_run, open_page):
    app = open_page("compare", compared=["finished", "../gone"])

    assert app.multiselect(key="compared").value == ["finished"]
    assert "at least two" in texts(app.info)


def test_compare_with_an_unfinished_run_shows_curves_and_options(
    finished_run, unfinished_run, open_page
):
    app = open_page("compare", compared=["finished", "unfinished"])

    assert "Without an evaluation: B" in texts(app.info)
    assert "Differences" not in texts(app.header)
    assert len(app.get("vega_lite_chart")) == 2
    assert "The configurations are equal" in texts(app.caption)


def test_compare_with_a_leakage_run_warns(finished_run, other_run, open_page):
    path = other_run.evaluation_dir / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"has_leakage": True}))
    app = open_page("compare", compared=["finished", "other"])

    assert "B" in texts(app.warning)


def test_compare_without_common_test_images_shows_one_error(finished_run, other_run, open_page):
    path = other_run.evaluation_dir / "predictions.csv"
    path.write_text(path.read_text().replace("histology_slides", "elsewhere"))
    app = open_page("compare", compared=["finished", "other"])

    assert len(app.error) == 1
    assert len(tables(app)) == len(["images", "metrics", "config"])


@pytest.mark.parametrize("name", ["report.json", "../config.json"])
def test_compare_with_a_damaged_run_shows_one_error(finished_run, other_run, open_page, name):
    (other_run.evaluation_dir / name).write_text("{")
    app = open_page("compare", compared=["finished", "other"])

    assert len(app.error) == 1


def test_chart_runs_with_equal_ends_separates_the_labels():
    histories = {
        run: [{"epoch": 1, "val_loss": 1.0}, {"epoch": 2, "val_loss": end}]
        for run, end in (("one", 0.5), ("two", 0.5), ("three", 0.51), ("four", 0.2))
    }
    chart = chart_runs(histories, "val_loss", "Loss", list("ABCD"))
    labels = sorted(chart.layer[1].data["label"])

    assert min(b - a for a, b in itertools.pairwise(labels)) > 0.05


def test_chart_runs_without_epochs_of_a_run_shows_the_others():
    histories = {"one": [{"epoch": 1, "val_loss": 1.0}], "two": []}
    chart = chart_runs(histories, "val_loss", "Loss", list("AB"))

    assert list(chart.layer[1].data["run"]) == ["A"]
    assert chart_runs({"two": []}, "val_loss", "Loss", ["A"]).to_dict()


@pytest.mark.parametrize(
    ("name", "content", "heading"),
    [
        # A run without curves still has its metrics.
        ("history.jsonl", b"\xff\n", "C: other"),
        ("config.json", b'{"config": []}', "B: other"),
        ("config.json", b"\xff", "B: other"),
    ],
)
def test_compare_shows_a_damaged_run_and_compares_the_others(
    finished_run, other_run, open_page, name: str, content: bytes, heading: str
):
    third = Run(other_run.path.with_name("third"))
    shutil.copytree(other_run.path, third.path)
    (third.path / name).write_bytes(content)
    app = open_page("compare", compared=["finished", "third", "other"])

    assert name in texts(app.error)
    assert heading in tables(app)[-1].columns
    press(app, "Delete run")
    assert not third.path.exists()
    assert not app.error
    assert app.multiselect(key="compared").value == ["finished", "other"]
