"""Building, freezing, unfreezing and loading the classifier."""

import functools
import hashlib
import http.server
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.legacy.saving import legacy_h5_format

from bc_model.errors import ConfigError, ModelError, WeightsError
from bc_model.model import (
    BACKBONES,
    SCRATCH_BN_MOMENTUM,
    backbone_layers,
    build_model,
    freeze_backbone,
    get_backbone,
    head_matrices,
    head_slope,
    last_conv_output,
    load_keras,
    logits_output,
    require_weights_file,
    unfreeze_from,
    weights_fingerprint,
)

CONV5 = {
    "conv5_block1_0_conv", "conv5_block1_1_conv", "conv5_block1_2_conv", "conv5_block1_3_conv",
    "conv5_block2_1_conv", "conv5_block2_2_conv", "conv5_block2_3_conv",
    "conv5_block3_1_conv", "conv5_block3_2_conv", "conv5_block3_3_conv",
}  # fmt: skip
HEAD = {"dense_1", "logits"}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module")
def resnet() -> keras.Model:
    return build_model("resnet50", image_size=None, dense_units=(8,))


def tiny(**config: object) -> keras.Model:
    return build_model("tiny", image_size=(32, 32), dense_units=(4,), **config)


def features(model: keras.Model) -> np.ndarray:
    extractor = keras.Model(model.inputs[0], last_conv_output(model))
    return extractor(IMAGES, training=False).numpy()


def shuffle_weights(model: keras.Model, seed: int) -> keras.Model:
    """Give every weight a random value, because new networks share biases and statistics."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = [w + rng.uniform(0, 0.02, w.shape) for w in layer.get_weights()]
        layer.set_weights([v.astype(w.dtype) for v, w in zip(values, layer.weights, strict=True)])
    return model


def trained_layers(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers if layer.trainable_weights}


def batch_norms(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def one_step(model: keras.Model) -> None:
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="categorical_crossentropy")
    model.train_on_batch(IMAGES, np.eye(2, dtype="float32"))


# --- The graph ---


def test_build_model_has_no_nested_model(resnet: keras.Model) -> None:
    assert not [layer for layer in resnet.layers if isinstance(layer, keras.Model)]
    assert resnet.get_layer("conv5_block3_out").output is last_conv_output(resnet)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 48)])
def test_build_model_without_image_size_accepts_any_size(
    resnet: keras.Model, height: int, width: int
) -> None:
    probabilities = resnet(np.zeros((1, height, width, 3), "float32"), training=False)
    assert probabilities.shape == (1, 2)


def test_build_model_returns_the_softmax_of_the_logits() -> None:
    model = tiny()
    both = keras.Model(model.inputs[0], [logits_output(model), model.outputs[0]])
    logits, probabilities = (tensor.numpy() for tensor in both(IMAGES, training=False))
    powers = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(probabilities, powers / powers.sum(1, keepdims=True), rtol=1e-5)


def test_head_matrices_without_dense_layers_are_the_logits() -> None:
    model = build_model("tiny", image_size=(32, 32), dense_units=())
    assert [kernel.shape for kernel, _ in head_matrices(model)] == [(32, 2)]


def test_head_matrices_are_in_order() -> None:
    model = build_model("tiny", image_size=(32, 32), dense_units=(5, 3))
    assert [kernel.shape for kernel, _ in head_matrices(model)] == [(32, 5), (5, 3), (3, 2)]
    assert [bias.shape for _, bias in head_matrices(model)] == [(5,), (3,), (2,)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, 0.1), ({"head_negative_slope": 0.0}, 0.0), ({"dense_units": ()}, 0.0)],
)
def test_head_slope_survives_saving(given: dict, expected: float, tmp_path: Path) -> None:
    model = build_model("tiny", image_size=(32, 32), **({"dense_units": (5, 3)} | given))
    model.save(tmp_path / "model.keras")
    loaded = load_keras(tmp_path / "model.keras")
    assert head_slope(model) == head_slope(loaded) == expected
    np.testing.assert_array_equal(loaded(IMAGES).numpy(), model(IMAGES).numpy())


def test_head_slope_refuses_another_activation() -> None:
    model = tiny()
    model.get_layer("dense_1").activation = keras.activations.tanh
    with pytest.raises(ModelError, match="other activations"):
        head_slope(model)


def test_build_model_head_depends_on_the_features_with_all_units_off() -> None:
    model = tiny()
    dense, logits = model.get_layer("dense_1"), model.get_layer("logits")
    dense.set_weights([-np.ones((32, 4), np.float32), -np.ones(4, np.float32)])
    logits.set_weights([np.ones((4, 2), np.float32), np.zeros(2, np.float32)])
    head = keras.Model(model.get_layer("pool").output, logits_output(model))
    # Each of the four units is -(32 x + 1), with the slope 0.1.
    pooled = np.array([[0.5] * 32, [1.0] * 32], np.float32)
    np.testing.assert_allclose(head(pooled).numpy(), [[-6.8] * 2, [-13.2] * 2], rtol=1e-5)


# --- Position of the cells, from the receptive field of one cell ---


def measure_receptive_field(name: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return index and center (row, column) of the middle cell of a network, from its gradient.

    With positive weights, the gradient is positive in the receptive field and 0 outside of it.
    """
    model = build_model(name, image_size=size, dense_units=())
    for layer in backbone_layers(model):
        if isinstance(layer, keras.layers.MaxPooling2D):
            # The gradient of the maximum would choose one of several equal pixels.
            layer.call = keras.layers.AveragePooling2D(layer.pool_size, layer.strides).call
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.full(w.shape, is_scale(w)) for w in layer.weights])
        elif layer.weights and not isinstance(layer, keras.layers.Normalization):
            layer.set_weights([as_mean(layer, w.shape) for w in layer.weights])
    network = keras.Model(model.inputs[0], last_conv_output(model))
    # White pixels are positive after preprocessing, so that ReLU and SiLU have a gradient.
    image = tf.fill((1, *size, 3), 255.0)
    with tf.GradientTape() as tape:
        tape.watch(image)
        activations = network(image, training=False)
        cell = np.array(activations.shape[1:3]) // 2
        value = tf.reduce_sum(activations[0, cell[0], cell[1]])
    gradient = np.abs(tape.gradient(value, image).numpy()[0]).sum(axis=-1)
    spans = [np.nonzero(gradient.sum(axis=axis))[0] for axis in (1, 0)]
    # The receptive field must not be cut off at the border.
    assert all(s[0] > 0 and s[-1] < side - 1 for s, side in zip(spans, size, strict=True))
    return cell, np.array([(span[0] + span[-1]) / 2 for span in spans])


