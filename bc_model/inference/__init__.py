"""Classify and explain images without TensorFlow.

Offers the model bundle with its model card, the OpenVINO engine, `Classifier` and
`load_classifier`. Only the export of a trained model loads TensorFlow.
"""

import sys

import lazy_loader

# OpenVINO's converter would report its use to its vendor. Without this package it falls back to
# an empty stub. This line must run before any import of openvino.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
