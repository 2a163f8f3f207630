"""Reports and model cards as HTML, PDF, JSON and Markdown, with their charts.

A report becomes a `Document` once. The HTML and PDF writers depend on documents only.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
