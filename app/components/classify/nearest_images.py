"""The nearest training images of other cases, on demand."""

from pathlib import PurePosixPath

import streamlit as st

from app.components.classify.failures import report_failure
from app.components.classify.image_analysis import decode_once, hold_result
from app.components.classify.session_images import HeldImage
from app.components.dataset_cache import load_folder
from app.components.decoding import decode_dataset_image, decode_image
from app.components.layout import RESEARCH_USE, escape_markdown, make_fragment
from app.components.model_picker import load_engine
from bc_model.checks import Check
from bc_model.errors import BcModelError
from bc_model.evaluation import Neighbor
from bc_model.gradcam import downsample_to_width, encode_jpeg
from bc_model.inference import Bundle
from bc_model.training import (
    TrainingReference,
    find_nearest_images,
    find_reference_images,
    load_training_reference,
)

N_IMAGES = 4
_WIDTH_PX = 320
_RESULT_BYTES = 4096


def show_nearest_images(image: HeldImage, bundle: Bundle) -> None:
    """Show a button, and after a click the nearest training images or the reason why not.

    Parameters
    ----------
    image : HeldImage
        The image file, which is classified.
    bundle : Bundle
        The model.
    """
    _show_fragment(image, bundle)


def _show(image: HeldImage, bundle: Bundle) -> None:
    key = f"nearest-{image.sha256}-{bundle.key[:16]}"
    if st.button(
        "Find nearest images",
        key=f"button-{key}",
        icon=":material/image_search:",
        help="The first time, computes features of all training images.",
    ):
        st.session_state[key] = True
    if not st.session_state.get(key):
        return
    with report_failure(image.name):
        reference = _load_reference(bundle)
        if isinstance(reference, Check):
            _show_reason(reference)
            return
        # The name can contain the case, which is excluded.
        found = hold_result(
            (key, image.name, str(reference.images.directory), len(reference.table.path)),
            lambda: find_nearest_images(
                load_engine(bundle).engine, reference, decode_once(image), name=image.name,
                k=N_IMAGES,
            ),
            _RESULT_BYTES,
        )  # fmt: skip
        if isinstance(found, Check):
            _show_reason(found)
        else:
            _show_neighbors(found, reference)


_show_fragment = make_fragment(_show)


def _load_reference(bundle: Bundle) -> TrainingReference | Check:
    """Return the training images with their features, and show the progress.

    They are read from the disk for each click, because datasets can be added and removed.
    """
    images = find_reference_images(
        bundle, load=lambda registered: load_folder(registered.images_dir).dataset
    )
    if isinstance(images, Check):
        return images
    place = st.empty()

    def show(n_done: int, n_total: int) -> None:
        place.progress(n_done / n_total, f"Features of training images: {n_done:,} of {n_total:,}")

    try:
        return load_training_reference(
            images, load_engine(bundle).engine, progress=show, decode=decode_dataset_image
        )
    finally:
        place.empty()


def _show_reason(check: Check) -> None:
    st.info(f"**{escape_markdown(check.title)}.** {escape_markdown(check.message)}")


def _show_neighbors(found: tuple[Neighbor, ...], reference: TrainingReference) -> None:
    st.markdown(
        f"**Nearest training images of other cases**, from {len(reference.table.path):,} images "
        f"of {escape_markdown(reference.images.source)}"
    )
    for column, neighbor in zip(st.columns(N_IMAGES), found, strict=False):
        with column:
            try:
                sha256, data = reference.read(neighbor, decode=decode_image)
                thumbnail = _make_thumbnail(sha256, data)
            except BcModelError as error:
                st.caption(escape_markdown(str(error)))
                continue
            name = PurePosixPath(neighbor.path).name
            st.image(thumbnail, width="stretch", alt=f"Training image {name}")
            case = neighbor.case or "unknown"
            st.caption(
                escape_markdown(
                    f"{neighbor.class_name.capitalize()}, case {case}, distance "
                    f"{neighbor.distance:.3f}"
                )
            )
    st.caption(f"Distance: 1 - cosine of the features. {RESEARCH_USE}")


@st.cache_data(max_entries=512, show_spinner=False)
def _make_thumbnail(sha256: str, _data: bytes) -> bytes:
    return encode_jpeg(downsample_to_width(decode_image(_data, "The image"), _WIDTH_PX))
