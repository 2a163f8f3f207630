"""Page Data: registered datasets, their contents, duplicates and splits."""

import streamlit as st

from app.components.data.add_dataset import N_ADDED_KEY, show_add_form
from app.components.data.downloads import watch_downloads
from app.components.data.official_folds import show_fold_audit
from app.components.data.summary import show_counts, show_dataset_checks, show_excluded
from app.components.dataset_cache import load_folder
from app.components.dataset_picker import (
    TRAIN_ON_KEY,
    select_dataset,
    show_origin,
    show_remove_button,
)
from app.components.layout import show_error
from bc_model.errors import BcModelError

VIEWS = ("Overview", "Duplicates", "Gallery", "Split", "Official folds")

st.title("Data", anchor=False)
st.markdown("Contents, duplicates and split leakage of the registered datasets.")

chosen = select_dataset()
if chosen is None:
    st.info(
        "No dataset yet. Add images below, or generate synthetic ones to try the app.",
        icon=":material/info:",
    )
with st.expander(
    "Add dataset",
    expanded=chosen is None,
    icon=":material/add_circle:",
    key=f"add-{st.session_state.get(N_ADDED_KEY, 0)}",
):
    show_add_form()
watch_downloads()

if chosen is None:
    st.header("Leakage of the official folds", anchor=False)
    show_fold_audit(None)
    st.stop()

show_origin(chosen)
buttons = st.container(horizontal=True)
try:
    loaded = load_folder(chosen.images_dir)
except (BcModelError, OSError) as error:
    with buttons:
        show_remove_button(chosen)
    show_error(error, title="Dataset not usable")
    st.stop()
with buttons:
    if st.button(
        "Train on dataset", key="train-on-dataset", type="primary", icon=":material/model_training:"
    ):
        st.session_state[TRAIN_ON_KEY] = chosen.name
        # Widgets of this page hold its parameters, which cannot be passed on.
        st.switch_page("views/train.py", query_params={})
    show_remove_button(chosen)
show_counts(loaded)

# Only the open tab is shown, because Streamlit would run the bodies of the hidden tabs as well.
overview, duplicates, gallery, split, folds = st.tabs(VIEWS, key="view", bind="query-params")
if overview.open:
    with overview:
        from app.components.data.summary import show_tables

        show_dataset_checks(loaded)
        show_excluded(loaded, chosen.name)
        show_tables(loaded)
elif duplicates.open:
    with duplicates:
        from app.components.data.duplicates import show_duplicates

        show_duplicates(loaded)
elif gallery.open:
    with gallery:
        from app.components.data.gallery import show_gallery

        show_gallery(loaded, chosen.name)
elif split.open:
    with split:
        from app.components.data.split import show_split

        show_split(loaded, chosen.name)
elif folds.open:
    with folds:
        show_fold_audit(loaded)
