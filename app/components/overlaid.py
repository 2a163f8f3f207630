"""Curves of several runs in one chart."""

import altair as alt
import pandas as pd

# The palette of Okabe and Ito, with a lighter blue for the dark theme; dashes repeat the colors.
COLOURS = ("#2b87cf", "#d55e00", "#009e73", "#cc79a7")
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
HEIGHT_PX = 280
_LABEL_GAP_SHARE = 0.08  # Of the height, so that labels of curves with the same end do not overlap.


def overlaid_curves(
    histories: dict[str, list[dict]], figure: str, title: str, letters: list[str]
) -> alt.LayerChart:
    """Draw a metric of several runs over the epochs, with a letter at the end of each curve.

    Parameters
    ----------
    histories : dict of str to list of dict
        Run name to its epochs, at most four runs.
    figure : str
        Key of the epochs, such as 'val_loss'.
    title : str
        Title of the vertical axis.
    letters : list of str
        One for each run, in the same order.
    """
    names = dict(zip(histories, letters, strict=True))
    rows = [
        {"epoch": record["epoch"], "run": names[run], "name": run, "value": record[figure]}
        for run, history in histories.items()
        for record in history
        if figure in record
    ]
    frame = pd.DataFrame(rows, columns=["epoch", "run", "name", "value"])
    x = alt.X(
        "epoch:Q",
        title="Epoch",
        axis=alt.Axis(tickMinStep=1, format="d"),
        scale=alt.Scale(zero=False, nice=False, padding=12),
    )
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    colour = alt.Color(
        "run:N", scale=alt.Scale(domain=letters, range=list(COLOURS[: len(letters)])), legend=None
    )
    lines = (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=22), strokeWidth=2)
        .encode(
            x=x,
            y=y,
            color=colour,
            strokeDash=alt.StrokeDash(
                "run:N",
                scale=alt.Scale(domain=letters, range=list(DASHES[: len(letters)])),
                legend=None,
            ),
            tooltip=[
                alt.Tooltip("name:N", title="run"),
                alt.Tooltip("epoch:Q", title="epoch"),
                alt.Tooltip("value:Q", format=".3f", title=title),
            ],
        )
    )
    ends = (
        alt.Chart(_ends(frame))
        .mark_text(align="left", dx=5, dy=-8, fontSize=14, fontWeight=700)
        .encode(x=x, y=alt.Y("label:Q"), text="run:N", color=colour)
    )
    return alt.layer(lines, ends).properties(height=HEIGHT_PX)


def _ends(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the last point of each run, with `label` moved up to avoid overlaps."""
    ends = frame.sort_values("epoch").groupby("run").tail(1).sort_values("value")
    gap = _LABEL_GAP_SHARE * (frame["value"].max() - frame["value"].min())
    last_epochs = ends["epoch"]
    # Only letters with similar horizontal positions can overlap.
    near = 0.05 * max(1, last_epochs.max() - frame["epoch"].min()) if len(ends) else 0
    placed: list[tuple[float, float]] = []
    for epoch, value in zip(last_epochs, ends["value"], strict=True):
        beside = [label for other, label in placed if abs(other - epoch) <= near]
        placed.append((epoch, max(value, max(beside, default=value - gap) + gap)))
    return ends.assign(label=[label for _, label in placed])
