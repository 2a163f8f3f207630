"""Inference without TensorFlow: the model bundle, the OpenVINO engine and the classifier."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
