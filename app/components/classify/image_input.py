"""An image of a dataset that the page address names, as the gallery links to it."""

import importlib
import threading
from pathlib import PurePosixPath

import streamlit as st

from app.components.layout import escape, show_error
from bc_model.data import locate_image, open_dataset, read_image_bytes
from bc_model.errors import BcModelError
from bc_model.training import runs_dir


def named_image() -> tuple[str, bytes] | None:
    """Return the file name and bytes of the image in the page address, or None."""
    dataset_name, _, path = st.query_params.get("image", "").partition("/")
    if not path or "run" in st.query_params:  # the image of a run is named by its hash
        return None
    try:
        file = locate_image(open_dataset(dataset_name), path)
        data = read_image_bytes(file)
    except (BcModelError, OSError) as error:
        show_error(error, title="Image not found")
        return None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{escape(file.name)} from the dataset {escape(dataset_name)}")
        if st.button("Close", key="close-picture", type="tertiary", icon=":material/close:"):
            del st.query_params["image"]
            st.rerun()
    return file.name, data


_SUBSETS = {"train": "training", "validation": "validation", "test": "test"}


def linked_image() -> tuple[str, bytes] | None:
    """Return the file name and bytes of the image in the page address, or None.

    The address contains the name of a run and the hash of the pixels. Both are looked up and never
    become part of a path.
    """
    run_id, sha256 = st.query_params.get("run"), st.query_params.get("image")
    if not (run_id and sha256):
        return None
    # Imported late: these load pandas and the imaging libraries.
    from bc_model.training import RunImages, find_run

    try:
        images = RunImages.from_run(find_run(runs_dir(), run_id))
        path, data = images.read(sha256)
        row = images.find_row(sha256)
    except BcModelError as error:
        show_error(error, title="Image not found")
        return None
    text, button = st.columns([4, 1], vertical_alignment="center")
    text.markdown(
        escape(
            f"From the {_SUBSETS[row['subset']]} subset of run {run_id}, "
            f"case {row['case'] or 'unknown'}. Label: {row['class']}."
        )
    )
    button.button("Close", key="close-picture", icon=":material/close:", on_click=_forget)
    return PurePosixPath(path).name, data


def _forget() -> None:
    for name in ("run", "image"):
        st.query_params.pop(name, None)


DELAY_S = 0.3


@st.cache_resource
def warm_up() -> None:
    """Import the imaging and inference libraries in the background, once per server."""
    # Delayed, so that the browser can use the processor to draw the first page.
    timer = threading.Timer(DELAY_S, _import)
    timer.daemon = True
    timer.start()


def _import() -> None:
    for name in (
        "app.components.classify.prediction_list",
        "bc_model.inference.engine",
        "openvino",
    ):
        importlib.import_module(name)
