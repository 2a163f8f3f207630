"""Charts of a report, where a reader's eyes are at stake."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from app.components.report_charts import confusion_chart

THEME = tomllib.loads((Path(__file__).parents[2] / ".streamlit/config.toml").read_text())["theme"]


def _luminance(colour: np.ndarray) -> float:
    """Relative luminance of 8-bit sRGB: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    share = colour / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _rgb(code: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(code.removeprefix("#")), np.uint8)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_counts_are_readable_on_every_shade_of_a_confusion_matrix(scheme: str):
    stops = np.array([_rgb(code) for code in THEME[scheme]["chartSequentialColors"]])
    shares = np.linspace(0, len(stops) - 1, 101)
    shades = np.stack([np.interp(shares, range(len(stops)), channel) for channel in stops.T], 1)
    counts = confusion_chart(((3, 1), (0, 4))).to_dict()["layer"][1]["encoding"]["color"]
    limit = float(re.fullmatch(r"luminance\(.*\) < ([\d.]+)", counts["condition"]["test"])[1])

    for shade in map(_luminance, shades):
        code = counts["condition"]["value"] if shade < limit else counts["value"]
        dark, light = sorted([shade, _luminance(_rgb(code))])
        # 4.5 where it can be had; between black and white, 4.58 is the most that any ink has there.
        assert (light + 0.05) / (dark + 0.05) > 4.2