def is_scale(weight: keras.Variable) -> float:
    """Return 1 for the scale and variance of batch normalization, and 0 for its shifts."""
    return float(weight.path.endswith(("gamma", "moving_variance")))


def as_mean(layer: keras.layers.Layer, shape: tuple[int, ...]) -> np.ndarray:
    """Return weights with which a convolution computes the mean of its inputs."""
    if is_excitation(layer) or len(shape) == 1:
        return np.zeros(shape)
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return np.full(shape, 1.0 / np.prod(shape[: 2 if is_depthwise else 3]))


def is_excitation(layer: keras.layers.Layer) -> bool:
    """Return whether a layer scales channels by the mean of the entire image."""
    return "_se_" in layer.name


# All cases take two minutes. The quick ones cover the paddings "centered" and "same".
FIRST_CELL_CASES = [
    (name, size) for name in BACKBONES for size in ((224, 224), (160, 240), (224, 336), (230, 350))
]
QUICK_FIRST_CELL_CASES = {
    ("resnet50", (160, 240)), ("efficientnetb0", (230, 350)), ("tiny", (224, 224)),
    ("tiny", (230, 350)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(*case, marks=() if case in QUICK_FIRST_CELL_CASES else pytest.mark.slow)
        for case in FIRST_CELL_CASES
    ],
)
def test_first_cell_px_is_the_center_of_the_receptive_field(
    name: str, size: tuple[int, int]
) -> None:
    # With 1024 px more, all sides have the same parity, and the receptive field is not cut off.
    large = (size[0] + 1024, size[1] + 1024) if name != "tiny" else size
    cell, center = measure_receptive_field(name, large)
    backbone = get_backbone(name)
    first = np.array([backbone.first_cell_px(side) for side in size])
    np.testing.assert_array_equal(center, first + backbone.stride_px * cell)


