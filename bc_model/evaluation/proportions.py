"""Intervals of shares in closed form: of single cases, and of pictures that come in cases.

They stand where a bootstrap cannot: for a handful of cases, and where nothing was wrong at all.
"""

import math

from bc_model.evaluation.intervals import Interval

LEVEL = 0.95


def wilson(successes: float, n: float, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval for a share of independent observations.

    Parameters
    ----------
    successes : float
        0 to `n`.
    n : float
        Observations, such as cases; may be an effective number.
    level : float, default=0.95

    References
    ----------
    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the
    American Statistical Association 22, 1927.

    Examples
    --------
    >>> interval = wilson(9, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.596, 0.982)
    """
    from scipy.special import ndtri  # not needed by who only reads reports

    if n <= 0:
        return Interval(None, None, "no cases")
    z = float(ndtri((1 + level) / 2))
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    reach = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    # At the ends the two are equal on paper and differ in the last bits.
    return Interval(
        0.0 if successes == 0 else centre - reach, 1.0 if successes == n else centre + reach
    )


def korn_graubard(
    share: float, variance: float, degrees: float, *, n_cases: int, level: float = LEVEL
) -> Interval:
    """Return the exact binomial interval for a share of pictures that come in cases.

    Clopper and Pearson's interval at the number of independent observations that would vary as
    much: ``share (1 - share) / variance``, less what a variance from few cases is itself unsure.
    Where nothing varies each case counts as one observation.

    Parameters
    ----------
    share : float
        In [0, 1].
    variance : float
        Of the share, over cases.
    degrees : float
        Degrees of freedom of the variance.
    n_cases : int
        Observations where nothing varies.
    level : float, default=0.95

    References
    ----------
    Korn and Graubard, "Confidence Intervals for Proportions with Small Expected Number of Positive
    Counts Estimated from Survey Data", Survey Methodology 24, 1998.

    Examples
    --------
    >>> interval = korn_graubard(1.0, 0.0, 9, n_cases=10)  # no mistake in ten cases
    >>> round(interval.low, 3), interval.high
    (0.692, 1.0)
    """
    from scipy.special import betaincinv, ndtri, stdtrit

    tail = (1 - level) / 2
    n = float(n_cases)
    if variance > 0 and 0 < share < 1:
        unsure = float(ndtri(1 - tail) / stdtrit(degrees, 1 - tail))
        n = share * (1 - share) / variance * unsure**2
    low = 0.0 if share == 0 else float(betaincinv(n * share, n * (1 - share) + 1, tail))
    high = 1.0 if share == 1 else float(betaincinv(n * share + 1, n * (1 - share), 1 - tail))
    return Interval(low, high)
