"""The declared scale: objectives, names, metadata and options of the command line."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bc_model.data.declared_scale import (
    UNKNOWN_SCALE,
    DeclaredScale,
    as_scale,
    check_declared_scale,
    detect_scale,
    parse_scale,
    scale_from_mpp,
    scale_from_objective,
    scale_of_frame,
)
from bc_model.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "mpp"),
    [
        ("tumor_40x.png", 0.25),
        ("tumor 20X.tif", 0.5),
        ("x10-field.png", 1.0),
        ("a-4x.jpg", 2.5),
        ("image 400x.png", 0.25),
        ("field_0.5um.png", 0.5),
        ("field_0.46 um-px.png", 0.46),
        ("field_0p25mpp.png", 0.25),
        ("section 0.23\u00b5m.png", 0.23),
        ("screen_1920x1080.png", None),
        ("a40x20.png", None),
        ("image20.png", None),
        ("SOB_fold_a4x7.png", None),
        ("900um.png", None),
        ("HE_4um_001.png", None),
        ("section 3um 20x.png", 0.5),
        ("scalebar_20um.png", None),
        ("0,5um.png", None),
        ("field_0_5um.png", None),
        ("1um_px.png", 1.0),
        ("s1_0.5um.png", 0.5),
        ("10x 40x.png", None),
        ("field_0.5um", 0.5),
        ("tumor_40X.png", None),  # BreakHis writes 40X for a 4x objective.
        ("tumor_100x.png", None),  # A 10x objective with its eyepiece, or oil immersion.
        ("tumor_200X.png", 0.5),
        ("4.0um_section_20x.png", 0.5),
        ("section_5.0um.png", None),
        ("field_2.5um_px.png", 2.5),
    ],
)
def test_a_file_name_states_a_scale(name: str, mpp: float | None) -> None:
    assert detect_scale(name).mpp == mpp


def test_an_official_name_states_the_magnification_of_the_whole_frame() -> None:
    scale = detect_scale("SOB_M_DC-14-2523-100-001.png", width_px=700)
    assert scale.magnification == 100
    assert scale.mpp == pytest.approx(1.0954, abs=1e-3)  # Geometric mean of 1.0 and 1.2.
    # The same field in a third of the pixels.
    assert scale_of_frame(100, 350).mpp == pytest.approx(2 * 1.0954, abs=2e-3)


def test_metadata_come_before_the_file_name() -> None:
    buffer = io.BytesIO()
    # 50,000 dots per inch are 25,400 / 50,000 = 0.508 um per pixel.
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, "PNG", dpi=(50_000, 50_000))
    scale = detect_scale("tumor_40x.png", buffer.getvalue())
    assert scale.source == "PNG pHYs"
    assert scale.mpp == pytest.approx(0.508, rel=1e-3)


def test_parse_scale_reads_objectives_um_per_pixel_and_frames() -> None:
    assert parse_scale("20x") == scale_from_objective(20)
    assert parse_scale(" 0.5um ") == scale_from_mpp(0.5)
    assert parse_scale("200X").magnification == 200
    assert parse_scale("40X").magnification == 40
    assert parse_scale("40x").mpp == 0.25
    assert parse_scale("Unknown") == UNKNOWN_SCALE
    assert parse_scale("0.25mpp") == parse_scale("0.25um/px") == scale_from_mpp(0.25)
    assert parse_scale("20um").mpp == 20.0


def test_a_scale_of_a_whole_frame_has_larger_pixels_after_reduction() -> None:
    frame = scale_of_frame(200, 14_000)
    assert frame.reduced(2).magnification == 200
    assert frame.reduced(2).mpp == pytest.approx(2 * frame.mpp)


@pytest.mark.parametrize("mpp", [0.0, -0.5, float("nan"), float("inf")])
def test_a_declared_scale_is_a_positive_number(mpp: float) -> None:
    with pytest.raises(ConfigError, match="Expected a positive number"):
        DeclaredScale(mpp, "user")


@pytest.mark.parametrize("value", [True, None, [0.5]])
def test_as_scale_refuses_other_types(value: Any) -> None:
    with pytest.raises(ConfigError, match="Expected a DeclaredScale"):
        as_scale(value)


@pytest.mark.parametrize(
    ("declared", "name", "is_contradiction"),
    [
        ("20x", "field_20x.png", False),
        ("20x", "field_40x.png", True),
        ("0.5", "field_0.36um.png", False),  # 0.47 octaves
        ("0.5", "field_0.35um.png", True),  # 0.51 octaves
        ("20x", "field.png", False),
        ("unknown", "field_20x.png", False),
        ("200X", "SOB_B_TA-14-3411F-200-001.png", False),
        ("200X", "SOB_B_TA-14-3411F-40-001.png", True),
    ],
)
def test_a_scale_of_the_user_is_compared_with_the_file(
    declared: str, name: str, is_contradiction: bool
) -> None:
    found = check_declared_scale(parse_scale(declared), detect_scale(name))
    assert [check.code for check in found] == ["BC169"] * is_contradiction


@pytest.mark.parametrize("text", ["", "20", "0", "1e9", "20xx", "30x", "big", "-1", "nan"])
def test_parse_scale_refuses_other_texts(text: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected|Choose"):
        parse_scale(text)


def test_an_objective_without_typical_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="4x, 10x, 20x, 40x"):
        scale_from_objective(63)
