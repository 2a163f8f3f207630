"""DeLong's interval for the area under the ROC curve, an independent check of the bootstrap.

In the form for clustered data, the values of the images of a case are added first.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bc_model.evaluation.bootstrap import CaseSample
from bc_model.evaluation.intervals import Interval
from bc_model.evaluation.metrics import Floats


def delong(
    malignant: NDArray[np.bool_], prob_malignant: Floats, sample: CaseSample, *, level: float = 0.95
) -> tuple[float, float, Interval]:
    """Return the area, its standard error and its interval on the logit scale.

    Parameters
    ----------
    malignant : ndarray of bool, shape (n_images,)
        True class; both classes are present.
    prob_malignant : ndarray of shape (n_images,)
    sample : CaseSample
        With single images as cases, this is the formula of DeLong and others.
    level : float, default=0.95

    Returns
    -------
    area : float
    error : float
        NaN if a class has one case.
    interval : Interval
        Without ends if the area is 0 or 1, or a class has one case.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988. Obuchowski, "Nonparametric Analysis of
    Clustered ROC Curve Data", Biometrics 53, 1997. By mid-ranks: Sun and Xu, IEEE Signal Processing
    Letters 21, 2014.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    ranks = rankdata(prob_malignant)
    n = {truth: int((malignant == truth).sum()) for truth in (False, True)}
    # Proportion of the other class that each image is ordered correctly with; a tie is one half.
    won = np.empty(malignant.size)
    for truth in (False, True):
        mine = malignant == truth
        beaten = (ranks[mine] - rankdata(prob_malignant[mine])) / n[not truth]
        won[mine] = beaten if truth else 1 - beaten
    area = float(won[malignant].mean())
    lead = sample.sums((won - area)[:, None])[:, 0]
    variance = 0.0
    for rank, truth in enumerate(np.unique(malignant)):
        mine = lead[sample.stratum == rank]
        if mine.size == 1:
            return area, math.nan, Interval(None, None, "a class has only one case")
        variance += mine.size / (mine.size - 1) * float((mine**2).sum()) / n[bool(truth)] ** 2
    error = math.sqrt(variance)
    if not 0.0 < area < 1.0:
        return area, error, Interval(None, None, "no interval at the end of the range")
    center = math.log(area / (1 - area))
    reach = float(ndtri((1 + level) / 2)) * error / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-end)) for end in (center - reach, center + reach))
    return area, error, Interval(low, high)
