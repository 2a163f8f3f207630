"""Finer heatmaps, compared with the original graph and with a dilated Keras model."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from bc_model.data.breakhis import CLASSES
from bc_model.errors import ConfigError, ModelError
from bc_model.gradcam import GradCAM
from bc_model.inference.batching import BatchingEngine
from bc_model.inference.bundle import Bundle, has_bundled_model, open_bundle, open_bundled_model
from bc_model.inference.classifier import Classifier
from bc_model.inference.engine import Engine
from bc_model.inference.export import write_bundle
from bc_model.inference.fine_graph import RESOLUTIONS, refine_graph, supported_resolutions
from bc_model.inference.precision import Parity
from bc_model.model import build_model, last_conv_output
from bc_model.training.run import Run
from tests.bc_model.networks import randomize_batch_norm

SIZE = (70, 100)
"""Not a multiple of 32: the last block has 3x4 cells, and the finer ones 5x7 and 9x13."""


def make_pixels(n_images: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (n_images, -(-size[0] // 10), -(-size[1] // 10), 3), np.uint8)
    return coarse.repeat(10, axis=1).repeat(10, axis=2)[:, : size[0], : size[1]]


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    model = build_model("resnet50", image_size=SIZE, dense_units=(6,))
    randomize_batch_norm(model)
    return model


@pytest.fixture(scope="module")
def bundle(network: keras.Model, tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    card = open_bundle(tiny_run.path).card
    card = replace(
        card,
        architecture=replace(card.architecture, backbone="resnet50", dense_units=(6,)),
        input=replace(card.input, height_px=SIZE[0], width_px=SIZE[1], stain=None),
        precisions={"bf16": Parity(0.0, 0.0, 9, passes_parity=True)},
    )
    return write_bundle(network, tmp_path_factory.mktemp("fine") / "model", card)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return Engine(bundle)


def dilated(model: keras.Model, n_stages: int) -> keras.Model:
    """Return a Keras model with dilation in its last stages, by the names of its layers."""

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        stage = int(layer.name[4]) if layer.name.startswith("conv") else 0
        # conv4 is dilated by 2 if its stride is removed, and conv5 by one factor 2 more.
        n_removed = max(0, stage - (5 - n_stages))
        if isinstance(layer, keras.layers.Conv2D) and n_removed:
            config["strides"] = (1, 1)
            if layer.kernel_size == (3, 3):
                config["dilation_rate"] = (2**n_removed,) * 2
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


@pytest.mark.parametrize(
    ("resolution", "shape"), [("standard", (3, 4)), ("fine", (5, 7)), ("finest", (9, 13))]
)
def test_explain_equals_a_dilated_keras_model(
    engine: Engine, network: keras.Model, resolution: str, shape: tuple[int, int]
) -> None:
    pixels = make_pixels(2, SIZE)
    logits, heatmaps, *_ = engine.explain(pixels, resolution)
    n_stages = list(RESOLUTIONS).index(resolution)
    reference = dilated(network, n_stages) if n_stages else network
    both = keras.Model(reference.inputs[0], last_conv_output(reference))
    activations = both.predict_on_batch(pixels.astype(np.float32))
    # The channel weights are those of the original model, divided by the number of finer cells.
    weights = gradients_of_features(network, pixels)
    for i, name in enumerate(CLASSES):
        total = np.einsum("nhwc,nc->nhw", activations, weights[:, i]) / np.prod(shape)
        for maps, expected in zip(heatmaps, np.maximum(total, 0.0), strict=True):
            assert maps[name].raw.shape == shape
            np.testing.assert_allclose(
                maps[name].raw, expected, atol=1e-4 * max(np.abs(total).max(), 1e-6)
            )
    np.testing.assert_allclose(logits, engine.predict(pixels), rtol=1e-4, atol=1e-5)


def gradients_of_features(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Return d logit / d feature of the original model by TensorFlow, shape (n, 2, channels)."""
    import tensorflow as tf

    pool = model.get_layer("pool").output
    features = keras.Model(model.inputs[0], pool)(pixels.astype(np.float32), training=False)
    head = keras.Model(pool, model.get_layer("logits").output)
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = head(features, training=False)
    return tape.batch_jacobian(logits, features).numpy()


