"""Train: choose a folder and settings, start a run, watch it, stop it."""

from pathlib import Path

import streamlit as st

from app.components.audit import draw_audit
from app.components.frame import show_error
from app.components.runs import watch_run
from app.places import runs_folder
from bc_model.backbones import BACKBONES
from bc_model.data.splits import LEAKY_PROTOCOLS, PROTOCOLS
from bc_model.errors import BcModelError
from bc_model.training.jobs import start_run
from bc_model.training.run_folder import list_runs
from bc_model.training.settings import TrainSettings

PROTOCOL_WORDS = {
    "case": "By case (honest)",
    "image": "By picture (leaky)",
}
WEIGHT_WORDS = {
    "imagenet": "ImageNet (download)",
    "none": "None: from scratch",
    "file": "A file",
}

st.title("Train", anchor=False)
st.markdown(
    "A run is a process of its own: closing or refreshing this page does not touch it. "
    "First a new head on the frozen backbone; then fine-tuning, of the last blocks from pretrained "
    "weights and of all blocks from scratch."
)


def whole_path(folder: str) -> Path:
    try:
        return Path(folder.strip()).expanduser()
    except RuntimeError:  # a home folder of somebody who is not there
        return Path(folder.strip())


def start(settings: TrainSettings) -> None:
    run = start_run(settings, runs_folder())
    st.session_state["run"] = run.name


runs = [run.name for run in list_runs(runs_folder())]
with st.expander("New run", expanded=not runs, icon=":material/add_circle:"):
    folder = st.text_input(
        "Folder of the data set",
        key="data",
        persist_state="session",
        placeholder="/data/BreaKHis_v1",
        help="The BreakHis tree at any depth, or a folder with folders named benign and malignant.",
    )
    audited = st.container()
    left, middle, right = st.columns(3, gap="medium")
    with left:
        backbone = st.selectbox(
            "Backbone",
            list(BACKBONES),
            format_func=lambda name: "tiny (dry runs only)" if name == "tiny" else name,
            key="backbone",
        )
        weights = st.selectbox(
            "Initial weights",
            list(WEIGHT_WORDS),
            format_func=WEIGHT_WORDS.__getitem__,
            key="weights",
        )
        weights_file = (
            st.text_input("Weights file", key="weights_file", placeholder="/weights/resnet50.h5")
            if weights == "file"
            else ""
        )
    with middle:
        protocol = st.selectbox(
            "Split", list(PROTOCOLS), format_func=PROTOCOL_WORDS.__getitem__, key="protocol"
        )
        n_folds = st.number_input(
            "Folds",
            3,
            50,
            5,
            key="n_folds",
            help="One fold is for test, one for validation, the others for training.",
        )
        head_epochs = st.number_input(
            "Epochs with the backbone frozen", 0, 1000, 10, key="head_epochs"
        )
        finetune_epochs = st.number_input(
            "Epochs of fine-tuning", 0, 1000, 20, key="finetune_epochs"
        )
    with right:
        side = st.select_slider(
            "Picture size, px", [32, 64, 96, 128, 160, 192, 224, 256, 320], 224, key="side"
        )
        batch_size = st.number_input("Batch size", 1, 512, 32, key="batch_size")
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="seed")
    with audited:
        usable = draw_audit(whole_path(folder), protocol, int(n_folds)) if folder.strip() else False
    if protocol in LEAKY_PROTOCOLS:
        st.warning(
            "Pictures of one case will stand in training and in test. Every figure of this run "
            "will be marked as leaky.",
            title="This split flatters",
        )
    if st.button(
        "Start the run",
        type="primary",
        key="start",
        disabled=not usable,
        icon=":material/play_arrow:",
    ):
        try:
            start(
                TrainSettings(
                    data=str(whole_path(folder).resolve()),
                    weights=weights_file.strip() if weights == "file" else weights,
                    backbone=backbone,
                    protocol=protocol,
                    n_folds=int(n_folds),
                    head_epochs=int(head_epochs),
                    finetune_epochs=int(finetune_epochs),
                    image_size=(int(side), int(side)),
                    batch_size=int(batch_size),
                    seed=int(seed),
                )
            )
            runs = [run.name for run in list_runs(runs_folder())]
        except BcModelError as error:
            show_error(error, title="The run was not started")
    if not folder.strip():
        st.caption("Name a folder first; what it holds will be shown here.")

if not runs:
    st.info("No run yet. Fill in the folder above and start one.", icon=":material/info:")
    st.stop()

if "run" not in st.query_params:
    # Not the widget's own default: that one would not be written into the URL, and a refresh
    # after another start would show another run.
    st.session_state.setdefault("run", runs[0])
chosen = st.selectbox(
    "Run", runs, index=None, key="run", bind="query-params", placeholder="Choose a run"
)
if chosen in runs:
    watch_run(chosen)
