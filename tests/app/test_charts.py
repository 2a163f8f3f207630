"""Contrast of the charts of a report."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from app.components.charts import chart_confusion, chart_groups
from bc_model.evaluation.subgroups import Subgroup

THEME = tomllib.loads((Path(__file__).parents[2] / ".streamlit/config.toml").read_text())["theme"]


def _luminance(color: np.ndarray) -> float:
    """Return the relative luminance of an 8-bit sRGB color.

    References
    ----------
    https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
    """
    proportion = color / 255
    linear = np.where(
        proportion <= 0.04045, proportion / 12.92, ((proportion + 0.055) / 1.055) ** 2.4
    )
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _rgb(code: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(code.removeprefix("#")), np.uint8)


CONFUSION = ((3, 1), (0, 4))
CHARTS = {
    "one": chart_confusion(CONFUSION),
    "by group": chart_groups([Subgroup("magnification", "40X", 8, 4, 0.5, CONFUSION, {})]),
}


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_confusion_counts_have_contrast_on_every_cell_color(scheme: str, chart: str):
    stops = np.array([_rgb(code) for code in THEME[scheme]["chartSequentialColors"]])
    proportions = np.linspace(0, len(stops) - 1, 101)
    shades = np.stack(
        [np.interp(proportions, range(len(stops)), channel) for channel in stops.T], 1
    )
    cells, *texts = (layer["encoding"]["color"] for layer in CHARTS[chart].to_dict()["layer"])
    assert cells["scale"] == {"domain": [0, 1], "range": "ramp"}  # The color ramp of the theme.
    counts = texts[0]
    assert all(text == counts for text in texts)
    limit = float(re.fullmatch(r"luminance\(.*\) < ([\d.]+)", counts["condition"]["test"])[1])

    for shade in map(_luminance, shades):
        code = counts["condition"]["value"] if shade < limit else counts["value"]
        dark, light = sorted([shade, _luminance(_rgb(code))])
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # Level AA for small text.