def test_explain_standard_is_grad_cam(engine: Engine, network: keras.Model) -> None:
    pixels = make_pixels(1, SIZE)
    (maps,) = engine.explain(pixels).heatmaps
    (expected,) = GradCAM(network)(pixels, "malignant")
    np.testing.assert_allclose(
        maps["malignant"].raw, expected.raw, atol=1e-4 * max(expected.maximum, 1e-6)
    )


@pytest.mark.parametrize("size", [(160, 240), (224, 336), (230, 350), (97, 64)])
@pytest.mark.parametrize("refinement", [2, 4])
def test_refine_graph_keeps_every_second_or_fourth_cell(
    bundle: Bundle, size: tuple[int, int], refinement: int
) -> None:
    import openvino

    outputs = []
    for step in (1, refinement):
        graph = openvino.Core().read_model(*(bundle.file(f"served.{e}") for e in ("xml", "bin")))
        graph.reshape([1, *size, 3])
        if step > 1:
            refine_graph(graph, step)
        compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        outputs.append(compiled([make_image(size)])[0])
    original, fine = outputs
    assert original.shape[1:3] == tuple(-(-side // 32) for side in size)
    assert fine.shape[1:3] == tuple(-(-side * refinement // 32) for side in size)
    np.testing.assert_allclose(
        fine[:, ::refinement, ::refinement], original, rtol=0, atol=1e-4 * original.max()
    )
    # The cells between them have values of their own.
    assert np.abs(fine[:, 1::refinement] - fine[:, :-1:refinement]).max() > 0.01 * original.max()


def make_image(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (1, *size, 3)).astype(np.float32)


@pytest.mark.parametrize(("resolution", "stride"), [("standard", 32), ("fine", 16), ("finest", 8)])
def test_explain_places_the_cells(engine: Engine, resolution: str, stride: int) -> None:
    (maps,) = engine.explain(make_pixels(1, SIZE), resolution).heatmaps
    grid = maps["malignant"].grid
    assert grid is not None
    assert (grid.first_row_px, grid.first_column_px, grid.stride_px) == (0.0, 0.0, stride)
    assert (grid.height_px, grid.width_px) == SIZE


@pytest.mark.skipif(not has_bundled_model(), reason="the bundled model is not installed")
@pytest.mark.parametrize("resolution", ["fine", "finest"])
def test_explain_bundled_keeps_the_prediction(resolution: str) -> None:
    engine = Engine(open_bundled_model())
    pixels = make_pixels(2, engine.bundle.image_size)
    logits, heatmaps, is_constant, *_ = engine.explain(pixels, resolution)
    expected = engine.explain(pixels)
    np.testing.assert_allclose(logits, expected.logits, atol=1e-4)
    np.testing.assert_array_equal(is_constant, expected.is_constant)
    rows, columns = expected.heatmaps[0]["benign"].raw.shape
    factor = RESOLUTIONS[resolution]
    assert heatmaps[0]["benign"].raw.shape in {
        (factor * rows - i, factor * columns - j) for i in range(factor) for j in range(factor)
    }
    assert heatmaps[0]["benign"].refinement == factor


def test_explain_in_several_threads_compiles_once(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def refine(graph: object, refinement: int) -> None:
        calls.append(refinement)
        refine_graph(graph, refinement)

    monkeypatch.setattr("bc_model.inference.engine.refine_graph", refine)
    engine, pixels = Engine(bundle), make_pixels(4, SIZE)
    assert not calls
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda pixel: engine.explain(pixel[None], "fine"), pixels))
    assert calls == [2]
    for pixel, result in zip(pixels, results, strict=True):
        alone = engine.explain(pixel[None], "fine")
        np.testing.assert_array_equal(result.logits, alone.logits)
        raws = (found.heatmaps[0]["malignant"].raw for found in (result, alone))
        np.testing.assert_array_equal(*raws)


@pytest.mark.parametrize("resolution", ["fine", "finest"])
def test_explain_keeps_the_difference_of_finer_cells_in_the_residual(
    engine: Engine, resolution: str
) -> None:
    pixels = make_pixels(1, SIZE)
    (standard,) = engine.explain(pixels).contributions
    result = engine.explain(pixels, resolution)
    (fine,) = result.contributions
    assert fine.cells.shape == result.heatmaps[0]["benign"].raw.shape
    assert (fine.baseline, fine.margin) == pytest.approx((standard.baseline, standard.margin))
    # Every second or fourth cell is that of the standard map, divided by the number of finer cells.
    step = RESOLUTIONS[resolution]
    scale = fine.cells.size / standard.cells.size
    np.testing.assert_allclose(
        fine.cells[::step, ::step] * scale, standard.cells, atol=1e-3 * standard.full_scale
    )
    assert fine.residual == pytest.approx(standard.cell_sum - fine.cell_sum, abs=1e-4)
    assert abs(fine.residual) > 1e-3


def test_explain_with_another_precision_keeps_its_logits(bundle: Bundle) -> None:
    engine, pixels = Engine(bundle, "bf16"), make_pixels(2, SIZE)
    result = engine.explain(pixels, "fine")
    np.testing.assert_allclose(result.logits, engine.predict(pixels), rtol=1e-5, atol=1e-6)
    assert result.heatmaps[0]["benign"].raw.shape == (5, 7)


def test_predict_with_a_resolution_changes_only_the_heatmaps(engine: Engine) -> None:
    classifier, image = Classifier(BatchingEngine(engine)), make_pixels(1, (140, 200))[0]
    standard, fine = (classifier.predict(image, resolution=r) for r in ("standard", "fine"))
    assert fine.predicted_class == standard.predicted_class
    assert fine.prob_malignant == pytest.approx(standard.prob_malignant, abs=1e-4)
    assert fine.checks == standard.checks
    shapes = [p.heatmaps["benign"].raw.shape for p in (standard, fine)]
    assert shapes == [(3, 4), (5, 7)]


def test_explain_with_another_backbone_raises_model_error(tiny_run: Run) -> None:
    engine = Engine(open_bundle(tiny_run.path))
    assert supported_resolutions(engine.bundle) == ("standard",)
    with pytest.raises(ModelError, match="Expected the backbone resnet50, got tiny"):
        engine.explain(np.zeros((1, 32, 32, 3), np.uint8), "fine")


def test_explain_with_an_unknown_resolution_raises_config_error(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="standard, fine, finest"):
        engine.explain(make_pixels(1, SIZE), "coarse")


@pytest.mark.parametrize("backbone", ["tiny", "vgg16"])
def test_refine_graph_of_another_network_raises_model_error(
    backbone: str, tiny_run: Run, tmp_path: Path
) -> None:
    import openvino

    from bc_model.inference.export import export_graph

    export_graph(build_model(backbone, image_size=(64, 64)), tmp_path / "served.xml")
    graph = openvino.Core().read_model(tmp_path / "served.xml")
    with pytest.raises(ModelError, match="does not have the layers of ResNet50"):
        refine_graph(graph, 2)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda graph: set_stride(graph, 50, 2), "does not have the layers"),
        (lambda graph: set_stride(graph, 45, 2), "unexpected operation Convolution"),
    ],
    ids=["a third 1x1 stride", "a 3x3 stride"],
)
def test_refine_graph_with_other_strides_raises_model_error(
    bundle: Bundle, edit: Callable[[object], None], message: str
) -> None:
    import openvino

    graph = openvino.Core().read_model(*(bundle.file(f"served.{e}") for e in ("xml", "bin")))
    edit(graph)
    with pytest.raises(ModelError, match=message):
        refine_graph(graph, 2)


def set_stride(graph: object, index: int, stride: int) -> None:
    """Set the stride of the convolution with this position in the order of computation."""
    nodes = [node for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]
    nodes[index].set_attribute("strides", [stride, stride])
