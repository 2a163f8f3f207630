"""The error gallery: images with their heatmaps and nearest training images."""

from itertools import chain
from pathlib import PurePosixPath

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.layout import RESEARCH_USE, escape
from app.components.metric_table import stamp_of
from app.components.model_picker import engine_of
from bc_model.data import decode_image, preprocess_image
from bc_model.errors import BcModelError
from bc_model.evaluation import (
    CaseErrors,
    ErrorGallery,
    EvaluationReport,
    FeatureTable,
    GalleryImage,
    Neighbor,
    build_error_gallery,
    compute_training_features,
    find_neighbors,
    read_training_features,
)
from bc_model.gradcam import at_most_wide, encode_jpeg, overlay_heatmap, shared_scale
from bc_model.inference import Bundle
from bc_model.training import Run, RunImages
from bc_model.utils import probability_in_words

_WIDTH_PX, _NEIGHBOR_PX = 480, 240


def draw_card(
    entry: GalleryImage,
    sha256: str,
    images: RunImages,
    bundle: Bundle,
    *,
    mistakes: CaseErrors | None,
    neighbors: tuple[Neighbor, ...],
) -> None:
    """Draw a card.

    Parameters
    ----------
    entry : Entry
    sha256 : str
        Hash of the pixels, which is the cache key.
    pictures : RunImages
    bundle : Bundle
    mistakes : CaseMistakes or None
        The errors of its case, if the prediction is incorrect.
    neighbours : tuple of Neighbour
        Nearest training images; empty if not requested.
    """
    name = PurePosixPath(entry.path).name
    with st.container(border=True):
        probability = probability_in_words(entry.prob_malignant)
        st.markdown(
            f"**Estimated probability of malignancy {probability}**  \n"
            f"Predicted {entry.predicted_class}, "
            + ("correct." if entry.is_correct else f"**incorrect**: true class {entry.class_name}.")
        )
        try:
            _, data = images.read(sha256)
            image, overlay, is_empty = _explain(
                sha256, bundle.key, entry.predicted_class, data, bundle
            )
        except BcModelError as error:
            st.info(escape(str(error)), icon=":material/broken_image:")
        else:
            left, right = st.columns(2)
            left.image(image, width="stretch", alt=f"Image {name}")
            right.image(
                overlay,
                width="stretch",
                alt=f"Grad-CAM heatmap for {entry.predicted_class} over the image",
            )
            if is_empty:
                st.caption(f"No positive contribution for {entry.predicted_class}.")
        st.caption(escape(f"{_case_words(entry, mistakes)}. {name}"))
        if neighbors:
            _draw_neighbors(neighbors, images)
        st.page_link(
            "views/diagnose.py",
            label="Open in Classify",
            icon=":material/biotech:",
            query_params={"model": bundle.label, "run": images.run, "image": sha256},
        )


def _case_words(entry: GalleryImage, mistakes: CaseErrors | None) -> str:
    words = f"Case {entry.case}" if entry.case else "Case unknown"
    if entry.subtype != "unknown":
        words += f", {entry.subtype.replace('_', ' ')}"
    if entry.magnification:
        words += f", {entry.magnification}X"
    if mistakes:
        words += f"; {mistakes.n_incorrect} of its {mistakes.n_images} images incorrect"
    return words


def _draw_neighbors(neighbors: tuple[Neighbor, ...], images: RunImages) -> None:
    st.markdown("Nearest training images of other cases")
    sha256 = images.split.set_index("path")["sha256"]
    for column, one in zip(st.columns(max(3, len(neighbors))), neighbors, strict=False):
        with column:
            try:
                _, data = images.read(sha256[one.path])
            except BcModelError as error:
                st.caption(escape(str(error)))
                continue
            st.image(
                _thumbnail(sha256[one.path], data),
                width="stretch",
                alt=f"Training image {PurePosixPath(one.path).name}",
            )
            st.caption(
                escape(
                    f"{one.class_name}, case {one.case or 'unknown'}, distance {one.distance:.2f}"
                )
            )


# The key is the hash of the pixels; Streamlit would hash only a sample of a large array.
@st.cache_data(max_entries=256, show_spinner=False)
def _explain(
    sha256: str, bundle_key: str, class_name: str, _data: bytes, _bundle: Bundle
) -> tuple[bytes, bytes, bool]:
    """Return the image and the overlay as JPEG, and whether the heatmap is empty.

    Both classes share one scale, as on the page Classify.
    """
    rgb = decode_image(_data, "The image")
    _, heatmaps = engine_of(_bundle).explain_one(preprocess_image(rgb, _bundle.image_size))
    shown: np.ndarray = at_most_wide(rgb, _WIDTH_PX)
    heatmap = heatmaps[class_name]
    overlay = overlay_heatmap(shown, heatmap, full_scale=shared_scale(heatmaps))
    return encode_jpeg(shown), encode_jpeg(overlay), bool(heatmap.is_empty)


