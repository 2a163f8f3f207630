"""What if and the trust test: the card without a browser."""

from bc_model.data.synthetic import example_png
from tests.app.helpers import texts


def press(app, label):
    (button,) = (button for button in app.button if button.label == label)
    button.click().run()


def open_card(open_page):
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()
    return app


def test_what_if_shows_the_difference_to_the_unchanged_image(finished_run, open_page):
    app = open_card(open_page)
    (toggle,) = (toggle for toggle in app.toggle if toggle.label == "What if")
    toggle.set_value(True).run()
    assert not app.exception
    before = app.metric[-1]
    assert before.label == "Estimated probability of malignancy"
    assert before.delta == "0.000"

    (brightness,) = (slider for slider in app.slider if slider.label == "Brightness")
    brightness.set_value(0.6).run()
    assert app.metric[-1].delta != "0.000"

    press(app, "Reset")
    assert app.metric[-1].delta == "0.000"


def test_trust_test_shows_a_number_with_its_interval_and_a_sentence(finished_run, open_page):
    app = open_card(open_page)
    press(app, "Test this map")
    assert not app.exception
    assert "Random maps beaten" in [metric.label for metric in app.metric]
    assert "95 % interval" in texts(app.caption)
    shown = texts(app.info) + texts(app.warning)
    assert "random maps" in shown


def test_trust_test_tests_the_selected_map(finished_run, open_page):
    app = open_card(open_page)
    app.button_group(key="layer").set_value("malignant").run()
    press(app, "Test this map")
    assert not app.exception
    assert "**Grad-CAM malignant**" in [element.value for element in app.markdown[-8:]]
    (metric,) = (metric for metric in app.metric if metric.label == "Random maps beaten")
    assert metric.value.endswith("%")
