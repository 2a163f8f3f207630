"""The table of predictions: case names. Invalid tables are tested in `test_report`."""

import numpy as np
import pandas as pd

from bc_model.evaluation.predictions import case_names


def test_case_names_unknown_values_are_empty() -> None:
    series = pd.Series(["a", None, np.nan, pd.NA, "", "  ", " b ", 7], dtype=object)
    assert case_names(series).tolist() == ["a", "", "", "", "", "", "b", "7"]
