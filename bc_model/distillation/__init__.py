"""Training and validation of the bundled model.

A ResNet50 is trained from random weights with a linear teacher, and evaluated by nested
cross-validation. This package is not part of the public API.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
