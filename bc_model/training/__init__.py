"""Training: settings, the run folder, the two phases, and runs as processes of their own."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
