"""Page Classify: uploads, predictions, checks and model selection."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from _pytest.monkeypatch import resolve
from PIL import Image
from streamlit.runtime.scriptrunner import StopException
from streamlit.testing.v1 import AppTest

from app.components.classify.image_analysis import decode_once
from bc_model.data.breakhis import CLASSES
from bc_model.data.decode_pool import DecodePool
from bc_model.data.images import decode_image
from bc_model.data.registry import link_folder
from bc_model.data.splits import read_split
from bc_model.data.synthetic import example_png, generate_image
from bc_model.errors import BusyError
from bc_model.inference import classifier, evidence_location
from bc_model.inference.bundle import BUNDLED_MODEL_NAME, BUNDLED_MODELS_DIR, open_bundle
from bc_model.inference.classifier import load_classifier
from bc_model.inference.engine import Engine
from bc_model.inference.model_card import write_model_card
from bc_model.training.run import Run
from tests.app.helpers import press, probabilities, texts
from tests.bc_model.inference.model_cards import selective_summary


def png(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def edit_card(run: Run, **sections: dict) -> None:
    path = run.model_dir / "model_card.json"
    card = json.loads(path.read_text())
    for name, values in sections.items():
        card[name] |= values
    path.write_text(json.dumps(card))


def set_uncertain_range(run: Run, low: float, high: float) -> None:
    bundle = open_bundle(run.path)
    selective = selective_summary(low, high, bundle.threshold)
    metrics = replace(bundle.card.metrics, selective=selective)
    write_model_card(bundle.folder, replace(bundle.card, metrics=metrics))


BLANK = png(np.full((64, 96, 3), 244, np.uint8))


def test_classify_without_a_model_links_to_train(runs, open_page):
    app = open_page("classify")

    assert "No model yet" in texts(app.header)
    assert not app.file_uploader


def test_classify_with_an_upload_shows_the_prediction_and_its_contribution_map(
    finished_run: Run, open_page: Callable[[str], AppTest]
):
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()

    assert not app.exception
    assert [metric.label for metric in app.metric] == [
        "Outcome", "Estimated probability of malignancy",
    ]  # fmt: skip
    assert app.metric[0].value in ("Benign", "Malignant")
    (probability,) = probabilities(app)
    assert 0.0 <= float(probability.removeprefix("above ").removeprefix("below ")) <= 1.0
    assert "**Contribution**" in texts(app.markdown)
    assert len(app.get("image")) == 4  # The color scale, the probability, the image and one layer.
    assert re.search(r" % of the evidence lies on background\.", texts(app.markdown))
    equation = r"(\S+) baseline ([+-]) (\S+) cells = (\S+) margin; 4 x 4 cells"
    (parts,) = re.findall(equation, texts(app.caption).replace("\u2212", "-"))
    baseline, sign, cells, margin = parts
    assert float(baseline) + float(sign + cells) == pytest.approx(float(margin), abs=0.015)
    assert re.search(r"threshold 0\.\d+\. Research use only, not a diagnosis", texts(app.caption))


def test_each_layer_has_its_map_its_scale_and_its_download(
    finished_run: Run, open_page: Callable[[str], AppTest]
):
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()
    assert app.button_group(key="layer").value == "contribution"
    assert "Benign\nMalignant" in texts(app.caption)

    empty = 0
    for name in CLASSES:
        app.button_group(key="layer").set_value(name).run()
        assert not app.exception
        assert f"**Grad-CAM {name}**" in texts(app.markdown)
        assert "**Contribution**" not in texts(app.markdown)
        assert "None\nStrongest" in texts(app.caption)
        assert "margin" not in texts(app.caption)
        is_empty = f"No positive contribution to {name}." in texts(app.caption)
        assert is_empty != bool(re.search(r"Peak: \d+% of the scale", texts(app.caption)))
        assert len(app.get("download_button")) == (0 if is_empty else 1)
        empty += is_empty
    assert empty < len(CLASSES)


def test_contribution_of_cells_with_a_scale_states_their_size(finished_run, open_page):
    buffer = io.BytesIO()
    rgb = generate_image(malignant=True, seed=1)
    Image.fromarray(rgb).save(buffer, "PNG", dpi=(50800, 50800))  # 0.5 µm per pixel.
    app = upload(open_page("classify"), ("field.png", buffer.getvalue()))

    # 8 px of the 32 x 32 px of the input are a quarter of each side; 456 of 460 rows are used.
    expected = ((700 / 4) * (456 / 4)) ** 0.5 * 0.5
    assert f"4 x 4 cells of {expected:.0f} µm." in texts(app.caption)


def test_evidence_on_background_is_a_warning(finished_run, open_page, monkeypatch):
    monkeypatch.setattr(evidence_location, "MAX_BACKGROUND", -1.0)
    app = upload(open_page("classify"), ("field.png", example_png(malignant=True)))

    assert "**Evidence on background.**" in texts(app.warning)
    assert "BC183 (warning); region = " in texts(app.caption)


def test_prediction_without_a_supporting_region_says_so(finished_run, open_page, monkeypatch):
    monkeypatch.setattr(classifier, "locate_evidence", lambda *_, **__: None)
    app = upload(open_page("classify"), ("field.png", example_png(malignant=True)))

    predicted = app.metric[0].value.lower()
    assert f"No region supports {predicted}." in texts(app.markdown)


def test_classify_with_a_blocking_check_shows_no_class_probability_or_heatmap(
    finished_run: Run, open_page: Callable[[str], AppTest]
):
    app = open_page("classify")
    app.file_uploader[0].upload("blank.png", BLANK).run()

    assert not app.exception
    assert not app.metric
    assert not app.slider
    assert len(app.get("image")) == 1  # Only the image, without heatmaps.
    assert "**Not classified.**" in texts(app.markdown)
    assert "**Contribution**" not in texts(app.markdown)
    assert "**Grayscale image.**" in texts(app.error)
    assert "BC104 (blocking)" in texts(app.caption)


def test_results_table_has_numbers_and_check_titles(finished_run, open_page):
    app = open_page("classify")
    good = example_png(malignant=False)
    app.file_uploader[0].upload("blank.png", BLANK).upload("good.png", good).run()

    table = app.dataframe[0].value.set_index("Image")
    probabilities = table["Estimated probability of malignancy"]
    assert probabilities.dtype == float
    assert np.isnan(probabilities["blank.png"])
    assert 0.0 < probabilities["good.png"] < 1.0
    assert table.loc["blank.png", "Outcome"] == "not classified"
    assert table.loc["good.png", "Outcome"] in ("benign", "malignant")
    assert table.loc["blank.png", "Checks"].startswith("Grayscale image")


def test_checks_are_grouped_by_severity_with_details(finished_run, open_page):
    edit_card(finished_run, scale={"magnifications": [200]}, temperature={"value": 1.0})
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()

    assert "**Scale unknown.**" in texts(app.error)
    assert "**Not calibrated.**" in texts(app.info)
    assert "BC140 (blocking); supported_names = 200X; objectives = 20x" in texts(app.caption)
    assert not probabilities(app)


def test_probability_near_the_threshold_has_more_digits(finished_run, open_page):
    data = example_png(malignant=True)
    rgb = decode_image(data, "")
    probability = load_classifier(finished_run.path).predict(rgb).prob_malignant
    edit_card(finished_run, threshold={"value": probability + 1e-4})
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", data).run()

    (threshold,) = re.findall(r"threshold ([\d.]+)\.", texts(app.caption))
    (shown,) = probabilities(app)
    assert shown != threshold
    assert len(shown) == len(threshold) > 4


def test_classify_without_a_prediction_shows_no_legend(finished_run, open_page):
    app = open_page("classify")
    app.file_uploader[0].upload("broken.png", b"Dear colleague").run()

    assert len(app.error) == 1
    assert not app.slider


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("notes.png", b"these are notes, not pixels", "Expected PNG, JPEG or TIFF"),
        ("cut.png", example_png(malignant=False)[:5000], "damaged or incomplete"),
        ("empty.png", b"", "is empty"),
    ],
)
def test_classify_with_an_invalid_image_classifies_the_others(
    finished_run, open_page, name, data, message
):
    app = open_page("classify")
    good = example_png(malignant=False)
    app.file_uploader[0].upload(name, data).upload("good.png", good).run()

    assert not app.exception
    assert message in texts(app.error)
    assert len(probabilities(app)) == 1


def test_classify_with_a_huge_image_refuses_it(finished_run, open_page):
    huge = io.BytesIO()
    Image.new("1", (20000, 20000)).save(huge, "PNG")
    app = open_page("classify")
    app.file_uploader[0].upload("huge.png", huge.getvalue()).run()

    assert not app.exception
    assert "got 400 million" in texts(app.error)


def test_classify_with_similar_large_images_predicts_each(finished_run, open_page):
    # Streamlit hashes large arrays by a sample: keyed by pixels, both images would have one entry.
    first = generate_image(malignant=False, seed=1, size=(1024, 1024))
    second = first.copy()
    second[500:900, 100:900] = (90, 50, 140)
    app = open_page("classify")
    app.file_uploader[0].upload("a.png", png(first)).upload("b.png", png(second)).run()

    assert not app.exception
    table = app.dataframe[0].value
    estimates = table["Estimated probability of malignancy"]
    assert estimates[0] != estimates[1]


def test_classify_with_an_unsupported_magnification_is_blocked(finished_run, open_page):
    edit_card(finished_run, scale={"magnifications": [200]})  # Synthetic images have no scale.
    app = open_page("classify")
    name = "SOB_B_A-14-22549AB-40-001.png"
    app.file_uploader[0].upload(name, example_png(malignant=False)).run()

    assert "**Unsupported magnification.**" in texts(app.error)
    assert not app.metric


def test_model_picker_prefers_a_model_of_tissue(finished_run, open_page, monkeypatch):
    monkeypatch.setattr("app.components.model_picker.BUNDLED_MODELS_DIR", BUNDLED_MODELS_DIR)
    app = open_page("classify")

    assert app.selectbox(key="model").value == BUNDLED_MODEL_NAME
    assert finished_run.name in app.selectbox(key="model").options
    assert "Balanced accuracy at 100X | 0." in texts(app.markdown)


def test_classify_with_fine_resolution_shows_more_cells_and_the_same_prediction(
    runs, open_page, monkeypatch
):
    monkeypatch.setattr("app.components.model_picker.BUNDLED_MODELS_DIR", BUNDLED_MODELS_DIR)
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()
    app.toggle(key="show-anyway").set_value(True).run()
    before = probabilities(app)
    assert "11 x 7 cells" in texts(app.caption)

    app.button_group(key="resolution").set_value("fine").run()
    assert not app.exception
    assert "21 x 14 cells" in texts(app.caption)
    assert re.search(r"\d residual = .* margin", texts(app.caption))
    assert "11 x 7 cells" not in texts(app.caption)
    assert probabilities(app) == before


def test_classify_refines_each_image_once(runs, open_page, monkeypatch):
    calls: list[str] = []
    explain = Engine.explain

    def count(self: Engine, pixels: np.ndarray, resolution: str = "standard"):
        calls.append(resolution)
        return explain(self, pixels, resolution)

    monkeypatch.setattr(Engine, "explain", count)
    monkeypatch.setattr("app.components.model_picker.BUNDLED_MODELS_DIR", BUNDLED_MODELS_DIR)
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()
    app.toggle(key="show-anyway").set_value(True).run()
    app.button_group(key="resolution").set_value("fine").run()
    app.button_group(key="resolution").set_value("standard").run()
    app.button_group(key="resolution").set_value("fine").run()
    assert calls == ["standard", "fine"]


def test_refine_while_busy_keeps_the_standard_heatmap(monkeypatch) -> None:
    from types import SimpleNamespace

    from app.components.classify import prediction_list
    from bc_model.errors import EngineBusyError

    warnings: list[tuple[str, str]] = []

    def refuse(*args, **kwargs):
        raise EngineBusyError("busy")

    monkeypatch.setattr(
        prediction_list.st, "warning", lambda text, title: warnings.append((title, text))
    )
    shown = [(SimpleNamespace(name="a.png"), SimpleNamespace(is_classified=True))]
    assert prediction_list._refine(shown, refuse) == shown
    ((title, text),) = warnings
    assert title == "Finer heatmaps not available"
    assert text.startswith("1 image with the standard heatmap only")


def test_classify_with_a_small_network_has_no_choice_of_the_resolution(finished_run, open_page):
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()
    assert len(app.slider) == 1
    assert "Resolution" not in [group.label for group in app.button_group]


def test_classify_with_a_changed_model_file_shows_an_error(finished_run, open_page):
    graph = finished_run.model_dir / "served.bin"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()

    assert not app.exception
    assert "does not match its model card" in texts(app.error)
    assert not app.metric


def test_model_picker_with_a_damaged_card_skips_the_model(finished_run, open_page):
    (finished_run.model_dir / "model_card.json").write_text("{")
    app = open_page("classify")

    assert "not valid JSON" in texts(app.warning)
    assert "No model yet" in texts(app.header)


def test_classify_with_one_file_under_two_names_shows_it_once(finished_run, open_page):
    app = open_page("classify")
    data = example_png(malignant=True)
    app.file_uploader[0].upload("a.png", data).upload("copy.png", data).run()

    assert not app.exception
    assert len(probabilities(app)) == 1
    assert "Uploaded twice, shown once" in texts(app.caption)


def test_model_picker_with_an_unknown_model_in_the_url_warns(finished_run, open_page):
    app = open_page("classify", model="gone")

    assert "Model 'gone' was not found" in texts(app.warning)


def test_model_picker_with_a_synthetic_model_warns(finished_run, open_page):
    app = open_page("classify")

    assert "trained on synthetic images" in texts(app.warning)


def test_classify_with_a_run_image_in_the_url_classifies_it(finished_run, open_page):
    first = read_split(finished_run.split_file).iloc[0]
    app = open_page("classify", run=finished_run.name, image=first["sha256"])

    assert len(probabilities(app)) == 1
    assert f"True class: {first['class']}." in texts(app.markdown)
    app.button(key="close-image").click().run()
    assert not app.metric
    assert "image" not in app.query_params


@pytest.mark.parametrize(
    ("run", "image"),
    [
        ("finished", "0" * 64),
        ("finished", "../../etc/passwd"),
        ("../finished", "0" * 64),
        ("nowhere", "0" * 64),
    ],
)
def test_classify_with_an_unknown_run_image_shows_one_error(finished_run, open_page, run, image):
    app = open_page("classify", run=run, image=image)

    assert len(app.error) == 1
    assert not app.metric


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    for name, data in files:
        app.file_uploader[0].upload(name, data)
    app.run()
    assert not app.exception
    return app


def visit_other_page(app: AppTest) -> None:
    app.switch_page("views/data.py").run()
    app.switch_page("views/classify.py").run()
    assert not app.exception


def test_images_and_settings_survive_a_visit_of_another_page(finished_run, open_page, monkeypatch):
    monkeypatch.setattr("app.components.model_picker.BUNDLED_MODELS_DIR", BUNDLED_MODELS_DIR)
    app = open_page("classify")
    app.selectbox(key="model").set_value(finished_run.name)  # Not the default.
    upload(app, ("field.png", example_png(malignant=True)))
    app.slider(key="opacity").set_value(0.25).run()
    (before,) = probabilities(app)
    # The prediction comes from the cache: nothing is decoded again.
    monkeypatch.delattr("app.components.classify.image_analysis.get_decode_pool")
    visit_other_page(app)

    assert probabilities(app) == [before]
    assert app.slider(key="opacity").value == 0.25
    assert app.selectbox(key="model").value == finished_run.name
    assert app.query_params["uploads"] == "1-2"
    assert "field.png" in texts(app.header)


def test_image_of_the_address_is_shown_until_an_upload(finished_run, open_page):
    app = upload(open_page("classify"), ("field.png", BLANK))
    first = read_split(finished_run.split_file).iloc[0]
    app.query_params["run"], app.query_params["image"] = finished_run.name, first["sha256"]
    app.run()
    assert first["path"].rpartition("/")[2] in texts(app.header)

    upload(app, ("other.png", BLANK))
    assert "image" not in app.query_params
    assert texts(app.header) == "other.png"


def test_lost_images_are_reported_until_the_next_upload(finished_run, open_page):
    app = open_page(
        "classify", uploads="3-1"
    )  # The address of the tab before the server restarted.
    assert "no longer holds 3 uploaded images" in texts(app.warning)

    upload(app, ("field.png", BLANK))
    assert "no longer holds" not in texts(app.warning)
    assert app.query_params["uploads"] == "1-2"


def test_message_about_lost_images_can_be_dismissed(finished_run, open_page):
    app = open_page("classify", uploads="3-1")
    app.button(key="dismiss-losses").click().run()

    assert not app.warning or "no longer holds" not in texts(app.warning)
    assert app.query_params["uploads"] == "0-2"


def test_all_images_are_removed_after_a_confirmation(finished_run, open_page):
    app = upload(open_page("classify"), ("field.png", BLANK))
    app.button(key="remove-images:1 image").click().run()

    assert not app.header
    assert '"target": "1 image"' in (finished_run.path.parent / "actions.log").read_text()


@pytest.mark.parametrize("count", ["-1-1", "x", "3", "²-1", "9" * 30 + "-1", "0-1"])
def test_invalid_number_of_lost_images_is_ignored(finished_run, open_page, count):
    app = open_page("classify", uploads=count)

    assert "no longer holds" not in texts(app.warning)


def test_evicted_image_is_named_and_not_shown(finished_run, open_page, monkeypatch):
    images = [(f"{seed}.png", png(generate_image(seed=seed, malignant=True))) for seed in range(3)]
    limit = sum(len(data) for _, data in images[1:]) / 2**20
    monkeypatch.setattr("app.components.classify.session_images.MAX_SESSION_MB", limit)
    app = upload(open_page("classify"), *images)

    assert "memory for images was full. Removed, the oldest first: 0.png" in texts(app.warning)
    assert list(app.dataframe[0].value["Image"]) == ["1.png", "2.png"]


STEPS = (
    "image_analysis.get_decode_pool",
    "image_analysis.scale_for_display",
    "image_analysis.load_engine",
    "prediction_card.encode_jpeg",
    "prediction_card.overlay_signed_map",
)


@pytest.mark.parametrize("step", STEPS)
def test_unexpected_error_of_one_image_does_not_hide_the_others(
    finished_run, open_page, monkeypatch, step
):
    name = f"app.components.classify.{step}"
    real = resolve(name)
    n_calls = iter(range(100))

    def fail_first(*args, **kwargs):
        if next(n_calls) == 0:
            raise RuntimeError("a fault in the program")
        return real(*args, **kwargs)

    monkeypatch.setattr(name, fail_first)
    files = (("a.png", example_png(malignant=True)), ("b.png", example_png(malignant=False)))
    app = upload(open_page("classify"), *files)

    assert "a.png could not be processed. The server log contains the details" in texts(app.error)
    assert "This page failed" not in texts(app.error)
    assert "b.png" in texts(app.header)
    assert probabilities(app)


def test_busy_server_offers_to_try_again(finished_run, open_page, monkeypatch):
    name = "app.components.classify.image_analysis.get_decode_pool"
    real, full = resolve(name), DecodePool(n_workers=1, max_waiting=-1)
    monkeypatch.setattr(name, lambda: full)
    app = upload(open_page("classify"), ("field.png", example_png(malignant=True)))
    assert "1 image could not be classified yet" in texts(app.warning)

    monkeypatch.setattr(name, real)
    app.button(key="retry").click().run()
    assert len(probabilities(app)) == 1


def test_decoding_ends_when_the_page_is_closed(finished_run, open_page, monkeypatch):
    class ClosingPool:
        def decode(self, data: bytes, name: str, *, is_canceled: Callable[[], bool]):
            assert is_canceled() is False
            monkeypatch.setattr("streamlit.delta_generator.DeltaGenerator.empty", close)
            is_canceled()  # The next element of a closed page raises this.

    def close(_: object) -> None:
        raise StopException

    name = "app.components.classify.image_analysis.get_decode_pool"
    monkeypatch.setattr(name, ClosingPool)
    app = upload(open_page("classify"), ("field.png", example_png(malignant=True)))

    assert not app.error
    assert not app.metric


def test_each_file_is_decoded_once(finished_run, open_page, monkeypatch):
    decoded = []
    real = DecodePool.decode

    def count(pool: DecodePool, data: bytes, name: str, **options):
        decoded.append(name)
        return real(pool, data, name, **options)

    monkeypatch.setattr(DecodePool, "decode", count)
    broken = example_png(malignant=False)[:5000]
    files = (("a.png", example_png(malignant=True)), ("broken.png", broken))
    app = upload(open_page("classify"), *files)
    app.slider(key="opacity").set_value(0.25).run()
    decode_once(app.session_state["session-images"].list_images()[0])  # As a download does.

    assert decoded == ["a.png", "broken.png"]


def test_images_beyond_the_preview_cache_are_not_decoded_in_every_run(
    finished_run, open_page, monkeypatch
):
    monkeypatch.setattr("app.components.classify.image_analysis._MAX_PIXELS_MB", 1)
    monkeypatch.setattr("app.components.classify.image_analysis._MAX_PREVIEWS_MB", 1)
    monkeypatch.setattr("app.components.classify.prediction_list.CARDS_PER_PAGE", 1)
    images = [generate_image(malignant=True, seed=seed, size=(400, 600)) for seed in range(3)]
    files = [(f"{seed}.png", png(image)) for seed, image in enumerate(images)]
    app = upload(open_page("classify"), *files)
    monkeypatch.delattr("app.components.classify.image_analysis.get_decode_pool")
    app.slider(key="opacity").set_value(0.25).run()

    assert not app.error
    assert len(probabilities(app)) == 1


def test_image_that_a_busy_machine_could_not_read_is_read_again(
    finished_run, open_page, monkeypatch
):
    real = DecodePool.decode

    def fail(pool: DecodePool, data: bytes, name: str, **options):
        raise BusyError(f"{name} could not be read in time.")

    monkeypatch.setattr(DecodePool, "decode", fail)
    app = upload(open_page("classify"), ("a.png", example_png(malignant=True)))
    assert "1 image could not be classified yet" in texts(app.warning)

    monkeypatch.setattr(DecodePool, "decode", real)
    app.button(key="retry").click().run()
    assert len(probabilities(app)) == 1


def test_scale_of_the_file_is_shown_and_not_called_missing(finished_run, open_page):
    edit_card(finished_run, scale={"magnifications": [200]})
    buffer = io.BytesIO()
    rgb = generate_image(malignant=True, seed=1)
    Image.fromarray(rgb).save(buffer, "PNG", dpi=(50800, 50800))  # 0.5 µm per pixel.
    app = upload(open_page("classify"), ("field.png", buffer.getvalue()))

    assert "0.5 µm/px, from PNG pHYs." in texts(app.caption)
    assert "px, 0.5 µm/px (from PNG pHYs)" in texts(app.caption)
    assert "Scale unknown" not in texts(app.error)


def test_selected_scale_replaces_that_of_the_file(finished_run, open_page):
    edit_card(finished_run, scale={"magnifications": [200]})
    data = png(generate_image(malignant=True, seed=1))
    app = upload(open_page("classify"), ("field.png", data))
    assert not probabilities(app)
    assert "The files do not state their scale" in texts(app.caption)

    app.button_group(key="scale").set_value("20x").run()
    assert len(probabilities(app)) == 1
    assert "px, 0.5 µm/px (stated)" in texts(app.caption)

    app.button_group(key="scale").set_value("4x").run()
    assert not probabilities(app)
    assert "Image too coarse" in texts(app.error)

    app.button_group(key="scale").set_value("µm/px").run()
    app.number_input(key="mpp").set_value(0.6).run()
    assert len(probabilities(app)) == 1

    app.button_group(key="scale").set_value("Unknown").run()
    assert "Scale unknown" in texts(app.error)


def test_blocked_image_is_shown_on_request_and_marked(finished_run, open_page):
    edit_card(finished_run, scale={"magnifications": [200]})
    app = upload(open_page("classify"), ("field.png", example_png(malignant=True)))
    switch = app.toggle(key="show-anyway")
    assert switch.label == "Show predictions of 1 blocked image anyway"
    switch.set_value(True).run()
    assert len(probabilities(app)) == 1
    assert "Blocked, shown anyway" in [metric.label for metric in app.metric]
    assert "not reliable" in texts(app.error)
    app.toggle(key="show-anyway").set_value(False).run()
    assert not probabilities(app)


def test_scale_and_show_anyway_end_with_their_images(finished_run, open_page):
    edit_card(finished_run, scale={"magnifications": [200]})
    first, second = (png(generate_image(malignant=True, seed=seed)) for seed in (1, 2))
    app = upload(open_page("classify"), ("first.png", first))
    app.button_group(key="scale").set_value("20x").run()
    assert len(probabilities(app)) == 1
    app = upload(app, ("second.png", second))
    assert app.button_group(key="scale").value == "From file"
    assert not probabilities(app)
    app.toggle(key="show-anyway").set_value(True).run()
    assert len(probabilities(app)) == 1
    app = upload(app, ("first.png", first))
    assert not app.toggle(key="show-anyway").value
    assert not probabilities(app)


def test_scale_that_contradicts_the_file_has_a_warning(finished_run, open_page):
    edit_card(finished_run, scale={"magnifications": [200]})
    app = upload(open_page("classify"), ("a_40x.png", png(generate_image(malignant=True, seed=1))))
    app.button_group(key="scale").set_value("20x").run()
    assert "The stated scale is 0.5 µm/px, but the file states 0.25 µm/px" in texts(app.warning)


def test_equal_files_with_contradicting_names_have_no_scale(finished_run, open_page):
    edit_card(finished_run, scale={"magnifications": [200]})
    data = png(generate_image(malignant=True, seed=1))
    app = upload(open_page("classify"), ("a_20x.png", data), ("b_40x.png", data))
    assert "Names of one file state different scales: a_20x.png, b_40x.png" in texts(app.caption)
    assert "Scale unknown" in texts(app.error)


def test_large_field_is_divided_into_tiles(finished_run, open_page):
    edit_card(finished_run, scale={"magnifications": [200]})
    data = png(generate_image(malignant=True, seed=1, size=(912, 1400)))
    app = upload(open_page("classify"), ("field_0.55um.png", data))
    labels = [metric.label for metric in app.metric]
    assert "Tiles" in labels
    assert "Malignant tiles" in labels
    assert "Divided into tiles" in texts(app.info)
    assert "the trust test" in texts(app.info)  # Which results a tiled image does not have.
    assert len(app.dataframe[0].value) >= 4


def test_very_tall_image_is_shown_beside_the_others(finished_run, open_page):
    tall = generate_image(malignant=True, seed=1, size=(32, 32)).repeat(2047, axis=0)[:65501]
    files = (("tall.png", png(tall)), ("good.png", example_png(malignant=True)))
    app = upload(open_page("classify"), *files)

    assert "This page failed" not in texts(app.error)
    assert len(probabilities(app)) >= 1
    assert "good.png" in texts(app.header)


def test_probability_in_the_uncertain_range_has_the_outcome_uncertain(finished_run, open_page):
    set_uncertain_range(finished_run, 0.0, 1.0)
    app = open_page("classify")
    data = example_png(malignant=True)
    app.file_uploader[0].upload("field.png", data).upload("blank.png", BLANK).run()

    assert [metric.value for metric in app.metric if metric.label == "Outcome"] == ["Uncertain"]
    table = app.dataframe[0].value.set_index("Image")
    assert table.loc["field.png", "Outcome"] == "uncertain"
    assert table.loc["blank.png", "Outcome"] == "not classified"
    assert "**Uncertain.**" in texts(app.warning)
    assert "shaded: uncertain from 0.00 to 1.00" in texts(app.caption)


def test_model_details_show_the_uncertain_range_and_its_curve_on_demand(finished_run, open_page):
    set_uncertain_range(finished_run, 0.25, 0.75)
    app = open_page("classify")

    text = texts(app.markdown)
    assert "uncertain between the probabilities 0.25 and 0.75" in text
    assert "error rate of 0.08 (95 % CI 0.06 to 0.10); 60 images of 12 cases" in text
    assert "at least 19 cases of each class" in text
    assert not app.get("vega_lite_chart")
    app.toggle(key="show-selective").set_value(True).run()
    assert len(app.get("vega_lite_chart")) == 1


def test_compare_views_shows_the_spread_on_demand(finished_run, open_page):
    set_uncertain_range(finished_run, 0.4, 0.6)
    data = example_png(malignant=True)
    spread = load_classifier(finished_run.path).predict_views(decode_image(data, ""))
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", data).run()
    assert "12 views" not in texts(app.markdown)
    press(app, "Compare views")

    expected = f"12 views: mean probability {spread.mean:.3f}, standard deviation {spread.sd:.3f}"
    assert expected in texts(app.markdown)
    assert len(app.get("vega_lite_chart")) == 1
    press(app, "Find nearest images")
    assert expected in texts(app.markdown)  # The other result stays.


def test_nearest_training_images_of_a_run_are_shown_on_demand(
    finished_run, open_page, synthetic_dataset
):
    split = read_split(finished_run.split_file)
    row = split[split["subset"] == "test"].iloc[0]
    app = open_page("classify")
    data = (synthetic_dataset / row["path"]).read_bytes()
    app.file_uploader[0].upload("renamed.png", data).run()
    n_images = len(app.get("image"))
    press(app, "Find nearest images")

    n_training = int((split["subset"] == "train").sum())
    assert f"from {n_training} images of the run finished" in texts(app.markdown)
    found = [text for text in texts(app.caption).splitlines() if ", case " in text]
    assert len(found) == 4
    assert all(re.fullmatch(r"(Benign|Malignant), case 9\d+, distance 0\.\d{3}", t) for t in found)
    assert len({text.split(",")[1] for text in found}) == 4
    assert len(app.get("image")) == n_images + 4


def test_nearest_training_images_that_are_not_on_this_machine_have_a_reason(
    finished_run, registry, open_page, synthetic_dataset, tmp_path
):
    config = finished_run.read_config()
    config["config"]["data"] = str(tmp_path / "gone")
    finished_run.write_config(config)
    app = open_page("classify")
    app.file_uploader[0].upload("field.png", example_png(malignant=True)).run()
    press(app, "Find nearest images")
    assert "**No training images.**" in texts(app.info)

    link_folder(synthetic_dataset, "synthetic", registry)
    press(app, "Find nearest images")
    assert "**No training images.**" not in texts(app.info)
    assert "of the dataset synthetic" in texts(app.markdown)


def test_fifteen_unreadable_files_are_listed_in_one_box(finished_run, open_page):
    files = [(f"bad-{i}.png", b"%PDF-1.7 " + bytes([i])) for i in range(15)]
    app = upload(open_page("classify"), *files, ("good.png", example_png(malignant=True)))
    (box,) = app.error
    assert box.value.count("PDF document") == 10
    (rest,) = (expander for expander in app.expander if expander.label == "And 5 more")
    assert rest.markdown[0].value.count("PDF document") == 5
    assert len(probabilities(app)) == 1


def test_another_page_of_a_file_has_its_own_prediction(finished_run, open_page):
    images = [Image.open(io.BytesIO(example_png(malignant=value))) for value in (False, True)]
    stream = io.BytesIO()
    images[0].save(stream, "TIFF", save_all=True, append_images=images[1:])
    app = open_page("classify")
    app.file_uploader[0].upload("scan.tif", stream.getvalue()).run()
    (choice,) = (box for box in app.selectbox if box.label == "Page of scan.tif")
    assert choice.options == ["1: 700 x 460 px", "2: 700 x 460 px"]
    first = probabilities(app)
    choice.set_value(2).run()
    assert not app.exception
    assert "Page 2 is used" in texts(app.info)
    assert probabilities(app) != first
    (choice,) = (box for box in app.selectbox if box.label == "Page of scan.tif")
    choice.set_value(1).run()
    assert probabilities(app) == first