def test_build_model_refuses_a_small_image_size() -> None:
    with pytest.raises(ConfigError, match="at least 32 px"):
        build_model("tiny", image_size=(31, 64))


def test_build_model_refuses_an_unknown_backbone() -> None:
    with pytest.raises(ConfigError, match="resnet50"):
        build_model("resnet51")


@pytest.mark.parametrize(
    "wrong",
    [{"dropout": 1.0}, {"dropout": -0.1}, {"dense_units": (0,)}, {"head_negative_slope": 1.0}],
)
def test_build_model_refuses_an_invalid_head(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="Invalid head"):
        build_model("tiny", image_size=(32, 32), **wrong)


# --- Preprocessing: the input of the first convolution ---


def input_of(model: keras.Model, layer: keras.layers.Layer) -> np.ndarray:
    return keras.Model(model.inputs[0], layer.input)(constant_rgb()).numpy()


def constant_rgb() -> np.ndarray:
    return np.full((1, 32, 32, 3), (200.0, 100.0, 50.0), "float32")


def test_build_model_resnet50_preprocesses_once(resnet: keras.Model) -> None:
    expected = keras.applications.resnet50.preprocess_input(constant_rgb())
    np.testing.assert_allclose(input_of(resnet, resnet.get_layer("conv1_pad")), expected, atol=1e-4)


def test_build_model_vgg16_preprocesses_once() -> None:
    model = build_model("vgg16", image_size=(32, 32))
    expected = keras.applications.vgg16.preprocess_input(constant_rgb())
    np.testing.assert_allclose(
        input_of(model, model.get_layer("block1_conv1")), expected, atol=1e-4
    )


def test_build_model_efficientnetb0_normalizes_inside_the_network() -> None:
    model = build_model("efficientnetb0", image_size=(32, 32))
    rescalings = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
    # To [0, 1], and once more by the deviation, which Keras itself adds only for 'imagenet'.
    assert [np.ravel(layer.scale)[0] for layer in rescalings] == pytest.approx(
        [1 / 255, 0.229**-0.5]
    )
    np.testing.assert_array_equal(input_of(model, rescalings[0]), constant_rgb())


def test_build_model_tiny_scales_pixels_to_minus_one_to_one() -> None:
    model = tiny()
    pixels = input_of(model, model.get_layer("block1_conv"))[0, 0, 0]
    np.testing.assert_allclose(
        pixels, [200 / 127.5 - 1, 100 / 127.5 - 1, 50 / 127.5 - 1], atol=1e-6
    )


# --- Freezing ---


def test_freeze_backbone_trains_only_the_head(resnet: keras.Model) -> None:
    freeze_backbone(resnet)
    assert trained_layers(resnet) == HEAD


def test_freeze_backbone_keeps_all_weights_during_a_step() -> None:
    model = tiny()
    before = [layer.get_weights() for layer in backbone_layers(model)]
    freeze_backbone(model)
    one_step(model)
    after = [layer.get_weights() for layer in backbone_layers(model)]
    assert all(
        np.array_equal(a, b)
        for old, new in zip(before, after, strict=True)
        for a, b in zip(old, new, strict=True)
    )


def test_unfreeze_from_conv5_trains_its_convolutions_and_the_head(resnet: keras.Model) -> None:
    unfreeze_from(resnet, "conv5")
    assert trained_layers(resnet) == CONV5 | HEAD


def test_unfreeze_from_can_start_inside_a_block(resnet: keras.Model) -> None:
    unfreeze_from(resnet, "conv5_block3")
    last = {name for name in CONV5 if name.startswith("conv5_block3")}
    assert trained_layers(resnet) == last | HEAD


