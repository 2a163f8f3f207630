"""Numbers as text for the app, the command line and reports."""

_MAX_DIGITS = 16


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless the count is 1.

    Examples
    --------
    >>> format_count(1, "case"), format_count(1200, "image")
    ('1 case', '1,200 images')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_duration(seconds: float) -> str:
    """Return a duration, such as '40 s', '3 min 20 s' or '2 h 5 min'.

    Examples
    --------
    >>> format_duration(200)
    '3 min 20 s'
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def format_duration_estimate(seconds: float) -> str:
    """Return an estimated duration, rounded to minutes, or to 10 minutes above one hour.

    Examples
    --------
    >>> [format_duration_estimate(seconds) for seconds in (20, 1020, 8000)]
    ['1 min', '17 min', '2 h 10 min']
    """
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, tens = divmod(round(minutes / 10), 6)
    return f"{hours} h {10 * tens} min" if tens else f"{hours} h"


def format_probability(probability: float, digits: int = 2) -> str:
    """Return a rounded probability that is never shown as 0 or 1.

    Examples
    --------
    >>> format_probability(0.874), format_probability(0.9996), format_probability(0.001)
    ('0.87', 'above 0.99', 'below 0.01')
    """
    smallest = 10.0**-digits
    if probability > 1.0 - smallest:
        return f"above {1.0 - smallest:.{digits}f}"
    if probability < smallest:
        return f"below {smallest:.{digits}f}"
    return f"{probability:.{digits}f}"


def format_with_threshold(probability: float, threshold: float) -> tuple[str, str]:
    """Return probability and decision threshold with as many digits as they need to differ.

    Examples
    --------
    >>> format_with_threshold(0.874, 0.5), format_with_threshold(0.4987, 0.5)
    (('0.87', '0.50'), ('0.499', '0.500'))
    >>> format_with_threshold(0.9996, 0.5)
    ('above 0.99', '0.50')
    """
    for digits in range(2, _MAX_DIGITS):
        if probability == threshold or f"{probability:.{digits}f}" != f"{threshold:.{digits}f}":
            break
    return format_probability(probability, digits), f"{threshold:.{digits}f}"
