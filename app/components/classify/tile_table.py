"""The tiles of an image that was divided: a summary, and a table on demand."""

import pandas as pd
import streamlit as st

from bc_model.inference import Prediction


def show_tiles(prediction: Prediction) -> None:
    """Show the number of tiles, the largest probability and the proportion of malignant tiles.

    Parameters
    ----------
    prediction : Prediction
        A prediction with several tiles.
    """
    used = [tile for tile in prediction.tiles if tile.prob_malignant is not None]
    columns = st.columns(3)
    columns[0].metric("Tiles", f"{len(used)} of {len(prediction.tiles)}")
    columns[1].metric("Largest probability of a tile", f"{prediction.max_prob_malignant:.3f}")
    columns[2].metric("Malignant tiles", f"{prediction.malignant_proportion:.0%}")
    with st.expander("Tiles"):
        st.dataframe(
            pd.DataFrame(
                {
                    "Left (px)": [part.tile.x0_px for part in prediction.tiles],
                    "Top (px)": [part.tile.y0_px for part in prediction.tiles],
                    "Width (px)": [part.tile.width_px for part in prediction.tiles],
                    "Height (px)": [part.tile.height_px for part in prediction.tiles],
                    "Probability": pd.Series(
                        [part.prob_malignant for part in prediction.tiles], dtype=float
                    ),
                    "Predicted class": [part.predicted_class for part in prediction.tiles],
                    "Checks": [
                        ", ".join(check.title for check in part.checks) for part in prediction.tiles
                    ],
                }
            ),
            hide_index=True,
            placeholder="-",
            column_config={"Probability": st.column_config.NumberColumn(format="%.3f")},
            alt="Position, probability and checks of each tile",
        )