def test_unfreeze_from_a_later_block_freezes_again(resnet: keras.Model) -> None:
    unfreeze_from(resnet, "all", train_batch_norm=True)
    unfreeze_from(resnet, "conv5")
    assert trained_layers(resnet) == CONV5 | HEAD


def test_unfreeze_from_all_trains_every_layer(resnet: keras.Model) -> None:
    unfreeze_from(resnet, "all", train_batch_norm=True)
    assert trained_layers(resnet) == {layer.name for layer in resnet.layers if layer.weights}


def test_unfreeze_from_keeps_batch_norm_statistics() -> None:
    model = tiny()
    unfreeze_from(model, "all")
    before = [layer.get_weights() for layer in batch_norms(model)]
    one_step(model)
    for old, layer in zip(before, batch_norms(model), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(old, layer.get_weights(), strict=True))


def test_unfreeze_from_with_train_batch_norm_updates_statistics() -> None:
    model = tiny()
    unfreeze_from(model, "all", train_batch_norm=True)
    before = model.get_layer("block1_bn").moving_mean.numpy()
    one_step(model)
    assert not np.array_equal(before, model.get_layer("block1_bn").moving_mean.numpy())


def test_unfreeze_from_refuses_an_unknown_block(resnet: keras.Model) -> None:
    with pytest.raises(ConfigError, match=r"'conv9'.*conv1, conv2, conv3, conv4, conv5"):
        unfreeze_from(resnet, "conv9")


def test_build_model_from_scratch_lowers_the_momentum(resnet: keras.Model) -> None:
    assert {layer.momentum for layer in batch_norms(resnet)} == {SCRATCH_BN_MOMENTUM} == {0.9}


def test_build_model_with_weights_keeps_the_momentum(tmp_path: Path) -> None:
    tiny().save_weights(tmp_path / "start.weights.h5")
    model = tiny(weights=str(tmp_path / "start.weights.h5"))
    assert {layer.momentum for layer in batch_norms(model)} == {0.99}


# --- Weights from files ---


def write_weights(model: keras.Model, path: Path) -> Path:
    """Write weights in the format of the suffix; Keras publishes its weights as ``.h5``."""
    if path.suffix == ".keras":
        model.save(path)
    elif path.name.endswith(".weights.h5"):
        keras.Model(model.inputs[0], last_conv_output(model)).save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(
                file, keras.Model(model.inputs[0], last_conv_output(model))
            )
    return path


@pytest.mark.parametrize("name", ["start.weights.h5", "start.keras", "start.h5"])
def test_build_model_with_a_weights_file_gives_the_same_features(name: str, tmp_path: Path) -> None:
    source = shuffle_weights(tiny(), seed=1)
    copy = tiny(weights=str(write_weights(source, tmp_path / name)))
    np.testing.assert_array_equal(features(copy), features(source))


def test_build_model_with_weights_of_an_entire_model_loads_the_backbone(tmp_path: Path) -> None:
    source = shuffle_weights(tiny(), seed=1)
    source.save_weights(tmp_path / "best.weights.h5")
    copy = tiny(weights=str(tmp_path / "best.weights.h5"))
    np.testing.assert_array_equal(features(copy), features(source))


def test_build_model_efficientnetb0_loads_its_own_keras_file(tmp_path: Path) -> None:
    source = build_model("efficientnetb0", image_size=(32, 32))
    path = write_weights(source, tmp_path / "start.keras")
    copy = build_model("efficientnetb0", image_size=(32, 32), weights=str(path))
    np.testing.assert_array_equal(features(copy), features(source))


@pytest.mark.parametrize("name", ["start.weights.h5", "start.keras", "start.h5"])
def test_build_model_refuses_weights_of_another_backbone(name: str, tmp_path: Path) -> None:
    path = write_weights(tiny(), tmp_path / name)
    with pytest.raises(WeightsError) as caught:
        build_model("vgg16", image_size=(32, 32), weights=str(path))
    assert_one_line(caught.value)


def test_build_model_refuses_a_missing_weights_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file .*gone\.h5") as caught:
        tiny(weights=str(tmp_path / "gone.h5"))
    assert_one_line(caught.value)


