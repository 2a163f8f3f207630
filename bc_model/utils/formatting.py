"""Numbers as people say them."""

_MAX_DIGITS = 16


def many(count: int, thing: str) -> str:
    """Say how many there are of something.

    Examples
    --------
    >>> many(1, "case"), many(1200, "picture")
    ('1 case', '1,200 pictures')
    """
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def duration_in_words(seconds: float) -> str:
    """Say a duration, such as '40 s', '3 min 20 s' or '2 h 5 min'.

    Examples
    --------
    >>> duration_in_words(200)
    '3 min 20 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rough_duration_in_words(seconds: float) -> str:
    """Say a duration that is only guessed: whole minutes, then whole hours and tens of minutes.

    Examples
    --------
    >>> rough_duration_in_words(20), rough_duration_in_words(1020), rough_duration_in_words(8000)
    ('a minute', '17 min', '2 h 10 min')
    """
    minutes = max(1, round(seconds / 60))
    if minutes == 1:
        return "a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(round(minutes / 10), 6)
    return f"{hours} h {10 * rest} min" if rest else f"{hours} h"


def probability_in_words(probability: float) -> str:
    """Say a probability with two digits, and never as a certainty.

    Examples
    --------
    >>> probability_in_words(0.874), probability_in_words(0.9996), probability_in_words(0.001)
    ('0.87', 'above 0.99', 'below 0.01')
    """
    if probability > 0.99:
        return "above 0.99"
    if probability < 0.01:
        return "below 0.01"
    return f"{probability:.2f}"


def format_probability(probability: float, threshold: float) -> tuple[str, str]:
    """Return a probability and the decision threshold, with as many digits as tell them apart.

    Parameters
    ----------
    probability, threshold : float
        In [0, 1].

    Returns
    -------
    tuple of str
        Probability, never 0 or 1, and threshold. Both have two digits, or more if they differ but
        have the same first two.

    Examples
    --------
    >>> format_probability(0.874, 0.5), format_probability(0.4987, 0.5)
    (('0.87', '0.50'), ('0.499', '0.500'))
    >>> format_probability(0.9996, 0.5)
    ('above 0.99', '0.50')
    """
    digits = 2
    while (
        probability != threshold
        and f"{probability:.{digits}f}" == f"{threshold:.{digits}f}"
        and digits < _MAX_DIGITS
    ):
        digits += 1
    smallest = 10.0**-digits
    if probability > 1.0 - smallest:
        shown = f"above {1.0 - smallest:.{digits}f}"
    elif probability < smallest:
        shown = f"below {smallest:.{digits}f}"
    else:
        shown = f"{probability:.{digits}f}"
    return shown, f"{threshold:.{digits}f}"