@st.cache_data(max_entries=512, show_spinner=False)
def _thumbnail(sha256: str, _data: bytes) -> bytes:
    return encode_jpeg(at_most_wide(decode_image(_data, "The image"), _NEIGHBOR_PX))


PER_PAGE = 6
_PER_ROW = 2
MISTAKES, CERTAIN, DOUBTFUL = "Confident errors", "Most certain", "Least certain"
KIND_WORDS = {
    MISTAKES: "Incorrect predictions, the most confident first, up to three images per case.",
    CERTAIN: "Probabilities farthest from 0.5, alternating between cases.",
    DOUBTFUL: "Probabilities nearest to the threshold, alternating between cases.",
}
EVERY_CASE = "All cases"
Neighbors = dict[str, tuple[Neighbor, ...]]


def draw_errors(run: Run, report: EvaluationReport, bundle: Bundle) -> None:
    """Draw the gallery of a run, six cards per page."""
    assert report.predictions is not None, "read_report reads the predictions or fails"
    images = RunImages.from_run(run)
    gallery = build_error_gallery(report.predictions, threshold=report.threshold)
    left, right = st.columns([3, 2], vertical_alignment="bottom", gap="large")
    kind = left.segmented_control(
        "Show", list(KIND_WORDS), default=MISTAKES, required=True, key="shown", bind="query-params"
    )
    entries = _entries(gallery, kind or MISTAKES)
    cases = sorted({entry.case or "unknown" for entry in entries})
    case = right.selectbox("Case", [EVERY_CASE, *cases], key=f"case-{kind}")
    if case in cases:
        entries = [entry for entry in entries if (entry.case or "unknown") == case]
    st.caption(
        f"{KIND_WORDS[kind or MISTAKES]} {RESEARCH_USE} Heatmaps show regions that increased the "
        "score, not lesions."
    )
    if not entries:
        st.info("All predictions are correct.", icon=":material/info:")
        return
    in_case = {entry.path: one for one in gallery.errors for entry in one.images}
    sha256 = report.predictions.set_index("path")["sha256"]
    pages = -(-len(entries) // PER_PAGE)
    page = st.pagination(pages, key=f"page-{kind}-{case}") if pages > 1 else 1
    shown = entries[(page - 1) * PER_PAGE : page * PER_PAGE]
    found = _neighbors(run, shown, images, bundle)
    for start in range(0, len(shown), _PER_ROW):
        for column, entry in zip(
            st.columns(_PER_ROW), shown[start : start + _PER_ROW], strict=False
        ):
            with column:
                draw_card(
                    entry,
                    sha256[entry.path],
                    images,
                    bundle,
                    mistakes=in_case.get(entry.path),
                    neighbors=found.get(entry.path, ()),
                )


def _entries(gallery: ErrorGallery, kind: str) -> list[GalleryImage]:
    mistakes = chain.from_iterable(one.images for one in gallery.errors)
    return list(
        {MISTAKES: mistakes, CERTAIN: gallery.most_confident, DOUBTFUL: gallery.least_confident}[kind]
    )


def _neighbors(run: Run, shown: list[GalleryImage], images: RunImages, bundle: Bundle) -> Neighbors:
    """Return the nearest training images, or draw a button if no features are stored."""
    key = (run.name, bundle.key, stamp_of(run))
    kept_key, found = st.session_state.get("neighbors", (None, {}))
    found = found if kept_key == key else {}
    missing = [entry for entry in shown if entry.path not in found]
    if not missing:
        return found
    place = st.empty()
    try:
        table = read_training_features(bundle, images.split, run.evaluation_dir)
        if table is None:
            if not _asked(place):
                return {}
            table = _compute(run, images, bundle, place)
        found |= find_neighbors(missing, engine_of(bundle).engine, images.root, table)
    except (BcModelError, OSError) as error:
        place.empty()
        st.caption(f":material/info: No training images to compare with. {escape(str(error))}")
        return found
    place.caption(f"Compared with {len(table.path):,} training images of other cases.")
    st.session_state["neighbors"] = (key, found)
    return found


def _asked(place: DeltaGenerator) -> bool:
    return place.button(
        "Find similar images",
        key="find-neighbours",
        icon=":material/image_search:",
        help="Compares features of all training images; this can take several minutes.",
    )


def _compute(run: Run, images: RunImages, bundle: Bundle, place: DeltaGenerator) -> FeatureTable:
    bar = place.progress(0.0, "Computing features of the training images")

    def tell(done: int, of: int) -> None:
        bar.progress(done / of, f"{done:,} of {of:,} images")

    engine, folder = engine_of(bundle).engine, run.evaluation_dir
    return compute_training_features(engine, images.root, images.split, folder, progress=tell)
