"""Peak throughput of the machine: large matrix products by OpenVINO, at each precision."""

from collections.abc import Callable
from typing import Any

import numpy as np

SIDE = 4096  # Matrices of 2048 and below reach three quarters of this throughput.
PRODUCT_GFLOP = 2 * SIDE**3 / 1e9


def count_gflop(model: Any) -> float:
    """Return the floating-point operations of all convolutions in one forward pass, 10^9.

    A multiply-add counts as two. Normalization, pooling and additions are excluded, because
    memory and not arithmetic limits them.
    """
    from keras.layers import Conv2D

    total = 0.0
    for layer in model.layers:
        if isinstance(layer, Conv2D):
            _, height, width, _ = layer.output.shape
            total += 2.0 * height * width * float(np.prod(layer.kernel.shape))
    return total / 1e9


def matrix_product(precision: str) -> Callable[[], Any]:
    """Return a function that multiplies two matrices of `SIDE`: `PRODUCT_GFLOP` of work.

    Parameters
    ----------
    precision : {'f32', 'bf16'}
    """
    import openvino
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    left = ops.parameter([SIDE, SIDE], np.float32)
    right = ops.constant(rng.standard_normal((SIDE, SIDE), np.float32))
    graph = openvino.Model([ops.matmul(left, right, False, False)], [left])
    compiled = openvino.Core().compile_model(
        graph, "CPU", {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    )
    request = compiled.create_infer_request()
    matrix = rng.standard_normal((SIDE, SIDE), np.float32)
    return lambda: request.infer([matrix])
