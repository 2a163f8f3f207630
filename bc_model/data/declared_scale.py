"""The scale of an image as its user, its file or its name declares it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import IMAGE_SUFFIXES, MPP_RANGE, parse_name
from bc_model.data.image_scale import MAX_MPP, MIN_MPP, read_scale
from bc_model.errors import ConfigError

MPP_OF_OBJECTIVE = {4: 2.5, 10: 1.0, 20: 0.5, 40: 0.25}
"""Typical µm per pixel by objective, as slide scanners store them.

Cameras on microscopes differ by up to a factor of two, so a value in µm per pixel is more precise.
"""

# Every repetition is bounded, because the time of nested ones is quadratic.
_OBJECTIVE_HINT = re.compile(
    r"(?<![A-Za-z0-9.])(?:(4|10|20)[xX]|(40)x|[xX](4|10|20|40)|([24]00)[xX])(?![A-Za-z0-9])",
    re.ASCII,
)
"""Without 40X, which BreakHis uses for a 4x objective, and without 100x, which is a 10x objective
with its eyepiece or an oil objective."""
_UM, _PER_PX = r"(?:um|\u00b5m|\u03bcm|mum)", r"[ _/-]?(?:px|pixel)"
# An integer in µm is rather the thickness of the section or the length of a scale bar, unless the
# unit names the pixel. A number with a separated decimal comma is ambiguous.
_MPP_HINT = re.compile(
    r"(?<![A-Za-z0-9.,])(?:(?=[0-9]{1,2}[.p])|(?<![0-9][_-])"
    rf"(?=[0-9]{{1,2}}[ _]{{0,2}}(?:mpp|{_UM}{_PER_PX})))"
    rf"([0-9]{{1,2}}(?:[.p][0-9]{{1,6}})?)[ _]{{0,2}}(?:(mpp|{_UM}{_PER_PX})|{_UM})(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_FRAME = re.compile(r"(40|100|200|400)X")
_OBJECTIVE = re.compile(r"(4|10|20|40)x")
_MPP = re.compile(rf"([0-9]{{1,3}}(?:\.[0-9]{{1,9}})?)(mpp|{_UM}(?:/px)?)?")
_MIN_THICKNESS_UM = 1.5
"""A larger number of µm in a file name is rather the thickness of the section."""
_MAX_BARE_MPP = 5.0
"""A larger number without a unit is rather an objective."""
_CONTRADICTION_OCTAVES = 0.5
"""Objectives stand for typical values, from which microscopes differ."""


@dataclass(frozen=True)
class DeclaredScale:
    """The scale that an image has according to its user, its file or its name.

    Attributes
    ----------
    mpp : float or None
        µm per pixel; None if it is unknown, or if only `magnification` is known.
    source : str
        Where the scale is from, such as 'user', 'file name', 'BreakHis name', 'OME-XML' or
        'unknown'.
    magnification : int or None
        Magnification of BreakHis, such as 200. The image is then a whole BreakHis frame, whatever
        its size in pixels.
    objective : int or None
        Objective, such as 20 for 20x, from which `mpp` was derived.

    Examples
    --------
    >>> scale_from_objective(20).mpp
    0.5
    """

    mpp: float | None
    source: str
    magnification: int | None = None
    objective: int | None = None

    def __post_init__(self) -> None:
        if self.mpp is not None and not 0.0 < self.mpp < math.inf:
            raise ConfigError(
                f"Invalid scale {self.mpp:g} µm per pixel. Expected a positive number. State the "
                "width of one pixel in the specimen, or None if it is unknown."
            )

    @property
    def is_known(self) -> bool:
        """True if the scale is stated in any form."""
        return self.mpp is not None or self.magnification is not None

    def reduced(self, factor: int) -> DeclaredScale:
        """Return the scale of the image after `factor` pixels in each direction became one.

        Examples
        --------
        >>> scale_from_objective(20).reduced(2).mpp
        1.0
        """
        return self if self.mpp is None else replace(self, mpp=self.mpp * factor)


UNKNOWN_SCALE = DeclaredScale(None, "unknown")


def scale_from_objective(objective: int, source: str = "user") -> DeclaredScale:
    """Return the typical scale of an objective, one of `MPP_OF_OBJECTIVE`.

    Raises
    ------
    ConfigError
        The objective is not listed.
    """
    if objective not in MPP_OF_OBJECTIVE:
        names = ", ".join(f"{value}x" for value in MPP_OF_OBJECTIVE)
        raise ConfigError(f"Unknown objective {objective}x. Choose one of {names}.")
    return DeclaredScale(MPP_OF_OBJECTIVE[objective], source, objective=objective)


def scale_from_mpp(mpp: float, source: str = "user") -> DeclaredScale:
    """Return a scale in µm per pixel.

    Raises
    ------
    ConfigError
        The value is not within the range of microscopes.
    """
    if not MIN_MPP <= mpp <= MAX_MPP:
        raise ConfigError(
            f"Invalid scale {mpp:g} µm per pixel. Expected {MIN_MPP:g} to {MAX_MPP:g}. State the "
            "width of one pixel in the specimen."
        )
    return DeclaredScale(float(mpp), source)


def scale_of_frame(magnification: int, width_px: int | None = None) -> DeclaredScale:
    """Return the scale of a whole BreakHis frame.

    Parameters
    ----------
    magnification : int
        Magnification such as 200 for 200X.
    width_px : int, optional
        Width of the image. The µm per pixel of a resized frame follow from it.
    """
    mpp = None
    if width_px and magnification in MPP_RANGE:
        mpp = math.sqrt(math.prod(MPP_RANGE[magnification])) * 700 / width_px
    return DeclaredScale(mpp, "BreakHis name", magnification=magnification)


def detect_scale(
    name: str, data: bytes | None = None, width_px: int | None = None
) -> DeclaredScale:
    """Return the scale that an image file states.

    An official BreakHis name comes first, because it is exact for the entire frame. Then the
    metadata of the file, and hints in its name such as ``40x``, ``0.5um`` or ``0p25mpp``.

    Parameters
    ----------
    name : str
        File name.
    data : bytes, optional
        Content of the file.
    width_px : int, optional
        Width of the image, for `scale_of_frame`.

    Examples
    --------
    >>> detect_scale("tumor_40x.png").mpp, detect_scale("field.png").source
    (0.25, 'unknown')
    >>> detect_scale("SOB_B_TA-14-3411F-200-001.png").magnification
    200
    """
    if (parsed := parse_name(name)) is not None:
        return scale_of_frame(parsed.magnification, width_px)
    if data is not None and (found := read_scale(data)) is not None:
        return DeclaredScale(found.mpp, found.source)
    has_suffix = name.lower().endswith(tuple(IMAGE_SUFFIXES))
    stem = name.rpartition(".")[0] if has_suffix else name
    if match := _MPP_HINT.search(stem):
        mpp = float(match[1].lower().replace("p", "."))
        is_thickness = match[2] is None and mpp >= _MIN_THICKNESS_UM
        if MIN_MPP <= mpp <= MAX_MPP and not is_thickness:
            return DeclaredScale(mpp, "file name")
    # A microscope at 400x has a 40x objective and a 10x eyepiece.
    objectives = {
        int(match[1] or match[2] or match[3] or int(match[4]) // 10)
        for match in _OBJECTIVE_HINT.finditer(stem)
    }
    if len(objectives) != 1:  # Contradicting hints are none.
        return UNKNOWN_SCALE
    return scale_from_objective(objectives.pop(), "file name")


def as_scale(value: DeclaredScale | str | float) -> DeclaredScale:
    """Return a scale that is given as text or as a number of µm per pixel.

    Raises
    ------
    ConfigError
        The value is no scale.

    Examples
    --------
    >>> as_scale("20x") == scale_from_objective(20), as_scale(0.5) == scale_from_mpp(0.5)
    (True, True)
    """
    if isinstance(value, DeclaredScale):
        return value
    if isinstance(value, str):
        return parse_scale(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return scale_from_mpp(value)
    raise ConfigError(
        f"Invalid scale of type {type(value).__name__}. Expected a DeclaredScale, a text such as "
        "20x, or a number of µm per pixel."
    )


def check_declared_scale(declared: DeclaredScale, stated: DeclaredScale) -> tuple[Check, ...]:
    """Return BC169 if the scale of a user contradicts the one that the file or its name states.

    Parameters
    ----------
    declared : DeclaredScale
        Scale of the user.
    stated : DeclaredScale
        Result of `detect_scale`.

    Examples
    --------
    >>> check_declared_scale(scale_from_objective(40), detect_scale("field_20x.png"))[0].code
    'BC169'
    >>> check_declared_scale(scale_from_objective(20), detect_scale("field_0.4um.png"))
    ()
    """
    if declared.mpp is not None and stated.mpp is not None:
        octaves = abs(math.log2(declared.mpp / stated.mpp))
        is_contradiction = octaves > _CONTRADICTION_OCTAVES
    else:
        magnifications = {declared.magnification, stated.magnification}
        is_contradiction = None not in magnifications and len(magnifications) > 1
    if not is_contradiction:
        return ()
    check = make_check(
        "BC169",
        declared=describe_scale(declared),
        stated=describe_scale(stated),
        source=stated.source,
    )
    return (check,)


def describe_scale(scale: DeclaredScale) -> str:
    """Return a scale as short text, such as '0.5 µm/px' or '200X'.

    Examples
    --------
    >>> describe_scale(DeclaredScale(0.5, "user")), describe_scale(UNKNOWN_SCALE)
    ('0.5 µm/px', 'scale unknown')
    """
    if scale.magnification is not None:
        return f"{scale.magnification}X"
    return f"{scale.mpp:.3g} µm/px" if scale.mpp is not None else "scale unknown"


def parse_scale(text: str) -> DeclaredScale:
    """Return the scale for an option of the command line.

    Parameters
    ----------
    text : str
        ``20x`` for an objective, ``0.5`` or ``0.5um`` for µm per pixel, ``200X`` for a whole
        BreakHis frame, or ``unknown``.

    Raises
    ------
    ConfigError
        The text is none of these.

    Examples
    --------
    >>> parse_scale("20x").mpp, parse_scale("0.5um").mpp, parse_scale("200X").magnification
    (0.5, 0.5, 200)
    """
    text = text.strip()
    if text.lower() == "unknown":
        return UNKNOWN_SCALE
    if match := _FRAME.fullmatch(text):
        # A capital X is BreakHis notation, so 40X is a frame and 40x an objective.
        return DeclaredScale(None, "user", magnification=int(match[1]))
    if match := _OBJECTIVE.fullmatch(text):
        return scale_from_objective(int(match[1]))
    match = _MPP.fullmatch(text)
    if match and (match[2] or float(match[1]) <= _MAX_BARE_MPP):
        return scale_from_mpp(float(match[1]))
    raise ConfigError(
        f"Invalid scale '{text}'. Expected an objective such as 20x, µm per pixel such as 0.5, a "
        "BreakHis magnification such as 200X, or 'unknown'."
    )
