import json


def texts(elements) -> str:
    return "\n".join(str(element.value) for element in elements).replace("\\", "")


def test_without_a_finished_run_the_page_says_where_to_get_one(runs, open_page):
    app = open_page("evaluate")

    assert "No finished run yet" in texts(app.subheader)


def test_every_figure_stands_with_its_pictures_and_cases(finished_run, open_page):
    app = open_page("evaluate")

    table = app.dataframe[0].value.set_index("Figure")
    assert list(table.index) == [
        "Balanced accuracy",
        "Sensitivity",
        "Specificity",
        "ROC AUC",
        "Accuracy",
        "Loss",
    ]
    report = json.loads((finished_run.evaluation_folder / "report.json").read_text())
    assert list(table["Pictures"]) == [
        report["figures"][name]["n"]
        for name in (
            "balanced_accuracy",
            "sensitivity",
            "specificity",
            "roc_auc",
            "accuracy",
            "log_loss",
        )
    ]
    assert table["Cases"].astype(int).gt(0).all()
    assert len(app.get("vega_lite_chart")) == 2


def test_the_base_rate_stands_beside_the_figures(finished_run, open_page):
    app = open_page("evaluate")

    assert "malignant would be right for" in texts(app.caption)


def test_a_leaky_report_carries_the_word(finished_run, open_page):
    path = finished_run.evaluation_folder / "report.json"
    report = json.loads(path.read_text())
    leaky = {"leaky": True, "protocol": "image", "warnings": ["This figure flatters."]}
    path.write_text(json.dumps(report | leaky))
    app = open_page("evaluate")

    assert "This figure flatters" in texts(app.error)
    assert not app.warning


def test_a_damaged_report_is_said_in_one_sentence(finished_run, open_page):
    (finished_run.evaluation_folder / "report.json").write_text("{}")
    app = open_page("evaluate")

    assert len(app.error) == 1
    assert not app.dataframe
