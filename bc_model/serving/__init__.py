"""Inference without TensorFlow: the model bundle, the OpenVINO engine and the classifier."""

import sys

# OpenVINO's converter would report its use to its maker. Without this package it falls back on an
# empty stub of its own, so this has to stand before anything imports openvino.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
