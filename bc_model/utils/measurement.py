"""A metric with its confidence interval and the data it is computed from."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A value with its 95 % confidence interval.

    Parameters
    ----------
    value : float or None
        Value of the metric. None if it is undefined for the data; `note` states the reason.
    ci_low, ci_high : float or None
        Ends of the interval. Both are None if there is no interval; `note` states the reason.
    n_images : int
        Number of images.
    n_cases : int
        Number of known cases; 0 if no case is known.
    method : str
        Method of the interval.
    note : str
        Caveat for the reader.

    Raises
    ------
    ValueError
        A number is NaN or infinite, or only one end of the interval is given.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n_images: int
    n_cases: int
    method: str
    note: str = ""

    def __post_init__(self) -> None:
        for number in (self.value, self.ci_low, self.ci_high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"Invalid metric. Expected finite numbers or None, got {number}.")
        if (self.ci_low is None) != (self.ci_high is None):
            raise ValueError("Invalid metric. Expected both ends of the interval or none.")

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 2) -> str:
        """Return the metric, its interval and its numbers of images and cases in one line.

        Examples
        --------
        >>> print(Metric(0.891, 0.812, 0.949, 120, 8, "bootstrap"))
        0.89 (95 % CI 0.81-0.95; 120 images, 8 cases)
        >>> print(Metric(None, None, None, 120, 8, "", "only one class present"))
        not defined: only one class present
        """
        if self.value is None:
            return f"not defined: {self.note}"
        if self.ci_low is None or self.ci_high is None:
            interval = f"no interval: {self.note}" if self.note else "no interval"
        else:
            interval = f"95 % CI {_join_ends(self.ci_low, self.ci_high, digits)}"
        images = "1 image" if self.n_images == 1 else f"{self.n_images:,} images"
        cases = "1 case" if self.n_cases == 1 else f"{self.n_cases or 'unknown'} cases"
        return f"{self.value:.{digits}f} ({interval}; {images}, {cases})"

    def brief(self) -> str:
        """Return the value and the interval, for a table with columns for the numbers.

        Examples
        --------
        >>> Metric(0.891, 0.812, 0.949, 120, 8, "bootstrap").brief()
        '0.891 (0.812-0.949)'
        >>> Metric(None, None, None, 120, 8, "", "only one class present").brief()
        'not defined'
        """
        if self.value is None:
            return "not defined"
        if self.ci_low is None or self.ci_high is None:
            return f"{self.value:.3f} (no interval)"
        return f"{self.value:.3f} ({_join_ends(self.ci_low, self.ci_high, 3)})"


def _join_ends(low: float, high: float, digits: int) -> str:
    """Join the ends of an interval; a hyphen before a minus sign would be ambiguous."""
    return f"{low:.{digits}f}{' to ' if low < 0 else '-'}{high:.{digits}f}"
