"""Datasets: reading, registering, splitting and summarizing folders of histology images.

Includes the leakage report of a split, duplicates, the dataset registry, downloads, synthetic
images and the batches for training.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