@pytest.mark.parametrize("name", ["a.h5", "a.weights.h5", "a.keras", "a.txt"])
def test_build_model_refuses_a_text_file_as_weights(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("not weights")
    with pytest.raises(WeightsError, match=f"{re.escape(name)} is not a weights file") as caught:
        tiny(weights=str(tmp_path / name))
    assert_one_line(caught.value)


def assert_one_line(error: Exception) -> None:
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text


@pytest.mark.parametrize("name", ["a.h5", "a.weights.h5"])
def test_require_weights_file_accepts_hdf5(tmp_path: Path, name: str) -> None:
    h5py.File(tmp_path / name, "w").close()
    require_weights_file(tmp_path / name)


def test_require_weights_file_accepts_a_keras_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    require_weights_file(tmp_path / "a.keras")


@pytest.mark.parametrize("name", ["gone.h5", "."])
def test_require_weights_file_refuses_a_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=r"There is no weights file .*\. Check the path"):
        require_weights_file(tmp_path / name)


@pytest.mark.parametrize("name", ["README.md", "a.h5", "a.keras", "weights"])
@pytest.mark.parametrize("content", [b"", b"# Read me"])
def test_require_weights_file_refuses_another_type(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name} is not a weights file\. Use a \.h5"):
        require_weights_file(tmp_path / name)


def test_build_model_copies_the_backbone_of_a_model() -> None:
    source = shuffle_weights(tiny(), seed=1)
    copy = build_model("tiny", image_size=(64, 64), weights=source, dense_units=())
    for copied_layer, source_layer in zip(
        backbone_layers(copy), backbone_layers(source), strict=True
    ):
        for copied, expected in zip(
            copied_layer.get_weights(), source_layer.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(copied, expected)
    assert {layer.momentum for layer in batch_norms(copy)} == {0.99}


def test_build_model_refuses_a_model_with_another_backbone() -> None:
    with pytest.raises(WeightsError, match="Use a model with the same backbone"):
        build_model("vgg16", image_size=(32, 32), weights=tiny())


# --- ImageNet weights, downloaded from a local server ---


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "keras-home"
    home.mkdir()
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(home))
    monkeypatch.setenv("no_proxy", "*")
    return home


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def serve_weights(
    monkeypatch: pytest.MonkeyPatch, module: str, key: str, url: str, file_hash: str
) -> None:
    monkeypatch.setattr(f"keras.src.applications.{module}.BASE_WEIGHTS_PATH", url)
    monkeypatch.setitem(
        getattr(keras.src.applications, module).WEIGHTS_HASHES, key, ("", file_hash)
    )


