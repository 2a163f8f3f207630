"""The nearest training images of other cases, on demand."""

from dataclasses import dataclass
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
from bc_model.inference import Bundle, Engine
from bc_model.training import (
    TrainingReference,
    find_nearest_images,
    find_reference_images,
    load_training_reference,
)

N_IMAGES = 4
_WIDTH_PX = 320
_IMAGE_BYTES = 64 * 1024
"""Approximate size of a thumbnail."""


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
    # The name can contain the case, which is excluded.
    key = f"nearest-{image.sha256}-{image.name}-{bundle.key[:16]}"
    is_clicked = st.button(
        "Find nearest images",
        key=f"button-{key}",
        icon=":material/image_search:",
        help="The first time, computes features of all training images.",
    )
    if is_clicked:
        st.session_state[key] = True
    if not st.session_state.get(key):
        return
    with report_failure(image.name):
        # A click searches again, because datasets can be added and removed.
        found = hold_result(
            key, lambda: _find(image, bundle), N_IMAGES * _IMAGE_BYTES, is_new=is_clicked
        )
        if isinstance(found, Check):
            st.info(f"**{escape_markdown(found.title)}.** {escape_markdown(found.message)}")
        else:
            _show_neighbors(found)


_show_fragment = make_fragment(_show)


@dataclass(frozen=True)
class _Shown:
    """A neighbor with its thumbnail, or with the reason why it has none."""

    neighbor: Neighbor
    thumbnail: bytes
    problem: str = ""


@dataclass(frozen=True)
class _Found:
    """The nearest images, and the number and source of the images that they are from."""

    images: tuple[_Shown, ...]
    n_images: int
    source: str


def _find(image: HeldImage, bundle: Bundle) -> _Found | Check:
    """Return the nearest images with their thumbnails, or the reason why there are none."""
    engine = load_engine(bundle).engine
    reference = _load_reference(bundle, engine)
    if isinstance(reference, Check):
        return reference
    found = find_nearest_images(engine, reference, decode_once(image), name=image.name, k=N_IMAGES)
    if isinstance(found, Check):
        return found
    return _Found(
        tuple(_read_thumbnail(neighbor, reference) for neighbor in found),
        len(reference.table.path),
        reference.images.source,
    )


def _load_reference(bundle: Bundle, engine: Engine) -> TrainingReference | Check:
    """Return the training images with their features, and show the progress."""
    images = find_reference_images(
        bundle, load=lambda registered: load_folder(registered.images_dir).dataset
    )
    if isinstance(images, Check):
        return images
    place = st.empty()

    def show(n_done: int, n_total: int) -> None:
        place.progress(n_done / n_total, f"Features of training images: {n_done:,} of {n_total:,}")

    try:
        return load_training_reference(images, engine, progress=show, decode=decode_dataset_image)
    finally:
        place.empty()


def _read_thumbnail(neighbor: Neighbor, reference: TrainingReference) -> _Shown:
    try:
        _, data = reference.read(neighbor, decode=decode_image)
        pixels = decode_image(data, neighbor.path)
    except BcModelError as error:
        return _Shown(neighbor, b"", str(error))
    return _Shown(neighbor, encode_jpeg(downsample_to_width(pixels, _WIDTH_PX)))


def _show_neighbors(found: _Found) -> None:
    st.markdown(
        f"**Nearest training images of other cases**, from {found.n_images:,} images of "
        f"{escape_markdown(found.source)}"
    )
    for column, shown in zip(st.columns(N_IMAGES), found.images, strict=False):
        with column:
            if shown.problem:
                st.caption(escape_markdown(shown.problem))
                continue
            neighbor = shown.neighbor
            name = PurePosixPath(neighbor.path).name
            st.image(shown.thumbnail, width="stretch", alt=f"Training image {name}")
            case = neighbor.case or "unknown"
            st.caption(
                escape_markdown(
                    f"{neighbor.class_name.capitalize()}, case {case}, distance "
                    f"{neighbor.distance:.3f}"
                )
            )
    st.caption(f"Distance: 1 - cosine of the features. {RESEARCH_USE}")
