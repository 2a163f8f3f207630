"""Diagnose: drop pictures in, see the estimate and where the evidence lies."""

import streamlit as st

from app.components.from_set import named_picture
from app.components.linked_picture import linked_picture
from app.components.models import choose_model
from app.components.warm import warm_up

MAX_UPLOAD_MB = 64
EXAMPLES = {"Drawn, gland-like": False, "Drawn, crowded nuclei": True}

st.title("Diagnose", anchor=False)
st.markdown(
    "Drop in fields of H&E-stained breast tissue. The model estimates how likely each is "
    "malignant and shows what moved its score."
)

bundle = choose_model()
if bundle is None:
    with st.container(border=True):
        st.subheader("No model yet", anchor=False)
        st.markdown("Train one first; it appears here as soon as its run has ended.")
        st.page_link("views/train.py", label="Go to Train", icon=":material/model_training:")
    st.stop()

uploads = st.file_uploader(
    "Pictures",
    type=["png", "jpg", "jpeg", "tif", "tiff"],
    accept_multiple_files=True,
    key="pictures",
    max_upload_size=MAX_UPLOAD_MB,
    help="PNG, JPEG or TIFF, one field each. They are kept in memory only, never stored.",
)
pictures = [(upload.name, upload.getvalue()) for upload in uploads]
if not pictures and (linked := linked_picture()):
    pictures = [linked]
example = None
if not pictures and (named := named_picture()):
    pictures = [named]
elif not pictures:
    example = st.pills(
        "No picture at hand? Try one drawn by this program. It is not tissue.",
        list(EXAMPLES),
        key="example",
    )
    if example not in EXAMPLES:
        warm_up()
        st.stop()

# Only now: these bring the imaging libraries, which the first look at the page need not wait for.
from app.components.answers import draw_answers
from bc_model.data.synthetic import example_png

if example:
    pictures = [(example, example_png(malignant=EXAMPLES[example]))]
    if not bundle.card.data.is_synthetic:
        st.info("A drawing, not tissue: its estimate only shows how this page works.")
draw_answers(pictures, bundle)
