"""Atomic files, JSON records, number formats and metrics with intervals.

These helpers depend on no other package of the library.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
