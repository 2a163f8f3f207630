"""The usual 95 % intervals over cases, to be measured beside the one that the library uses.

Each takes what a bootstrap over cases gives and returns two ends. None is used for any figure.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bc_model.evaluation import Floats

_Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Seen:
    """What a bootstrap and a jackknife over cases found for one figure of one data set.

    Attributes
    ----------
    value : float
    replicates : ndarray of shape (n_resamples,)
    left_out : ndarray of shape (n_cases,)
        The figure without each case.
    stratum : ndarray of int, shape (n_cases,)
        Class of each case, only of those that the figure looks at.
    """

    value: float
    replicates: Floats
    left_out: Floats
    stratum: np.ndarray

    @property
    def variances(self) -> tuple[Floats, Floats]:
        """Of each class: its part of the jackknife variance, and its number of cases."""
        groups = [self.left_out[self.stratum == one] for one in np.unique(self.stratum)]
        sizes = np.array([float(group.size) for group in groups])
        return np.array([group.var() for group in groups]) * (sizes - 1), sizes

    @property
    def degrees_of_freedom(self) -> float:
        """Welch and Satterthwaite's, over the classes."""
        parts, sizes = self.variances
        return float(parts.sum() ** 2 / (parts**2 / (sizes - 1)).sum())

    @property
    def acceleration(self) -> float:
        """Skewness of what the cases add, by the jackknife (Efron 1987, for several samples)."""
        effects = []
        for one in np.unique(self.stratum):
            group = self.left_out[self.stratum == one]
            effects.append((group.size - 1) / group.size * (group.mean() - group))
        effect = np.concatenate(effects)
        return float((effect**3).sum() / (6 * (effect**2).sum() ** 1.5))


def percentile(seen: Seen) -> tuple[float, float]:
    """Quantiles of the replicates."""
    return _quantiles(seen, -_Z, _Z)


def expanded_percentile(seen: Seen) -> tuple[float, float]:
    """Quantiles further out: Student's t for the normal, and the bootstrap's lost m - 1 of m.

    Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4),
    2015, section 4.3.
    """
    z = _expanded(seen)
    return _quantiles(seen, -z, z)


def bca(seen: Seen, z: float = _Z) -> tuple[float, float]:
    """Bias-corrected and accelerated (Efron 1987)."""
    below = float((seen.replicates < seen.value).mean())
    level = float((seen.replicates == seen.value).mean())
    bias = float(stats.norm.ppf(np.clip(below + level / 2, 1e-6, 1 - 1e-6)))
    ends = [bias + (bias + side) / (1 - seen.acceleration * (bias + side)) for side in (-z, z)]
    return _quantiles(seen, *ends)


def expanded_bca(seen: Seen) -> tuple[float, float]:
    """BCa with Hesterberg's wider quantiles."""
    return bca(seen, _expanded(seen))


def t_on_logits(seen: Seen) -> tuple[float, float]:
    """Student's t with the jackknife's standard error, on the logit scale."""
    if not 0.0 < seen.value < 1.0:
        return 0.0, 1.0
    parts, _ = seen.variances
    reach = stats.t.ppf(0.975, seen.degrees_of_freedom) * np.sqrt(parts.sum())
    center = np.log(seen.value / (1 - seen.value))
    reach /= seen.value * (1 - seen.value)
    low, high = 1 / (1 + np.exp(-(center + np.array([-reach, reach]))))
    return float(low), float(high)


TRIED = {
    "percentile": percentile,
    "BCa": bca,
    "expanded percentile": expanded_percentile,
    "expanded BCa": expanded_bca,
    "t on logits": t_on_logits,
}


def _expanded(seen: Seen) -> float:
    parts, sizes = seen.variances
    lost = parts.sum() / (parts * (sizes - 1) / sizes).sum()
    return float(np.sqrt(lost) * stats.t.ppf(0.975, seen.degrees_of_freedom))


def _quantiles(seen: Seen, low: float, high: float) -> tuple[float, float]:
    ends = np.quantile(seen.replicates, stats.norm.cdf([low, high]))
    return float(ends[0]), float(ends[1])
