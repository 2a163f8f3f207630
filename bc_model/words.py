"""Numbers as people say them."""


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
