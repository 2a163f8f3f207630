"""A metric as it is shown to people: a value, its interval, and the cases that it rests on."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One number as it is shown to people: with its interval and what it rests on.

    Parameters
    ----------
    value : float or None
        The figure; None means it is not defined for this data, and `note` says why.
    low, high : float or None
        The 95 % interval; both None when there is none, and `note` says why.
    n : int
        Pictures the figure was computed from.
    n_cases : int
        Known cases among them; 0 when no case is known.
    method : str
        How the interval was made.
    note : str
        What a reader must know to read the figure.

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
                raise ValueError(f"a Figure holds finite numbers or None, got {number}")
        if (self.ci_low is None) != (self.ci_high is None):
            raise ValueError("a Figure has both ends of its interval or neither")

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 2) -> str:
        """Return the figure in one line.

        Examples
        --------
        >>> print(Figure(0.891, 0.812, 0.949, 120, 8, "bootstrap"))
        0.89 (95 % 0.81-0.95; 120 pictures, 8 cases)
        >>> print(Figure(None, None, None, 120, 8, "", "only one class present"))
        not defined: only one class present
        """
        if self.value is None:
            return f"not defined: {self.note}"
        if self.ci_low is None or self.ci_high is None:
            interval = f"no interval: {self.note}" if self.note else "no interval"
        else:
            interval = f"95 % {_between(self.ci_low, self.ci_high, digits)}"
        return f"{self.value:.{digits}f} ({interval}; {self._support()})"

    def brief(self) -> str:
        """Return value and interval alone, for a table whose other columns say what they rest on.

        Examples
        --------
        >>> Figure(0.891, 0.812, 0.949, 120, 8, "bootstrap").brief()
        '0.891 (0.812-0.949)'
        >>> Figure(None, None, None, 120, 8, "", "only one class present").brief()
        'not defined'
        """
        if self.value is None:
            return "not defined"
        if self.ci_low is None or self.ci_high is None:
            return f"{self.value:.3f} (no interval)"
        return f"{self.value:.3f} ({_between(self.ci_low, self.ci_high, 3)})"

    def _support(self) -> str:
        images = "1 picture" if self.n_images == 1 else f"{self.n_images:,} pictures"
        if self.n_cases == 0:
            return f"{images}, cases unknown"
        return f"{images}, {'1 case' if self.n_cases == 1 else f'{self.n_cases} cases'}"


def _between(low: float, high: float, digits: int) -> str:
    """Join two ends; a hyphen before a minus would be read as neither."""
    joint = " to " if low < 0 else "-"
    return f"{low:.{digits}f}{joint}{high:.{digits}f}"
