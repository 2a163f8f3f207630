"""Metrics with case-clustered intervals, and the reports of evaluations.

The package loads NumPy and pandas only.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
