"""Page Classify: upload images and show predictions with Grad-CAM heatmaps."""

import streamlit as st

from app.components.classify.demo import (
    is_demo_open,
    read_samples,
    show_dataset_buttons,
    show_demo,
    show_demo_button,
)
from app.components.classify.image_input import read_linked_image, warm_up
from app.components.classify.image_uploader import select_uploads
from app.components.model_picker import select_model, show_model_details, show_training_data

st.title("Classify", anchor=False)
st.markdown("Benign or malignant, with the regions that support each class.")

left, right = st.columns([2, 3], gap="large")
with left:
    bundle = select_model()
if bundle is None:
    with st.container(border=True):
        st.header("No model yet", anchor=False)
        st.markdown("Train a model first. It is listed here when its run is finished.")
        st.page_link("views/train.py", label="Open Train", icon=":material/model_training:")
    st.stop()

with left:
    show_training_data(bundle)
with right:
    held = select_uploads()
    linked = read_linked_image()
images = [linked] if linked else held
if not images and not is_demo_open():
    with right:
        images = read_samples(bundle)
if not images and not is_demo_open():
    with right, st.container(horizontal=True):
        show_demo_button()
        show_dataset_buttons()
if not images and is_demo_open():
    show_demo()
    st.stop()
show_model_details(bundle)
if not images:
    warm_up()
    st.stop()

# Imported late: these load the imaging libraries, and the empty page does not need them.
from app.components.classify.batch_settings import reset_for_new_images
from app.components.classify.page_choice import select_pages
from app.components.classify.prediction_list import show_predictions
from app.components.classify.scale_control import select_scales

images = select_pages(images)
reset_for_new_images(images)
show_predictions(images, bundle, select_scales(images, bundle))