def test_build_model_with_imagenet_downloads_the_weights(
    resnet: keras.Model,
    server: tuple[Path, str],
    keras_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, url = server
    name = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    write_weights(resnet, folder / name)
    serve_weights(monkeypatch, "resnet", "resnet50", url, md5(folder / name))
    fetched = build_model("resnet50", image_size=(32, 32), weights="imagenet")
    np.testing.assert_array_equal(features(fetched), features(resnet))
    assert (keras_home / "models" / name).is_file()


@pytest.mark.slow
def test_build_model_efficientnetb0_from_imagenet_equals_its_file(
    server: tuple[Path, str], keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras adds a rescaling layer for 'imagenet' only; the same bytes must give one network."""
    folder, url = server
    name = "efficientnetb0_notop.h5"
    write_weights(build_model("efficientnetb0", image_size=(32, 32)), folder / name)
    serve_weights(monkeypatch, "efficientnet", "b0", url, md5(folder / name))
    fetched = build_model("efficientnetb0", image_size=(32, 32), weights="imagenet")
    given = build_model("efficientnetb0", image_size=(32, 32), weights=str(folder / name))
    largest = np.abs(features(fetched)).max()
    np.testing.assert_allclose(features(given), features(fetched), atol=1e-4 * largest)


def test_build_model_refuses_imagenet_weights_with_a_wrong_checksum(
    server: tuple[Path, str], keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = server
    (folder / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"other")
    serve_weights(monkeypatch, "resnet", "resnet50", url, "0" * 32)
    with pytest.raises(WeightsError, match="resnet50 could not be downloaded"):
        build_model("resnet50", image_size=(32, 32), weights="imagenet")


def test_build_model_without_a_network_names_the_alternatives(
    server: tuple[Path, str], keras_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = "http://127.0.0.1:9/"
    serve_weights(monkeypatch, "resnet", "resnet50", unreachable, "0" * 32)
    with pytest.raises(WeightsError) as caught:
        build_model("resnet50", image_size=(32, 32), weights="imagenet")
    text = str(caught.value)
    assert "copy resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 into" in text
    assert "use its path as initial weights" in text
    assert "start from the bundled model ('bundled')" in text
    assert "train from scratch" in text


def test_build_model_refuses_imagenet_weights_that_do_not_exist() -> None:
    with pytest.raises(WeightsError, match="no ImageNet weights for 'tiny'"):
        tiny(weights="imagenet")


# --- Models on disk ---


def test_load_keras_returns_the_saved_model(tmp_path: Path) -> None:
    model = shuffle_weights(tiny(), seed=2)
    model.save(tmp_path / "a.keras")
    loaded = load_keras(tmp_path / "a.keras")
    assert weights_fingerprint(loaded) == weights_fingerprint(model)
    np.testing.assert_array_equal(features(loaded), features(model))


def test_weights_fingerprint_depends_on_every_weight() -> None:
    model = tiny()
    before = weights_fingerprint(model)
    kernel, bias = model.get_layer("logits").get_weights()
    bias[1] += 1e-6
    model.get_layer("logits").set_weights([kernel, bias])
    assert weights_fingerprint(model) != before


def test_load_keras_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model file"):
        load_keras(tmp_path / "gone.keras")


def test_load_keras_refuses_another_file(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_text("not a model")
    with pytest.raises(ModelError, match="not a Keras model"):
        load_keras(tmp_path / "a.keras")


def test_load_keras_refuses_a_model_with_code(tmp_path: Path) -> None:
    image = keras.Input((2, 2, 3))
    keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image)).save(tmp_path / "a.keras")
    with pytest.raises(ModelError, match="loaded safely"):
        load_keras(tmp_path / "a.keras")


def test_layer_lookups_refuse_another_model() -> None:
    image = keras.Input((2, 2, 3))
    foreign = keras.Model(image, keras.layers.Flatten()(image))
    for lookup in (last_conv_output, logits_output, head_matrices):
        with pytest.raises(ModelError, match="Use a model that `build_model` built"):
            lookup(foreign)


# --- Hostile and damaged weights ---


def edit_config(path: Path, **changes: object) -> Path:
    """Change the configuration of the first convolution in a ``.keras`` file."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(contents["config.json"])
    layers = config["config"]["layers"]
    next(layer for layer in layers if layer["class_name"] == "Conv2D").update(changes)
    contents["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "changes", [{"module": "os", "class_name": "system"}, {"config": {"filters": 2**31 - 1}}]
)
def test_build_model_reads_weights_without_building_the_network_of_the_file(
    changes: dict, tmp_path: Path
) -> None:
    source = shuffle_weights(tiny(), seed=1)
    path = edit_config(write_weights(source, tmp_path / "start.keras"), **changes)
    np.testing.assert_array_equal(features(tiny(weights=str(path))), features(source))


def test_build_model_refuses_compressed_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10**6))
    with pytest.raises(WeightsError, match="Its weights are compressed") as caught:
        tiny(weights=str(tmp_path / "a.keras"))
    assert_one_line(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["start.weights.h5", "start.keras", "start.h5", "model"])
def test_build_model_refuses_weights_that_are_not_finite(
    name: str, value: float, tmp_path: Path
) -> None:
    """A ReLU turns NaN into 0, so that training would seem to succeed."""
    source = tiny()
    kernel = source.get_layer("block2_conv").kernel
    kernel.assign(np.full(kernel.shape, value, np.float32))
    weights = source if name == "model" else str(write_weights(source, tmp_path / name))
    with pytest.raises(WeightsError, match=r"not finite, for example in block2_conv") as caught:
        tiny(weights=weights)
    assert_one_line(caught.value)
