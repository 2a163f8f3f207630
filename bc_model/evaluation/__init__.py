"""Evaluation: metrics with intervals over cases, reports, comparisons and thresholds.

Importing the package loads NumPy and pandas, but neither OpenVINO nor TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
