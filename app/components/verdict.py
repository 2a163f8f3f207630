"""One picture's verdict: the estimate, the picture, and the evidence for each class."""

import streamlit as st

from app.components.charts import probability_bar
from app.components.frame import RESEARCH_USE, escape
from bc_model.data.names import CLASSES
from bc_model.overlay import display_jpeg, overlay_heatmap, shared_scale
from bc_model.serving.bundle import Bundle
from bc_model.serving.explain_files import encode_png
from bc_model.serving.verdict import Verdict
from bc_model.words import probability_in_words

DISPLAY_WIDTH_PX = 900


def draw_verdict(verdict: Verdict, bundle: Bundle, opacity: float) -> None:
    """Draw a card: words and bar on top, three pictures of equal size below."""
    said = probability_in_words(verdict.prob_malignant)
    with st.container(border=True):
        st.subheader(escape(verdict.name), anchor=False)
        words, bar = st.columns([2, 3], vertical_alignment="center", gap="large")
        with words:
            st.metric("Estimated probability of malignancy", said)
        with bar:
            icon = "report" if verdict.class_name == "malignant" else "check_circle"
            st.markdown(
                f":material/{icon}: Called **{verdict.class_name}** at the cut-off of "
                f"{bundle.threshold:.2f}. {RESEARCH_USE}"
            )
            st.altair_chart(
                probability_bar(verdict.prob_malignant, bundle.threshold),
                alt=f"Estimated probability {said} on a line from 0 to 1",
            )
        for sentence in verdict.warnings:
            st.warning(escape(sentence), icon=":material/warning:")
        scale = shared_scale(verdict.heatmaps)
        picture, *maps = st.columns(3)
        with picture:
            st.markdown("**Picture**")
            st.image(
                _picture_jpeg(verdict.sha256, verdict),
                width="stretch",
                alt=f"The picture {verdict.name} as uploaded",
            )
            height, width = verdict.rgb.shape[:2]
            st.caption(f"{width} x {height} px")
        for column, name in zip(maps, CLASSES, strict=True):
            with column:
                _draw_map(verdict, bundle, name, opacity, scale)
        for caution in verdict.cautions:
            st.caption(f":material/info: {escape(caution)}")


def _draw_map(
    verdict: Verdict, bundle: Bundle, name: str, opacity: float, full_scale: float
) -> None:
    heatmap = verdict.heatmaps[name]
    st.markdown(f"**Evidence for {name}**")
    if heatmap.is_empty:
        st.image(
            _picture_jpeg(verdict.sha256, verdict),
            width="stretch",
            alt=f"The picture without a heatmap: no evidence for {name}",
        )
        st.caption(f"No evidence for {name}: nothing in this picture raised its score.")
        return
    st.image(
        _overlay_jpeg(verdict.sha256, bundle.key, name, opacity, verdict),
        width="stretch",
        alt=f"Heatmap of the evidence for {name} over the picture",
    )
    st.caption(
        f"Strongest evidence {heatmap.maximum:.2f}. Both maps share one scale, up to "
        f"{full_scale:.2f}."
    )
    st.download_button(
        "Save at full size",
        lambda: encode_png(overlay_heatmap(verdict.rgb, heatmap, full_scale=full_scale)),
        file_name=f"{verdict.sha256[:12]}-{name}.png",
        mime="image/png",
        key=f"save-{verdict.sha256}-{name}",
        icon=":material/download:",
        type="tertiary",
    )


# Keys are hashes: pixels passed to a cache are hashed by sample and get another picture's answer.
@st.cache_data(max_entries=64, show_spinner=False)
def _picture_jpeg(sha256: str, _verdict: Verdict) -> bytes:
    return display_jpeg(_verdict.rgb, DISPLAY_WIDTH_PX)


@st.cache_data(max_entries=256, show_spinner=False)
def _overlay_jpeg(
    sha256: str, bundle_key: str, class_name: str, opacity: float, _verdict: Verdict
) -> bytes:
    drawn = overlay_heatmap(
        _verdict.rgb,
        _verdict.heatmaps[class_name],
        opacity=opacity,
        full_scale=shared_scale(_verdict.heatmaps),
    )
    return display_jpeg(drawn, DISPLAY_WIDTH_PX)
