"""Classify breast histology images with a ResNet50 and explain each prediction with Grad-CAM.

The public names are listed in ``__init__.pyi`` and loaded on first use, so that importing the
package loads neither TensorFlow nor OpenVINO. See ``docs/api.md`` for examples.
"""

import os

import lazy_loader

from bc_model.utils.processor import limit_threads

__version__ = "0.1.0"

# TensorFlow reads this variable on import: log warnings and errors, but no notes on the processor.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
limit_threads()

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
