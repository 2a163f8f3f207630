"""The answers to all pictures on the page: legend, summary, and a card for each."""

import hashlib

import streamlit as st

from app.components.frame import escape, show_error
from app.components.models import engine_of
from app.components.verdict import draw_verdict
from bc_model.data.pictures import decode_picture
from bc_model.errors import BcModelError, EngineBusy, PictureError
from bc_model.gradcam import colour_bar
from bc_model.serving.bundle import Bundle
from bc_model.serving.verdict import Verdict, diagnose
from bc_model.words import probability_in_words

PER_PAGE = 4


# A verdict is a few kB: many, so that several users with many pictures do not push each other out.
@st.cache_data(max_entries=2000, show_spinner=False)
def _verdict_of(sha256: str, name: str, bundle_key: str, _data: bytes, _bundle: Bundle) -> Verdict:
    return diagnose(engine_of(_bundle), decode_picture(_data, name), name)


def draw_answers(pictures: list[tuple[str, bytes]], bundle: Bundle) -> None:
    """Answer every picture, and say of each that cannot be answered why.

    Parameters
    ----------
    pictures : list of (name, bytes of the file)
    bundle : Bundle
    """
    above = st.container()
    verdicts: dict[str, tuple[Verdict, bytes]] = {}
    progress = st.progress(0.0, "Reading the pictures") if len(pictures) > 3 else None
    for done, (name, data) in enumerate(pictures, start=1):
        digest = hashlib.sha256(data).hexdigest()
        if digest in verdicts:
            st.caption(
                f":material/info: {escape(name)} is the same file as "
                f"{escape(verdicts[digest][0].name)} and is shown once."
            )
            continue
        try:
            verdicts[digest] = _verdict_of(digest, name, bundle.key, data, bundle), data
        except PictureError as error:
            show_error(error, title="A picture was left out")
        except EngineBusy as error:
            show_error(error, title="The program is busy")
        except BcModelError as error:
            show_error(error, title="The model cannot answer")
        if progress:
            progress.progress(done / len(pictures), f"{done} of {len(pictures)} pictures")
    if progress:
        progress.empty()

    if not verdicts:
        return
    with above:
        opacity = _draw_legend()
    if len(verdicts) > 1:
        st.dataframe(
            [
                {
                    "Picture": verdict.name,
                    "Estimated probability of malignancy": probability_in_words(
                        verdict.prob_malignant
                    ),
                    "Called": verdict.class_name if verdict.is_called else "not called",
                    "Warnings": " ".join(verdict.warnings),
                }
                for verdict, _ in verdicts.values()
            ],
            hide_index=True,
            alt="Estimate and call of each picture",
        )
    pages = -(-len(verdicts) // PER_PAGE)
    page = st.pagination(pages, key="page") if pages > 1 else 1
    for digest, (verdict, data) in list(verdicts.items())[(page - 1) * PER_PAGE : page * PER_PAGE]:
        draw_verdict(verdict, data, digest, bundle, opacity)


def _draw_legend() -> float:
    """Draw what the maps' colours mean, and return how opaque the maps are to be."""
    settings, legend = st.columns([1, 2], gap="large", vertical_alignment="bottom")
    opacity = settings.slider("Heatmap opacity", 0.0, 1.0, 0.6, 0.05, key="opacity")
    with legend:
        st.image(colour_bar(512, 10), width="stretch", alt="")
        st.caption(
            "From no evidence to the strongest in the picture. The maps show what moved the score, "
            "not where a lesion is. A peak is one place; the score weighs the whole picture."
        )
    return float(opacity)
