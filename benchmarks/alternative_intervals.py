"""Common 95 % intervals over cases, as references for the bootstrap-t of the library.

Each function takes the resamples of one metric and returns the two limits. The library does not
use them.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bc_model.evaluation import Floats

_Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Resamples:
    """Bootstrap and jackknife results over cases for one metric of one dataset.

    Attributes
    ----------
    value : float
    replicates : ndarray of shape (n_resamples,)
    left_out : ndarray of shape (n_cases,)
        The metric without each case.
    stratum : ndarray of int, shape (n_cases,)
        Class of each case that the metric uses.
    """

    value: float
    replicates: Floats
    left_out: Floats
    stratum: np.ndarray

    @property
    def variances(self) -> tuple[Floats, Floats]:
        """Jackknife variance and number of cases of each class."""
        groups = [self.left_out[self.stratum == label] for label in np.unique(self.stratum)]
        sizes = np.array([float(group.size) for group in groups])
        return np.array([group.var() for group in groups]) * (sizes - 1), sizes

    @property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom by Welch and Satterthwaite, over the classes."""
        variances, sizes = self.variances
        return float(variances.sum() ** 2 / (variances**2 / (sizes - 1)).sum())

    @property
    def acceleration(self) -> float:
        """Skewness of the case effects by the jackknife (Efron 1987, for several samples)."""
        effects = []
        for label in np.unique(self.stratum):
            group = self.left_out[self.stratum == label]
            effects.append((group.size - 1) / group.size * (group.mean() - group))
        effect = np.concatenate(effects)
        return float((effect**3).sum() / (6 * (effect**2).sum() ** 1.5))


def percentile(resamples: Resamples) -> tuple[float, float]:
    """Return the percentile interval."""
    return _quantiles(resamples, -_Z, _Z)


def expanded_percentile(resamples: Resamples) -> tuple[float, float]:
    """Return the percentile interval with wider quantiles.

    Student's t replaces the normal quantile, with a correction for the variance of the bootstrap.

    Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4),
    2015, section 4.3.
    """
    z = _expanded(resamples)
    return _quantiles(resamples, -z, z)


def bca(resamples: Resamples, z: float = _Z) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval (Efron 1987)."""
    below = float((resamples.replicates < resamples.value).mean())
    level = float((resamples.replicates == resamples.value).mean())
    bias = float(stats.norm.ppf(np.clip(below + level / 2, 1e-6, 1 - 1e-6)))
    quantiles = [
        bias + (bias + end) / (1 - resamples.acceleration * (bias + end)) for end in (-z, z)
    ]
    return _quantiles(resamples, *quantiles)


def expanded_bca(resamples: Resamples) -> tuple[float, float]:
    """Return the BCa interval with wider quantiles (Hesterberg 2015)."""
    return bca(resamples, _expanded(resamples))


def t_on_logits(resamples: Resamples) -> tuple[float, float]:
    """Return Student's t interval with the jackknife standard error, on the logit scale."""
    if not 0.0 < resamples.value < 1.0:
        return 0.0, 1.0
    variances, _ = resamples.variances
    reach = stats.t.ppf(0.975, resamples.degrees_of_freedom) * np.sqrt(variances.sum())
    center = np.log(resamples.value / (1 - resamples.value))
    reach /= resamples.value * (1 - resamples.value)
    low, high = 1 / (1 + np.exp(-(center + np.array([-reach, reach]))))
    return float(low), float(high)


ALTERNATIVES = {
    "percentile": percentile,
    "BCa": bca,
    "expanded percentile": expanded_percentile,
    "expanded BCa": expanded_bca,
    "t on logits": t_on_logits,
}


def _expanded(resamples: Resamples) -> float:
    variances, sizes = resamples.variances
    correction = variances.sum() / (variances * (sizes - 1) / sizes).sum()
    return float(np.sqrt(correction) * stats.t.ppf(0.975, resamples.degrees_of_freedom))


def _quantiles(resamples: Resamples, low: float, high: float) -> tuple[float, float]:
    limits = np.quantile(resamples.replicates, stats.norm.cdf([low, high]))
    return float(limits[0]), float(limits[1])
