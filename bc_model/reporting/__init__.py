"""Reports and model cards as HTML, PDF and Markdown, with their charts.

A report becomes a `Document` once. Each writer depends on documents only, not on reports.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
