"""The error gallery: images with their heatmaps and nearest training images."""

from itertools import chain

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.error_card import draw_card
from app.components.frame import RESEARCH_USE, escape
from app.components.models import engine_of
from app.components.reports import stamp_of
from bc_model.errors import BcModelError
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.gallery import Entry, Gallery, Neighbour, error_gallery
from bc_model.evaluation.neighbours import (
    kept_training_features,
    neighbours_of,
    training_features,
)
from bc_model.evaluation.report import Report
from bc_model.serving.bundle import Bundle
from bc_model.training.run_folder import RunFolder
from bc_model.training.run_pictures import RunPictures

PER_PAGE = 6
_PER_ROW = 2
MISTAKES, CERTAIN, DOUBTFUL = "Confident errors", "Most certain", "Least certain"
KIND_WORDS = {
    MISTAKES: "Incorrect predictions, the most confident first, up to three images per case.",
    CERTAIN: "Probabilities farthest from 0.5, alternating between cases.",
    DOUBTFUL: "Probabilities nearest to the threshold, alternating between cases.",
}
EVERY_CASE = "All cases"
Neighbours = dict[str, tuple[Neighbour, ...]]


def draw_errors(run: RunFolder, report: Report, bundle: Bundle) -> None:
    """Draw the gallery of a run, six cards per page."""
    assert report.predictions is not None, "read_report reads the predictions or fails"
    pictures = RunPictures.of(run)
    gallery = error_gallery(report.predictions, threshold=report.threshold)
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
    in_case = {entry.path: one for one in gallery.mistakes for entry in one.worst}
    sha256 = report.predictions.set_index("path")["sha256"]
    pages = -(-len(entries) // PER_PAGE)
    page = st.pagination(pages, key=f"page-{kind}-{case}") if pages > 1 else 1
    shown = entries[(page - 1) * PER_PAGE : page * PER_PAGE]
    found = _neighbours(run, shown, pictures, bundle)
    for start in range(0, len(shown), _PER_ROW):
        for column, entry in zip(
            st.columns(_PER_ROW), shown[start : start + _PER_ROW], strict=False
        ):
            with column:
                draw_card(
                    entry,
                    sha256[entry.path],
                    pictures,
                    bundle,
                    mistakes=in_case.get(entry.path),
                    neighbours=found.get(entry.path, ()),
                )


def _entries(gallery: Gallery, kind: str) -> list[Entry]:
    mistakes = chain.from_iterable(one.worst for one in gallery.mistakes)
    return list(
        {MISTAKES: mistakes, CERTAIN: gallery.most_certain, DOUBTFUL: gallery.least_certain}[kind]
    )


def _neighbours(
    run: RunFolder, shown: list[Entry], pictures: RunPictures, bundle: Bundle
) -> Neighbours:
    """Return the nearest training images, or draw a button if no features are stored."""
    key = (run.name, bundle.key, stamp_of(run))
    kept_key, found = st.session_state.get("neighbours", (None, {}))
    found = found if kept_key == key else {}
    missing = [entry for entry in shown if entry.path not in found]
    if not missing:
        return found
    place = st.empty()
    try:
        table = kept_training_features(bundle, pictures.split, run.evaluation_folder)
        if table is None:
            if not _asked(place):
                return {}
            table = _compute(run, pictures, bundle, place)
        found |= neighbours_of(missing, engine_of(bundle).engine, pictures.root, table)
    except (BcModelError, OSError) as error:
        place.empty()
        st.caption(f":material/info: No training images to compare with. {escape(str(error))}")
        return found
    place.caption(f"Compared with {len(table.path):,} training images of other cases.")
    st.session_state["neighbours"] = (key, found)
    return found


def _asked(place: DeltaGenerator) -> bool:
    return place.button(
        "Find similar images",
        key="find-neighbours",
        icon=":material/image_search:",
        help="Compares features of all training images; this can take several minutes.",
    )


def _compute(
    run: RunFolder, pictures: RunPictures, bundle: Bundle, place: DeltaGenerator
) -> FeatureTable:
    bar = place.progress(0.0, "Computing features of the training images")

    def tell(done: int, of: int) -> None:
        bar.progress(done / of, f"{done:,} of {of:,} images")

    engine, folder = engine_of(bundle).engine, run.evaluation_folder
    return training_features(engine, pictures.root, pictures.split, folder, progress=tell)
