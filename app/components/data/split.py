"""The split of a dataset: protocol, subsets, leakage, and a table of all images."""

import pandas as pd
import streamlit as st

from app.components.data.summary import images_in_words
from app.components.dataset_cache import Reading
from app.components.split_form import draw_folds, draw_protocol, draw_split_seed
from app.components.split_summary import SUBSET_WORDS, draw_leaks, show_subset_table, split_or_say
from bc_model.data import CLASSES, SUBSETS, format_split, summarize_subsets

_COLUMNS = {
    "subset": "Subset",
    "class": "Class",
    "case": "Case",
    "magnification": "Magnification",
    "path": "File",
}


def draw_split(reading: Reading, dataset_name: str) -> None:
    """Draw the form and the resulting split."""
    with st.grid(4, min_column_width=170):
        with st.container():
            chosen = draw_protocol()
        chosen |= draw_folds(chosen["protocol"])
        chosen |= draw_split_seed()
    split = split_or_say(reading.dataset, chosen)
    if split is None:
        return
    draw_leaks(split, chosen["protocol"])
    show_subset_table(summarize_subsets(split))
    _draw_table(split)
    st.download_button(
        "Save split.csv",
        lambda: format_split(split),
        file_name=f"{dataset_name}-{chosen['protocol']}-{chosen['test_fold']}-split.csv",
        key="save-split",
        icon=":material/download:",
        help="The file contains all images, also those filtered out above.",
    )


@st.fragment
def _draw_table(split: pd.DataFrame) -> None:
    subset, kind, case = st.columns([3, 2, 2])
    parts = subset.pills(
        "Subsets",
        SUBSETS,
        selection_mode="multi",
        default=SUBSETS,
        format_func=SUBSET_WORDS.__getitem__,
        key="split-parts",
    )
    classes = kind.pills(
        "Classes", CLASSES, selection_mode="multi", default=CLASSES, key="split-classes"
    )
    typed = case.text_input("Case or file contains", key="split-search").strip().lower()
    rows = split[split["subset"].isin(parts) & split["class"].isin(classes)]
    if typed:
        in_case = rows["case"].str.lower().str.contains(typed, regex=False)
        in_path = rows["path"].str.lower().str.contains(typed, regex=False)
        rows = rows[in_case | in_path]
    st.caption(images_in_words(rows))
    st.dataframe(
        rows[list(_COLUMNS)].replace({"subset": SUBSET_WORDS}).rename(columns=_COLUMNS),
        hide_index=True,
        column_config={"Magnification": st.column_config.NumberColumn(format="%dX")},
        alt="All images with subset, class, case and magnification",
    )
