"""The split of a dataset: protocol, subsets, leakage, and a table of all images."""

import pandas as pd
import streamlit as st

from app.components.data.summary import count_in_words
from app.components.dataset_cache import LoadedDataset
from app.components.layout import make_fragment
from app.components.split_form import show_folds, show_protocol, show_split_seed
from app.components.split_summary import (
    SUBSET_LABELS,
    show_leakage,
    show_subset_table,
    split_dataset,
)
from bc_model.data import CLASSES, SUBSETS, format_split, summarize_subsets

_COLUMNS = {
    "subset": "Subset",
    "class": "Class",
    "case": "Case",
    "magnification": "Magnification",
    "path": "File",
}


def show_split(loaded: LoadedDataset, dataset_name: str) -> None:
    """Show the form and the resulting split."""
    with st.grid(4, min_column_width=170):
        with st.container():
            chosen = show_protocol()
        chosen |= show_folds(chosen["protocol"])
        chosen |= show_split_seed()
    split = split_dataset(loaded.dataset, chosen)
    if split is None:
        return
    show_leakage(split, chosen["protocol"])
    show_subset_table(summarize_subsets(split))
    _show_rows(split)
    st.download_button(
        "Save split.csv",
        lambda: format_split(split),
        file_name=f"{dataset_name}-{chosen['protocol']}-{chosen['test_fold']}-split.csv",
        key="save-split",
        icon=":material/download:",
        on_click="ignore",
        help="All images of the dataset, without the filters above.",
    )


@make_fragment
def _show_rows(split: pd.DataFrame) -> None:
    subset, kind, case = st.columns([3, 2, 2])
    subsets = subset.pills(
        "Subsets",
        SUBSETS,
        selection_mode="multi",
        default=SUBSETS,
        format_func=SUBSET_LABELS.__getitem__,
        key="split-subsets",
    )
    classes = kind.pills(
        "Classes", CLASSES, selection_mode="multi", default=CLASSES, key="split-classes"
    )
    typed = case.text_input("Case or file", key="split-search").strip().lower()
    rows = split[split["subset"].isin(subsets) & split["class"].isin(classes)]
    if typed:
        in_case = rows["case"].str.lower().str.contains(typed, regex=False)
        in_path = rows["path"].str.lower().str.contains(typed, regex=False)
        rows = rows[in_case | in_path]
    st.caption(count_in_words(rows))
    st.dataframe(
        rows[list(_COLUMNS)].replace({"subset": SUBSET_LABELS}).rename(columns=_COLUMNS),
        hide_index=True,
        column_config={"Magnification": st.column_config.NumberColumn(format="%dX")},
        alt="All images with subset, class, case and magnification",
    )
