"""The error gallery: images with their heatmaps and nearest training images."""

from itertools import chain
from pathlib import PurePosixPath

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.decoding import decode_dataset_image, decode_image
from app.components.layout import RESEARCH_USE, escape_markdown
from app.components.metric_table import read_evaluation_stamp
from app.components.model_picker import load_engine
from bc_model.data import preprocess_image
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
from bc_model.gradcam import compute_full_scale, downsample_to_width, encode_jpeg, overlay_heatmap
from bc_model.inference import Bundle
from bc_model.training import Run, RunImages
from bc_model.utils import format_probability

_WIDTH_PX, _NEIGHBOR_WIDTH_PX = 480, 240
CARDS_PER_PAGE = 6
_CARDS_PER_ROW = 2
ERRORS, CERTAIN, DOUBTFUL = "Confident errors", "Most certain", "Least certain"
KIND_DESCRIPTIONS = {
    ERRORS: "Incorrect predictions, the most confident first, up to three images per case.",
    CERTAIN: "Probabilities farthest from 0.5, alternating between cases.",
    DOUBTFUL: "Probabilities nearest to the threshold, alternating between cases.",
}
ALL_CASES = "All cases"
Neighbors = dict[str, tuple[Neighbor, ...]]


def show_errors(run: Run, report: EvaluationReport, bundle: Bundle) -> None:
    """Show the gallery of a run, six cards per page."""
    assert report.predictions is not None, "read_report reads the predictions or fails"
    images = RunImages.from_run(run)
    gallery = build_error_gallery(report.predictions, threshold=report.threshold)
    left, right = st.columns([3, 2], vertical_alignment="bottom", gap="large")
    kind = left.segmented_control(
        "Show",
        list(KIND_DESCRIPTIONS),
        default=ERRORS,
        required=True,
        key="gallery",
        bind="query-params",
    )
    entries = _list_entries(gallery, kind or ERRORS)
    cases = sorted({entry.case or "unknown" for entry in entries})
    case = right.selectbox("Case", [ALL_CASES, *cases], key=f"case-{kind}")
    if case in cases:
        entries = [entry for entry in entries if (entry.case or "unknown") == case]
    st.caption(
        f"{KIND_DESCRIPTIONS[kind or ERRORS]} {RESEARCH_USE} Heatmaps do not outline lesions."
    )
    if not entries:
        st.info("All predictions are correct.", icon=":material/info:")
        return
    by_path = {entry.path: case for case in gallery.errors for entry in case.images}
    sha256 = report.predictions.set_index("path")["sha256"]
    n_pages = -(-len(entries) // CARDS_PER_PAGE)
    page = st.pagination(n_pages, key=f"page-{kind}-{case}") if n_pages > 1 else 1
    shown = entries[(page - 1) * CARDS_PER_PAGE : page * CARDS_PER_PAGE]
    found = _find_neighbors(run, shown, images, bundle)
    for start in range(0, len(shown), _CARDS_PER_ROW):
        for column, entry in zip(
            st.columns(_CARDS_PER_ROW), shown[start : start + _CARDS_PER_ROW], strict=False
        ):
            with column:
                show_error_card(
                    entry,
                    sha256[entry.path],
                    images,
                    bundle,
                    errors=by_path.get(entry.path),
                    neighbors=found.get(entry.path, ()),
                )


def _list_entries(gallery: ErrorGallery, kind: str) -> list[GalleryImage]:
    errors = chain.from_iterable(case.images for case in gallery.errors)
    return list(
        {ERRORS: errors, CERTAIN: gallery.most_confident, DOUBTFUL: gallery.least_confident}[kind]
    )


def _find_neighbors(
    run: Run, shown: list[GalleryImage], images: RunImages, bundle: Bundle
) -> Neighbors:
    """Return the nearest training images, or show a button if no features are stored."""
    key = (run.name, bundle.key, read_evaluation_stamp(run))
    stored_key, found = st.session_state.get("neighbors", (None, {}))
    found = found if stored_key == key else {}
    missing = [entry for entry in shown if entry.path not in found]
    if not missing:
        return found
    place = st.empty()
    try:
        table = read_training_features(bundle, images.split, run.evaluation_dir)
        if table is None:
            if not _is_requested(place):
                return {}
            table = _compute_features(run, images, bundle, place)
        found |= find_neighbors(
            missing,
            load_engine(bundle).engine,
            images.root,
            table,
            decode=decode_dataset_image,
        )
    except (BcModelError, OSError) as error:
        place.empty()
        st.caption(
            f":material/info: No training images to compare with. {escape_markdown(str(error))}"
        )
        return found
    place.caption(f"Compared with {len(table.path):,} training images of other cases.")
    st.session_state["neighbors"] = (key, found)
    return found


def _is_requested(place: DeltaGenerator) -> bool:
    return place.button(
        "Find similar images",
        key="find-neighbors",
        icon=":material/image_search:",
        help="Computes features of all training images, which can take minutes.",
    )


def _compute_features(
    run: Run, images: RunImages, bundle: Bundle, place: DeltaGenerator
) -> FeatureTable:
    bar = place.progress(0.0, "Computing features of the training images")

    def show(n_done: int, n_total: int) -> None:
        bar.progress(n_done / n_total, f"{n_done:,} of {n_total:,} images")

    engine, folder = load_engine(bundle).engine, run.evaluation_dir
    return compute_training_features(
        engine, images.root, images.split, folder, progress=show, decode=decode_dataset_image
    )


def show_error_card(
    entry: GalleryImage,
    sha256: str,
    images: RunImages,
    bundle: Bundle,
    *,
    errors: CaseErrors | None,
    neighbors: tuple[Neighbor, ...],
) -> None:
    """Show the card of one prediction: class, image, heatmap and nearest training images.

    Parameters
    ----------
    entry : GalleryImage
        The prediction.
    sha256 : str
        Hash of the pixels, which is the cache key.
    images : RunImages
        The images of the run.
    bundle : Bundle
        The model.
    errors : CaseErrors or None
        The errors of its case, if the prediction is incorrect.
    neighbors : tuple of Neighbor
        Nearest training images; empty if not requested.
    """
    name = PurePosixPath(entry.path).name
    with st.container(border=True):
        probability = format_probability(entry.prob_malignant)
        st.markdown(
            f"**Estimated probability of malignancy {probability}**  \n"
            f"Predicted {entry.predicted_class}, "
            + ("correct." if entry.is_correct else f"**incorrect**: true class {entry.class_name}.")
        )
        try:
            _, data = images.read(sha256, decode=decode_image)
            image, overlay, is_empty = _explain(
                sha256, bundle.key, entry.predicted_class, data, bundle
            )
        except BcModelError as error:
            st.info(escape_markdown(str(error)), icon=":material/broken_image:")
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
        st.caption(escape_markdown(f"{_describe_case(entry, errors)}. {name}"))
        if neighbors:
            _show_neighbors(neighbors, images)
        st.page_link(
            "views/classify.py",
            label="Open in Classify",
            icon=":material/biotech:",
            query_params={"model": bundle.label, "run": images.run_name, "image": sha256},
        )


def _describe_case(entry: GalleryImage, errors: CaseErrors | None) -> str:
    text = f"Case {entry.case}" if entry.case else "Case unknown"
    if entry.subtype != "unknown":
        text += f", {entry.subtype.replace('_', ' ')}"
    if entry.magnification:
        text += f", {entry.magnification}X"
    if errors:
        text += f"; {errors.n_incorrect} of its {errors.n_images} images incorrect"
    return text


def _show_neighbors(neighbors: tuple[Neighbor, ...], images: RunImages) -> None:
    st.markdown("Nearest training images of other cases")
    sha256 = images.split.set_index("path")["sha256"]
    for column, neighbor in zip(st.columns(max(3, len(neighbors))), neighbors, strict=False):
        with column:
            try:
                _, data = images.read(sha256[neighbor.path], decode=decode_image)
                thumbnail = _thumbnail(sha256[neighbor.path], data)
            except BcModelError as error:
                st.caption(escape_markdown(str(error)))
                continue
            st.image(
                thumbnail,
                width="stretch",
                alt=f"Training image {PurePosixPath(neighbor.path).name}",
            )
            case = neighbor.case or "unknown"
            st.caption(
                escape_markdown(
                    f"{neighbor.class_name}, case {case}, distance {neighbor.distance:.2f}"
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
    heatmaps = load_engine(_bundle).explain_one(preprocess_image(rgb, _bundle.image_size)).heatmaps
    shown: np.ndarray = downsample_to_width(rgb, _WIDTH_PX)
    heatmap = heatmaps[class_name]
    overlay = overlay_heatmap(shown, heatmap, full_scale=compute_full_scale(heatmaps))
    return encode_jpeg(shown), encode_jpeg(overlay), bool(heatmap.is_empty)


@st.cache_data(max_entries=512, show_spinner=False)
def _thumbnail(sha256: str, _data: bytes) -> bytes:
    return encode_jpeg(downsample_to_width(decode_image(_data, "The image"), _NEIGHBOR_WIDTH_PX))
