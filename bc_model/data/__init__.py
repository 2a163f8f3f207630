"""Pictures on disk: where they come from, their names, their pixels, the manifest, the splits."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
