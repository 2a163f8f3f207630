"""The model in the box: a ResNet50 that learned from random weights, and its judges."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
