"""Images that the page address names: an image of a run, or an image of a dataset."""

import importlib
import threading
from pathlib import PurePosixPath

import streamlit as st

from app.components.classify.session_images import HeldImage, hold_image
from app.components.layout import escape_markdown, show_error
from app.components.paths import require_links_inside
from bc_model.data import locate_image, open_dataset, read_image_bytes
from bc_model.errors import BcModelError
from bc_model.training import runs_dir

WARM_UP_DELAY_S = 0.3
_SUBSETS = {"train": "training", "validation": "validation", "test": "test"}


def read_linked_image() -> HeldImage | None:
    """Return the image of a run or of a dataset that the page address names, or None."""
    linked = _read_run_image() or _read_dataset_image()
    return hold_image(*linked) if linked else None


def _read_dataset_image() -> tuple[str, bytes] | None:
    dataset_name, _, path = st.query_params.get("image", "").partition("/")
    if not path or "run" in st.query_params:  # The address names an image of a run by its hash.
        return None
    try:
        dataset = open_dataset(dataset_name)
        file = locate_image(dataset, path)
        require_links_inside(dataset.images_dir, [file])
        data = read_image_bytes(file)
    except (BcModelError, OSError) as error:
        show_error(error, title="Image not found")
        return None
    _show_source(f"{file.name} from the dataset {dataset_name}.")
    return file.name, data


def _read_run_image() -> tuple[str, bytes] | None:
    """Return the name and content of an image of a run.

    The address contains the name of a run and the hash of the pixels. Both are looked up and never
    become part of a path.
    """
    run_id, sha256 = st.query_params.get("run"), st.query_params.get("image")
    if not (run_id and sha256):
        return None
    # Imported late: these load pandas and the imaging libraries.
    from app.components.decoding import decode_image
    from bc_model.training import RunImages, find_run

    try:
        images = RunImages.from_run(find_run(runs_dir(), run_id))
        path, data = images.read(sha256, decode=decode_image)
        row = images.find_row(sha256)
    except BcModelError as error:
        show_error(error, title="Image not found")
        return None
    _show_source(
        f"From the {_SUBSETS[row['subset']]} subset of run {run_id}, "
        f"case {row['case'] or 'unknown'}. True class: {row['class']}."
    )
    return PurePosixPath(path).name, data


def _show_source(text: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(escape_markdown(text), width="content")
        st.button(
            "Close image", key="close-image", icon=":material/close:", on_click=close_linked_image
        )


def close_linked_image() -> None:
    """Remove the image from the page address, and the demonstration or samples."""
    for name in ("run", "image", "demo", "samples"):
        st.query_params.pop(name, None)


@st.cache_resource
def warm_up() -> None:
    """Import the imaging and inference libraries in the background, once per server."""
    # Delayed, so that the browser can use the processor to show the first page.
    timer = threading.Timer(WARM_UP_DELAY_S, _import_libraries)
    timer.daemon = True
    timer.start()


def _import_libraries() -> None:
    for name in (
        "app.components.classify.prediction_list",
        "bc_model.inference.engine",
        "openvino",
    ):
        importlib.import_module(name)
