import io
import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from bc_model.data.splits import read_split
from bc_model.data.synthetic import draw_picture, example_png
from bc_model.serving.shipped import BUNDLED_NAME, SHIPPED_MODELS
from bc_model.training.run_folder import RunFolder


def png(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def texts(elements) -> str:
    return "\n".join(str(element.value) for element in elements)


def test_without_a_model_the_page_says_where_to_get_one(runs, open_page):
    app = open_page("diagnose")

    assert "No model yet" in texts(app.subheader)
    assert not app.file_uploader


def test_an_uploaded_picture_gets_an_estimate_and_both_maps(
    finished_run: RunFolder, open_page: Callable[[str], AppTest]
):
    app = open_page("diagnose")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()

    assert not app.exception
    assert app.metric[0].label == "Estimated probability of malignancy"
    assert 0.0 <= float(app.metric[0].value.removeprefix("above ").removeprefix("below ")) <= 1.0
    words = texts(app.markdown)
    assert "Evidence for benign" in words
    assert "Evidence for malignant" in words
    assert "Research use only, not a diagnosis." in words


def test_what_means_nothing_is_not_called(
    finished_run: RunFolder, open_page: Callable[[str], AppTest]
):
    app = open_page("diagnose")
    blank = png(np.full((64, 96, 3), 244, np.uint8))
    app.file_uploader[0].upload("blank.png", blank).run()

    assert app.metric[0].label == "Estimated probability of malignancy"
    assert "**Not called**: this estimate means nothing" in texts(app.markdown)
    assert "Called **" not in texts(app.markdown)
    assert "This picture has no colour" in texts(app.warning)


def test_without_an_answer_there_is_no_legend(finished_run, open_page):
    app = open_page("diagnose")
    app.file_uploader[0].upload("broken.png", b"Dear colleague").run()

    assert len(app.error) == 1
    assert not app.slider


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("notes.png", b"these are notes, not pixels", "not a PNG, JPEG or TIFF"),
        ("cut.png", example_png(malignant=False)[:5000], "damaged or cut short"),
        ("empty.png", b"", "is empty"),
    ],
)
def test_a_bad_picture_gets_one_sentence_and_the_others_are_answered(
    finished_run, open_page, name, data, said
):
    app = open_page("diagnose")
    good = example_png(malignant=False)
    app.file_uploader[0].upload(name, data).upload("good.png", good).run()

    assert not app.exception
    assert said in texts(app.error).replace("\\", "")
    assert len(app.metric) == 1


def test_a_huge_picture_is_refused_from_its_header(finished_run, open_page):
    huge = io.BytesIO()
    Image.new("1", (20000, 20000)).save(huge, "PNG")
    app = open_page("diagnose")
    app.file_uploader[0].upload("huge.png", huge.getvalue()).run()

    assert not app.exception
    assert "400 million pixels" in texts(app.error)


def test_two_large_pictures_that_differ_in_one_spot_get_their_own_answers(finished_run, open_page):
    # Streamlit hashes large arrays by a sample of their numbers: keyed by pixels, the second
    # picture would be given the first one's answer.
    first = draw_picture(malignant=False, seed=1, size=(1024, 1024))
    second = first.copy()
    second[500:900, 100:900] = (90, 50, 140)
    app = open_page("diagnose")
    app.file_uploader[0].upload("a.png", png(first)).upload("b.png", png(second)).run()

    assert not app.exception
    table = app.dataframe[0].value
    estimates = table["Estimated probability of malignancy"]
    assert estimates[0] != estimates[1]


def test_a_name_that_tells_another_magnification_is_warned_about(finished_run, open_page):
    path = finished_run.model_folder / "passport.json"
    passport = json.loads(path.read_text())
    passport["scale"]["magnifications"] = [200]  # the drawn set it learned from has none
    path.write_text(json.dumps(passport))
    app = open_page("diagnose")
    name = "SOB_B_A-14-22549AB-40-001.png"
    app.file_uploader[0].upload(name, example_png(malignant=False)).run()

    assert "taken at 40X" in texts(app.warning)


def test_a_drawn_example_can_be_tried_without_a_picture(finished_run, open_page):
    app = open_page("diagnose")
    app.button_group(key="example").set_value("Drawn, crowded nuclei").run()

    assert not app.exception
    assert len(app.metric) == 1


def test_a_model_of_tissue_comes_before_a_newer_dry_run(finished_run, open_page, monkeypatch):
    monkeypatch.setattr("app.components.models.SHIPPED_MODELS", SHIPPED_MODELS)
    app = open_page("diagnose")

    assert app.selectbox(key="model").value == BUNDLED_NAME
    assert finished_run.name in app.selectbox(key="model").options
    assert "Balanced accuracy at 100X 0." in texts(app.caption).replace("\\", "")
    app.button_group(key="example").set_value("Drawn, crowded nuclei").run()
    assert "A drawing, not tissue" in texts(app.info)


def test_a_model_whose_bytes_changed_is_refused_in_one_sentence(finished_run, open_page):
    graph = finished_run.model_folder / "served.bin"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    app = open_page("diagnose")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()

    assert not app.exception
    assert "not the file its passport describes" in texts(app.error).replace("\\", "")
    assert not app.metric


def test_a_model_with_a_damaged_passport_is_left_out_and_said_so(finished_run, open_page):
    (finished_run.model_folder / "passport.json").write_text("{")
    app = open_page("diagnose")

    assert "cannot be read as JSON" in texts(app.warning)
    assert "No model yet" in texts(app.subheader)


def test_one_file_under_two_names_is_shown_once(finished_run, open_page):
    app = open_page("diagnose")
    data = example_png(malignant=True)
    app.file_uploader[0].upload("a.png", data).upload("copy.png", data).run()

    assert not app.exception
    assert len(app.metric) == 1
    assert "is the same file as" in texts(app.caption)


def test_a_model_named_in_the_address_that_is_gone_is_said(finished_run, open_page):
    app = open_page("diagnose", model="gone")

    assert "Model 'gone' was not found" in texts(app.warning)


def test_a_model_that_learned_from_drawn_pictures_is_warned_about(finished_run, open_page):
    app = open_page("diagnose")

    assert "knows nothing of tissue" in texts(app.warning)


def test_a_picture_of_a_run_is_answered_by_its_hash_in_the_address(finished_run, open_page):
    first = read_split(finished_run.split_file).iloc[0]
    app = open_page("diagnose", run=finished_run.name, picture=first["sha256"])

    assert len(app.metric) == 1
    assert f"its label says {first['class']}" in texts(app.markdown).replace("\\", "")
    app.button(key="close-picture").click().run()
    assert not app.metric
    assert "picture" not in app.query_params


@pytest.mark.parametrize(
    ("run", "picture", "said"),
    [
        ("finished", "0" * 64, "has no picture"),
        ("finished", "../../etc/passwd", "has no picture"),
        ("../finished", "0" * 64, "not the name of a run"),
        ("nowhere", "0" * 64, "There is no run"),
    ],
)
def test_a_picture_that_no_run_has_is_one_sentence(finished_run, open_page, run, picture, said):
    app = open_page("diagnose", run=run, picture=picture)

    assert said in texts(app.error).replace("\\", "")
    assert len(app.error) == 1
    assert not app.metric
