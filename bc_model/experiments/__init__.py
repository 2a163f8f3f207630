"""Several runs of one plan: cross-validation, option sweeps and protocol comparisons.

Plans, starts and evaluates experiments, on this machine or on a Dask cluster.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
