"""The page Data: registered datasets, their contents, duplicates and splits."""

import streamlit as st

from app.components.data.add_dataset import ADDS_KEY, draw_add, draw_download, watch_downloads
from app.components.data.official_folds import draw_fold_audit
from app.components.data.summary import draw_headline, draw_left_out, draw_notes
from app.components.dataset_cache import read_folder
from app.components.dataset_picker import TRAIN_ON_KEY, choose_dataset, draw_origin, draw_remove
from app.components.layout import show_error
from bc_model.errors import BcModelError

VIEWS = ("Overview", "Duplicates", "Gallery", "Split", "Official folds")

st.title("Data", anchor=False)
st.markdown(
    "Contents, excluded files, duplicates and split leakage of the datasets on this machine."
)

chosen = choose_dataset()
if chosen is None:
    st.info(
        "No dataset yet. Add a folder or zip file, download BreakHis, or generate synthetic images "
        "to try the app.",
        icon=":material/info:",
    )
with st.expander(
    "Add dataset",
    expanded=chosen is None,
    icon=":material/add_circle:",
    key=f"add-{st.session_state.get(ADDS_KEY, 0)}",
):
    draw_add(draw_download)
watch_downloads()

if chosen is None:
    st.header("Leakage of the official folds", anchor=False)
    draw_fold_audit(None)
    st.stop()

draw_origin(chosen)
buttons = st.container(horizontal=True)
try:
    reading = read_folder(chosen.images_dir)
except (BcModelError, OSError) as error:
    with buttons:
        draw_remove(chosen)
    show_error(error, title="Dataset not usable")
    st.stop()
with buttons:
    if st.button(
        "Train on dataset", key="train-on-it", type="primary", icon=":material/model_training:"
    ):
        st.session_state[TRAIN_ON_KEY] = chosen.name
        # Widgets of this page hold its parameters, which cannot be passed on.
        st.switch_page("views/train.py", query_params={})
    draw_remove(chosen)
draw_headline(reading)

# Draw only the open tab, because Streamlit would run the bodies of the hidden ones as well.
overview, duplicates, gallery, split, folds = st.tabs(VIEWS, key="look", bind="query-params")
if overview.open:
    with overview:
        from app.components.data.summary import draw_counts

        draw_notes(reading)
        draw_left_out(reading, chosen.name)
        draw_counts(reading)
elif duplicates.open:
    with duplicates:
        from app.components.data.duplicates import draw_duplicates

        draw_duplicates(reading)
elif gallery.open:
    with gallery:
        from app.components.data.gallery import draw_gallery

        draw_gallery(reading, chosen.name)
elif split.open:
    with split:
        from app.components.data.split import draw_split

        draw_split(reading, chosen.name)
elif folds.open:
    with folds:
        draw_fold_audit(reading)
